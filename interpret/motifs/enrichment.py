"""Whose motifs are in the peaks of a cell type more often than in other peaks of the same kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse, stats

from ..evidence.nulls import adjusted, matched_bins

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

LEAST: Final = 50  # peaks of a bin
COLUMNS: Final = (
    "cell_type",
    "tf",
    "foreground",
    "background",
    "n_foreground",
    "n_background",
    "odds_ratio",
    "pvalue",
    "qvalue",
)


def enrichment(
    sites: pd.DataFrame,
    foreground: Mapping[str, Sequence[str]],
    peaks: pd.DataFrame,
    *,
    least: int = LEAST,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare how often each motif matches in the peaks of a cell type and in matched other peaks.

    Peaks are put into bins by accessibility and, within these, by GC content. The background of a cell
    type has as many of its other peaks as the foreground in every bin, drawn without replacement, or
    all of a bin that has no more. Motifs prefer GC or AT, and open peaks are richer in GC: against all
    other peaks many would look enriched for that alone.

    Parameters
    ----------
    sites
        Matches, of `scan_peaks`: ``peak, tf``. TFs that match nowhere are no rows of the result, unless
        they are categories of ``tf``.
    foreground
        Cell type -> names of its peaks (`marker_peaks`, `top_peaks`); names that ``peaks`` has not, and
        peaks without DNA, are left out.
    peaks
        All peaks: ``peak, accessibility, gc``, of which ``gc`` is missing where a peak has no DNA.
    least
        Peaks a bin has at least, where there are as many.
    seed
        Decides which peaks are drawn.

    Returns
    -------
    DataFrame
        A row a cell type and TF, the lowest p-value of a type first: ``foreground``, ``background``
        (shares of the peaks with a match), ``n_foreground``, ``n_background`` (peaks), ``odds_ratio``
        (of the sample; NaN where all peaks, or none, have a match), ``pvalue`` (Fisher's exact test,
        one-sided: more often in the foreground) and ``qvalue`` (Benjamini and Hochberg, over all rows).
    """
    known = peaks.loc[peaks["gc"].notna(), ["peak", "accessibility", "gc"]]
    hits, names = hit_matrix(sites, known["peak"])
    bins = matched_bins(
        known["accessibility"].to_numpy(np.float64),
        known["gc"].to_numpy(np.float64),
        None,
        least=least,
        seed=seed,
    )
    index = pd.Index(known["peak"].astype(str))
    tables = []
    for cell_type, chosen in foreground.items():
        rows = index.get_indexer(pd.Index(list(chosen), dtype=object).unique())
        own = np.sort(rows[rows >= 0])
        other = matched_background(own, bins, seed=seed)
        tables.append(_compared(str(cell_type), names, hits, own, other))
    if not tables:
        return pd.DataFrame({name: pd.Series(dtype=object) for name in COLUMNS})
    found = pd.concat(tables, ignore_index=True)
    found["qvalue"] = adjusted(found["pvalue"].to_numpy())
    return found[list(COLUMNS)]


def hit_matrix(sites: pd.DataFrame, peaks: pd.Series[str]) -> tuple[sparse.csr_matrix, list[str]]:
    """Lay out which peak has a match of which TF.

    Parameters
    ----------
    sites
        ``peak, tf``; matches in other peaks are left out.
    peaks
        Names, all different.

    Returns
    -------
    hits
        (peaks, TFs) of 0 and 1.
    names
        TFs.
    """
    tf = sites["tf"].astype("category").cat
    peak = sites["peak"].astype("category").cat
    row_of = pd.Index(peaks.astype(str)).get_indexer(pd.Index(peak.categories.astype(str)))
    row, column = row_of[peak.codes.to_numpy()] if len(row_of) else np.zeros(0, np.int64), tf.codes.to_numpy()
    inside = row >= 0
    ones = np.ones(int(inside.sum()))
    hits = sparse.csr_matrix((ones, (row[inside], column[inside])), shape=(len(peaks), len(tf.categories)))
    hits.sum_duplicates()
    hits.data[:] = 1
    return hits, [str(name) for name in tf.categories]


def matched_background(foreground: Int64, bins: Int64, *, seed: int = 0) -> Int64:
    """Draw other peaks, as many in every bin as the foreground has there, or all that there are.

    Parameters
    ----------
    foreground
        Rows of peaks, all different.
    bins
        (peaks,) of `matched_bins`.
    seed
        Decides which are drawn.

    Returns
    -------
    Rows in ascending order, none twice, none of the foreground.
    """
    wanted = np.bincount(bins[foreground], minlength=int(bins.max(initial=0)) + 1)
    order = np.random.default_rng(seed).permutation(len(bins))
    order = order[~np.isin(order, foreground)]
    order = order[np.argsort(bins[order], kind="stable")]
    own = bins[order]
    rank = np.arange(len(order)) - np.searchsorted(own, own)
    return np.sort(order[rank < wanted[own]])


def one_sided(with_hit: Int64, total: int, other_with_hit: Int64, other_total: int) -> Float64:
    """P-values of Fisher's exact test, that a share is no higher than another; (tests,)."""
    if not total + other_total:
        return np.ones(len(with_hit))
    hits = with_hit + other_with_hit
    return np.asarray(stats.hypergeom.sf(with_hit - 1, total + other_total, hits, total), np.float64)


def odds_ratios(a: Int64, n: int, b: Int64, m: int) -> Float64:
    """Odds of a out of n over those of b out of m: inf or 0 where one is certain, NaN where both are the same way."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Float64 = (a * (m - b)) / np.asarray((n - a) * b, np.float64)
    return ratio


def _compared(
    cell_type: str, names: list[str], hits: sparse.csr_matrix, own: Int64, other: Int64
) -> pd.DataFrame:
    """Compare two sets of peaks for one cell type, TFs with the lowest p-value first."""
    with_hit, other_with_hit = (
        np.asarray(hits[rows].sum(0), np.float64).ravel().astype(np.int64) for rows in (own, other)
    )
    table = pd.DataFrame(
        {
            "cell_type": cell_type,
            "tf": names,
            "foreground": with_hit / max(len(own), 1),
            "background": other_with_hit / max(len(other), 1),
            "n_foreground": len(own),
            "n_background": len(other),
            "odds_ratio": odds_ratios(with_hit, len(own), other_with_hit, len(other)),
            "pvalue": one_sided(with_hit, len(own), other_with_hit, len(other)),
        }
    )
    return table.sort_values(["pvalue", "odds_ratio"], ascending=[True, False], kind="stable")
