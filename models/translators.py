"""Baselines of translation: expression from accessibility by means, ridge regression and nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from ..graphs.dataset import MultiomeGraphs
from ..graphs.schema import SPLITS
from .lsi import Reduction, reduce

Int64 = NDArray[np.int64]
Floats = NDArray[np.float64]
_CHUNK = 1024
_ALPHAS = (1.0, 10.0, 100.0, 1_000.0, 10_000.0)
_CHECKED = 500  # validation cells that choose alpha


@dataclass(frozen=True)
class Translation:
    """Predicted expression, (cells, genes) each.

    Attributes
    ----------
    score
        Larger where a gene is likelier to be on.
    on
        Whether it is predicted on.
    log
        Predicted ln(1 + count); None where a method does not say.
    """

    score: NDArray[np.float32]
    on: NDArray[np.bool_]
    log: NDArray[np.float32] | None


class Translator(Protocol):
    """Predicts the expression of cells of the dataset it was fitted on."""

    def predict(self, cells: Int64) -> Translation:
        """Translate cells (row numbers)."""


@dataclass(frozen=True)
class MeanTranslator:
    """The mean of the training cells, of all or of the cell's type; row -1 is that of all.

    Attributes
    ----------
    share, log
        (types + 1, genes) share of cells that express a gene, and mean of ln(1 + count).
    code
        (cells,) row of each cell.
    """

    share: NDArray[np.float32]
    log: NDArray[np.float32]
    code: Int64

    def predict(self, cells: Int64) -> Translation:
        """Translate cells (row numbers)."""
        share = self.share[self.code[cells]]
        return Translation(share, share > 0.5, self.log[self.code[cells]])


@dataclass(frozen=True)
class RidgeTranslator:
    """Ridge regression of on and of ln(1 + count) on the standardised LSI of the peaks."""

    lsi: Reduction
    centre: Floats
    scale: Floats
    share: NDArray[np.float32]
    log: NDArray[np.float32]

    def predict(self, cells: Int64) -> Translation:
        """Translate cells (row numbers)."""
        z = _with_one((self.lsi.of(cells) - self.centre) / self.scale).astype(np.float32)
        score = z @ self.share
        return Translation(score, score > 0.5, z @ self.log)


@dataclass(frozen=True)
class NeighbourTranslator:
    """The mean of the training cells whose LSI of the peaks is nearest by angle."""

    graphs: MultiomeGraphs
    lsi: Reduction
    train: Int64
    index: NearestNeighbors

    def predict(self, cells: Int64) -> Translation:
        """Translate cells (row numbers)."""
        near: Int64 = self.index.kneighbors(_directions(self.lsi.of(cells)), return_distance=False)
        used, place = np.unique(self.train[near], return_inverse=True)
        rows = np.repeat(np.arange(len(cells)), near.shape[1])
        weight = np.full(near.size, 1 / near.shape[1], np.float32)
        mean = sparse.csr_matrix((weight, (rows, place.ravel())), shape=(len(cells), len(used)))
        counts = self.graphs.rna_rows.matrix(used)
        log = (mean @ _mapped(counts, np.log1p)).toarray()
        share = (mean @ _mapped(counts, np.sign)).toarray()
        return Translation(share, share > 0.5, log)


def fit_translators(graphs: MultiomeGraphs, *, seed: int = 0, neighbours: int = 30) -> dict[str, Translator]:
    """Fit all baselines on the training cells of a dataset.

    Parameters
    ----------
    graphs
        Any view of the dataset.
    seed
        Decides the reduction.
    neighbours
        How many training cells a neighbour mean has.

    Returns
    -------
    ``gene_mean``, ``type_mean`` (knows the labels of the cells it translates), ``ridge``, ``knn``.
    """
    train = np.flatnonzero((graphs.cells["split"] == SPLITS[0]).to_numpy())
    share, log = _means(graphs, train)
    everyone = np.full(len(graphs.cells), -1)
    typed = np.where(graphs.cell_type_codes < 0, -1, graphs.cell_type_codes)
    lsi = reduce(graphs.atac_rows, train, "tf-idf", seed=seed)
    reduced = lsi.of(train)
    index = NearestNeighbors(n_neighbors=min(neighbours, len(train)), algorithm="brute")
    return {
        "gene_mean": MeanTranslator(share, log, everyone),
        "type_mean": MeanTranslator(share, log, typed),
        "ridge": _ridge(graphs, lsi, train, reduced),
        "knn": NeighbourTranslator(graphs, lsi, train, index.fit(_directions(reduced))),
    }


def _means(graphs: MultiomeGraphs, train: Int64) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Share of cells and mean log count of each gene, by type; the last row is that of all training cells."""
    n_types = len(graphs.cell_types)
    code = graphs.cell_type_codes[train]
    cells = np.bincount(code[code >= 0], minlength=n_types)
    sums = np.zeros((2, n_types + 1, len(graphs.genes)))
    for begin in range(0, len(train), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        counts, own = graphs.rna_rows.matrix(train[part]), code[part]
        member = sparse.csr_matrix(
            (np.ones((own >= 0).sum()), (own[own >= 0], np.flatnonzero(own >= 0))), shape=(n_types, len(own))
        )
        for total, values in zip(sums, (_mapped(counts, np.sign), _mapped(counts, np.log1p)), strict=True):
            total[:n_types] += (member @ values).toarray()
            total[n_types] += np.asarray(values.sum(0)).ravel()
    means = sums / np.maximum(np.append(cells, len(train)), 1)[:, None]
    means[:, :n_types][:, cells == 0] = means[:, -1:]  # a type that no training cell has
    return means[0].astype(np.float32), means[1].astype(np.float32)


def _ridge(graphs: MultiomeGraphs, lsi: Reduction, train: Int64, reduced: Floats) -> RidgeTranslator:
    """Solve for all genes at once; validation cells choose the penalty."""
    centre, scale = reduced.mean(0), np.maximum(reduced.std(0), 1e-12)
    z = _with_one((reduced - centre) / scale)
    moments = np.zeros((2, z.shape[1], len(graphs.genes)))
    for begin in range(0, len(train), _CHUNK):
        counts = graphs.rna_rows.matrix(train[begin : begin + _CHUNK])
        some = z[begin : begin + _CHUNK]
        for moment, function in zip(moments, (np.sign, np.log1p), strict=True):
            moment += (_mapped(counts, function).T @ some).T
    gram, penalised = z.T @ z, np.append(np.ones(z.shape[1] - 1), 0.0)  # the mean is not penalised
    validation = np.flatnonzero((graphs.cells["split"] == SPLITS[1]).to_numpy())
    checked = np.sort(np.random.default_rng(0).permutation(validation)[:_CHECKED])
    truth = np.log1p(graphs.rna_rows.matrix(checked).toarray())
    found: list[tuple[float, RidgeTranslator]] = []
    for alpha in _ALPHAS:
        share, log = (
            np.linalg.solve(gram + alpha * np.diag(penalised), m).astype(np.float32) for m in moments
        )
        ridge = RidgeTranslator(lsi, centre, scale, share, log)
        predicted = ridge.predict(checked).log
        assert predicted is not None
        found.append((float(((predicted - truth) ** 2).sum()), ridge))
    return min(found, key=lambda pair: pair[0])[1]


def _with_one(z: Floats) -> Floats:
    return np.concatenate([z, np.ones((len(z), 1))], 1)


def _directions(reduced: Floats) -> Floats:
    """Unit vectors; the first component, which follows depth, is left out where there are others."""
    own = reduced[:, 1:] if reduced.shape[1] > 1 else reduced
    unit: Floats = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12)
    return unit


def _mapped(counts: sparse.csr_matrix, function: np.ufunc) -> sparse.csr_matrix:
    return sparse.csr_matrix((function(counts.data), counts.indices, counts.indptr), shape=counts.shape)
