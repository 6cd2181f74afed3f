"""Train any model that learns: seeded epochs, early stop, best weights, and a state that resumes to the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.schema import Split, View
from .annotation.calibrate import calibrate
from .annotation.model import check_validation, labelled
from .checkpoint import check_apart, check_same_build, load_model, load_pretrained, save_model, save_seen
from .epochs import Training, accelerator, run_epochs
from .registry import Kind
from .train_options import TrainOptions

Graphs = list[MultiomeGraphs]
FIRST: Final = "stage1"  # folder in a run, of what is trained before


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
        Folder that receives ``history.csv``, ``curves.png``, the checkpoint and the state; made when there is
        something to write.
    config, options
        Model and training choices.
    fold
        Train on this fold of the dataset.
    resume
        Go on from the state in ``run``; the result is bit for bit that of an uninterrupted run. More epochs than
        before do not lengthen a first stage whose second has begun.
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
    if kind.task == "pretraining":
        check_unlabelled(kind, config, train)
    first = None
    if kind.first is not None and config.first:
        first = run / FIRST
        if not (resume and (run / "state" / "state.json").is_file()):
            fit(kind.first, paths, first, config, options, fold=fold, resume=resume, progress=progress)
    model = _untrained(kind, train, config, options.seed, init, first)
    run.mkdir(parents=True, exist_ok=True)
    save_seen(run, train, model, init)
    if kind.epochs:
        run_epochs(Training(kind.task, model, train, validation, run, options, resume, progress))
    if kind.task == "annotation" and kind.model.stage != "first":
        if kind.epochs:
            model = load_model(run).model
        calibrate(model, train[0], validation[0], seed=options.seed, progress=progress)
        save_model(run, model, train[0])


def _untrained(
    kind: Kind, train: Graphs, config: Any, seed: int, init: Path | None, first: Path | None
) -> Any:
    """Make a model, or go on with one that was pre-trained, or that is its first stage."""
    begun = None
    if first is not None:
        begun = load_model(first).model.cpu()
    elif init is not None:
        begun = load_pretrained(init, train[0]).cpu()
    torch.manual_seed(seed)
    if first is not None:
        return kind.model.from_first(begun, train[0], config, seed=seed)
    if init is not None:
        return kind.model.from_pretrained(begun, train[0], config, seed=seed)
    several = kind.task == "pretraining"
    return kind.model.from_graphs(train if several else train[0], config, seed=seed)


def _graphs(kind: Kind, paths: Sequence[Path], fold: int | None) -> tuple[Graphs, Graphs]:
    """Open what a model learns from, and what tells when to stop."""
    view: View = "pairs" if kind.task == "recommendation" else "cells"
    train = [MultiomeGraphs(path, view=view, split="train", fold=fold) for path in paths]
    validation = [graphs.part(view, "validation") for graphs in train]
    if kind.task == "annotation":
        train, validation = [labelled(train[0])], [labelled(validation[0])]
        if kind.epochs:
            check_validation(train[0], validation[0])
    return train, validation


def check_unlabelled(kind: Kind, config: Any, graphs: Sequence[MultiomeGraphs]) -> None:
    """Refuse data sets on which a model cannot be trained together, without labels.

    Parameters
    ----------
    kind, config
        Of a pre-training.
    graphs
        Data sets, in the fold that is trained on.

    Raises
    ------
    InputError
        A modality is missing, they are of different genomes, none has training or validation cells, or one has test
        cells that another trains on.
    """
    for some in graphs:
        some.require(kind.model.modalities, kind.model.kind)
        check_same_build(graphs[0].store.manifest["genome"], some)
    needed: dict[Split, str] = {"train": "training", "validation": "validation"}
    for split, told in needed.items():
        if not any(len(some.part(split=split)) for some in graphs):
            raise InputError(
                f"{', '.join(some.root for some in graphs)}: no {told} cell, and a model is trained on training cells"
                " until those of validation tell it to stop. Build without --discovery, with more cells, or with other"
                " --donor or --seed."
            )
    check_apart(graphs, kind.model.places_of(graphs, config))


def check_several(n: int, fold: int | None, *, pretraining: bool) -> None:
    """Refuse more than one data set where they cannot be trained on together.

    Raises
    ------
    InputError
        Only pre-training takes several, and these in their ordinary splits.
    """
    if n > 1 and not pretraining:
        raise InputError(
            f"{n} data sets: only --stage pretrain takes several. Pass one, or build one of all."
        )
    if n > 1 and fold is not None:
        raise InputError(f"--fold {fold}: {n} data sets have no folds in common. Leave --fold out.")


def _check_choices(
    kind: Kind, paths: Sequence[Path], options: TrainOptions, fold: int | None, init: Path | None
) -> None:
    """Refuse choices that do not go together."""
    if not paths:
        raise InputError("no dataset is given. Pass one or several.")
    check_several(len(paths), fold, pretraining=kind.task == "pretraining")
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
    if kind.task == "annotation" and not kind.model.reads_alone:
        raise InputError(
            f"{told}: {name} ({kind.model.mode} mode) trains on one device, as the cells of a batch ask each other."
            " Leave the option out."
        )
    if not kind.epochs:
        raise InputError(f"{told}: {name} is fitted at once, on one device. Leave the option out.")
    there = torch.cuda.device_count()
    if accelerator(options) == "cuda" and options.devices > there:
        raise InputError(f"{told}: this machine has {there} GPU{'s' * (there != 1)}. Choose as many at most.")
