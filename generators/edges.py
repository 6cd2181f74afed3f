"""Peak-gene edges from pairs in any order: each once, stored by gene, with signed distances."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.collate import CisEdges


def edges_between(
    genes: pd.DataFrame, peaks: pd.DataFrame, gene: NDArray[np.int64], peak: NDArray[np.int64]
) -> CisEdges:
    """Store pairs of genes and peaks by gene, each once.

    Parameters
    ----------
    genes, peaks
        Tables as for :func:`scweave.generators.prior.window_edges`.
    gene, peak
        int64, shape (pairs,): rows of the two tables in any order, repeated or not; every gene has
        a TSS.
    """
    n_peaks = max(len(peaks), 1)
    gene, peak = np.divmod(np.unique(gene * n_peaks + peak), n_peaks)
    return CisEdges(
        _indptr(gene, len(genes)), peak.astype(np.int32), signed_distance(genes, peaks, gene, peak)
    )


def union(first: CisEdges, second: CisEdges, n_genes: int) -> CisEdges:
    """Join two priors over the same genes and peaks; an edge of both is kept once.

    Parameters
    ----------
    first, second
        Edges of the same `n_genes` genes.
    n_genes
        Number of genes.
    """
    genes = np.arange(n_genes)
    gene = np.concatenate([np.repeat(genes, np.diff(edges.indptr)) for edges in (first, second)])
    peak = np.concatenate([first.peak, second.peak])
    distance = np.concatenate([first.distance, second.distance])
    _, kept = np.unique(gene * (int(peak.max(initial=0)) + 1) + peak, return_index=True)
    return CisEdges(_indptr(gene[kept], n_genes), peak[kept], distance[kept])


def signed_distance(
    genes: pd.DataFrame, peaks: pd.DataFrame, gene: NDArray[np.int64], peak: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Distance of peak centres from the TSS along the direction of transcription.

    Parameters
    ----------
    genes, peaks
        Tables as for :func:`scweave.generators.prior.window_edges`.
    gene, peak
        int64, shape (edges,): rows of the two tables; every gene has a TSS.

    Returns
    -------
    int32 array, shape (edges,)
        ``((start + end) // 2 - tss)``, negated on the minus strand: bp, negative = upstream.
    """
    centre = (peaks["start"].to_numpy(dtype=np.int64) + peaks["end"].to_numpy(dtype=np.int64)) // 2
    sign = np.where(genes["strand"].to_numpy(dtype=object)[gene] == "-", -1, 1)
    tss = genes["tss"].astype("Int64").fillna(0).to_numpy(dtype=np.int64)
    distance: NDArray[np.int32] = ((centre[peak] - tss[gene]) * sign).astype(np.int32)
    return distance


def _indptr(gene: NDArray[np.int64], n_genes: int) -> NDArray[np.int64]:
    indptr = np.zeros(n_genes + 1, dtype=np.int64)
    np.cumsum(np.bincount(gene, minlength=n_genes), out=indptr[1:])
    return indptr
