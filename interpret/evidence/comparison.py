"""How well a map recovers known links, beside what needs no model, on the same pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import precision_recall_curve

from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from .candidates import Candidates, MapScores, candidate_pairs
from .correlation import correlation, gc_content, linkpeaks, open_share
from .judgement import Features, judge
from .ranking import early_precision, quality, share_of_top
from .truth import KnownLinks, gene_ids, locate, peak_ids

__all__ = [
    "Comparison",
    "Curve",
    "compare",
    "early_precision",
    "model_free",
    "quality",
    "recovery",
    "share_of_top",
]

Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

FEWEST: Final = 30  # true pairs; below, only coverage is told
RANDOM: Final = "random"


@dataclass(frozen=True)
class Curve:
    """Precision at each recall, (points,) each, the area under it, and the bounds of its 95 % interval."""

    recall: Float64
    precision: Float64
    auprc: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Comparison:
    """Methods ranked by how they score the same pairs.

    Attributes
    ----------
    candidates
        Pairs of the dataset within the window.
    links
        The judged pairs, which are true, and how many true links are candidates or why they are not.
    scores
        Method -> (judged,) score, higher is likelier; ``random`` scores all alike. Empty where there are too
        few true pairs to judge.
    features
        What pairs are matched on; None where nothing is judged.
    n_links, n_outside
        Links of the map, and those of them that are no candidates.
    seed
        Decides which genes are drawn for the intervals.
    """

    candidates: Candidates
    links: KnownLinks
    scores: dict[str, Float64]
    features: Features | None
    n_links: int
    n_outside: int
    seed: int = 0

    @property
    def coverage(self) -> dict[str, int]:
        """How many true links are candidates, and why the others are not."""
        return self.links.coverage

    @property
    def true(self) -> Bool:
        """Whether each judged pair is true, (judged,)."""
        return self.links.true

    @property
    def reason(self) -> str | None:
        """Why nothing is judged; None where methods are."""
        return _reason(self.links)

    @property
    def chance(self) -> float:
        """Share of the judged pairs that are true."""
        return float(self.true.mean()) if len(self.true) else 0.0

    @cached_property
    def figures(self) -> dict[str, Any]:
        """Figures of all methods, see `judgement.judge`; empty where nothing is judged."""
        if self.features is None:
            return {}
        return judge(self.true, self.links.gene, self.scores, self.features, seed=self.seed)

    def summary(self) -> dict[str, Any]:
        """Return coverage and sizes and, where there are enough true pairs, the figures; see `recovery`."""
        reason = {} if self.reason is None else {"reason": self.reason}
        return {
            "coverage": self.coverage,
            "window": self.candidates.window,
            "candidates": len(self.candidates),
            "judged": self.reason is None,
            **reason,
            "judged_pairs": len(self.true),
            "true_pairs": int(self.true.sum()),
            "true_candidates": len(self.links.true_candidates),
            "map_links": {"total": self.n_links, "outside_candidates": self.n_outside},
            **self.figures,
        }

    def known(self, graphs: MultiomeGraphs, genes: Sequence[str]) -> dict[str, list[str]]:
        """Name the peaks of the true candidates of a few genes."""
        true = self.links.true_candidates
        gene = graphs.genes.frame["gene"].to_numpy(object)[self.candidates.gene[true]]
        peak = graphs.peaks.frame["peak"].to_numpy(object)[self.candidates.peak[true]]
        return {name: peak[gene == name].tolist() for name in genes}

    def curves(self) -> dict[str, Curve]:
        """Return the precision-recall curve of every method but chance; empty where nothing is judged."""
        return {name: self._curve(name) for name in self.scores if name != RANDOM}

    def _curve(self, name: str) -> Curve:
        precision, recall, _ = precision_recall_curve(self.true, self.scores[name], drop_intermediate=True)
        bounds = self.figures["intervals"][name]["auprc"]
        return Curve(
            recall,
            precision,
            self.figures["methods"][name]["auprc"],
            None if bounds is None else tuple(bounds),
        )


def recovery(
    links: pd.DataFrame,
    truth: pd.DataFrame,
    graphs: MultiomeGraphs,
    *,
    window: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare a link table with true links.

    All methods score the same pairs: of a truth that labels them the pairs that were tested, otherwise every
    peak within the window of a gene's TSS. A tested element scores as the highest of its peaks. Methods are
    ``map`` (largest score over cell types), ``map_mean`` (mean over cell types; no link scores 0),
    ``distance`` (nearer is likelier), ``correlation`` (Pearson; the sign counts, because
    most links activate), ``linkpeaks`` (the same as a z-score among matched peaks of other chromosomes),
    ``accessibility`` (share of cells in which the peak is open) and ``random`` (all alike).

    Parameters
    ----------
    links
        Link table with ``gene, peak, score`` of one or more cell types.
    truth
        True links, as `truth_tables.read_truth` gives them.
    graphs
        Dataset, whose cells give correlation and accessibility.
    window
        As in `candidate_pairs`.
    seed
        Decides which genes are drawn for the intervals.

    Returns
    -------
    ``coverage`` (``links, in_candidates, unknown_gene, unknown_peak, outside_window``; of a truth that labels
    pairs also ``tested, tested_in_candidates``), ``window``, ``candidates``, ``judged`` (false, with a ``reason``,
    below 30 true pairs; then no figures follow), ``judged_pairs``, ``true_pairs``, ``true_candidates``,
    ``map_links``, and what `judgement.judge` returns.

    Raises
    ------
    InputError
        The truth lacks a column, or its names are not those of the dataset.
    """
    scores = MapScores(candidate_pairs(graphs, window=window))
    gene, peak = (
        gene_ids(graphs, links["gene"].astype(object)),
        peak_ids(graphs, links["peak"].astype(object)),
    )
    if len(links) and min(gene.min(), peak.min()) < 0:
        raise InputError(
            "the link table names genes or peaks that the dataset has not. Pass its own dataset."
        )
    scores.add(gene, peak, links["score"].to_numpy(np.float64))
    return compare(scores, locate(truth, scores.candidates, graphs), graphs, seed=seed).summary()


