"""How well an annotator tells cells of a type that it was never shown from those it knows."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from ...graphs.dataset import MultiomeGraphs
from ..annotation.calibrate import read_cells
from ..annotation.metrics import agreement, confusion_counts
from ..annotation.model import NOVEL_BELOW, AnnotatorModel, codes_of
from .study import TEST


def novelty_figures(model: AnnotatorModel, graphs: MultiomeGraphs, name: str) -> dict[str, Any]:
    """Compare the test cells of a type that the model does not know with those of the types it knows.

    Parameters
    ----------
    model
        Trained and calibrated without the type.
    graphs
        Dataset in which test cells have their labels.
    name
        The type.

    Returns
    -------
    ``auroc`` and ``average_precision`` of novelty (``prevalence`` is what chance gives the latter),
    ``called_novel`` and ``known_called_novel``, the shares of the type's and of the other cells that are told with
    a confidence below 0.5; of the known types ``accuracy`` and ``macro_f1``; ``n`` and ``n_known`` cells.
    """
    part = graphs.part(split=TEST)
    cells, _ = part.pairs_of(range(len(part)))
    given = graphs.cell_type_codes[cells]
    known = codes_of(model.cell_types, graphs).numpy()[given]
    new = given == graphs.cell_types.index(name)
    judged = new | (known >= 0)
    cells, known, new = cells[judged], known[judged], new[judged]
    with torch.no_grad():
        reading = read_cells(model, graphs, cells)
        calibration = deepcopy(model.calibration_of(graphs.modalities)).cpu()  # where readings are
        probabilities = calibration.probabilities(reading.logits).double().numpy()
        novelty = calibration.novelty(reading.logits, reading.embedding).double().numpy()
    unsure = probabilities.max(1) < NOVEL_BELOW
    counts = confusion_counts(known[~new], probabilities[~new].argmax(1), len(model.cell_types))
    known_figures = agreement(counts)
    return {
        "auroc": float(roc_auc_score(new, novelty)),
        "average_precision": float(average_precision_score(new, novelty)),
        "prevalence": float(np.mean(new)),
        "called_novel": float(unsure[new].mean()),
        "known_called_novel": float(unsure[~new].mean()),
        "accuracy": known_figures["accuracy"],
        "macro_f1": known_figures["macro_f1"],
        "n": int(new.sum()),
        "n_known": int((~new).sum()),
    }
