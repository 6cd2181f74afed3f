"""TypeEvidence: what the open peaks of a cell say for each cell type, without the cell's own share of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .profiles import Profiles

Int64 = NDArray[np.int64]

_LEAST: Final = 1e-3  # of a peak in the background, so that its logarithm exists


class TypeEvidence(nn.Module):
    """Log likelihood ratios of open peaks, shrunk towards the mean over types.

    A cell's n open peaks weigh x = 1/√n each, so that their sum of squares is one at any depth. With the
    sums of weights N of the training cells of each type, their totals T, and the shares b of peaks among all
    types, the evidence of peak p for type c, and of a cell, is

        W[p, c] = ln( (N[p, c] + k·b[p]) / ((T[c] + k)·b[p]) ),    z[c] = Σ_open x·W[p, c] − mean over types

    where k = smoothing · peaks. A peak that no training cell has says nothing. The training cells have a share
    in N: `leave_one_out` takes that of the cell itself out of its type (the background, of all types
    together, keeps it), so that a model which learns from z sees in training what it will see of new cells.

    Parameters
    ----------
    n_peaks, n_types
        Sizes.
    smoothing
        Weight of the background, in peaks.

    Shapes
    ------
    Both evidences cost O(open peaks of all cells · types).
    """

    def __init__(self, n_peaks: int, n_types: int, *, smoothing: float = 0.1) -> None:
        super().__init__()
        self.prior = smoothing * n_peaks
        self.sums: Tensor
        self.totals: Tensor
        self.sizes: Tensor
        self.background: Tensor
        self.table: Tensor
        self.register_buffer("sums", torch.zeros(n_peaks, n_types))
        self.register_buffer("totals", torch.zeros(n_types))
        self.register_buffer("sizes", torch.zeros(n_types))
        self.register_buffer("background", torch.ones(n_peaks))
        self.register_buffer("table", torch.zeros(n_peaks, n_types))

    @torch.no_grad()
    def fit(self, profiles: Iterable[Profiles], codes: Int64) -> None:
        """Add up the peaks of training cells.

        Parameters
        ----------
        profiles
            Labelled training cells, some at a time.
        codes
            (cells,) their types, in the same order.
        """
        n_peaks, n_types = self.sums.shape
        sums = torch.zeros(n_peaks * n_types, dtype=torch.float64)
        begin = 0
        for some in profiles:
            code = torch.from_numpy(codes[begin : begin + len(some)])[some.cell]
            sums.index_add_(0, some.ids * n_types + code, self.weights(some).double())
            begin += len(some)
        table = sums.view(n_peaks, n_types)
        pooled = table.sum(1)
        seen = pooled > 0
        background = (pooled + _LEAST * seen) / (pooled + _LEAST * seen).sum().clamp_min(_LEAST)
        self.sums.copy_(table)
        self.totals.copy_(table.sum(0))
        self.sizes.copy_(torch.from_numpy(np.bincount(codes, minlength=n_types)))
        self.background.copy_(torch.where(seen, background, 1.0))
        self.table.copy_(self._ratio(table, table.sum(0), self.background.double()[:, None]) * seen[:, None])

    def weights(self, profiles: Profiles) -> Tensor:
        """Return the weight of each open peak, (nodes,)."""
        n = profiles.ptr.diff().clamp_min(1).to(self.table.dtype)
        return n.rsqrt()[profiles.cell]

    def forward(self, profiles: Profiles) -> Tensor:
        """Return the evidence of cells that were not fitted on, (cells, types)."""
        found = profiles.bag(self.weights(profiles), self.table)
        return found - found.mean(1, keepdim=True)

    def leave_one_out(self, profiles: Profiles, codes: Tensor) -> Tensor:
        """Return the evidence of training cells, each as if it had not been fitted on, (cells, types).

        Parameters
        ----------
        profiles
            Training cells.
        codes
            (cells,) their types, as they were fitted.
        """
        weight = self.weights(profiles)
        code = codes[profiles.cell]
        total = self.totals[codes] - profiles.total(weight)
        rest = (self.sums[profiles.ids, code] - weight).clamp_min(0)
        ratio = self._ratio(rest, total[profiles.cell], self.background[profiles.ids])
        found = profiles.bag(weight, self.table)
        own = profiles.total(weight * ratio)
        found = found.scatter(1, codes[:, None], own[:, None])
        return found - found.mean(1, keepdim=True)

    def markers(self) -> Tensor:
        """Return what each peak adds to the evidence of a mean cell of each type, (peaks, types).

        One cell's worth of each peak is taken off before, so that a peak which is open in one cell of a rare
        type is no marker of it.
        """
        one = self.sizes / self.totals.clamp_min(_LEAST)  # the weight of an open peak in a mean cell
        rest = (self.sums - one).clamp_min(0)
        ratio = self._ratio(rest, self.totals - one, self.background[:, None])
        told = ratio - ratio.mean(1, keepdim=True)
        return rest / self.totals.clamp_min(_LEAST) * told

    def _ratio(self, sums: Tensor, totals: Tensor, background: Tensor) -> Tensor:
        shares = (sums + self.prior * background) / ((totals + self.prior) * background)
        return shares.log()
