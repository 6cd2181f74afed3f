"""Does a map point at peaks that a transcription factor binds? Beside what accessibility alone says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...graphs.errors import InputError
from .binding_tests import MEASURES, PeakTests, alike, log_accessibility
from .intervals import Intervals, overlaps, require_common_chromosomes
from .ranking import number
from .topk import chance_jaccard, top_k

Float64 = npt.NDArray[np.float64]

SCORES: Final = ("map", "accessibility")
FEWEST: Final = 30  # bound peaks; below, only coverage is told


@dataclass(frozen=True)
class Binding:
    """How strongly a factor binds each peak.

    Attributes
    ----------
    score
        (peaks,) the highest score of the ChIP-seq peaks that overlap it, 0 where none does.
    sites, sites_on_peaks
        ChIP-seq peaks, and those of them that overlap a peak.
    """

    score: Float64
    sites: int
    sites_on_peaks: int

    @property
    def coverage(self) -> dict[str, int]:
        """Sites, those on peaks, peaks, and peaks that are bound."""
        return {
            "sites": self.sites,
            "sites_on_peaks": self.sites_on_peaks,
            "peaks": len(self.score),
            "bound_peaks": int((self.score > 0).sum()),
        }


def binding(peaks: pd.DataFrame, sites: pd.DataFrame) -> Binding:
    """Give each peak the highest score of the sites that overlap it.

    Parameters
    ----------
    peaks
        ``chrom, start, end``, such as ``graphs.peaks.frame``.
    sites
        As `bed.read_bed` gives them.

    Raises
    ------
    InputError
        The two have no chromosome in common, or a site has a score below 0.
    """
    if (sites["score"] < 0).any():
        raise InputError(
            f"a ChIP-seq peak has a score of {sites['score'].min():g}, below 0. Pass a file with scores of 0 and more."
        )
    chromosomes = [str(name) for name in peaks["chrom"].dropna().unique()]
    found = Intervals.of(sites, chromosomes)
    require_common_chromosomes(found, sites["chrom"], chromosomes, "the ChIP-seq peaks")
    site, peak = overlaps(found, Intervals.of(peaks, chromosomes))
    score = np.zeros(len(peaks))
    np.maximum.at(score, peak, sites["score"].to_numpy(np.float64)[site])
    return Binding(score, len(sites), len(np.unique(site)))


def compare_binding(
    peak_scores: Mapping[str, Float64],
    bound: Binding,
    accessibility: Mapping[str, Float64],
    *,
    among: npt.NDArray[np.bool_] | None = None,
    permutations: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare peaks that a map points at with those a factor binds, in each cell type.

    Parameters
    ----------
    peak_scores
        Cell type -> (peaks,) sum of the link scores of each peak.
    bound
        Binding of the same peaks.
    accessibility
        Cell type -> (peaks,) share of its cells in which each peak is open.
    among
        (peaks,) the peaks to compare, such as those that may have a link: others score 0 whatever they do. All
        where None.
    permutations, seed
        Of the nulls.

    Returns
    -------
    coverage
        See `Binding`, and ``compared_peaks, bound_compared_peaks``.
    judged
        Whether 30 of the compared peaks are bound, else there is a ``reason`` and nothing follows.
    k, chance_jaccard
        Size of the best sets, min(10,000, 10 % of the peaks), and the Jaccard index to expect of two random
        sets, see `topk.chance_jaccard`.
    permutations
        As given.
    cell_types
        Name -> ``map`` and ``accessibility`` -> ``cosine``, ``pearson``, ``jaccard`` (of the k best; ties count
        by expectation) and ``partial`` (Pearson, given log accessibility) -> ``value``, and ``free`` and
        ``matched`` -> ``mean, sd, p``: permuting the binding of all peaks, and of peaks of like accessibility in
        the type. p is (permutations at least as high + 1) / (permutations + 1). Null where a score is
        constant.

    Raises
    ------
    InputError
        Cell types of the two tables differ, or scores are not of these peaks.
    """
    _check(peak_scores, bound, accessibility)
    compared = np.ones(len(bound.score), bool) if among is None else among
    score = bound.score[compared]
    n_bound = int((score > 0).sum())
    coverage = bound.coverage | {"compared_peaks": len(score), "bound_compared_peaks": n_bound}
    told: dict[str, Any] = {"coverage": coverage, "judged": n_bound >= FEWEST}
    if n_bound < FEWEST:
        return told | {"reason": f"{n_bound} of the compared peaks are bound; figures need at least {FEWEST}"}
    k = top_k(len(score))
    scores = {name: np.asarray(values, np.float64)[compared] for name, values in peak_scores.items()}
    opened = {name: np.asarray(accessibility[name], np.float64)[compared] for name in peak_scores}
    told |= {"k": k, "chance_jaccard": chance_jaccard(len(score), k), "permutations": permutations}
    return told | {"cell_types": _results(scores, opened, score, k, permutations, seed)}


def _results(
    scores: Mapping[str, Float64],
    opened: Mapping[str, Float64],
    score: Float64,
    k: int,
    permutations: int,
    seed: int,
) -> dict[str, Any]:
    """Measure the two scores of every type; free permutations are the same for all of them."""
    rows = [values for name in scores for values in (scores[name], opened[name])]
    given = [log_accessibility(opened[name]) for name in scores for _ in SCORES]
    tests = PeakTests.of(np.stack(rows), np.stack(given), score, k)
    values, free = tests.measures(), tests.null(np.zeros(len(score), np.int64), permutations, seed=seed)
    types: dict[str, Any] = {}
    for place, name in enumerate(scores):
        own = slice(2 * place, 2 * place + 2)
        matched = tests.null(alike(opened[name]), permutations, seed=seed, rows=own)
        types[name] = {
            kind: {
                measure: {
                    "value": number(values[measure][row, 0]),
                    "free": free[measure][row],
                    "matched": matched[measure][row - own.start],
                }
                for measure in MEASURES
            }
            for row, kind in enumerate(SCORES, start=own.start)
        }
    return types


def _check(peak_scores: Mapping[str, Float64], bound: Binding, accessibility: Mapping[str, Float64]) -> None:
    if set(peak_scores) != set(accessibility):
        odd = sorted(set(peak_scores) ^ set(accessibility))
        raise InputError(
            f"the map and the accessibility have not the same cell types ({', '.join(odd[:3])}). Pass both of one map."
        )
    for name, values in [*peak_scores.items(), *accessibility.items()]:
        if values.shape != bound.score.shape:
            raise InputError(
                f"{name}: {len(values):,} scores for {len(bound.score):,} peaks. Pass one score a peak."
            )
