"""Matched nulls: what a link would score by chance, had its gene met other peaks of the same kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

DRAWS = 1000  # null peaks a link is held against
_BLOCK = 1 << 22  # null scores in memory at a time


def matched_bins(
    accessibility: Float64, gc: Float64 | None, distance: Float64 | None, *, least: int, seed: int = 0
) -> Int64:
    """Put items into bins of equal size that are alike in accessibility, GC content and distance.

    Bins are quantiles of the first, within these of the second, within these of the third. Ties
    are divided at random, so that a bin is no stretch of the genome.

    Parameters
    ----------
    accessibility
        (items,) share of cells in which the peak is open.
    gc, distance
        (items,) each; None leaves it out.
    least
        Items that each bin has at least, where there are as many.
    seed
        Divides ties.

    Returns
    -------
    (items,) int64 bin, from 0.
    """
    features = [values for values in (accessibility, gc, distance) if values is not None]
    side = max(int((len(accessibility) / max(least, 1)) ** (1 / len(features)) + 1e-9), 1)
    lots = np.random.default_rng(seed).random(len(accessibility))
    bins = np.zeros(len(accessibility), np.int64)
    for values in features:
        bins = bins * side + quantiles(values, bins, side, lots)
    return bins


def quantiles(values: Float64, groups: Int64, number: int, lots: npt.NDArray[np.generic]) -> Int64:
    """Divide the items of each group evenly into so many, by value, ties by ``lots``; (items,)."""
    order = np.lexsort((lots, values, groups))
    sizes = np.bincount(groups)
    rank = np.empty(len(groups), np.int64)
    rank[order] = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank * number // np.maximum(sizes[groups], 1)


@dataclass(frozen=True)
class NullPeaks:
    """Peaks of other chromosomes, alike in accessibility and GC content, for every peak.

    Attributes
    ----------
    bins
        (peaks,) bin of each peak.
    members
        chromosome -> (bins, draws) ids of peaks that are not on it, drawn without replacement; -1 where a bin has
        no more.
    """

    bins: Int64
    members: dict[int, Int64]

    @classmethod
    def draw(
        cls,
        accessibility: Float64,
        gc: Float64 | None,
        chrom: Int64,
        *,
        draws: int = DRAWS,
        seed: int = 0,
    ) -> NullPeaks:
        """Draw them; see `matched_bins` for the first two."""
        bins = matched_bins(accessibility, gc, None, least=draws, seed=seed)
        order = np.random.default_rng(seed).permutation(len(bins))
        order = order[np.argsort(bins[order], kind="stable")]
        number = int(bins.max(initial=0)) + 1
        members = {
            int(code): _first_of_bins(order[chrom[order] != code], bins, number, draws)
            for code in np.unique(chrom)
        }
        return cls(bins, members)


def _first_of_bins(order: Int64, bins: Int64, number: int, draws: int) -> Int64:
    """Lay the first peaks of each bin side by side, (bins, draws)."""
    own = bins[order]
    sizes = np.bincount(own, minlength=number)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    kept = rank < draws
    table = np.full((number, draws), -1, np.int64)
    table[own[kept], rank[kept]] = order[kept]
    return table


@dataclass(frozen=True)
class Significance:
    """How links compare with their nulls, (links,) each.

    Attributes
    ----------
    zscore
        Affinity less the mean of the null, by its standard deviation; NaN where the null has no spread.
    pvalue
        (nulls at least as high + 1) / (nulls + 1).
    qvalue
        After Benjamini and Hochberg.
    """

    zscore: Float64
    pvalue: Float64
    qvalue: Float64

    def of(self, some: slice | Int64) -> Significance:
        """Return that of some links."""
        return Significance(self.zscore[some], self.pvalue[some], self.qvalue[some])


def link_significance(
    gene: Int64,
    peak: Int64,
    queries: Float64,
    keys: Float64,
    gene_chrom: Int64,
    nulls: NullPeaks,
    *,
    tests: int | None = None,
) -> Significance:
    """Hold each link against its gene's affinity to matched peaks of other chromosomes.

    The affinity of gene and peak is query · key. What attention adds for the distance is the same for a null
    peak put in the place of the link's own, so distance is matched exactly.

    Parameters
    ----------
    gene, peak
        (links,) ids.
    queries, keys
        (genes, d) and (peaks, d).
    gene_chrom
        (genes,) chromosome codes.
    nulls
        Matched peaks.
    tests
        Links that could have been found, where ``gene`` and ``peak`` are a choice of the best of them: the
        others count as tests, too.
    """
    width = max(next(iter(nulls.members.values())).shape[1], 1)
    z, p = np.full(len(gene), np.nan), np.ones(len(gene))
    for begin in range(0, len(gene), max(_BLOCK // width, 1)):
        some = slice(begin, begin + max(_BLOCK // width, 1))
        z[some], p[some] = _held_against(queries[gene[some]], keys, peak[some], gene_chrom[gene[some]], nulls)
    return Significance(z, p, adjusted(p, tests))


def _held_against(
    query: Float64, keys: Float64, peak: Int64, chrom: Int64, nulls: NullPeaks
) -> tuple[Float64, Float64]:
    own = np.einsum("ld,ld->l", query, keys[peak])
    z, p = np.full(len(peak), np.nan), np.ones(len(peak))
    for code in np.unique(chrom):
        rows = np.flatnonzero(chrom == code)
        if code not in nulls.members:  # the gene's chromosome has no peak, or is unknown
            continue
        for kind in np.unique(nulls.bins[peak[rows]]):
            mine = rows[nulls.bins[peak[rows]] == kind]
            drawn = nulls.members[int(code)][kind]
            drawn = drawn[drawn >= 0]
            scores = query[mine] @ keys[drawn].T  # (links, nulls)
            # A product and a sum differ by rounding: a null peak with the same key is as high.
            as_high = scores >= own[mine, None] - 1e-9 * np.maximum(np.abs(own[mine, None]), 1e-300)
            p[mine] = (as_high.sum(1) + 1) / (len(drawn) + 1)
            if len(drawn) > 1:
                spread = scores.std(1, ddof=1)
                flat = spread <= 1e-9 * np.abs(scores).max(1, initial=0)
                z[mine] = np.where(flat, np.nan, (own[mine] - scores.mean(1)) / np.where(flat, 1.0, spread))
    return z, p


def adjusted(pvalues: Float64, tests: int | None = None) -> Float64:
    """Return q-values after Benjamini and Hochberg, of so many tests; those not given have a p-value of 1."""
    order = np.argsort(-pvalues, kind="stable")
    rank = np.arange(len(pvalues), 0, -1)
    scaled = pvalues[order] * (len(pvalues) if tests is None else tests) / rank
    q = np.empty(len(pvalues))
    q[order] = np.minimum(np.minimum.accumulate(scaled), 1.0)
    return q
