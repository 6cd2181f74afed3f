"""LinkedExpression: the expression of genes from the accessibility of the peaks they attend to."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from ...graphs.csr import CsrRows
from ...graphs.segments import segment_sum
from .cis_attention import CisAttention
from .open_sums import open_sums
from .profiles import Profiles

Int64 = NDArray[np.int64]
_CHUNK = 1024


class LinkedExpression(nn.Module):
    """ln rate of gene g in cell c = b_g + Σ_peaks w_gp · (own · x̃_cp + u_c · d_p).

    w_gp is the gene's gain times its attention to the peak, summed over heads. x̃ is the peak's accessibility
    in the very cell less its mean: that of the open peaks, at the cost of open peaks × edges. A peak that is
    open is seen in a cell by chance, one time in ten; so the cell's place u_c among all cells and the
    peak's loading d_p tell how open the peak is in cells like this one. That product is never written out:
    Σ_p w_gp · (u_c · d_p) = u_c · (Σ_p w_gp · d_p).

    Parameters
    ----------
    attention
        Weights of the prior edges.
    programmes
        Width of u and d.
    own, smooth
        Whether the two parts are there.
    """

    def __init__(
        self, attention: CisAttention, programmes: int, *, own: bool = True, smooth: bool = True
    ) -> None:
        super().__init__()
        n_genes, n_peaks = attention.edges.n_genes, attention.edges.n_peaks
        self.attention, self.smooth = attention, smooth
        self.programme: Tensor
        self.mean: Tensor
        self.base: Tensor
        self.register_buffer("programme", torch.zeros(n_peaks, programmes))
        self.register_buffer("mean", torch.zeros(n_peaks))
        self.register_buffer("base", torch.ones(()))
        self.bias = nn.Parameter(torch.zeros(n_genes))
        self.gain = nn.Parameter(torch.full((n_genes, attention.query.shape[1]), 0.3))
        self.own = nn.Parameter(torch.tensor(0.1)) if own else None

    @torch.no_grad()
    def fit_peaks(self, rows: CsrRows, train: Int64, places: Tensor) -> None:
        """Take each peak's mean and loading from training cells.

        Parameters
        ----------
        rows
            Counts of peaks.
        train
            Training cells.
        places
            (training cells, programmes), standardised.

        Notes
        -----
        d_p is the correlation of the peak with each programme, scaled to unit length, but shorter where it
        is no larger than chance among so many cells would make it.
        """
        total = sum(float(some.counts.sum()) for some in Profiles.chunks(rows, train))
        self.base.fill_(max(total / len(train), 1.0))
        moments = np.zeros((2 + places.shape[1], rows.n_columns))
        for begin in range(0, len(train), _CHUNK):
            some = slice(begin, begin + _CHUNK)
            matrix = rows.matrix(train[some])
            access = self.accessibility(Profiles.of(rows, train[some])).numpy()
            x = sparse.csr_matrix((access, matrix.indices, matrix.indptr), shape=matrix.shape)
            square = sparse.csr_matrix((access**2, matrix.indices, matrix.indptr), shape=matrix.shape)
            moments[0] += np.asarray(x.sum(0)).ravel()
            moments[1] += np.asarray(square.sum(0)).ravel()
            moments[2:] += (x.T @ places[some].double().numpy()).T
        n = len(train)
        moments /= n
        mean, square_mean, product = moments[0], moments[1], moments[2:]
        spread = np.sqrt(np.maximum(square_mean - mean**2, 1e-9))
        centre = places.double().mean(0).numpy()
        loading = ((product - centre[:, None] * mean) / spread).T
        length = np.sqrt((loading**2).sum(1, keepdims=True) + places.shape[1] / n)
        self.mean.copy_(torch.from_numpy(mean))
        self.programme.copy_(torch.from_numpy(loading / length))

    def weights(self, key: Tensor) -> Tensor:
        """Return w of all edges, (edges,)."""
        weights: Tensor = self.attention(key) * F.softplus(self.gain).index_select(
            0, self.attention.edges.gene
        )
        return weights.sum(1)

    def forward(self, key: Tensor, profiles: Profiles, place: Tensor) -> Tensor:
        """Return ln rates, (cells, genes).

        Parameters
        ----------
        key
            (peaks, width) keys of all peaks.
        profiles
            Open peaks of the cells.
        place
            (cells, programmes) places u.
        """
        edges, weight = self.attention.edges, self.weights(key)
        rate = self.bias.expand(len(profiles), -1)
        if self.smooth:
            loading = segment_sum(
                weight[:, None] * self.programme.index_select(0, edges.peak), edges.gene, edges.n_genes
            )
            rate = rate + place @ loading.T
        if self.own is not None:
            value = self.accessibility(profiles)
            closed = segment_sum(weight * self.mean[edges.peak], edges.gene, edges.n_genes)
            here = open_sums(weight, edges, profiles.ids, value, profiles.ptr)
            rate = rate + self.own * (here - closed)
        return rate

    def openness(self, profiles: Profiles, place: Tensor) -> Tensor:
        """Return the mean over cells of what each peak passes on, own · x̃ + u · d, (peaks,)."""
        found = self.programme @ place.mean(0) if self.smooth else torch.zeros_like(self.mean)
        if self.own is not None:
            summed = torch.zeros_like(self.mean).index_add(0, profiles.ids, self.accessibility(profiles))
            found = found + self.own * (summed / max(len(profiles), 1) - self.mean)
        return found

    def penalty(self, query: float) -> Tensor:
        """Return the negative log density of the normal priors of attention and gains."""
        return self.attention.penalty(query) + 0.5 * F.softplus(self.gain).square().sum()

    def accessibility(self, profiles: Profiles) -> Tensor:
        """Return ln(1 + count) of each node, as if all cells were sequenced as deeply, (nodes,)."""
        counts = profiles.counts.to(self.mean.dtype)
        depth = (profiles.total(counts) / self.base).clamp_min(0.2)
        return counts.log1p() / depth.index_select(0, profiles.cell)
