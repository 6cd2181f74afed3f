"""Which peaks may regulate a gene: those near its TSS (a chromosome prior needs no edges: peaks are sorted)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyranges as pr
from numpy.typing import NDArray

from ..graphs.collate import CisEdges
from ..graphs.errors import InputError


def window_edges(genes: pd.DataFrame, peaks: pd.DataFrame, *, window: int = 250_000) -> CisEdges:
    """Join each gene to the peaks that overlap ``[tss - window, tss + window + 1)``.

    Parameters
    ----------
    genes
        Columns ``chrom`` (None where unknown), ``tss`` (0-based), ``strand`` ('+', '-' or None).
    peaks
        Columns ``chrom`` (spelled as in `genes`), ``start``, ``end`` (0-based half-open).
    window
        Reach on either side of the TSS, in bp.

    Returns
    -------
    CisEdges
        Genes without a chromosome have no edges.

    Raises
    ------
    InputError
        If `window` is negative.
    """
    if window < 0:
        raise InputError(f"the window around the TSS is {window:,} bp. Pass a positive number of bp.")
    gene, peak = _overlaps(genes, peaks, window)
    order = np.lexsort((peak, gene))
    gene, peak = gene[order], peak[order]
    indptr = np.zeros(len(genes) + 1, dtype=np.int64)
    np.cumsum(np.bincount(gene, minlength=len(genes)), out=indptr[1:])
    return CisEdges(indptr, peak.astype(np.int32), signed_distance(genes, peaks, gene, peak))


def signed_distance(
    genes: pd.DataFrame, peaks: pd.DataFrame, gene: NDArray[np.int64], peak: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Distance of peak centres from the TSS along the direction of transcription.

    Parameters
    ----------
    genes, peaks
        Tables as for :func:`window_edges`.
    gene, peak
        int64, shape (edges,): rows of the two tables; every gene has a TSS.

    Returns
    -------
    int32 array, shape (edges,)
        ``((start + end) // 2 - tss)``, negated on the minus strand: bp, negative = upstream.
    """
    centre = (peaks["start"].to_numpy(dtype=np.int64) + peaks["end"].to_numpy(dtype=np.int64)) // 2
    tss = genes["tss"].to_numpy(dtype=np.float64, na_value=np.nan)[gene].astype(np.int64)
    sign = np.where(genes["strand"].to_numpy(dtype=object)[gene] == "-", -1, 1)
    distance: NDArray[np.int32] = ((centre[peak] - tss) * sign).astype(np.int32)
    return distance


def _overlaps(
    genes: pd.DataFrame, peaks: pd.DataFrame, window: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows = np.flatnonzero((genes["chrom"].notna() & genes["tss"].notna()).to_numpy())
    nothing = np.zeros(0, dtype=np.int64)
    if len(rows) == 0 or len(peaks) == 0:
        return nothing, nothing
    tss = genes["tss"].iloc[rows].to_numpy(dtype=np.int64)
    around = pd.DataFrame({"Chromosome": genes["chrom"].iloc[rows].to_numpy(dtype=object).astype(str)})
    around["Start"], around["End"], around["gene"] = np.maximum(tss - window, 0), tss + window + 1, rows
    intervals = pd.DataFrame({"Chromosome": peaks["chrom"].to_numpy(dtype=object).astype(str)})
    intervals["Start"] = peaks["start"].to_numpy(dtype=np.int64)
    intervals["End"] = peaks["end"].to_numpy(dtype=np.int64)
    intervals["peak"] = np.arange(len(peaks))
    joined = pr.PyRanges(around, int64=True).join(pr.PyRanges(intervals, int64=True)).df
    if joined.empty:
        return nothing, nothing
    return joined["gene"].to_numpy(dtype=np.int64), joined["peak"].to_numpy(dtype=np.int64)
