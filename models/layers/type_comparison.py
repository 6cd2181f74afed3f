"""TypeComparison: the types' evidence in a cell against each other, given how deeply the cell was read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .transformer_block import TransformerBlock

_DEPTH = 0.3  # scale of what knows depth, so that shrinkage keeps it small
_WIDTH, _HEADS, _HIDDEN = 32, 4, 64


class TypeComparison(nn.Module):
    """Logits of types from standardised evidence z (types) and depth n: A·z + n·B·z + n·d + b.

    With blocks, a transformer over [cell, types…], whose tokens hold the evidence of a type, adds to them; it
    begins with adding nothing.

    Parameters
    ----------
    n_types
        Number of cell types.
    blocks
        Transformer blocks.
    dropout
        In the blocks.
    """

    def __init__(self, n_types: int, *, blocks: int = 0, dropout: float = 0.2) -> None:
        super().__init__()
        self.map = nn.Linear(2 * n_types + 1, n_types)
        nn.init.zeros_(self.map.weight)
        nn.init.zeros_(self.map.bias)
        with torch.no_grad():
            self.map.weight[:, :n_types] = torch.eye(n_types)
        self.blocks = nn.ModuleList(
            TransformerBlock(_WIDTH, _HEADS, _HIDDEN, dropout=dropout) for _ in range(blocks)
        )
        if blocks:
            self.types = nn.Parameter(0.3 * torch.randn(n_types + 1, _WIDTH))
            self.evidence = nn.Parameter(0.2 * torch.randn(2, n_types, _WIDTH))
            self.depth = nn.Parameter(0.1 * torch.randn(_WIDTH))
            self.of_cell, self.of_type = nn.Linear(_WIDTH, n_types), nn.Linear(_WIDTH, 1)
            for linear in (self.of_cell, self.of_type):
                nn.init.zeros_(linear.weight)
                nn.init.zeros_(linear.bias)

    def forward(self, evidence: Tensor, depth: Tensor) -> Tensor:
        """Compare.

        Parameters
        ----------
        evidence
            (cells, types), standardised.
        depth
            (cells,), standardised.

        Returns
        -------
        Logits (cells, types).
        """
        n = _DEPTH * depth[:, None]
        logits: Tensor = self.map(torch.cat([evidence, n * evidence, n], 1))
        if not self.blocks:
            return logits
        x = self._tokens(evidence, depth)
        for block in self.blocks:
            x = block(x)
        added: Tensor = logits + self.of_cell(x[:, 0]) + self.of_type(x[:, 1:]).squeeze(2)
        return added

    def penalty(self) -> Tensor:
        """Return the sum of squares of the map."""
        return self.map.weight.square().sum()

    def _tokens(self, evidence: Tensor, depth: Tensor) -> Tensor:
        own, deep = self.evidence
        told = evidence[:, :, None] * own + (depth[:, None] * evidence)[:, :, None] * deep
        tokens = self.types + depth[:, None, None] * self.depth  # (cells, 1 + types, width)
        return torch.cat([tokens[:, :1], tokens[:, 1:] + told], 1)
