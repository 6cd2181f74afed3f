"""The published HitAnno as one would write it in PyTorch: full transformer blocks over all tokens of a cell.

No straw man: float32, all sentences of a cell side by side, one product for queries, keys and values, and
PyTorch's fused attention, which holds no tokens × tokens matrix.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scweave.models.hitanno_published import PublishedHitAnno
from scweave.models.layers.transformer_block import TransformerBlock


class DenseHitAnno(nn.Module):
    """HitAnno over all tokens, with the weights of a given model, without dropout.

    Parameters
    ----------
    model
        Model with equally many peaks a type, whose parameters are used (shared, not copied).
    """

    def __init__(self, model: PublishedHitAnno) -> None:
        super().__init__()
        self.model = model

    def forward(self, opened: Tensor) -> Tensor:
        """Return the (cells, types) logits of cells whose tokens are 0 (closed) or 1: (cells, tokens)."""
        model = self.model
        cells, types, d = len(opened), *model.sets.shape
        peaks = (model.tokens + F.embedding(opened, model.states)).view(cells, types, -1, d)
        x = torch.cat([model.sets[:, None].expand(cells, -1, -1, -1), peaks], 2).flatten(0, 1)
        for block in model.peak_blocks:
            x = _block(block, x)
        x = torch.cat([model.cls.expand(cells, 1, d), x[:, 0].view(cells, types, d)], 1)
        for block in model.cell_blocks:
            x = _block(block, x)
        logits: Tensor = model.classifier(x[:, 0])
        return logits


def _block(block: TransformerBlock, x: Tensor) -> Tensor:
    """One post-norm block over (rows, tokens, d)."""
    layer = block.attention
    parts = (layer.query, layer.key, layer.value)
    weight, bias = torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
    q, k, v = F.linear(x, weight, bias).unflatten(2, (3, layer.heads, -1)).permute(2, 0, 3, 1, 4)
    attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    h = block.norm(x + layer.out(attended))
    found: Tensor = block.last_norm(h + block.feed_forward(h))
    return found
