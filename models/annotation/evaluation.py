"""Evaluation of an annotator on held-out cells, every figure beside the same figure of the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from ...graphs.schema import Split
from .calibrate import read_cells
from .metrics import annotation_metrics, reliability
from .model import AnnotatorModel, Reading, codes_of

Int64 = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]


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
    reading = read_cells(model, graphs, cells, label=model.kind, progress=progress)
    codes = _codes(model, graphs, cells)
    told = {}
    usable = {name: b for name, b in baselines.items() if set(b.modalities) <= set(graphs.modalities)}
    for name, baseline in tqdm(usable.items(), desc="baselines", disable=not progress):
        told[name] = _figures(baseline, read_cells(baseline, graphs, cells), _codes(baseline, graphs, cells))
    unknown, counts = np.unique(names[codes < 0].astype(str), return_counts=True)
    metrics = {
        "model": model.kind,
        "mode": model.mode,
        "split": split,
        "fold": graphs.fold,
        "annotation": _figures(model, reading, codes),
        "notes": [*model.notes, *(f"{name}: {note}" for name, b in usable.items() for note in b.notes)],
        "unknown_types": {str(name): int(n) for name, n in zip(unknown, counts, strict=True)},
        "baselines": {"annotation": told},
    }
    probabilities = _array(deepcopy(model.calibration).cpu().probabilities(reading.logits))
    return Judgement(metrics, codes, names, probabilities, _array(reading.embedding))


def _figures(model: AnnotatorModel, reading: Reading, codes: Int64) -> dict[str, Any]:
    calibration = deepcopy(model.calibration).cpu()  # where readings are
    probabilities = _array(calibration.probabilities(reading.logits))
    novelty = _array(calibration.novelty(reading.logits, reading.embedding))
    return annotation_metrics(probabilities, codes, model.cell_types, novelty=novelty)


def _codes(model: AnnotatorModel, graphs: MultiomeGraphs, cells: Int64) -> Int64:
    """Place each cell's type, by name, in the vocabulary of training."""
    places = codes_of(model.cell_types, graphs)[torch.from_numpy(graphs.cell_type_codes[cells])]
    codes: Int64 = places.numpy()
    return codes


def _array(values: Tensor) -> Floats:
    array: Floats = values.detach().double().cpu().numpy()
    return array