def compare(scores: MapScores, known: KnownLinks, graphs: MultiomeGraphs, *, seed: int = 0) -> Comparison:
    """Score the judged pairs by every method; see `recovery`."""
    candidates = scores.candidates
    sizes = (scores.n_links, scores.n_outside, seed)
    if _reason(known) is not None:
        return Comparison(candidates, known, {}, None, *sizes)
    methods = {
        "map": scores.best,
        "map_mean": scores.total,  # a constant factor changes no rank
        **model_free(candidates, graphs),
        RANDOM: np.zeros(len(candidates)),
    }
    judged = {name: known.best(score) for name, score in methods.items()}
    gc = gc_content(graphs)
    features = Features(
        accessibility=judged["accessibility"],
        gc=None if gc is None else known.mean(gc[candidates.peak]),
        distance=-judged["distance"],
    )
    return Comparison(candidates, known, judged, features, *sizes)


def model_free(candidates: Candidates, graphs: MultiomeGraphs) -> dict[str, Float64]:
    """Score the candidates by every method that needs no model; method -> (candidates,) score."""
    correlations = correlation(graphs, candidates)
    return {
        "distance": -np.abs(candidates.distance).astype(np.float64),
        "correlation": correlations,
        "linkpeaks": linkpeaks(graphs, candidates, correlations),
        "accessibility": open_share(graphs)[candidates.peak],
    }


def _reason(known: KnownLinks) -> str | None:
    true = int(known.true.sum())
    if true < FEWEST:
        return f"{true} true pairs among the judged; figures need at least {FEWEST}"
    return "every judged pair is true" if true == len(known) else None
