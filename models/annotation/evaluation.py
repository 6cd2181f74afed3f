"""Evaluation of an annotator on held-out cells, every figure beside the same figure of the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from ...graphs.schema import Split
from ..devices import device_of
from .calibrate import read_cells
from .clusters import cluster_metrics
from .cost import cost_of
from .metrics import annotation_metrics, rare_types, reliability
from .model import AnnotatorModel, Reading, codes_of

Int64 = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]

ANNOTATION: Final = "annotation"  # what is judged, in metrics files


@dataclass(frozen=True)
class Judgement:
    """What an evaluation found.

    Attributes
    ----------
    metrics
        Ready for JSON.
    codes
        (cells,) true types as places in the model's vocabulary, −1 where it has none.
    names
        (cells,) true types by name.
    probabilities, embedding
        (cells, types) and (cells, width) of the model.
    """

    metrics: dict[str, Any]
    codes: Int64
    names: NDArray[np.object_]
    probabilities: Floats
    embedding: Floats

    def reliability(self) -> pd.DataFrame:
        """Return how often predictions of each confidence are right, among the cells of known types."""
        known = self.codes >= 0
        told = self.probabilities[known]
        return reliability(told.max(1), told.argmax(1) == self.codes[known])


def evaluate_annotator(
    model: AnnotatorModel,
    graphs: MultiomeGraphs,
    baselines: Mapping[str, AnnotatorModel],
    *,
    split: Split = "test",
    progress: bool = True,
) -> Judgement:
    """Compare annotations with the labels of one split of a dataset.

    Parameters
    ----------
    model
        Trained annotator.
    graphs
        Dataset with the features the model reads, in the fold whose split is judged.
    baselines
        Name -> annotator that was fitted on the same training cells. Those that read what the dataset lacks are
        left out.
    split
        Whose labelled cells are judged.
    progress
        Show a bar.

    Raises
    ------
    InputError
        The split has no labelled cells.
    """
    judge = _Judge.of(graphs, split)
    usable = {name: b for name, b in baselines.items() if judge.readable_by(b)}
    told = {
        name: judge.figures(baseline, judge.read(baseline, graphs.modalities), graphs.modalities)
        for name, baseline in tqdm(usable.items(), desc="baselines", disable=not progress)
    }
    codes = judge.codes(model)
    unknown, counts = np.unique(judge.names[codes < 0].astype(str), return_counts=True)
    metrics: dict[str, Any] = {
        "model": model.kind,
        "mode": model.mode,
        "split": split,
        "fold": graphs.fold,
        "notes": [*model.notes, *(f"{name}: {note}" for name, b in usable.items() for note in b.notes)],
        "unknown_types": {str(name): int(n) for name, n in zip(unknown, counts, strict=True)},
        "cost": judge.cost(model),
        "baselines": {},
    }
    readings = {}
    for task, modalities in _tasks(model, graphs).items():
        readings[task] = judge.read(model, modalities, label=f"{model.kind} {task}", progress=progress)
        metrics[task] = judge.figures(model, readings[task], modalities)
        metrics["baselines"][task] = {
            name: told[name]
            for name, b in usable.items()
            if b.tells_alike or set(b.modalities) <= set(modalities)
        }
    reading = readings[ANNOTATION]
    calibration = deepcopy(model.calibration_of(graphs.modalities)).cpu()
    probabilities = _array(calibration.probabilities(reading.logits))
    return Judgement(metrics, codes, judge.names, probabilities, _array(reading.embedding))


def _tasks(model: AnnotatorModel, graphs: MultiomeGraphs) -> dict[str, tuple[str, ...]]:
    """Name what is judged, and the modalities that are read for it: all, and where one is enough, each alone."""
    there = model.reads(graphs.modalities)
    alone = there if model.either and len(there) > 1 else ()
    return {ANNOTATION: graphs.modalities, **{f"{ANNOTATION}_{name}": (name,) for name in alone}}


@dataclass(frozen=True)
class _Judge:
    """The labelled cells of a split: row numbers, names of their types, and which types of the dataset are rare."""

    graphs: MultiomeGraphs
    cells: Int64
    names: NDArray[np.object_]
    rare: list[str]

    @classmethod
    def of(cls, graphs: MultiomeGraphs, split: Split) -> _Judge:
        part = graphs.part(split=split)
        cells, _ = part.pairs_of(range(len(part)))
        cells = cells[graphs.cell_type_codes[cells] >= 0]
        if not len(cells):
            raise InputError(f"{graphs.root} has no labelled {split} cells. Build it with --labels COL.")
        names = np.array(graphs.cell_types, dtype=object)[graphs.cell_type_codes[cells]]
        labelled = graphs.cell_type_codes[graphs.cell_type_codes >= 0]
        sizes = np.bincount(labelled, minlength=len(graphs.cell_types))
        return cls(graphs, cells, names, rare_types(sizes, graphs.cell_types))

    def readable_by(self, model: AnnotatorModel) -> bool:
        """Whether the dataset has what a baseline reads."""
        there = self.graphs.modalities
        return model.tells_alike or set(model.reads(there)) <= set(there)

    def codes(self, model: AnnotatorModel) -> Int64:
        """Place each cell's type, by name, in the vocabulary of training."""
        places = codes_of(model.cell_types, self.graphs)[
            torch.from_numpy(self.graphs.cell_type_codes[self.cells])
        ]
        codes: Int64 = places.numpy()
        return codes

    def read(self, model: AnnotatorModel, modalities: Sequence[str], **how: Any) -> Reading:
        """Read the cells as if some modalities had been measured."""
        return read_cells(model, self.graphs.only(modalities), self.cells, **how)

    def cost(self, model: AnnotatorModel) -> dict[str, int]:
        """Count what reading takes, over as many cells as are read at a time."""
        some = self.cells[: model.at_once]
        return cost_of(model, self.graphs.batch_of_pairs(some, some, cis=False).to(device_of(model)))

    def figures(self, model: AnnotatorModel, reading: Reading, modalities: Sequence[str]) -> dict[str, Any]:
        """Compare a reading of some modalities with the labels."""
        own = model.calibration if model.tells_alike else model.calibration_of(modalities)
        calibration, codes = deepcopy(own).cpu(), self.codes(model)  # where readings are
        probabilities = _array(calibration.probabilities(reading.logits))
        novelty, embedding = (
            _array(calibration.novelty(reading.logits, reading.embedding)),
            _array(reading.embedding),
        )
        found = annotation_metrics(probabilities, codes, model.cell_types, novelty=novelty, rare=self.rare)
        none = np.zeros(0, np.int64)  # where all cells are told alike, an embedding says nothing
        known = none if model.tells_alike else np.flatnonzero(codes >= 0)
        return {**cluster_metrics(embedding[known], codes[known]), **found}


def _array(values: Tensor) -> Floats:
    array: Floats = values.detach().double().cpu().numpy()
    return array
