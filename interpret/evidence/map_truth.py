"""Known regulation that a map is compared with while it is written: links, or the binding of a factor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...graphs.dataset import MultiomeGraphs
from ..links.type_links import TypeLinks
from .bed import read_bed
from .candidates import Candidates, MapScores, candidate_pairs
from .comparison import Comparison, compare
from .correlation import open_share
from .tf_binding import Binding, binding, compare_binding
from .truth import KnownLinks, locate
from .truth_tables import read_truth

Float64 = npt.NDArray[np.float64]

_ALL = "all cells"
_NEAR = 10_000  # bp


@dataclass
class LinkTruth:
    """Known links.

    Attributes
    ----------
    scores
        Of the map, on all candidates.
    known
        Which pairs are judged, and which are true.
    """

    scores: MapScores
    known: KnownLinks

    @classmethod
    def of(cls, truth: pd.DataFrame, graphs: MultiomeGraphs) -> LinkTruth:
        """Find known links among the candidates of a dataset."""
        scores = MapScores(candidate_pairs(graphs))
        return cls(scores, locate(truth, scores.candidates, graphs))

    def add(self, piece: TypeLinks) -> None:
        """Take the links of one cell type."""
        self.scores.add(piece.gene, piece.peak, piece.score)

    def compare(self, graphs: MultiomeGraphs) -> Comparison:
        """Compare what was taken with what needs no model."""
        return compare(self.scores, self.known, graphs)


@dataclass
class BindingTruth:
    """Where a transcription factor binds.

    Attributes
    ----------
    bound
        Binding of the dataset's peaks.
    peak_scores
        Cell type -> (peaks,) sum of the scores of each peak's links.
    """

    bound: Binding
    peak_scores: dict[str, Float64]

    @classmethod
    def of(cls, sites: pd.DataFrame, graphs: MultiomeGraphs) -> BindingTruth:
        """Find binding sites among the peaks of a dataset."""
        return cls(binding(graphs.peaks.frame, sites), {})

    def add(self, piece: TypeLinks) -> None:
        """Take the links of one cell type."""
        sums = np.bincount(piece.peak, piece.score, minlength=len(self.bound.score))
        self.peak_scores[piece.cell_type] = sums.astype(np.float64)

    def compare(self, graphs: MultiomeGraphs, openness: Mapping[str, Float64]) -> dict[str, Any]:
        """Compare peaks that can have a link near a gene, beside their openness in each type.

        Returns
        -------
        What `compare_binding` returns and, where it judges, ``baselines``: ``nearness`` (see `nearness`) and
        ``accessibility``, of all cells, measured as the map of a type is.
        """
        pairs = candidate_pairs(graphs)
        near, among = nearness(pairs), np.zeros(len(graphs.peaks), bool)
        among[pairs.peak] = True
        found = compare_binding(self.peak_scores, self.bound, openness, among=among)
        if found["judged"]:
            opened = {_ALL: open_share(graphs)}
            beside = compare_binding({_ALL: near}, self.bound, opened, among=among)["cell_types"][_ALL]
            found["baselines"] = {"nearness": beside["map"], "accessibility": beside["accessibility"]}
        return found


def nearness(pairs: Candidates) -> Float64:
    """Return how near each peak is to the next TSS, exp(-|distance| / 10 kb), (peaks,); 0 where none is within reach."""
    near = np.zeros(pairs.n_peaks)
    np.maximum.at(near, pairs.peak, np.exp(-np.abs(pairs.distance) / _NEAR))
    return near


def open_truth(path: Path, kind: str | None, graphs: MultiomeGraphs) -> LinkTruth | BindingTruth:
    """Read a file of known regulation and find it in a dataset.

    Parameters
    ----------
    path
        See `truth_tables.read_truth` and, of kind tf, `bed.read_bed`.
    kind
        ``links`` (where None), ``crispr``, ``bedpe`` or ``tf``.
    graphs
        Dataset.

    Raises
    ------
    InputError
        The file cannot be read, or its names are not those of the dataset.
    """
    if kind == "tf":
        return BindingTruth.of(read_bed(path), graphs)
    return LinkTruth.of(read_truth(path, kind), graphs)
