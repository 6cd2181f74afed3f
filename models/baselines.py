"""What a trained model must beat: simple predictors of matching, retrieval and translation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from ..graphs.csr import ranges
from ..graphs.dataset import MultiomeGraphs
from ..graphs.schema import SPLITS
from .layers.canonical import canonical_maps
from .layers.profile_encoder import ProfileEncoder, Weighting
from .lsi import reduce

Int64 = NDArray[np.int64]
Floats = NDArray[np.float64]

Guess = tuple[Floats, NDArray[np.bool_]]  # scores of pairs, and which are called matches

_REACH = 10_000  # bp around the TSS whose peaks make up a gene's activity
_TRAIN_PAIRS = 5_000  # training pairs that the two one-number classifiers see
_CHUNK = 1024


def matching_baselines(
    graphs: MultiomeGraphs, rna: Int64, atac: Int64, match: NDArray[np.bool_], *, seed: int
) -> dict[str, Guess]:
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
    guesses = {"majority": (np.zeros(len(match)), np.full(len(match), common))}
    for name, describe in (("depth", _depths), ("gene_activity", _activity_pairs)):
        model = make_pipeline(StandardScaler(), PolynomialFeatures(2), LogisticRegression(max_iter=1000))
        model.fit(describe(graphs, *trained), truth)
        score = model.predict_proba(describe(graphs, rna, atac))[:, 1]
        guesses[name] = (score, score > 0.5)
    return guesses


def activity_scores(graphs: MultiomeGraphs, cells: Int64) -> Floats:
    """Score partners by the correlation of expression with gene activity, (cells, cells)."""
    return _standardised(_expression(graphs, cells)).product(_standardised(_activity(graphs, cells)))


def cca_scores(
    graphs: MultiomeGraphs, cells: Int64, *, seed: int, width: int = 20, ridge: float = 0.01
) -> Floats:
    """Score partners by the cosine of canonical variates of the two reductions, (cells, cells).

    The variates come from training cells; each weighs as much as it correlates there.

    Parameters
    ----------
    graphs
        Any view of the dataset.
    cells
        Cells to be matched.
    seed
        Decides the reductions.
    width
        Canonical variates.
    ridge
        Share of each variance that is added to it.
    """
    train = np.flatnonzero((graphs.cells["split"] == SPLITS[0]).to_numpy())
    fitted, wanted = [], []
    kinds: tuple[Literal["log", "tf-idf"], ...] = ("log", "tf-idf")
    for rows, kind in zip((graphs.rna_rows, graphs.atac_rows), kinds, strict=True):
        reduction = reduce(rows, train, kind, seed=seed)
        own = reduction.of(train)
        centre, scale = own.mean(0), np.maximum(own.std(0), 1e-12)
        fitted.append((own - centre) / scale)
        wanted.append((reduction.of(cells) - centre) / scale)
    maps = canonical_maps(fitted[0], fitted[1], width=width, ridge=ridge, power=0.5)
    return _cosines(wanted, maps)


def start_scores(
    graphs: MultiomeGraphs, cells: Int64, *, seed: int, components: int = 30, width: int = 64
) -> Floats:
    """Score partners as the corrected CrossRec does before it is trained, (cells, cells).

    Canonical variates of principal components of counts of unit length, depths beside them.

    Parameters
    ----------
    graphs
        Any view of the dataset.
    cells
        Cells to be matched.
    seed
        Decides the components.
    components, width
        Of each modality, and canonical variates.
    """
    train = np.flatnonzero((graphs.cells["split"] == SPLITS[0]).to_numpy())
    fitted, wanted = [], []
    weightings: tuple[Weighting, Weighting] = ("sqrt", "tf-idf")
    for rows, weighting in zip((graphs.rna_rows, graphs.atac_rows), weightings, strict=True):
        encoder = ProfileEncoder(rows.n_columns, components, width, weighting=weighting).eval()
        encoder.fit_components(rows, train, seed=seed)
        fitted.append(encoder.features_of(rows, train).double().numpy())
        wanted.append(encoder.features_of(rows, cells).double().numpy())
    maps = canonical_maps(fitted[0], fitted[1], width=width)
    return _cosines(wanted, maps)


def _cosines(sides: list[Floats], maps: tuple[Floats, Floats]) -> Floats:
    """Cosine of every cell's first view with every cell's second, each through its map."""
    rna, atac = (_unit(side @ linear) for side, linear in zip(sides, maps, strict=True))
    scores: Floats = rna @ atac.T
    return scores


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit


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
