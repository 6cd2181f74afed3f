"""The published Linformer block written plainly: queries, keys and values of every token, keys and values then projected."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from scweave.models.layers.linformer import LinformerBlock


def dense_attention(block: LinformerBlock, x: Tensor, projection: Tensor) -> Tensor:
    """(cells, tokens, d) -> (cells, tokens, d)."""
    query, keys, values = (
        part.unflatten(2, (block.heads, -1)).transpose(1, 2)  # (cells, heads, tokens or slots, head width)
        for part in (block.query(x), projection.mT @ block.key(x), projection.mT @ block.value(x))
    )
    scores = query @ keys.mT / math.sqrt(query.shape[3])
    return block.out((scores.softmax(3) @ values).transpose(1, 2).flatten(2))


def dense_block(block: LinformerBlock, x: Tensor, projection: Tensor) -> Tensor:
    """(cells, tokens, d) -> (cells, tokens, d), without dropout."""
    y = block.norm(x + dense_attention(block, x, projection))
    return block.last_norm(y + block.second(F.gelu(block.first(y))))
