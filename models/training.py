"""Train any model that learns: seeded epochs, early stop, best weights, and a state that resumes to the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.schema import View
from .annotation.calibrate import calibrate
from .annotation.model import check_validation, labelled
from .checkpoint import load_model, load_pretrained, save_model, save_seen
from .epochs import Training, accelerator, run_epochs
from .registry import Kind
from .train_options import TrainOptions

Graphs = list[MultiomeGraphs]


def fit(
    kind: Kind,
    dataset: Path | Sequence[Path],
    run: Path,
    config: Any,
    options: TrainOptions,
    *,
    fold: int | None = None,
    resume: bool = False,
    progress: bool = True,
    init: Path | None = None,
) -> None:
    """Train a model on the training pairs or cells of a dataset, and leave the best in ``run``.

    Parameters
    ----------
    kind
        What to train.
    dataset
        Graph dataset, with pairs or labels; one or several, labelled or not, for pre-training.
    run
        Folder that exists; receives ``history.csv``, ``curves.png``, the checkpoint and the state.
    config, options
        Model and training choices.
    fold
        Train on this fold of the dataset.
    resume
        Go on from the state in ``run``; the result is bit for bit that of an uninterrupted run.
    progress
        Show a bar.
    init
        Run of a pre-training, from whose weights an annotator starts.

    Raises
    ------
    InputError
        The choices do not go together, the data are not such as the model learns from, or the loss is not
        finite.
    """
    paths = [dataset] if isinstance(dataset, Path) else list(dataset)
    _check_choices(kind, paths, options, fold, init)
    train, validation = _graphs(kind, paths, fold)
    torch.manual_seed(options.seed)
    several = kind.task == "pretraining"
    if init is not None:
        begun = load_pretrained(init, train[0]).cpu()
        model = kind.model.from_pretrained(begun, train[0], config, seed=options.seed)
    else:
        model = kind.model.from_graphs(train if several else train[0], config, seed=options.seed)
    save_seen(run, train, model, init)
    if kind.epochs:
        run_epochs(Training(kind.task, model, train, validation, run, options, resume, progress))
    if kind.task == "annotation":
        if kind.epochs:
            model = load_model(run).model
        calibrate(model, train[0], validation[0], seed=options.seed, progress=progress)
        save_model(run, model, train[0])


def _graphs(kind: Kind, paths: Sequence[Path], fold: int | None) -> tuple[Graphs, Graphs]:
    """Open what a model learns from, and what tells when to stop."""
    view: View = "pairs" if kind.task == "recommendation" else "cells"
    train = [MultiomeGraphs(path, view=view, split="train", fold=fold) for path in paths]
    validation = [graphs.part(view, "validation") for graphs in train]
    if kind.task == "annotation":
        train, validation = [labelled(train[0])], [labelled(validation[0])]
        if kind.epochs:
            check_validation(train[0], validation[0])
    if kind.task == "pretraining":
        for split, found in (("training", train), ("validation", validation)):
            if not sum(map(len, found)):
                raise InputError(
                    f"{', '.join(map(str, paths))}: no {split} cell, and a model is trained on training cells until"
                    " those of validation tell it to stop. Build with more cells, or other --donor or --seed."
                )
    return train, validation


def _check_choices(
    kind: Kind, paths: Sequence[Path], options: TrainOptions, fold: int | None, init: Path | None
) -> None:
    """Refuse choices that do not go together."""
    name = kind.model.kind
    if kind.task != "pretraining" and len(paths) != 1:
        raise InputError(f"{name} is trained on one dataset, and {len(paths)} are given. Pass one of them.")
    if not paths:
        raise InputError("no dataset is given. Pass one or several.")
    if fold is not None and len(paths) > 1:
        raise InputError(f"--fold {fold}: {len(paths)} datasets have no folds in common. Leave --fold out.")
    if init is not None and kind.task != "annotation":
        raise InputError(f"--init {init}: only annotators start from a pre-training. Leave --init out.")
    if options.devices > 1:
        _check_devices(kind, options)


def _check_devices(kind: Kind, options: TrainOptions) -> None:
    told, name = f"--devices {options.devices}", kind.model.kind
    if kind.task == "recommendation":
        raise InputError(
            f"{told}: {name} trains on one device, as the wrong partners of a profile are the others of its batch."
            " Leave the option out."
        )
    if not kind.epochs:
        raise InputError(f"{told}: {name} is fitted at once, on one device. Leave the option out.")
    there = torch.cuda.device_count()
    if accelerator(options) == "cuda" and options.devices > there:
        raise InputError(f"{told}: this machine has {there} GPU{'s' * (there != 1)}. Choose as many at most.")
