"""Marker peaks: which peaks tell each cell type apart, chosen on training cells, no peak for two types."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats

from ...graphs.csr import CsrRows
from ...graphs.errors import InputError

Int64 = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_NONZEROS = 1 << 21  # counts that are held at a time


@dataclass(frozen=True)
class MarkerPeaks:
    """Peaks of each type, best first.

    Attributes
    ----------
    peaks
        (peaks chosen,) column of each, type after type.
    ptr
        (types + 1,) pointers into the peaks; types may have different numbers of them.
    scores
        (peaks chosen,) by which each was chosen: t, or for the types ``by_difference`` the difference of means.
    by_difference
        Codes of the types that were ranked by the difference of means.
    """

    peaks: Int64
    ptr: Int64
    scores: Floats
    by_difference: tuple[int, ...] = ()


@dataclass(frozen=True)
class TypeStatistics:
    """Sums of TF-IDF values by cell type.

    Attributes
    ----------
    n_cells
        (types,) cells of each type.
    sums, squares
        (types, peaks) sums of the values and of their squares.
    """

    n_cells: Int64
    sums: Floats
    squares: Floats

    def scores(self, code: int) -> tuple[Floats, bool]:
        """Score all peaks for one type against all other cells.

        Returns
        -------
        scores : (peaks,)
            Welch's t, as ``scanpy.tl.rank_genes_groups(method="t-test")`` has it; 0 where no value varies.
        by_difference : bool
            True where the type, or the rest, has fewer than two cells, and so no variance: then the scores
            are differences of means.
        """
        n = int(self.n_cells[code])
        n_rest = int(self.n_cells.sum()) - n
        own = self.sums[code], self.squares[code]
        rest = self.sums.sum(0) - own[0], self.squares.sum(0) - own[1]
        if min(n, n_rest) < 2:
            return own[0] / max(n, 1) - rest[0] / max(n_rest, 1), True
        mean, deviation = _moments(*own, n)
        mean_rest, deviation_rest = _moments(*rest, n_rest)
        with np.errstate(invalid="ignore", divide="ignore"):
            t = stats.ttest_ind_from_stats(
                mean, deviation, n, mean_rest, deviation_rest, n_rest, equal_var=False
            ).statistic
        return np.where(np.isnan(t), 0.0, t), False


def published_size(n_types: int, n_peaks: int) -> int:
    """Return how many marker peaks the published rule gives a type: min(⌊√(9/C)·2000⌋, ⌊peaks/C⌋)."""
    return min(int(math.sqrt(9 / n_types) * 2000), n_peaks // n_types)


def fit_marker_peaks(
    rows: CsrRows, cells: Int64, codes: Int64, n_types: int, *, per_type: int = 0
) -> MarkerPeaks:
    """Choose marker peaks on training cells.

    Parameters
    ----------
    rows
        Counts (cells, peaks).
    cells, codes
        (training cells,) rows and their types, from 0 to ``n_types`` − 1.
    n_types
        Number of cell types.
    per_type
        Peaks of each type, at most ⌊peaks/C⌋; 0 for the published rule.

    Raises
    ------
    InputError
        Fewer peaks than types.
    """
    size = published_size(n_types, rows.n_columns)
    if per_type:
        size = min(per_type, rows.n_columns // n_types)
    if size < 1:
        raise InputError(
            f"{rows.n_columns} peaks for {n_types} cell types: each type needs a marker peak of its own."
            " Build the dataset with more peaks, or with fewer types."
        )
    return allocate(type_statistics(rows, cells, codes, n_types), np.full(n_types, size))


def allocate(statistics: TypeStatistics, sizes: Int64) -> MarkerPeaks:
    """Let every type, from the rarest to the commonest, take its best peaks that are not yet taken.

    Parameters
    ----------
    statistics
        Of the training cells.
    sizes
        (types,) peaks that each type takes; fewer where none is left.
    """
    n_types, n_peaks = statistics.sums.shape
    taken = np.zeros(n_peaks, dtype=bool)
    peaks, scores, by_difference = [np.zeros(0, np.int64)] * n_types, [np.zeros(0)] * n_types, []
    for code in np.argsort(statistics.n_cells, kind="stable"):
        found, difference = statistics.scores(int(code))
        ranked = np.argsort(-found, kind="stable")
        best = ranked[~taken[ranked]][: sizes[code]]
        taken[best] = True
        peaks[code], scores[code] = best, found[best]
        by_difference += [int(code)] * difference
    ptr = np.concatenate([[0], np.cumsum([len(best) for best in peaks])])
    return MarkerPeaks(
        np.concatenate(peaks), ptr.astype(np.int64), np.concatenate(scores), tuple(sorted(by_difference))
    )


def type_statistics(rows: CsrRows, cells: Int64, codes: Int64, n_types: int) -> TypeStatistics:
    """Add up TF-IDF values by type.

    The value is ln(1 + 10⁴ · tf · idf) with tf = x / Σ_peaks x and idf = N / Σ_cells x over the N cells given.

    Parameters
    ----------
    rows, cells, codes, n_types
        As in `fit_marker_peaks`.
    """
    idf = len(cells) / np.maximum(_totals(rows, cells), 1)
    found = np.zeros((2, n_types, rows.n_columns))
    for code in range(n_types):
        for counts in _chunks(rows, cells[codes == code]):
            values = tf_idf(counts, idf)
            found[0, code] += _column_sums(counts.indices, values, rows.n_columns)
            found[1, code] += _column_sums(counts.indices, values**2, rows.n_columns)
    return TypeStatistics(np.bincount(codes, minlength=n_types), found[0], found[1])


def tf_idf(counts: sparse.csr_matrix, idf: Floats) -> Floats:
    """Return ln(1 + 10⁴ · tf · idf) of the non-zero counts of cells, (non-zeros,)."""
    data = counts.data.astype(np.float64)
    sizes = np.diff(counts.indptr)
    total = np.repeat(np.asarray(counts.sum(1, dtype=np.float64)).ravel(), sizes)
    values: Floats = np.log1p(1e4 * data / total * idf[counts.indices])
    return values


def _totals(rows: CsrRows, cells: Int64) -> Floats:
    """Sum the counts of each peak over cells, (peaks,)."""
    total = np.zeros(rows.n_columns)
    for counts in _chunks(rows, cells):
        total += _column_sums(counts.indices, counts.data, rows.n_columns)
    return total


def _chunks(rows: CsrRows, cells: Int64) -> Iterator[sparse.csr_matrix]:
    """Read cells, as many at a time as hold about two million counts, at least one."""
    sizes = rows.indptr[cells + 1] - rows.indptr[cells]
    part = np.cumsum(sizes) // _NONZEROS
    for some in np.split(cells, np.flatnonzero(np.diff(part)) + 1):
        if len(some):
            yield rows.matrix(some)


def _column_sums(columns: npt.NDArray[np.integer], values: npt.NDArray[np.floating], n: int) -> Floats:
    return np.bincount(columns, weights=values, minlength=n).astype(np.float64, copy=False)


def _moments(sums: Floats, squares: Floats, n: int) -> tuple[Floats, Floats]:
    """Mean and standard deviation (of the sample) from sums; rounding leaves no variance below zero."""
    mean = sums / n
    return mean, np.sqrt(np.maximum(squares / n - mean**2, 0) * (n / (n - 1)))
