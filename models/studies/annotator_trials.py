"""One training of an annotator's study, and what it is judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd

from ...graphs.dataset import MultiomeGraphs
from ..annotation.baseline_store import run_baselines
from ..annotation.evaluation import evaluate_annotator
from ..annotation.model import AnnotatorModel
from ..checkpoint import LoadedModel, load_model
from ..run_keeper import SCORE
from ..training import fit
from .novelty import novelty_figures
from .options import options_of, pretraining_job
from .results import ALL_TYPES, Figures
from .study import TEST, TRAIN, Bools, Labels, Study, Training

FROM_SCRATCH: Final = "_from_scratch"  # behind the name of a model that was not pre-trained
CURVES: Final = ("validation_loss", "validation_macro_f1")  # of each epoch


class Relabel(Protocol):
    """Writes a dataset in which cells have other labels, and some belong to no split."""

    def __call__(self, dataset: Path, folder: Path, labels: Labels, *, keep: Bools | None = None) -> None:
        """Write it to ``folder``; see `scweave.generators.restrict.relabel`."""


class AnnotatorTrials:
    """Trains an annotator on some labels and evaluates it on the true ones of test cells, beside its baselines.

    Parameters
    ----------
    study
        What to do.
    folder
        For what outlives a training; somebody else's to remove.
    relabel
        Writes a dataset of some labels.
    """

    def __init__(self, study: Study, folder: Path, relabel: Relabel) -> None:
        self.study, self.folder, self.relabel = study, folder, relabel

    def train(self, training: Training, folder: Path) -> dict[str, Any]:
        """Return ``mode``, ``training_cells``, ``figures`` (judged -> task -> method -> metric), and what is told.

        Parameters
        ----------
        training
            What to train on.
        folder
            An empty one, for datasets and models.
        """
        graphs = self.write(training, folder)
        loaded = self.fit(training, folder)
        baselines = self.baselines(training, folder, loaded, graphs)
        if training.judged:
            (name,) = training.judged
            methods = {loaded.model.kind: loaded.model, **baselines}
            figures = {
                name: {"novelty": {m: novelty_figures(one, graphs, name) for m, one in methods.items()}}
            }
        else:
            figures = {ALL_TYPES: {"annotation": annotation_figures(loaded, graphs, baselines)}}
        return {**self.told(training, loaded, graphs), "figures": figures}

    def write(self, training: Training, folder: Path) -> MultiomeGraphs:
        """Write the dataset of a training."""
        assert training.labels is not None
        self.relabel(self.study.dataset, folder / "dataset", training.labels, keep=training.keep)
        return MultiomeGraphs(folder / "dataset")

    def fit(self, training: Training, folder: Path, name: str = "run", **how: Any) -> LoadedModel:
        """Train on that dataset."""
        (folder / name).mkdir()
        options = options_of(self.study, training)
        fit(
            self.study.kind,
            folder / "dataset",
            folder / name,
            self.study.config,
            options,
            progress=False,
            **how,
        )
        return load_model(folder / name)

    def baselines(
        self, training: Training, folder: Path, loaded: LoadedModel, graphs: MultiomeGraphs
    ) -> dict[str, AnnotatorModel]:
        """Fit baselines on the same labels; the model itself is none of them."""
        seed = options_of(self.study, training).seed
        found = run_baselines(folder / "run", loaded, graphs, seed=seed, progress=False)
        return {name: model for name, model in found.items() if name != loaded.model.kind}

    def told(self, training: Training, loaded: LoadedModel, graphs: MultiomeGraphs) -> dict[str, Any]:
        """Say what was trained, on how many labelled cells."""
        own = (graphs.cells["split"] == TRAIN).to_numpy() & (graphs.cell_type_codes >= 0)
        told = {"told": training.told} if training.told else {}
        return {"mode": loaded.model.mode, "training_cells": int(np.sum(own)), **told}


class PretrainingTrials(AnnotatorTrials):
    """Trains an annotator on some labels twice, after pre-training on all training cells and from scratch.

    Parameters
    ----------
    study, folder, relabel
        As of `AnnotatorTrials`; ``folder`` receives the pre-trained model of the repeat.
    """

    def train(self, training: Training, folder: Path) -> dict[str, Any]:
        """Return what `AnnotatorTrials.train` does, and ``curves``: method -> figures of each epoch."""
        pretrained = self.pretrained(training.repeat, folder)
        graphs = self.write(training, folder)
        ours = self.fit(training, folder, "pretrained", init=pretrained)
        scratch = self.fit(training, folder)
        name = ours.model.kind
        methods = annotation_figures(ours, graphs, self.baselines(training, folder, scratch, graphs))
        (bare,) = annotation_figures(scratch, graphs, {}).values()
        runs = {name: "pretrained", name + FROM_SCRATCH: "run"}
        return {
            **self.told(training, ours, graphs),
            "figures": {ALL_TYPES: {"annotation": {**methods, name + FROM_SCRATCH: bare}}},
            "curves": {method: _curves(folder / run) for method, run in runs.items()},
            "told": {**(training.told or {}), **_pretraining_told(pretrained)},
        }

    def pretrained(self, repeat: int, folder: Path) -> Path:
        """Return the pre-trained model of a repeat, made when it is first asked for; it never sees a label."""
        run = self.folder / f"pretrained-{repeat}"
        if not run.is_dir():
            dataset = folder / "unlabelled"
            labels = np.full(len(MultiomeGraphs(self.study.dataset).cells), None, dtype=object)
            self.relabel(self.study.dataset, dataset, labels)
            kind, config, options = pretraining_job(self.study, repeat)
            run.mkdir()
            fit(kind, [dataset, *self.study.unlabelled], run, config, options, progress=False)
        return run


def annotation_figures(
    loaded: LoadedModel, graphs: MultiomeGraphs, baselines: dict[str, AnnotatorModel]
) -> dict[str, Figures]:
    """Return the figures of a model, and of baselines, on all test cells."""
    judged = evaluate_annotator(loaded.model, graphs, baselines, split=TEST, progress=False).metrics
    methods = {judged["model"]: judged["annotation"], **judged["baselines"]["annotation"]}
    return {
        name: {key: value for key, value in figures.items() if not isinstance(value, dict)}
        for name, figures in methods.items()
    }


def _curves(run: Path) -> dict[str, list[float]]:
    history = pd.read_csv(run / "history.csv")
    return {name: history[name].tolist() for name in CURVES if name in history}


def _pretraining_told(run: Path) -> dict[str, float]:
    """Say how long a model was pre-trained, and how well at its best epoch."""
    history = pd.read_csv(run / "history.csv")
    best = int(history[SCORE].argmax())
    columns = [name for name in history.filter(like="validation_") if name != SCORE]
    told = {f"pretraining_{name}": float(history[name].iloc[best]) for name in columns}
    return {"pretraining_epochs": float(len(history)), **told}
