"""What the counts alone say about candidates: correlation across cells, and how often a peak is open."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ..graphs.dataset import MultiomeGraphs
from .candidates import Candidates

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_CELLS = 2048  # in memory at a time
_GENES = 64  # a block; its candidates lie in a short range of peaks
_DEPTH = 1e4
_FLAT = 1e-12  # variance below which a feature counts as constant


def correlation(graphs: MultiomeGraphs, candidates: Candidates, *, chunk: int = _CELLS) -> Float64:
    """Pearson correlation across cells of expression and openness.

    Expression is log(1 + 10⁴ · count / counts of the cell); openness is 1 where the peak has a
    count. The sums run over chunks of cells and blocks of neighbouring genes as sparse products:
    only pairs that occur together near each other are ever formed.

    Parameters
    ----------
    graphs
        Cells to correlate over.
    candidates
        Pairs.
    chunk
        Cells in memory at a time.

    Returns
    -------
    (candidates,) in [-1, 1]; 0 where gene or peak is constant.
    """
    blocks = _blocks(graphs, candidates)
    x_sum, x_square = np.zeros(len(graphs.genes)), np.zeros(len(graphs.genes))
    y_sum, together = np.zeros(len(graphs.peaks)), np.zeros(len(candidates))
    n = len(graphs)
    for x, y in _chunks(graphs, chunk):
        x_sum += np.asarray(x.sum(0)).ravel()
        x_square += np.asarray(x.multiply(x).sum(0)).ravel()
        y_sum += np.asarray(y.sum(0)).ravel()
        for begin, end in blocks:
            together[begin:end] += _products(x, y, candidates.gene[begin:end], candidates.peak[begin:end])
    x_mean, y_mean = x_sum / n, y_sum / n
    x_var, y_var = x_square / n - x_mean**2, y_mean - y_mean**2
    gene, peak = candidates.gene, candidates.peak
    varies = (x_var[gene] > _FLAT) & (y_var[peak] > _FLAT)
    scale = np.sqrt(np.where(varies, x_var[gene] * y_var[peak], 1.0))
    result: Float64 = np.where(varies, (together / n - x_mean[gene] * y_mean[peak]) / scale, 0.0)
    return result


def open_share(graphs: MultiomeGraphs, *, chunk: int = _CELLS) -> Float64:
    """Share of the cells in which each peak is open, (peaks,)."""
    counts = np.zeros(len(graphs.peaks))
    for _, cells in _cells(graphs, chunk):
        counts += np.bincount(graphs.atac_rows.gather(cells)[0], minlength=len(counts))
    return counts / max(len(graphs), 1)


def _cells(graphs: MultiomeGraphs, chunk: int) -> Iterator[tuple[Int64, Int64]]:
    for begin in range(0, len(graphs), chunk):
        yield graphs.pairs_of(np.arange(begin, min(begin + chunk, len(graphs))))


def _chunks(graphs: MultiomeGraphs, chunk: int) -> Iterator[tuple[sparse.csc_matrix, sparse.csc_matrix]]:
    """Yield log expression (cells, genes) and openness (cells, peaks), float64, by columns."""
    for rna, atac in _cells(graphs, chunk):
        x = graphs.rna_rows.matrix(rna).astype(np.float64)
        depth = np.asarray(x.sum(1)).ravel()
        x.data = np.log1p(x.data * np.repeat(_DEPTH / np.maximum(depth, 1.0), np.diff(x.indptr)))
        y = graphs.atac_rows.matrix(atac).astype(np.float64)
        y.data = np.ones_like(y.data)
        yield x.tocsc(), y.tocsc()


def _blocks(graphs: MultiomeGraphs, candidates: Candidates) -> list[tuple[int, int]]:
    """Cut the candidates where blocks of neighbouring genes, or chromosomes, end."""
    chrom, n_genes = graphs.genes.chrom.numpy(), len(graphs.genes)
    cuts = np.union1d(np.arange(0, n_genes, _GENES), np.flatnonzero(np.diff(chrom)) + 1)
    at = np.unique(np.searchsorted(candidates.gene, np.append(cuts, n_genes)))
    return list(zip(at[:-1].tolist(), at[1:].tolist(), strict=True))


def _products(x: sparse.csc_matrix, y: sparse.csc_matrix, gene: Int64, peak: Int64) -> Float64:
    """Σ over cells of x[:, gene] · y[:, peak] for the pairs of one block."""
    g0, p0 = int(gene[0]), int(peak.min())
    product = sparse.csr_matrix(x[:, g0 : int(gene[-1]) + 1].T @ y[:, p0 : int(peak.max()) + 1])
    product.sort_indices()
    return np.asarray(product[gene - g0, peak - p0]).ravel()
