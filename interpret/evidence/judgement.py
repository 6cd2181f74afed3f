"""Figures of methods on judged pairs: with intervals, by distance, and between matched pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .bootstrap import RESAMPLES, gene_draws, interval
from .nulls import matched_bins
from .ranking import FIGURES, Ranking, number

Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

BASELINES: Final = ("distance", "correlation", "linkpeaks", "accessibility")
STRATA: Final = (0, 10_000, 50_000, 100_000, 250_000)  # bp, where each begins
_MATCHED: Final = 50  # pairs a bin, at least
_FEWEST: Final = 30  # true pairs of a stratum
_BY_DISTANCE: Final = ("auprc", "auroc")
MATCHED: Final = "matched_auroc"


@dataclass(frozen=True)
class Features:
    """What a pair may be found by without any regulation, (pairs,) each.

    Attributes
    ----------
    accessibility
        Share of cells in which the peak is open.
    gc
        Share of G and C; None without DNA.
    distance
        bp between peak and TSS, without sign.
    """

    accessibility: Float64
    gc: Float64 | None
    distance: Float64

    def bins(self) -> Int64:
        """Put pairs that are alike into bins, (pairs,)."""
        return matched_bins(self.accessibility, self.gc, self.distance, least=_MATCHED)


def judge(
    true: Bool,
    gene: Int64,
    scores: Mapping[str, Float64],
    features: Features,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Judge methods on the same pairs.

    Parameters
    ----------
    true, gene
        (pairs,) whether each is true, and its gene.
    scores
        Method -> (pairs,) score, the higher, the likelier.
    features
        What pairs are matched on.
    resamples, seed
        Draws of genes, with all their pairs, behind every interval.

    Returns
    -------
    methods
        name -> ``auprc, auroc, early_precision`` (precision among as many of the best pairs as are true),
        ``precision_at_recall_0.1`` and so on (precision among the fewest best pairs that hold this share of
        the true), ``matched_auroc`` (AUROC, pairs compared only with others of like accessibility, GC content
        and distance). Ties count by expectation. Null where a figure means nothing.
    intervals
        The same names -> ``[low, high]``, 95 % of the draws.
    map_minus_best
        ``baseline`` (best by AUPRC of those that need no model), ``auprc`` (of the map, less that) and
        ``interval``, of the same draws.
    matched_on
        Features of the matching.
    strata
        By distance: ``from, to`` (bp, null is no end), ``pairs, true``; with 30 true pairs also ``methods``
        and ``intervals``.
    """
    genes, code = np.unique(gene, return_inverse=True)
    draws = gene_draws(len(genes), resamples, seed=seed)
    bins, found, drawn = features.bins(), {}, {}
    for name, score in scores.items():
        ranking, matched = Ranking.of(true, score, code), Ranking.of(true, score, code, bins)
        found[name] = ranking.figures() | {MATCHED: matched.auroc()}
        drawn[name] = ranking.figures(draws) | {MATCHED: matched.auroc(draws)}
    return {
        **_tell(found, drawn, (*FIGURES, MATCHED)),
        "map_minus_best": _difference(found, drawn),
        "matched_on": ["accessibility", *([] if features.gc is None else ["gc"]), "distance"],
        "strata": _strata(true, code, scores, features.distance, draws),
    }


def _tell(
    found: Mapping[str, Mapping[str, Float64]],
    drawn: Mapping[str, Mapping[str, Float64]],
    names: tuple[str, ...],
) -> dict[str, Any]:
    return {
        "methods": {
            method: {name: number(values[name][0]) for name in names} for method, values in found.items()
        },
        "intervals": {
            method: {name: interval(values[name]) for name in names} for method, values in drawn.items()
        },
    }


def _difference(
    found: Mapping[str, Mapping[str, Float64]], drawn: Mapping[str, Mapping[str, Float64]]
) -> dict[str, Any] | None:
    baselines = [name for name in BASELINES if name in found]
    if "map" not in found or not baselines:
        return None
    best = max(baselines, key=lambda name: found[name]["auprc"][0])
    return {
        "baseline": best,
        "auprc": number(found["map"]["auprc"][0] - found[best]["auprc"][0]),
        "interval": interval(drawn["map"]["auprc"] - drawn[best]["auprc"]),
    }


def _strata(
    true: Bool, gene: Int64, scores: Mapping[str, Float64], distance: Float64, draws: Float64
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for low, high in zip(STRATA, (*STRATA[1:], np.inf), strict=True):
        inside = (distance >= low) & (distance < high)
        n_true = int(true[inside].sum())
        row: dict[str, Any] = {
            "from": low,
            "to": int(high) if np.isfinite(high) else None,
            "pairs": int(inside.sum()),
            "true": n_true,
        }
        if n_true >= _FEWEST:
            rankings = {
                name: Ranking.of(true[inside], score[inside], gene[inside]) for name, score in scores.items()
            }
            seen = draws[:, : int(gene[inside].max()) + 1]
            row |= _tell(
                {name: ranking.figures() for name, ranking in rankings.items()},
                {name: ranking.figures(seen) for name, ranking in rankings.items()},
                _BY_DISTANCE,
            )
        rows.append(row)
    return rows
