"""Train on Lightning: seeded epochs, early stop, best weights, and a state that resumes to the same bits."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback

from ..graphs.dataset import MultiomeGraphs
from ..graphs.loader import GraphLoader
from ..graphs.schema import View
from .annotation.calibrate import calibrate
from .annotation.model import AnnotatorModel, check_validation, codes_of, labelled
from .checkpoint import load_model, save_model, save_seen
from .curves import draw_curves
from .registry import Kind
from .run_keeper import OverallBar, RunKeeper
from .train_options import TrainOptions
from .training_plans import AnnotatorTraining, GraphTraining, RecommenderTraining


def fit(
    kind: Kind,
    dataset: Path,
    run: Path,
    config: Any,
    options: TrainOptions,
    *,
    fold: int | None = None,
    resume: bool = False,
    progress: bool = True,
) -> None:
    """Train a model on the training pairs or labelled training cells of a dataset, and leave the best in ``run``.

    Parameters
    ----------
    kind
        What to train.
    dataset
        Graph dataset, with pairs or labels.
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
    """
    view: View = "pairs" if kind.task == "recommendation" else "cells"
    train = MultiomeGraphs(dataset, view=view, split="train", fold=fold)
    validation = train.part(view, "validation")
    if kind.task == "annotation":
        train, validation = labelled(train), labelled(validation)
    if kind.task == "annotation" and kind.epochs:
        check_validation(train, validation)
    torch.manual_seed(options.seed)
    model = kind.model.from_graphs(train, config, seed=options.seed)
    save_seen(run, train)
    if kind.epochs:
        _train(model, train, validation, run, options, resume=resume, progress=progress)
    if isinstance(model, AnnotatorModel):
        if kind.epochs:
            model = load_model(run).model
        calibrate(model, train, validation, seed=options.seed, progress=progress)
        save_model(run, model, train)


def _train(
    model: Any,
    train: MultiomeGraphs,
    validation: MultiomeGraphs,
    run: Path,
    options: TrainOptions,
    *,
    resume: bool,
    progress: bool,
) -> None:
    keeper = RunKeeper(run, model, train, patience=options.patience, resume=resume)
    done = keeper.done
    if done < options.epochs and keeper.waited < options.patience:
        bars = [OverallBar(options.epochs, done)] if progress else []
        with _quiet_lightning():
            trainer = _trainer(options, options.epochs - done, [keeper, *bars])
            shuffled = GraphLoader(train, options.batch_size, shuffle=True, seed=options.seed, cis=False)
            held_out = GraphLoader(_mixed(validation), options.batch_size, cis=False)
            with _interruptible(trainer):
                trainer.fit(_plan(model, train, options, done), shuffled, held_out)
    draw_curves(pd.DataFrame(keeper.history), run / "curves.png")


def _plan(model: Any, train: MultiomeGraphs, options: TrainOptions, done: int) -> GraphTraining:
    if isinstance(model, AnnotatorModel):
        return AnnotatorTraining(model, options, codes_of(model.cell_types, train), first_epoch=done)
    return RecommenderTraining(model, options, first_epoch=done)


def _accelerator(name: str) -> str:
    """Let ``auto`` choose among what our operators run on."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def _mixed(graphs: MultiomeGraphs) -> MultiomeGraphs:
    """Put graphs in one fixed random order: pairs are stored by kind, and batches shall be like those of training."""
    order = np.random.default_rng(0).permutation(len(graphs))
    mixed: MultiomeGraphs = graphs.index_select(order)
    return mixed


def _trainer(options: TrainOptions, epochs: int, callbacks: list[Callback]) -> L.Trainer:
    return L.Trainer(
        accelerator=_accelerator(options.accelerator),
        devices=1,
        precision=options.precision,  # type: ignore[arg-type]
        max_epochs=epochs,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        inference_mode=False,  # the encodings of DNA are renewed between epochs
    )


@contextmanager
def _interruptible(trainer: L.Trainer) -> Iterator[None]:
    """Pass Ctrl-C on: Lightning ends the process in silence and leaves later Ctrl-C ignored."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if trainer.interrupted:
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None
        raise


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice on workers and hardware from the user's terminal; our settings are chosen."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
        try:
            yield
        finally:
            logger.setLevel(level)
