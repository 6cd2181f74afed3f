"""Train on Lightning: seeded epochs, early stop, best weights, and a state that resumes to the same bits."""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file
from torch import Tensor
from torch_geometric.data import Batch
from tqdm.auto import tqdm

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.loader import GraphLoader
from ..graphs.schema import CELL, MATCH
from ..graphs.whole import write_json
from .checkpoint import save_model, save_tensors
from .crossrec import CrossRec, CrossRecConfig
from .curves import draw_curves

STATE = "state"
_SCORE = "validation_score"


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    Attributes
    ----------
    epochs, batch_size, lr, weight_decay
        Adam; the published learning rate and decay. Id tables with sparse gradients are not decayed.
    patience
        Epochs without a better validation score (accuracy - MAE) before training stops.
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
    """The training plan of CrossRec: losses, two Adam optimisers, and the score that picks the best epoch."""

    def __init__(self, model: CrossRec, options: TrainOptions, *, first_epoch: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False  # dense and sparse parameters have an optimiser each
        self.model, self.options, self.first_epoch = model, options, first_epoch

    @property
    def epoch(self) -> int:
        """Number of the epoch, counted over interruptions."""
        return self.first_epoch + int(self.current_epoch)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam with decay for dense parameters, sparse Adam for id tables with sparse gradients."""
        tables = [
            f.embedding.weight
            for f in (self.model.gene_features, self.model.peak_features)
            if f.embedding.sparse
        ]
        sparse = {id(table) for table in tables}
        dense = [p for p in self.parameters() if id(p) not in sparse]
        optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(dense, lr=self.options.lr, weight_decay=self.options.weight_decay)
        ]
        if tables:
            optimisers.append(torch.optim.SparseAdam(tables, lr=self.options.lr))
        return optimisers

    def on_train_epoch_start(self) -> None:
        """Make order and dropout a function of seed and epoch, so that a resumed run repeats them."""
        loader = self.trainer.train_dataloader
        assert isinstance(loader, GraphLoader)
        loader.set_epoch(self.epoch)
        torch.manual_seed(self.options.seed * 1_000_003 + self.epoch + 1)

    def training_step(self, batch: Batch, _: int) -> None:
        """Take one step of both optimisers."""
        parts = self.model.loss(batch)
        optimisers = self.optimizers()
        optimisers = optimisers if isinstance(optimisers, list) else [optimisers]
        for optimiser in optimisers:
            optimiser.zero_grad()
        self.manual_backward(parts["loss"])
        for optimiser in optimisers:
            optimiser.step()
        self._log("train", {name: value.detach() for name, value in parts.items()}, batch)

    def validation_step(self, batch: Batch, _: int) -> None:
        """Measure losses, accuracy and translation error; their difference is the score."""
        match = batch[CELL][MATCH]
        logits, counts = self.model.outputs(batch)
        right = (logits.argmax(1) == match).float().mean()
        self._log("validation", {**self.model.losses(batch, logits, counts), "accuracy": right}, batch)
        if counts is not None:
            expressed = (self.model.expression(batch, match > 0) > 0).float()
            error = (self.model.switch(counts) - expressed).abs().mean()
            self.log("validation_mae", error, on_epoch=True, batch_size=len(counts))

    def on_validation_epoch_end(self) -> None:
        """Log the score: accuracy - MAE, as published."""
        metrics = self.trainer.callback_metrics
        error = metrics.get("validation_mae", torch.zeros(()))
        self.log(_SCORE, metrics["validation_accuracy"] - error)

    def _log(self, stage: str, values: dict[str, Tensor], batch: Batch) -> None:
        named = {f"{stage}_{name}": value for name, value in values.items()}
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=batch.num_graphs)


class RunKeeper(Callback):
    """After each epoch: history, best weights, early stop, and the state to resume from.

    Parameters
    ----------
    run
        Folder of the run.
    graphs
        Training graphs, whose feature tables go into the checkpoint.
    patience
        Epochs without a better score before training stops.
    state
        What an interrupted run had saved.
    """

    def __init__(
        self, run: Path, graphs: MultiomeGraphs, patience: int, state: dict[str, Any] | None
    ) -> None:
        self.run, self.graphs, self.patience = run, graphs, patience
        state = state or {"history": [], "best": None, "waited": 0}
        self.history: list[dict[str, float]] = state["history"]
        self.best: float | None = state["best"]
        self.waited: int = state["waited"]

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write what the epoch brought."""
        assert isinstance(module, CrossRecTraining)
        row = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        if not math.isfinite(row["train_loss"]):
            raise InputError(
                f"the loss of epoch {module.epoch + 1} is not finite. Lower --lr and train anew."
            )
        self.history.append({"epoch": module.epoch, **row})
        pd.DataFrame(self.history).to_csv(self.run / "history.csv", index=False)
        self.waited += 1
        if self.best is None or row[_SCORE] > self.best:
            self.best, self.waited = row[_SCORE], 0
            save_model(self.run, module.model, self.graphs)
        trainer.should_stop = self.waited >= self.patience
        self._save_state(trainer, module)

    def _save_state(self, trainer: L.Trainer, module: CrossRecTraining) -> None:
        tensors = {f"model.{name}": value for name, value in module.model.state_dict().items()}
        for i, optimiser in enumerate(trainer.optimizers):
            for p, state in optimiser.state_dict()["state"].items():
                tensors.update({f"optimiser.{i}.{p}.{key}": torch.as_tensor(v) for key, v in state.items()})
        folder = self.run / STATE
        folder.mkdir(exist_ok=True)
        # The numbered tensors come first: the small file that names them decides what is valid.
        save_tensors(folder / f"epoch-{module.epoch}.safetensors", tensors)
        state = {"epoch": module.epoch, "best": self.best, "waited": self.waited, "history": self.history}
        write_json(folder / "state.json", state)
        for old in folder.glob("epoch-*.safetensors"):
            if old.stem != f"epoch-{module.epoch}":
                old.unlink()


class OverallBar(Callback):
    """One progress bar over all epochs, with the time that is left and the latest scores."""

    def __init__(self, module_epochs: int, done: int) -> None:
        self.epochs, self.done = module_epochs, done
        self.bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Open the bar."""
        steps = int(trainer.num_training_batches)
        self.bar = tqdm(total=self.epochs * steps, initial=self.done * steps, desc="train", unit="batch")

    def on_train_batch_end(self, *_: Any) -> None:
        """Advance by a batch."""
        assert self.bar is not None
        self.bar.update()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Show the scores of the epoch."""
        assert self.bar is not None
        assert isinstance(module, CrossRecTraining)
        metrics = trainer.callback_metrics
        shown = {"accuracy": "validation_accuracy", "mae": "validation_mae"}
        values = {name: f"{float(metrics[key]):.3f}" for name, key in shown.items() if key in metrics}
        self.bar.set_postfix({"epoch": f"{module.epoch + 1}/{self.epochs}", **values})

    def on_train_end(self, *_: Any) -> None:
        """Close the bar."""
        assert self.bar is not None
        self.bar.close()


def fit(
    dataset: Path,
    run: Path,
    config: CrossRecConfig,
    options: TrainOptions,
    *,
    resume: bool = False,
    progress: bool = True,
) -> None:
    """Train CrossRec on the training pairs of a dataset and leave the best weights in ``run``.

    Parameters
    ----------
    dataset
        Graph dataset with pairs.
    run
        Folder that exists; receives ``history.csv``, ``curves.png``, the checkpoint and the state.
    config, options
        Model and training choices.
    resume
        Go on from the state in ``run``; the result is bit for bit that of an uninterrupted run.
    progress
        Show a bar.
    """
    train, validation = (MultiomeGraphs(dataset, view="pairs", split=s) for s in ("train", "validation"))
    torch.manual_seed(options.seed)
    model = CrossRec.from_graphs(train, config)
    state = _read_state(run) if resume else None
    done = 0 if state is None else state["epoch"] + 1
    keeper = RunKeeper(run, train, options.patience, state)
    module = CrossRecTraining(model, options, first_epoch=done)
    callbacks: list[Callback] = [keeper]
    if state is not None:
        callbacks.append(_Restore(run / STATE / f"epoch-{state['epoch']}.safetensors"))
    if progress:
        callbacks.append(OverallBar(options.epochs, done))
    if done < options.epochs and keeper.waited < options.patience:
        with _quiet_lightning():
            trainer = _trainer(options, options.epochs - done, callbacks)
            shuffled = GraphLoader(train, options.batch_size, shuffle=True, seed=options.seed, cis=False)
            trainer.fit(module, shuffled, GraphLoader(validation, options.batch_size, cis=False))
            if trainer.interrupted:
                raise KeyboardInterrupt
    draw_curves(pd.DataFrame(keeper.history), run / "curves.png")


class _Restore(Callback):
    """Put saved weights and moments back once Lightning has made the optimisers."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, CrossRecTraining)
        tensors = load_file(self.path)
        own = {
            name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")
        }
        module.model.load_state_dict(own)
        for i, optimiser in enumerate(trainer.optimizers):
            states: dict[int, dict[str, Tensor]] = {}
            for name, value in tensors.items():
                kind, *rest = name.split(".")
                if kind == "optimiser" and int(rest[0]) == i:
                    # SparseAdam counts steps in a plain integer, Adam in a tensor.
                    plain = isinstance(optimiser, torch.optim.SparseAdam) and rest[2] == "step"
                    states.setdefault(int(rest[1]), {})[rest[2]] = int(value) if plain else value  # type: ignore[assignment]
            optimiser.load_state_dict({**optimiser.state_dict(), "state": states})


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
    )


def _read_state(run: Path) -> dict[str, Any]:
    file = run / STATE / "state.json"
    if not file.is_file():
        raise InputError(
            f"{run} has no finished epoch to resume from. Remove the folder and train without --resume."
        )
    try:
        state: dict[str, Any] = json.loads(file.read_text())
    except ValueError as error:
        raise InputError(f"{file} is damaged ({error}). Remove {run} and train anew.") from error
    return state


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
