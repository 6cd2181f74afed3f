"""Evaluation of an annotator on held-out cells, every figure beside the same figure of the baselines."""

from __future__ import annotations

from collections.abc import Mapping
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
from .calibration import Calibration
from .clusters import cluster_metrics
from .cost import cost_of
from .metrics import annotation_metrics, reliability
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
    cells, _ = graphs.part(split=split).pairs_of(range(len(graphs.part(split=split))))
    cells = cells[graphs.cell_type_codes[cells] >= 0]
    if not len(cells):
        raise InputError(f"{graphs.root} has no labelled {split} cells. Build it with --labels COL.")
    names = np.array(graphs.cell_types, dtype=object)[graphs.cell_type_codes[cells]]
    usable = {
        name: b for name, b in baselines.items() if set(b.reads(graphs.modalities)) <= set(graphs.modalities)
    }
    told: dict[str, Any] = {}
    for name, baseline in tqdm(usable.items(), desc="baselines", disable=not progress):
        own = baseline.calibration_of(graphs.modalities)
        told[name] = _figures(
            baseline, own, read_cells(baseline, graphs, cells), _codes(baseline, graphs, cells)
        )
    codes = _codes(model, graphs, cells)
    unknown, counts = np.unique(names[codes < 0].astype(str), return_counts=True)
    metrics: dict[str, Any] = {
        "model": model.kind,
        "mode": model.mode,
        "split": split,
        "fold": graphs.fold,
        "notes": [*model.notes, *(f"{name}: {note}" for name, b in usable.items() for note in b.notes)],
        "unknown_types": {str(name): int(n) for name, n in zip(unknown, counts, strict=True)},
        "cost": _cost(model, graphs, cells[: model.at_once]),
        "baselines": {},
    }
    readings = {}
    for task, modalities in _tasks(model, graphs).items():
        readings[task] = read_cells(
            model, graphs.only(modalities), cells, label=f"{model.kind} {task}", progress=progress
        )
        metrics[task] = _figures(model, model.calibration_of(modalities), readings[task], codes)
        metrics["baselines"][task] = {
            name: told[name]
            for name, b in usable.items()
            if b.tells_alike or set(b.modalities) <= set(modalities)
        }
    reading = readings[ANNOTATION]
    calibration = deepcopy(model.calibration_of(graphs.modalities)).cpu()
    probabilities = _array(calibration.probabilities(reading.logits))
    return Judgement(metrics, codes, names, probabilities, _array(reading.embedding))


def _tasks(model: AnnotatorModel, graphs: MultiomeGraphs) -> dict[str, tuple[str, ...]]:
    """Name what is judged, and the modalities that are read for it: all, and where one is enough, each alone."""
    there = model.reads(graphs.modalities)
    alone = there if model.either and len(there) > 1 else ()
    return {ANNOTATION: graphs.modalities, **{f"{ANNOTATION}_{name}": (name,) for name in alone}}


def _cost(model: AnnotatorModel, graphs: MultiomeGraphs, cells: Int64) -> dict[str, int]:
    return cost_of(model, graphs.batch_of_pairs(cells, cells, cis=False).to(device_of(model)))


def _figures(
    model: AnnotatorModel, calibration: Calibration, reading: Reading, codes: Int64
) -> dict[str, Any]:
    calibration = deepcopy(calibration).cpu()  # where readings are
    probabilities = _array(calibration.probabilities(reading.logits))
    novelty, embedding = (
        _array(calibration.novelty(reading.logits, reading.embedding)),
        _array(reading.embedding),
    )
    found = annotation_metrics(probabilities, codes, model.cell_types, novelty=novelty)
    return {**cluster_metrics(embedding[codes >= 0], codes[codes >= 0]), **found}


def _codes(model: AnnotatorModel, graphs: MultiomeGraphs, cells: Int64) -> Int64:
    """Place each cell's type, by name, in the vocabulary of training."""
    places = codes_of(model.cell_types, graphs)[torch.from_numpy(graphs.cell_type_codes[cells])]
    codes: Int64 = places.numpy()
    return codes


def _array(values: Tensor) -> Floats:
    array: Floats = values.detach().double().cpu().numpy()
    return array
