"""The epochs of a training on Lightning, in this process or in several; the best weights stay in the run's folder."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from numpy.typing import NDArray
from torch import nn

from ..graphs.dataset import MultiomeGraphs
from ..graphs.loader import GraphLoader
from .annotation.model import codes_of
from .curves import draw_curves
from .exchange import share
from .processes import run_together
from .run_keeper import OverallBar, RunKeeper
from .train_options import TrainOptions
from .training_plans import AnnotatorTraining, GraphTraining, PretrainingTraining, RecommenderTraining

_LOGGERS = ("lightning.pytorch", "lightning.fabric")


@dataclass(frozen=True)
class Training:
    """All that epochs need.

    Attributes
    ----------
    task
        As of `registry.Kind`.
    model
        In training, on the processor.
    train, validation
        Graphs of each dataset.
    run
        Folder of the run.
    options
        How to train.
    resume
        Take up the state in ``run``.
    progress
        Show a bar.
    """

    task: str
    model: Any
    train: Sequence[MultiomeGraphs]
    validation: Sequence[MultiomeGraphs]
    run: Path
    options: TrainOptions
    resume: bool
    progress: bool

    def keeper(self) -> RunKeeper:
        """Return what keeps the results of epochs."""
        patience = self.options.patience
        return RunKeeper(self.run, self.model, self.train[0], patience=patience, resume=self.resume)

    def plan(self, done: int) -> GraphTraining:
        """Return the steps of an epoch, after some were done."""
        if self.task == "annotation":
            codes = codes_of(self.model.cell_types, self.train[0])
            return AnnotatorTraining(self.model, self.options, codes, first_epoch=done)
        if self.task == "pretraining":
            return PretrainingTraining(self.model, self.options, first_epoch=done)
        return RecommenderTraining(self.model, self.options, first_epoch=done)


def run_epochs(training: Training) -> None:
    """Train until epochs or patience end; the best weights, the history and its curves lie in the run's folder.

    The model is left without its weights where several processes trained.

    Raises
    ------
    InputError
        A damaged state, or a loss that is not finite.
    """
    keeper, options = training.keeper(), training.options
    if keeper.done < options.epochs and keeper.waited < options.patience:
        if options.devices == 1:
            _train(training, keeper)
        else:
            cuda = accelerator(options) == "cuda"
            run_together(_train_together, _Parcel.of(training), options.devices, cuda=cuda)
    draw_curves(pd.read_csv(training.run / "history.csv"), training.run / "curves.png")


def accelerator(options: TrainOptions) -> str:
    """Let ``auto`` choose among what our operators run on."""
    usual = {"auto": "cuda" if torch.cuda.is_available() else "cpu", "gpu": "cuda"}
    return usual.get(options.accelerator, options.accelerator)


def _train(training: Training, keeper: RunKeeper) -> None:
    """Train, or take part in it as one of several processes."""
    options, part = training.options, share()
    label = "stage 1" if getattr(training.model, "stage", "") == "first" else "train"
    shown = training.progress and part[0] == 0
    bars = [OverallBar(options.epochs, keeper.done, label)] if shown else []
    with _quiet_lightning():
        trainer = _trainer(options, options.epochs - keeper.done, [keeper, *bars])
        shuffled = GraphLoader(
            training.train, options.batch_size, shuffle=True, seed=options.seed, share=part, cis=False
        )
        mixed = [_mixed(graphs) for graphs in training.validation]
        held_out = GraphLoader(mixed, options.batch_size, share=part, cis=False)
        with _interruptible(trainer):
            trainer.fit(training.plan(keeper.done), shuffled, held_out)


def _mixed(graphs: MultiomeGraphs) -> MultiomeGraphs:
    """Put graphs in one fixed random order: pairs are stored by kind, and batches shall be like those of training."""
    order = np.random.default_rng(0).permutation(len(graphs))
    mixed: MultiomeGraphs = graphs.index_select(order)
    return mixed


@dataclass(frozen=True)
class _Parcel:
    """A training on its way to other processes: weights apart, as torch would pass them in shared memory."""

    training: Training
    weights: list[NDArray[Any]]

    @classmethod
    def of(cls, training: Training) -> _Parcel:
        """Pack, taking the weights out of the model."""
        weights = []
        for tensor in _tensors(training.model):
            weights.append(tensor.detach().numpy())
            tensor.data = tensor.data.new_empty(0)
        return cls(training, weights)

    def unpacked(self) -> Training:
        """Put the weights back."""
        for tensor, weight in zip(_tensors(self.training.model), self.weights, strict=True):
            tensor.data = torch.from_numpy(weight)
        return self.training


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    return chain(model.parameters(), model.buffers())


def _train_together(parcel: _Parcel) -> None:
    training = parcel.unpacked()
    _train(training, training.keeper())


class _AddedGradients(DDPStrategy):
    """Lightning's processes side by side; gradients are weighted and added by `StepGradients`, once a step."""

    def configure_ddp(self) -> None:
        """Leave the model as it is: torch's wrapper would average gradients in every batch, weighing all alike."""


def _trainer(options: TrainOptions, epochs: int, callbacks: list[Callback]) -> L.Trainer:
    together = _AddedGradients(cluster_environment=LightningEnvironment())
    return L.Trainer(
        accelerator=accelerator(options),
        devices=options.devices,
        strategy="auto" if options.devices == 1 else together,
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
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
