"""Linear reductions of counts that are fitted on training cells and read from graph batches: PCA, and LSI."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import PCA, TruncatedSVD
from torch import Tensor, nn

from ...graphs.csr import CsrRows
from ..layers.profiles import Profiles
from .draws import drawn

Int64 = NDArray[np.int64]
Floats = NDArray[np.float64]

_OF_DEPTH: Final = 0.5  # a first component that correlates more with depth than this is left out
_DEPTH: Final = 1e4  # counts that profiles are scaled to
_NO_SPREAD: Final = 1e-6
_FEW_FEATURES: Final = 4096  # whose covariance is small
_FEW_AXES: Final = 300
_ROUNDS: Final = 2  # of randomised iterations


class TfIdf(nn.Module):
    """Weights of open peaks, of unit length a cell: ln(1 + count) · ln(1 + cells / cells that have the peak).

    A peak that no training cell has weighs nothing.

    Parameters
    ----------
    n_peaks
        Number of peaks.
    """

    def __init__(self, n_peaks: int) -> None:
        super().__init__()
        self.rarity: Tensor
        self.register_buffer("rarity", torch.zeros(n_peaks))

    @torch.no_grad()
    def fit(self, rows: CsrRows, cells: Int64) -> None:
        """Learn how rare peaks are among training cells."""
        seen = torch.zeros(rows.n_columns, dtype=torch.int64)
        for some in Profiles.chunks(rows, cells):
            seen += torch.bincount(some.ids, minlength=rows.n_columns)
        self.rarity.copy_(torch.log1p(len(cells) / seen.double().clamp_min(1)) * (seen > 0))

    def forward(self, profiles: Profiles) -> Tensor:
        """Return the weight of each node, (nodes,)."""
        values = profiles.counts.to(self.rarity.dtype).log1p() * self.rarity.index_select(0, profiles.ids)
        length = profiles.total(values * values).clamp_min(1e-12).sqrt()
        return values / length.index_select(0, profiles.cell)


class LogCounts(nn.Module):
    """Weights of expressed genes, of unit length a cell: ln(1 + counts per ten thousand).

    Parameters
    ----------
    n_genes
        Number of genes.
    """

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        self.known: Tensor
        self.register_buffer("known", torch.zeros(n_genes))

    @torch.no_grad()
    def fit(self, rows: CsrRows, cells: Int64) -> None:
        """Learn which genes training cells have: others weigh nothing."""
        for some in Profiles.chunks(rows, cells):
            self.known[some.ids] = 1

    def forward(self, profiles: Profiles) -> Tensor:
        """Return the weight of each node, (nodes,)."""
        counts = profiles.counts.to(self.known.dtype)
        values = log_normalised(profiles, counts) * self.known.index_select(0, profiles.ids)
        length = profiles.total(values * values).clamp_min(1e-12).sqrt()
        return values / length.index_select(0, profiles.cell)


def log_normalised(profiles: Profiles, counts: Tensor) -> Tensor:
    """Return ln(1 + counts per ten thousand) of each node, (nodes,)."""
    total = profiles.total(counts).clamp_min(1)
    return torch.log1p(_DEPTH * counts / total.index_select(0, profiles.cell))


class Components(nn.Module, ABC):
    """A linear map of a weighting of counts, fitted on training cells, centred, of mean variance one.

    One number scales all components, so that they keep their relative spread.

    Parameters
    ----------
    n_features
        Number of genes or peaks.
    width
        Components; the last are 0 where the training cells have fewer.
    """

    def __init__(self, n_features: int, width: int) -> None:
        super().__init__()
        self.table: Tensor
        self.centre: Tensor
        self.scale: Tensor
        self.register_buffer("table", torch.zeros(n_features, width))
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))

    @abstractmethod
    def weigh(self, profiles: Profiles) -> Tensor:
        """Return the weight of each node, (nodes,)."""

    def forward(self, profiles: Profiles) -> Tensor:
        """Return the components of cells, (cells, width)."""
        components: Tensor = (profiles.bag(self.weigh(profiles), self.table) - self.centre) / self.scale
        return components

    @torch.no_grad()
    def _settle(self, weighted: sparse.csr_matrix, table: Floats, features: Int64 | slice) -> None:
        """Take a map of some features (features, up to width), and centre and scale of the cells it was fitted on."""
        sums = weighted @ table
        spread = sums.std(0)
        # Where cells have fewer components, the rest are noise that only new cells would have.
        kept = spread > _NO_SPREAD * max(spread.max(), 1.0)
        table[:, ~kept], sums[:, ~kept] = 0, 0
        self.table[features, : table.shape[1]] = torch.from_numpy(table).to(self.table.dtype)
        self.centre[: table.shape[1]] = torch.from_numpy(sums.mean(0))
        scale = float(np.sqrt(sums.var(0).mean()))
        self.scale.fill_(scale if scale > 0 else 1.0)


class Lsi(Components):
    """TF-IDF of unit length, then truncated SVD (latent semantic indexing).

    The first component is left out where it says mostly how deeply a cell was sequenced: where it
    correlates by more than 0.5 with ln(1 + counts) over training cells.
    """

    def __init__(self, n_peaks: int, width: int) -> None:
        super().__init__(n_peaks, width)
        self.tfidf = TfIdf(n_peaks)

    def fit(self, rows: CsrRows, cells: Int64, *, most: int, seed: int) -> None:
        """Fit on training cells: rarity on all of them, components on ``most`` that ``seed`` draws."""
        self.tfidf.fit(rows, cells)
        some = drawn(cells, most, seed)
        weighted, width = weighted_matrix(self.tfidf, rows, some), self.table.shape[1]
        used = min(width + 1, *weighted.shape)
        if used < 2 or not _vary(weighted):
            return
        table = TruncatedSVD(used, random_state=seed).fit(weighted).components_.T
        depth = np.log1p(np.asarray(rows.matrix(some).sum(1), np.float64).ravel())
        begin = int(abs(_correlation(weighted @ table[:, 0], depth)) > _OF_DEPTH)
        self._settle(weighted, table[:, begin : begin + width].copy(), slice(None))

    def weigh(self, profiles: Profiles) -> Tensor:
        """Return TF-IDF, (nodes,)."""
        weights: Tensor = self.tfidf(profiles)
        return weights


class Pca(Components):
    """Principal components of ln(1 + counts per ten thousand) of the highly variable genes."""

    def fit(self, rows: CsrRows, cells: Int64, genes: Int64, *, most: int, seed: int) -> None:
        """Fit on training cells, ``most`` that ``seed`` draws.

        Parameters
        ----------
        rows
            Counts.
        cells
            Training cells.
        genes
            The genes that are read; totals are of all genes.
        most, seed
            Cells that are drawn.
        """
        weighted = weighted_matrix(self.weigh, rows, drawn(cells, most, seed))
        chosen = weighted[:, genes]
        used = min(self.table.shape[1], min(chosen.shape) - 1)
        if used < 1 or not _vary(chosen):
            return
        self._settle(chosen, principal_axes(chosen, used, seed=seed).copy(), genes)

    def weigh(self, profiles: Profiles) -> Tensor:
        """Return log-normalised counts, (nodes,)."""
        return log_normalised(profiles, profiles.counts.to(self.table.dtype))


def principal_axes(matrix: sparse.csr_matrix, n: int, *, seed: int) -> Floats:
    """Return the first axes of a sparse matrix (cells, features), centred without being made dense, (features, n).

    Exact by the covariance of few features, and by Lanczos iterations for few axes; else randomised (Halko et al.,
    SIAM Review 2011).
    """
    exact = matrix.shape[1] <= _FEW_FEATURES
    if exact or n <= _FEW_AXES:
        solver: Literal["covariance_eigh", "arpack"] = "covariance_eigh" if exact else "arpack"
        axes: Floats = PCA(n, svd_solver=solver, random_state=seed).fit(matrix).components_.T
        return axes
    mean = np.asarray(matrix.mean(0)).ravel()
    basis = np.random.default_rng([seed, 7]).normal(size=(matrix.shape[1], min(n + 10, *matrix.shape)))
    for _ in range(_ROUNDS):
        cells, _ = np.linalg.qr(matrix @ basis - mean @ basis)
        basis, _ = np.linalg.qr(matrix.T @ cells - np.outer(mean, cells.sum(0)))
    cells, _ = np.linalg.qr(matrix @ basis - mean @ basis)
    found: Floats = np.linalg.svd((matrix.T @ cells - np.outer(mean, cells.sum(0))).T, full_matrices=False)[2]
    return found[:n].T


def weighted_matrix(weigh: Callable[[Profiles], Tensor], rows: CsrRows, cells: Int64) -> sparse.csr_matrix:
    """Return weights of cells (row numbers) as a sparse float64 matrix (cells, features)."""
    shape, parts = (0, rows.n_columns), []
    for some in Profiles.chunks(rows, cells):
        columns, shape = some.ids.numpy().astype(np.int32), (len(some), rows.n_columns)
        values = weigh(some).double().numpy()
        parts.append(sparse.csr_matrix((values, columns, some.ptr.numpy()), shape=shape))
    return sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix(shape)


def _vary(weighted: sparse.csr_matrix) -> bool:
    """Tell whether any feature differs between cells."""
    mean = np.asarray(weighted.mean(0)).ravel()
    square = np.asarray(weighted.multiply(weighted).mean(0)).ravel()
    return bool((square - mean**2 > _NO_SPREAD * square).any())


def _correlation(first: Floats, second: Floats) -> float:
    """Return the correlation of two vectors; 0 where one is constant."""
    first, second = first - first.mean(), second - second.mean()
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / length if length > _NO_SPREAD else 0.0
