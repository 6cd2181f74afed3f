"""DepthOffset: the RNA depth of a cell, as far as its ATAC depth tells it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .profiles import DEPTHS


class DepthOffset(nn.Module):
    """Least squares of ln(RNA counts) on the ATAC depths and their squares.

    Parameters
    ----------
    known
        Share of what is left over that training takes as known. With all of it, a prediction for a cell of
        unknown depth would miss what depth has to do with state; with nothing, depth is noise.
    """

    def __init__(self, known: float) -> None:
        super().__init__()
        self.known = known
        self.weight: Tensor
        self.deviation: Tensor
        self.range: Tensor
        self.register_buffer("weight", torch.zeros(2 * DEPTHS + 1))
        self.register_buffer("deviation", torch.zeros(()))
        self.register_buffer("range", torch.zeros(2, DEPTHS))

    @torch.no_grad()
    def fit(self, depths: Tensor, counts: Tensor) -> None:
        """Fit on training cells: standardised ATAC depths (cells, 2), RNA counts (cells,)."""
        seen = torch.log(counts.clamp_min(1).double())
        self.range.copy_(torch.stack([depths.amin(0), depths.amax(0)]))
        terms = self._terms(depths.double())
        gram = terms.T @ terms + 1e-6 * torch.eye(terms.shape[1], dtype=terms.dtype)
        weight = torch.linalg.solve(gram, terms.T @ seen)
        self.weight.copy_(weight)
        self.deviation.copy_((seen - terms @ weight).square().mean().sqrt())

    def forward(self, depths: Tensor, counts: Tensor | None = None) -> Tensor:
        """Return ln of the expected RNA counts, (cells, 1), drawn towards the ``counts`` (cells,) where known."""
        expected = self._terms(depths) @ self.weight
        if counts is not None:
            expected = expected + self.known * (torch.log(counts.clamp_min(1)) - expected)
        return expected[:, None]

    @property
    def spread(self) -> float:
        """Standard deviation that is left to an unknown cell's ln depth."""
        return self.known * float(self.deviation)

    def _terms(self, depths: Tensor) -> Tensor:
        """Depths as the training cells had them: outside of their range a square leads astray."""
        known = depths.clamp(self.range[0].to(depths.dtype), self.range[1].to(depths.dtype))
        return torch.cat([known, known.square(), torch.ones_like(known[:, :1])], 1)
