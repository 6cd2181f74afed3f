"""Train on Lightning: seeded epochs, early stop, best weights, and a state that resumes to the same bits."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch_geometric.data import Batch

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.loader import GraphLoader
from .checkpoint import save_seen
from .curves import draw_curves
from .recommender import Config, Recommender, make_model
from .run_keeper import SCORE, OverallBar, RunKeeper

_VALIDATION = "validation_"


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    Attributes
    ----------
    epochs, batch_size, lr, weight_decay
        At most so many epochs, in batches of so many pairs; what the optimisers take.
    patience
        Epochs without a better validation score before training stops.
    seed
        Decides initial weights, order and dropout.
    precision
        ``32-true`` or ``64-true``, as Lightning names them.
    accelerator
        As Lightning names it; ``auto`` takes a GPU when there is one.
    """

    epochs: int = 100
    batch_size: int = 32
    lr: float = 5e-4
    weight_decay: float = 1e-5
    patience: int = 10
    seed: int = 0
    precision: str = "32-true"
    accelerator: str = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "lr", "patience"):
            if not getattr(self, name) > 0:  # also refuses NaN
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be positive.")
        if self.precision not in ("32-true", "64-true"):
            raise InputError(f"--precision {self.precision}: crossrec trains in 32-true or 64-true.")


class CrossRecTraining(L.LightningModule):
    """The training plan of a recommender: its losses, its optimisers, and the score that picks the best epoch."""

    def __init__(self, model: Recommender, options: TrainOptions, *, first_epoch: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False  # dense and sparse parameters have an optimiser each
        self.model, self.options, self.first_epoch = model, options, first_epoch
        self._rates: list[list[float]] = []

    @property
    def epoch(self) -> int:
        """Number of the epoch, counted over interruptions."""
        return self.first_epoch + int(self.current_epoch)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Take the model's optimisers, and remember their learning rates."""
        optimisers = self.model.optimisers(self.options.lr, self.options.weight_decay)
        self._rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
        return optimisers

    def on_train_epoch_start(self) -> None:
        """Make order and dropout a function of seed and epoch, so that a resumed run repeats them."""
        loader = self.trainer.train_dataloader
        assert isinstance(loader, GraphLoader)
        loader.set_epoch(self.epoch)
        torch.manual_seed(self.options.seed * 1_000_003 + self.epoch + 1)

    def training_step(self, batch: Batch, index: int) -> None:
        """Take one step of all optimisers."""
        parts = self.model.loss(batch)
        optimisers = self.optimizers()
        optimisers = optimisers if isinstance(optimisers, list) else [optimisers]
        factor = self.model.lr_factor(self.epoch * int(self.trainer.num_training_batches) + index)
        for optimiser, rates in zip(optimisers, self._rates, strict=True):
            optimiser.zero_grad()
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        self.manual_backward(parts["loss"])
        for optimiser in optimisers:
            optimiser.step()
        self._log("train", {name: value.detach() for name, value in parts.items()}, batch.num_graphs)

    def on_validation_epoch_start(self) -> None:
        """Let the model bring up to date what it keeps."""
        self.model.refresh()

    def validation_step(self, batch: Batch, _: int) -> None:
        """Take the model's measures."""
        self._log("validation", self.model.validate(batch), batch.num_graphs)

    def on_validation_epoch_end(self) -> None:
        """Log the score of the epoch."""
        found = self.trainer.callback_metrics
        named = {
            name.removeprefix(_VALIDATION): float(value)
            for name, value in found.items()
            if name.startswith(_VALIDATION)
        }
        self.log(SCORE, self.model.score(named))

    def _log(self, stage: str, values: dict[str, Tensor], size: int) -> None:
        named = {f"{stage}_{name}": value for name, value in values.items()}
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=size)


def fit(
    dataset: Path,
    run: Path,
    config: Config,
    options: TrainOptions,
    *,
    fold: int | None = None,
    resume: bool = False,
    progress: bool = True,
) -> None:
    """Train a recommender on the training pairs of a dataset and leave the best weights in ``run``.

    Parameters
    ----------
    dataset
        Graph dataset with pairs.
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
    train = MultiomeGraphs(dataset, view="pairs", split="train", fold=fold)
    validation = train.part("pairs", "validation")
    torch.manual_seed(options.seed)
    model = make_model(train, config, seed=options.seed)
    save_seen(run, train)
    keeper = RunKeeper(run, model, train, patience=options.patience, resume=resume)
    done = keeper.done
    module = CrossRecTraining(model, options, first_epoch=done)
    bars = [OverallBar(options.epochs, done)] if progress else []
    if done < options.epochs and keeper.waited < options.patience:
        with _quiet_lightning():
            trainer = _trainer(options, options.epochs - done, [keeper, *bars])
            shuffled = GraphLoader(train, options.batch_size, shuffle=True, seed=options.seed, cis=False)
            with _interruptible(trainer):
                trainer.fit(module, shuffled, GraphLoader(_mixed(validation), options.batch_size, cis=False))
    draw_curves(pd.DataFrame(keeper.history), run / "curves.png")


def _mixed(graphs: MultiomeGraphs) -> MultiomeGraphs:
    """Put graphs in one fixed random order: pairs are stored by kind, and batches shall be like those of training."""
    order = np.random.default_rng(0).permutation(len(graphs))
    mixed: MultiomeGraphs = graphs.index_select(order)
    return mixed


def _trainer(options: TrainOptions, epochs: int, callbacks: list[Callback]) -> L.Trainer:
    return L.Trainer(
        accelerator=options.accelerator,
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
