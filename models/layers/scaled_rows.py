"""Vectors of nodes that share a base and differ by one scalar."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class ScaledRows:
    """Vectors that share a base: node i has ``base[unique[i]] + scale[i] · direction``.

    Node features differ between cells by one scalar only (the count), so every gene and peak is
    projected once a step, and this is all that a node's query or key needs.

    Attributes
    ----------
    base
        (distinct ids, d), by chromosome.
    direction
        (d,).
    unique
        (nodes,) int64 into ``base``.
    scale
        (nodes,).
    """

    base: Tensor
    direction: Tensor
    unique: Tensor
    scale: Tensor

    def part(self, begin: int, end: int) -> ScaledRows:
        """Return the columns ``begin:end`` (one attention head)."""
        if (begin, end) == (0, self.base.shape[1]):
            return self
        return ScaledRows(
            self.base[:, begin:end].contiguous(),
            self.direction[begin:end].contiguous(),
            self.unique,
            self.scale,
        )

    def of(self, nodes: Tensor) -> ScaledRows:
        """Return the same for some nodes only, (n,) positions or mask."""
        return ScaledRows(self.base, self.direction, self.unique[nodes], self.scale[nodes])

    def all(self) -> Tensor:
        """Return the vectors of all nodes, (nodes, d); differentiable."""
        return F.embedding(self.unique, self.base) + self.scale[:, None] * self.direction
