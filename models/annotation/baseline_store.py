"""Baselines of a run: fitted once on its training cells, kept beside the model, judged on any dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from ...graphs.whole import write_json
from ..checkpoint import save_tensors
from ..registry import kind_of
from .calibrate import calibrate
from .closed_form import fit_baselines
from .model import AnnotatorModel, labelled

TENSORS: Final = "baselines.safetensors"
DESCRIPTION: Final = "baselines.json"


def run_baselines(
    run: Path, graphs: MultiomeGraphs, trained_on: str, *, seed: int = 0, progress: bool = True
) -> dict[str, AnnotatorModel]:
    """Load the baselines of a run; fit and keep them where there are none yet.

    Parameters
    ----------
    run
        Folder of the trained model.
    graphs
        Dataset that is evaluated.
    trained_on
        Fingerprint of the dataset the model was trained on: only from that one can baselines be fitted.
    seed
        Decides the random parts of reductions.
    progress
        Show bars.

    Raises
    ------
    InputError
        The run has no baselines and the dataset is another one, or they are damaged.
    """
    if (run / DESCRIPTION).is_file():
        return load_baselines(run)
    if graphs.fingerprint != trained_on:
        raise InputError(
            f"{run} has no baselines yet, and they are fitted on the cells the model was trained on. Evaluate the"
            " model on that dataset first."
        )
    train, validation = (labelled(graphs.part(split=split)) for split in ("train", "validation"))
    models = fit_baselines(train, seed=seed, progress=progress)
    for model in models.values():
        calibrate(model, train, validation, seed=seed)
    save_baselines(run, models)
    return models


def save_baselines(run: Path, models: Mapping[str, AnnotatorModel]) -> None:
    """Write baselines into a run; what several of them share is written once."""
    tensors: dict[str, Tensor] = {}
    written: dict[tuple[Any, ...], str] = {}
    told: dict[str, Any] = {}
    for name, model in models.items():
        same = {}
        for key, value in model.state_dict().items():
            place = (value.data_ptr(), value.shape, value.dtype) if value.numel() else (name, key)
            if place in written:
                same[key] = written[place]
            else:
                written[place] = f"{name}/{key}"
                tensors[f"{name}/{key}"] = value
        told[name] = {
            "kind": model.kind,
            "config": asdict(model.config),
            "cell_types": list(model.cell_types),
            "notes": list(model.notes),
            "same": same,
        }
    save_tensors(run / TENSORS, tensors)
    write_json(run / DESCRIPTION, told)


def load_baselines(run: Path) -> dict[str, AnnotatorModel]:
    """Load the baselines of a run.

    Raises
    ------
    InputError
        They are missing or damaged.
    """
    try:
        tensors = load_file(run / TENSORS)
        told = json.loads((run / DESCRIPTION).read_text())
        return {name: _model(name, about, tensors) for name, about in told.items()}
    except (InputError, OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"the baselines in {run} are damaged. Remove {DESCRIPTION} and evaluate the dataset it was trained on."
        ) from error


def _model(name: str, about: dict[str, Any], tensors: dict[str, Tensor]) -> AnnotatorModel:
    own = {
        key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")
    }
    own |= {key: tensors[place] for key, place in about["same"].items()}
    kind = kind_of(about["kind"])
    model: AnnotatorModel = kind.model.from_tensors(own, kind.config(**about["config"]), 0)
    model.load_state_dict(own)
    model.cell_types, model.notes = tuple(about["cell_types"]), list(about["notes"])
    return model.eval()
