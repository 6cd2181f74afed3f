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
from ..checkpoint import LoadedModel, same_features, save_tensors
from ..registry import kind_of
from .calibrate import calibrate
from .closed_form import fit_baselines
from .model import AnnotatorModel, labelled

TENSORS: Final = "baselines.safetensors"
DESCRIPTION: Final = "baselines.json"
SCHEMA_VERSION: Final = 2


def run_baselines(
    run: Path, loaded: LoadedModel, graphs: MultiomeGraphs, *, seed: int = 0, progress: bool = True
) -> dict[str, AnnotatorModel]:
    """Load the baselines of a run; fit and keep them where there are none yet.

    Parameters
    ----------
    run
        Folder of the trained model.
    loaded
        That model: baselines are fitted on the dataset and fold it was trained on, and on no other.
    graphs
        Dataset that is evaluated.
    seed
        Decides the random parts of reductions.
    progress
        Show bars.

    Returns
    -------
    By name, those that read the genes and peaks that the dataset has.

    Raises
    ------
    InputError
        The run has no baselines of its model and the dataset is another one, or they are damaged.
    """
    trained_on = {name: loaded.manifest[name] for name in ("dataset", "fold")}
    models = load_baselines(run, trained_on)
    if models is None:
        if graphs.fingerprint != trained_on["dataset"]:
            raise InputError(
                f"{run} has no baselines of this version yet, and they are fitted on the cells the model was trained on. Evaluate the"
                " model on that dataset first."
            )
        train, validation = (labelled(graphs.part(split=split)) for split in ("train", "validation"))
        models = fit_baselines(train, seed=seed, progress=progress)
        for model in models.values():
            calibrate(model, train, validation, seed=seed)
        save_baselines(run, models, trained_on)
    readable = [name for name in graphs.modalities if same_features(loaded, graphs, name)]
    return {
        name: model
        for name, model in models.items()
        if model.tells_alike or set(model.modalities) <= set(readable)
    }


def save_baselines(run: Path, models: Mapping[str, AnnotatorModel], trained_on: Mapping[str, Any]) -> None:
    """Write baselines into a run, and the dataset and fold they are of; what several share is written once."""
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
    write_json(run / DESCRIPTION, {"schema_version": SCHEMA_VERSION, **trained_on, "models": told})


def load_baselines(run: Path, trained_on: Mapping[str, Any]) -> dict[str, AnnotatorModel] | None:
    """Load the baselines of a run; None where there are none, or only those of an earlier model in the folder.

    Raises
    ------
    InputError
        They are damaged.
    """
    file = run / DESCRIPTION
    if not file.is_file():
        return None
    try:
        told = json.loads(file.read_text())
        known = {"schema_version": SCHEMA_VERSION, **trained_on}
        if any(told[name] != value for name, value in known.items()):
            return None
        tensors = load_file(run / TENSORS)
        return {name: _model(name, about, tensors) for name, about in told["models"].items()}
    except (InputError, OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"the baselines in {run} are damaged. Remove {DESCRIPTION} there, and evaluate the model on the dataset it"
            " was trained on."
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
