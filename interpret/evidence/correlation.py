"""What the counts alone say about candidates: correlation across cells, and how often a peak is open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ...graphs.bases import N
from ...graphs.dataset import MultiomeGraphs
from ...graphs.schema import BASES
from .candidates import Candidates
from .nulls import quantiles

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_CELLS = 1024  # in memory at a time
_GENES = 64  # a block; its candidates lie in a short range of peaks
_DEPTH = 1e4
_FLAT = 1e-12  # variance below which a feature counts as constant
_BACKGROUNDS = 200  # peaks that a candidate is held against
_BINS = 49  # at most; a bin has as many peaks as backgrounds, or more
_SUMS = 1 << 25  # of gene times background peak, held at a time (float64)
_GC = [BASES.index(base) for base in "GC"]


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
    blocks, together = _blocks(graphs, candidates), np.zeros(len(candidates))
    for x, y in _chunks(graphs, chunk):
        for begin, end in blocks:
            together[begin:end] += _products(x, y, candidates.gene[begin:end], candidates.peak[begin:end])
    return Spread.over(graphs, chunk=chunk).correlations(together, candidates.gene, candidates.peak)


def linkpeaks(
    graphs: MultiomeGraphs,
    candidates: Candidates,
    correlations: Float64 | None = None,
    *,
    seed: int = 0,
    chunk: int = _CELLS,
) -> Float64:
    """z-scores of correlations among those of the same gene with matched peaks of other chromosomes.

    The method of Signac's LinkPeaks: a candidate's correlation, less the mean over 200 background peaks
    and divided by their standard deviation. Signac draws them for every peak anew, by their likeness in
    accessibility and GC content; here peaks are first put into equal bins by accessibility, and within
    these by GC content, and the peaks of a bin share their backgrounds. Where there is no DNA, bins are
    of accessibility alone. As in `correlation`, openness is yes or no, where Signac counts.

    Parameters
    ----------
    graphs, candidates, chunk
        As in `correlation`.
    correlations
        (candidates,) of `correlation`, where they are at hand.
    seed
        Decides which peaks are drawn.

    Returns
    -------
    (candidates,) z; 0 where gene or peak is constant, or all backgrounds correlate alike.
    """
    found = correlation(graphs, candidates, chunk=chunk) if correlations is None else correlations
    spread = Spread.over(graphs, chunk=chunk)
    bins = peak_bins(graphs, spread)
    pool = background_pool(graphs, bins, seed=seed)
    mean, deviation = np.zeros(len(candidates)), np.zeros(len(candidates))
    genes = np.unique(candidates.gene)
    for some in np.array_split(genes, -(-len(genes) * max(len(pool), 1) // _SUMS)):
        own = slice(*np.searchsorted(candidates.gene, [some[0], some[-1] + 1]))
        row, column = np.searchsorted(some, candidates.gene[own]), bins[candidates.peak[own]]
        means, deviations = _background(graphs, spread, some, pool, bins, chunk)
        mean[own], deviation[own] = means[row, column], deviations[row, column]
    known = (deviation > _FLAT) & (bins[candidates.peak] >= 0)
    result: Float64 = np.where(known, (found - mean) / np.where(known, deviation, 1.0), 0.0)
    return result


@dataclass(frozen=True)
class Spread:
    """Means and variances over cells: of log expression (genes,) ``x`` and of openness (peaks,) ``y``."""

    n: int
    x_mean: Float64
    x_var: Float64
    y_mean: Float64
    y_var: Float64

    @classmethod
    def over(cls, graphs: MultiomeGraphs, *, chunk: int = _CELLS) -> Spread:
        """Measure in all cells of ``graphs``."""
        n = len(graphs)
        x_sum, x_square = np.zeros(len(graphs.genes)), np.zeros(len(graphs.genes))
        y_sum = np.zeros(len(graphs.peaks))
        for x, y in _chunks(graphs, chunk):
            x_sum += np.asarray(x.sum(0)).ravel()
            x_square += np.asarray(x.multiply(x).sum(0)).ravel()
            y_sum += np.asarray(y.sum(0)).ravel()
        x_mean, y_mean = x_sum / n, y_sum / n
        return cls(n, x_mean, x_square / n - x_mean**2, y_mean, y_mean - y_mean**2)

    def correlations(self, together: Float64, gene: Int64, peak: Int64) -> Float64:
        """Turn Σ x · y over cells of genes and peaks, whose shapes broadcast, into correlations."""
        varies = (self.x_var[gene] > _FLAT) & (self.y_var[peak] > _FLAT)
        scale = np.sqrt(np.where(varies, self.x_var[gene] * self.y_var[peak], 1.0))
        covariance = together / self.n - self.x_mean[gene] * self.y_mean[peak]
        result: Float64 = np.where(varies, covariance / scale, 0.0)
        return result


def peak_bins(graphs: MultiomeGraphs, spread: Spread) -> Int64:
    """Put peaks into equal bins by accessibility, and within these by GC content; (peaks,), -1 for constant ones."""
    varying = np.flatnonzero(spread.y_var > _FLAT)
    bins, alike = np.full(len(spread.y_mean), -1, np.int64), np.zeros_like(varying)
    number = int(np.clip(len(varying) // _BACKGROUNDS, 1, _BINS))
    open_, gc = spread.y_mean[varying], gc_content(graphs)
    side = number if gc is None else int(np.sqrt(number))
    alike = quantiles(open_, alike, side, varying)
    if gc is not None:
        alike = alike * side + quantiles(gc[varying], alike, side, varying)
    bins[varying] = alike
    return bins


def background_pool(graphs: MultiomeGraphs, bins: Int64, *, seed: int = 0) -> Int64:
    """Draw peaks of which each bin has the backgrounds for every chromosome, in random order within ascending bins."""
    shuffled = np.random.default_rng(seed).permutation(len(bins))
    order = shuffled[np.argsort(bins[shuffled], kind="stable")]
    order = order[bins[order] >= 0]
    wanted = np.zeros(len(order), bool)
    chrom = graphs.peaks.chrom.numpy()[order]
    for own in np.unique(chrom):
        wanted |= _first_elsewhere(chrom != own, bins[order])
    return order[wanted]


def _first_elsewhere(elsewhere: npt.NDArray[np.bool_], bins: Int64) -> npt.NDArray[np.bool_]:
    """Mark the first 200 peaks of every bin (sorted) that lie elsewhere."""
    before: Int64 = np.cumsum(elsewhere) - elsewhere
    rank: Int64 = before - before[np.searchsorted(bins, bins)]
    marked: npt.NDArray[np.bool_] = elsewhere & (rank < _BACKGROUNDS)
    return marked


def _background(
    graphs: MultiomeGraphs, spread: Spread, genes: Int64, pool: Int64, bins: Int64, chunk: int
) -> tuple[Float64, Float64]:
    """Mean and standard deviation of each gene's correlations with the backgrounds of each bin, (genes, bins) each."""
    together = np.zeros((len(genes), len(pool)))
    for x, y in _chunks(graphs, chunk):
        expressed, opened = sparse.csr_matrix(x[:, genes].T), y[:, pool].tocsr()
        for begin in range(0, len(genes), _GENES):
            together[begin : begin + _GENES] += (expressed[begin : begin + _GENES] @ opened).toarray()
    number = int(bins.max(initial=0)) + 1
    means, deviations = np.zeros((len(genes), number)), np.zeros((len(genes), number))
    chrom, own = graphs.peaks.chrom.numpy()[pool], graphs.genes.chrom.numpy()[genes]
    for code in np.unique(own):
        used = _first_elsewhere(chrom != code, bins[pool])
        member = sparse.csr_matrix(
            (np.ones(used.sum()), (np.flatnonzero(used), bins[pool][used])), shape=(len(pool), number)
        )
        size = np.maximum(np.bincount(bins[pool][used], minlength=number), 1)
        for some in np.array_split(mine := np.flatnonzero(own == code), -(-len(mine) // _GENES)):
            found = spread.correlations(together[some], genes[some, None], pool[None])
            means[some] = found @ member / size
            square = (found - means[some][:, bins[pool]]) ** 2 @ member
            deviations[some] = np.sqrt(square / np.maximum(size - 1, 1))
    return means, deviations


def gc_content(graphs: MultiomeGraphs) -> Float64 | None:
    """Share of G and C among each peak's known bases, (peaks,); None where the dataset has no DNA."""
    if "sequence" not in graphs.peaks.tensors:
        return None
    codes = graphs.peaks.sequence.numpy()
    result: Float64 = np.isin(codes, _GC).sum(1) / np.maximum((codes != N).sum(1), 1)
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
