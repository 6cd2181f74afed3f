"""What a trained model must beat: simple predictors of matching, retrieval and translation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from ..graphs.csr import ranges
from ..graphs.dataset import MultiomeGraphs
from ..graphs.schema import SPLITS
from .metrics import Figures, matching_metrics, retrieval_metrics

Int64 = NDArray[np.int64]
Floats = NDArray[np.float64]

_REACH = 10_000  # bp around the TSS whose peaks make up a gene's activity
_TRAIN_PAIRS = 5_000  # training pairs that the two one-number classifiers see
_CHUNK = 1024


@dataclass(frozen=True)
class ExpressedShare:
    """How often each gene is expressed in training cells.

    Attributes
    ----------
    overall
        (genes,) share of the training cells.
    by_type
        (types + 1, genes) share within each type; the last row, for unlabelled cells, is ``overall``.
    """

    overall: Floats
    by_type: Floats


def expressed_share(graphs: MultiomeGraphs) -> ExpressedShare:
    """Count, over the training cells, how often each gene is expressed, at all and by type."""
    n_types, n_genes = len(graphs.cell_types), len(graphs.genes)
    train = np.flatnonzero(graphs.cells["split"] == SPLITS[0])
    seen = np.zeros((n_types + 1, n_genes))
    for begin in range(0, len(train), _CHUNK):
        cells = train[begin : begin + _CHUNK]
        ids, _, counts = graphs.rna_rows.gather(cells)
        code = np.repeat(graphs.cell_type_codes[cells] % (n_types + 1), counts)  # -1 becomes the last row
        seen += np.bincount(code * n_genes + ids, minlength=seen.size).reshape(seen.shape)
    cells_of = np.bincount(graphs.cell_type_codes[train] % (n_types + 1), minlength=n_types + 1)
    overall = seen.sum(0) / max(len(train), 1)
    by_type = seen / np.maximum(cells_of, 1)[:, None]
    by_type[n_types] = overall
    return ExpressedShare(overall, by_type)


def matching_baselines(
    graphs: MultiomeGraphs, rna: Int64, atac: Int64, match: NDArray[np.bool_], *, seed: int
) -> dict[str, Figures]:
    """Classify held-out pairs by the majority class, by depth alone, and by gene activity.

    Parameters
    ----------
    graphs
        Any view of the dataset; training pairs come from its table of pairs.
    rna, atac, match
        (pairs,) held-out pairs.
    seed
        Decides which training pairs are used where there are many.

    Returns
    -------
    ``majority``; ``depth``: logistic regression on the two numbers of open and expressed features
    and their products; ``gene_activity``: logistic regression on the correlation of expression
    with the accessibility within 10 kb of the TSS.
    """
    pairs = graphs.store.table("pairs")
    pairs = pairs[pairs["split"] == SPLITS[0]]
    pairs = pairs.sample(min(len(pairs), _TRAIN_PAIRS), random_state=seed)
    trained = (pairs["rna"].to_numpy(np.int64), pairs["atac"].to_numpy(np.int64))
    truth = pairs["match"].to_numpy() > 0
    common = bool(truth.mean() >= 0.5)
    figures = {"majority": matching_metrics(np.zeros(len(match)), np.full(len(match), common), match)}
    for name, describe in (("depth", _depths), ("gene_activity", _activity_pairs)):
        model = make_pipeline(StandardScaler(), PolynomialFeatures(2), LogisticRegression(max_iter=1000))
        model.fit(describe(graphs, *trained), truth)
        score = model.predict_proba(describe(graphs, rna, atac))[:, 1]
        figures[name] = matching_metrics(score, score > 0.5, match)
    return figures


def activity_retrieval(graphs: MultiomeGraphs, cells: Int64) -> Figures:
    """Retrieve each cell's partner by the correlation of expression with gene activity."""
    expression, activity = _standardised(_expression(graphs, cells)), _standardised(_activity(graphs, cells))
    return retrieval_metrics(expression.product(activity))


def _depths(graphs: MultiomeGraphs, rna: Int64, atac: Int64) -> Floats:
    genes, peaks = graphs.cells["n_genes"].to_numpy(), graphs.cells["n_peaks"].to_numpy()
    return np.log1p(np.stack([genes[rna], peaks[atac]], 1).astype(np.float64))


def _activity_pairs(graphs: MultiomeGraphs, rna: Int64, atac: Int64) -> Floats:
    parts = []
    for begin in range(0, len(rna), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        expression = _standardised(_expression(graphs, rna[part]))
        activity = _standardised(_activity(graphs, atac[part]))
        parts.append(expression.paired(activity))
    return np.concatenate(parts)[:, None]


@dataclass(frozen=True)
class _Standardised:
    """Sparse rows with the mean and length of each, for correlations without a dense matrix."""

    rows: sparse.csr_matrix
    mean: Floats
    length: Floats

    def product(self, other: _Standardised) -> Floats:
        """Correlate every row with every row of ``other``."""
        inner = (self.rows @ other.rows.T).toarray() - self.rows.shape[1] * np.outer(self.mean, other.mean)
        scores: Floats = inner / np.outer(self.length, other.length)
        return scores

    def paired(self, other: _Standardised) -> Floats:
        """Correlate row i with row i of ``other``."""
        inner = np.asarray(self.rows.multiply(other.rows).sum(1)).ravel()
        scores: Floats = (inner - self.rows.shape[1] * self.mean * other.mean) / (self.length * other.length)
        return scores


def _standardised(rows: sparse.csr_matrix) -> _Standardised:
    rows = rows.astype(np.float64)
    n = rows.shape[1]
    mean = np.asarray(rows.mean(1)).ravel()
    square = np.asarray(rows.multiply(rows).sum(1)).ravel()
    return _Standardised(rows, mean, np.sqrt(np.maximum(square - n * mean**2, 1e-12)))


def _expression(graphs: MultiomeGraphs, cells: Int64) -> sparse.csr_matrix:
    counts = graphs.rna_rows.matrix(cells)
    total = np.maximum(np.asarray(counts.sum(1)).ravel(), 1)
    counts.data = np.log1p(counts.data * np.repeat(1e4 / total, np.diff(counts.indptr)))
    return counts


def _activity(graphs: MultiomeGraphs, cells: Int64) -> sparse.csr_matrix:
    nearby: sparse.csr_matrix = (graphs.atac_rows.matrix(cells) @ peaks_near_tss(graphs)).tocsr()
    nearby.data = np.log1p(nearby.data)
    return nearby


def peaks_near_tss(graphs: MultiomeGraphs, reach: int = _REACH) -> sparse.csr_matrix:
    """Return the 0/1 matrix (peaks, genes) of peaks that start within ``reach`` bp of a TSS."""
    peaks, genes = graphs.peaks, graphs.genes
    span = int(max(peaks.end.max(), genes.tss.max())) + 2 * reach + 1
    key = (peaks.chrom * span + peaks.start).numpy()
    centre = (genes.chrom * span + genes.tss).numpy()
    placed = ((genes.chrom >= 0) & (genes.tss >= 0)).numpy()
    first = np.searchsorted(key, centre - reach)
    last = np.where(placed, np.searchsorted(key, centre + reach, side="right"), first)
    rows = ranges(first, last - first)
    columns = np.repeat(np.arange(len(genes)), last - first)
    same = peaks.chrom.numpy()[rows] == genes.chrom.numpy()[columns]
    ones = np.ones(int(same.sum()), np.float32)
    return sparse.csr_matrix((ones, (rows[same], columns[same])), shape=(len(peaks), len(genes)))
