"""Linear reductions of one modality, fitted on training cells: TF-IDF or log counts, then truncated SVD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import TruncatedSVD

from ..graphs.csr import CsrRows

Int64 = NDArray[np.int64]
Floats = NDArray[np.float64]
_CHUNK = 1024


@dataclass(frozen=True)
class Reduction:
    """A linear map of weighted counts.

    Attributes
    ----------
    rows
        Counts of the modality.
    weight
        (features,) factor of each feature before the logarithm.
    components
        (features, width).
    """

    rows: CsrRows
    weight: Floats
    components: Floats

    def of(self, cells: Int64) -> Floats:
        """Reduce cells, (cells, width), a chunk at a time."""
        parts = [
            _weighted(self.rows.matrix(cells[begin : begin + _CHUNK]), self.weight) @ self.components
            for begin in range(0, len(cells), _CHUNK)
        ]
        return np.concatenate([np.zeros((0, self.components.shape[1])), *parts])


def reduce(
    rows: CsrRows,
    train: Int64,
    kind: Literal["tf-idf", "log"],
    *,
    width: int = 50,
    most: int = 5_000,
    seed: int = 0,
) -> Reduction:
    """Fit a reduction on training cells.

    Parameters
    ----------
    rows
        Counts.
    train
        Training cells.
    kind
        ``tf-idf``: ln(1 + 10⁴ · tf · idf), with idf = cells / cells that have the feature; ``log``: the same
        without idf.
    width
        Components; fewer where the rank is lower.
    most
        Training cells that the fit sees, drawn by ``seed``; the others are only mapped.
    seed
        Decides the draw and the randomised SVD.
    """
    rng = np.random.default_rng([seed, 3])
    some = np.sort(rng.permutation(train)[:most])
    counts = rows.matrix(some)
    weight = np.ones(rows.n_columns)
    if kind == "tf-idf":
        weight = len(some) / np.maximum(np.bincount(counts.indices, minlength=rows.n_columns), 1)
    used = max(1, min(width, min(counts.shape) - 1))
    svd = TruncatedSVD(used, random_state=seed).fit(_weighted(counts, weight))
    return Reduction(rows, weight, svd.components_.T.astype(np.float64))


def _weighted(counts: sparse.csr_matrix, weight: Floats) -> sparse.csr_matrix:
    total = np.maximum(np.asarray(counts.sum(1)).ravel(), 1)
    share = counts.data * np.repeat(1e4 / total, np.diff(counts.indptr))
    return sparse.csr_matrix(
        (np.log1p(share * weight[counts.indices]), counts.indices, counts.indptr), shape=counts.shape
    )
