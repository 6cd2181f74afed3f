"""The published annATAC as one would write it in PyTorch: every token is projected before it is summed to slots.

No straw man: float32, all cells of a batch side by side, matrix products throughout. Queries, keys and values of
every token, keys and values by E, softmax over slots, and everything that autograd keeps of it.
"""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from scweave.models.annatac_published import PublishedAnnAtac, PublishedMaskedIslands
from scweave.models.layers.linformer import LinformerBlock

_UNASKED = -100  # targets that cross_entropy ignores


class DenseAnnAtac(nn.Module):
    """annATAC with the weights of a given model, without dropout.

    Parameters
    ----------
    model
        Model of either stage, whose parameters are used (shared, not copied).
    """

    def __init__(self, model: PublishedAnnAtac | PublishedMaskedIslands) -> None:
        super().__init__()
        self.model: Any = model

    def encode(self, values: Tensor) -> Tensor:
        """Return the encodings (cells, tokens, width) of tokens whose values are (cells, tokens)."""
        encoder = self.model.encoder
        x = F.embedding(values, encoder.values.weight) + encoder.positions
        for block in encoder.blocks:
            x = _block(block, x, encoder.projection)
        return x

    def annotate(self, values: Tensor) -> Tensor:
        """Return the logits of cell types, (cells, types)."""
        kernel = self.model.head.convolution
        read = F.conv2d(self.encode(values)[:, None], kernel.weight[None, None], kernel.bias)
        logits: Tensor = self.model.head.classifier(self.model.head.hidden(read.flatten(1).relu()))
        return logits

    def annotation_loss(self, values: Tensor, codes: Tensor) -> Tensor:
        """Return the cross-entropy of fine-tuning, weighted by type."""
        each = F.cross_entropy(self.annotate(values), codes, reduction="none")
        return (each * self.model.importance[codes]).mean()

    def tell(self, values: Tensor) -> Tensor:
        """Return the logits of the value of every token, (cells, tokens, 6)."""
        logits: Tensor = self.model.classifier(self.encode(values))
        return logits

    def masked_loss(self, values: Tensor, asked: Tensor, truth: Tensor) -> Tensor:
        """Return the cross-entropy of the values asked for, ``asked`` being (cells, tokens)."""
        targets = values.new_full(values.shape, _UNASKED)
        targets[asked] = truth
        return F.cross_entropy(self.tell(values).flatten(0, 1), targets.flatten(), ignore_index=_UNASKED)


def _block(block: LinformerBlock, x: Tensor, projection: Tensor) -> Tensor:
    """One post-norm block over (cells, tokens, width)."""
    query, keys, values = (
        part.unflatten(2, (block.heads, -1)).transpose(1, 2)  # (cells, heads, tokens or slots, head width)
        for part in (block.query(x), projection.mT @ block.key(x), projection.mT @ block.value(x))
    )
    attention = (query @ keys.mT / math.sqrt(query.shape[3])).softmax(3)
    h = block.norm(x + block.out((attention @ values).transpose(1, 2).flatten(2)))
    found: Tensor = block.last_norm(h + block.second(F.gelu(block.first(h))))
    return found
