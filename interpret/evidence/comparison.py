"""How well a map recovers known links, beside what needs no model, on the same candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from .candidates import Candidates, MapScores, candidate_pairs
from .correlation import correlation, linkpeaks, open_share
from .truth import KnownLinks, gene_ids, locate, peak_ids

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Precision at each recall, (points,) each, and the area under it."""

    recall: Float64
    precision: Float64
    auprc: float


@dataclass(frozen=True)
class Comparison:
    """Methods ranked by how they score the same candidates.

    Attributes
    ----------
    coverage
        How many true links are candidates, and why the others are not.
    candidates
        The pairs judged.
    true
        (candidates,) whether each is a true link.
    scores
        Method -> (candidates,) score, higher is likelier.
    n_links, n_outside
        Links of the map, and those of them that are no candidates.
    """

    coverage: dict[str, int]
    candidates: Candidates
    true: npt.NDArray[np.bool_]
    scores: dict[str, Float64]
    n_links: int
    n_outside: int

    @property
    def chance(self) -> float:
        """Share of the candidates that are true."""
        return float(self.true.mean())

    def summary(self) -> dict[str, Any]:
        """Return coverage, sizes, and AUPRC, AUROC and early precision of every method."""
        methods = {name: quality(self.true, score) for name, score in self.scores.items()}
        methods["random"] = {"auprc": self.chance, "auroc": 0.5, "early_precision": self.chance}
        return {
            "coverage": self.coverage,
            "window": self.candidates.window,
            "candidates": len(self.candidates),
            "true_candidates": int(self.true.sum()),
            "map_links": {"total": self.n_links, "outside_candidates": self.n_outside},
            "methods": methods,
        }

    def known(self, graphs: MultiomeGraphs, genes: Sequence[str]) -> dict[str, list[str]]:
        """Name the peaks of the true candidates of a few genes."""
        gene = graphs.genes.frame["gene"].to_numpy(object)[self.candidates.gene[self.true]]
        peak = graphs.peaks.frame["peak"].to_numpy(object)[self.candidates.peak[self.true]]
        return {name: peak[gene == name].tolist() for name in genes}

    def curves(self) -> dict[str, Curve]:
        """Return the precision-recall curve of every method but chance."""
        return {name: _curve(self.true, score) for name, score in self.scores.items()}


def recovery(
    links: pd.DataFrame, truth: pd.DataFrame, graphs: MultiomeGraphs, *, window: int | None = None
) -> dict[str, Any]:
    """Compare a link table with true links.

    All methods score the same candidates: every peak within the window of a gene's TSS. Methods are
    ``map`` (largest score over cell types), ``map_mean`` (mean over cell types; no link scores 0),
    ``distance`` (nearer is likelier), ``correlation`` (Pearson; the sign counts, because
    most links activate), ``linkpeaks`` (the same as a z-score among matched peaks of other chromosomes),
    ``accessibility`` (share of cells in which the peak is open) and ``random``.

    Parameters
    ----------
    links
        Link table with ``gene, peak, score`` of one or more cell types.
    truth
        True links with ``gene, peak``.
    graphs
        Dataset, whose cells give correlation and accessibility.
    window
        As in `candidate_pairs`.

    Returns
    -------
    ``coverage`` (``links, in_candidates, unknown_gene, unknown_peak, outside_window``), ``window``,
    ``candidates``, ``true_candidates``, ``map_links``, and ``methods``: name -> ``auprc, auroc,
    early_precision`` (precision among as many of the best pairs as are true).

    Raises
    ------
    InputError
        The truth lacks a column, or none of its links is a candidate.
    """
    scores = MapScores(candidate_pairs(graphs, window=window))
    gene, peak = gene_ids(graphs, links["gene"]), peak_ids(graphs, links["peak"])
    if len(links) and min(gene.min(), peak.min()) < 0:
        raise InputError(
            "the link table names genes or peaks that the dataset has not. Pass its own dataset."
        )
    scores.add(gene, peak, links["score"].to_numpy(np.float64))
    return compare(scores, locate(truth, scores.candidates, graphs), graphs).summary()


def compare(scores: MapScores, known: KnownLinks, graphs: MultiomeGraphs) -> Comparison:
    """Score the candidates by every method; see `recovery`."""
    candidates = scores.candidates
    methods = {
        "map": scores.best,
        "map_mean": scores.total,  # a constant factor changes no rank
        **model_free(candidates, graphs),
    }
    return Comparison(known.coverage, candidates, known.true, methods, scores.n_links, scores.n_outside)


def model_free(candidates: Candidates, graphs: MultiomeGraphs) -> dict[str, Float64]:
    """Score the candidates by every method that needs no model; method -> (candidates,) score."""
    correlations = correlation(graphs, candidates)
    return {
        "distance": -np.abs(candidates.distance).astype(np.float64),
        "correlation": correlations,
        "linkpeaks": linkpeaks(graphs, candidates, correlations),
        "accessibility": open_share(graphs)[candidates.peak],
    }


def quality(true: npt.NDArray[np.bool_], score: Float64) -> dict[str, float | None]:
    """Return AUPRC, AUROC (null where all are true) and early precision of one method."""
    return {
        "auprc": float(average_precision_score(true, score)),
        "auroc": None if true.all() else float(roc_auc_score(true, score)),
        "early_precision": early_precision(true, score),
    }


def early_precision(true: npt.NDArray[np.bool_], score: Float64) -> float:
    """Precision among the best n pairs, n being the number of true ones; ties count by expectation."""
    return share_of_top(true, score, int(true.sum()))


def share_of_top(marked: npt.NDArray[np.bool_], score: Float64, n: int) -> float:
    """Share of the best n pairs that are marked; ties count by expectation."""
    cut = np.partition(score, -n)[-n]
    above, tied = score > cut, score == cut
    expected = marked[above].sum() + marked[tied].mean() * (n - above.sum())
    return float(expected / n)


def _curve(true: npt.NDArray[np.bool_], score: Float64) -> Curve:
    precision, recall, _ = precision_recall_curve(true, score, drop_intermediate=True)
    return Curve(recall, precision, float(average_precision_score(true, score)))
