"""What a training run keeps after each epoch: history, best weights, and the state to resume from."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from tqdm.auto import tqdm

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.whole import write_json
from .checkpoint import save_model, save_tensors

SCORE = "validation_score"
_SHOWN: Final = ("accuracy", "masked_accuracy", "macro_f1", "mae", "mrr")  # beside the bar


class RunKeeper(Callback):
    """After each epoch: write the history, the best weights, and the state; stop when patience ends.

    Of processes that train together all keep count, and the first writes.

    The state is ``state/epoch-N.safetensors`` (weights and moments) and ``state/state.json``, which
    names it and is written last, so that a kill at any moment leaves the epoch before.

    Parameters
    ----------
    run
        Folder of the run.
    model
        Model in training; takes up the saved weights when resumed.
    graphs
        Training graphs, whose feature tables go into the checkpoint.
    patience
        Epochs without a better score before training stops.
    resume
        Take up the state in ``run``, if an epoch was finished there.

    Attributes
    ----------
    done
        Epochs finished before this process.
    waited
        Epochs since the best score.

    Raises
    ------
    InputError
        The saved state is damaged.
    """

    def __init__(self, run: Path, model: Any, graphs: MultiomeGraphs, *, patience: int, resume: bool) -> None:
        self.run, self.model, self.graphs, self.patience = run, model, graphs, patience
        self.folder = run / "state"
        state = self._read() if resume else {}
        self.history: list[dict[str, float]] = state.get("history", [])
        self.best: float | None = state.get("best")
        self.waited: int = state.get("waited", 0)
        self.done: int = state.get("epoch", -1) + 1
        self.saved: dict[str, Tensor] = state.get("tensors", {})

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Put saved weights and moments back, now that Lightning has made the optimisers."""
        if not self.saved:
            return
        self.model.load_state_dict(_under("model", self.saved))
        for i, optimiser in enumerate(trainer.optimizers):
            states: dict[int, dict[str, Any]] = {}
            for name, value in _under(f"optimiser.{i}", self.saved).items():
                parameter, key = name.split(".")
                # SparseAdam counts steps in a plain integer, Adam in a tensor.
                plain = isinstance(optimiser, torch.optim.SparseAdam) and key == "step"
                states.setdefault(int(parameter), {})[key] = int(value) if plain else value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": states})
        self.saved = {}

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write what the epoch brought."""
        epoch = self.done + int(trainer.current_epoch)
        row = figures_of(module)
        if not (math.isfinite(row["train_loss"]) and math.isfinite(row[SCORE])):
            raise InputError(f"the loss of epoch {epoch + 1} is not finite. Lower --lr and train anew.")
        self.history.append({"epoch": epoch, **row})
        better = self.best is None or row[SCORE] > self.best
        self.best, self.waited = (row[SCORE], 0) if better else (self.best, self.waited + 1)
        trainer.should_stop = self.waited >= self.patience
        if trainer.is_global_zero:
            history = pd.DataFrame(self.history)
            history["epoch"] += 1  # people count from 1
            history.to_csv(self.run / "history.csv", index=False)
            if better:
                save_model(self.run, self.model, self.graphs)
            self._save(trainer.optimizers, epoch)

    def _save(self, optimisers: list[torch.optim.Optimizer], epoch: int) -> None:
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for i, optimiser in enumerate(optimisers):
            for p, state in optimiser.state_dict()["state"].items():
                tensors.update({f"optimiser.{i}.{p}.{key}": torch.as_tensor(v) for key, v in state.items()})
        self.folder.mkdir(exist_ok=True)
        ours = self.folder / f"epoch-{epoch}.safetensors"
        save_tensors(ours, tensors)
        state = {"epoch": epoch, "best": self.best, "waited": self.waited, "history": self.history}
        write_json(self.folder / "state.json", state)
        for old in self.folder.glob("epoch-*.safetensors"):
            if old != ours:
                old.unlink()

    def _read(self) -> dict[str, Any]:
        file = self.folder / "state.json"
        if not file.is_file():
            return {}  # interrupted before its first epoch ended: begin at the beginning
        try:
            state: dict[str, Any] = json.loads(file.read_text())
            tensors = load_file(self.folder / f"epoch-{state['epoch']}.safetensors")
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise InputError(f"{self.folder} is damaged. Remove {self.run} and train anew.") from error
        return {**state, "tensors": tensors}


class OverallBar(Callback):
    """One progress bar over all epochs, with the time that is left and the latest scores."""

    def __init__(self, epochs: int, done: int, label: str = "train") -> None:
        self.epochs, self.done, self.label = epochs, done, label
        self.bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Open the bar."""
        steps = int(trainer.num_training_batches)
        self.bar = tqdm(total=self.epochs * steps, initial=self.done * steps, desc=self.label, unit="batch")

    def on_train_batch_end(self, *_: Any) -> None:
        """Advance by a batch."""
        assert self.bar is not None
        self.bar.update()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Show the scores of the epoch."""
        assert self.bar is not None
        figures = figures_of(module)
        shown = {name: f"validation_{name}" for name in _SHOWN}
        values = {name: f"{figures[key]:.3f}" for name, key in shown.items() if key in figures}
        epoch = self.done + int(trainer.current_epoch) + 1
        self.bar.set_postfix({"epoch": f"{epoch}/{self.epochs}", **values})

    def on_train_end(self, *_: Any) -> None:
        """Close the bar."""
        assert self.bar is not None
        self.bar.close()

    def on_exception(self, *_: Any) -> None:
        """Close the bar, so that the error has a line of its own."""
        if self.bar is not None:
            self.bar.close()


def figures_of(module: L.LightningModule) -> dict[str, float]:
    """Return what a training plan found in the epoch, by name."""
    figures = module.figures
    assert isinstance(figures, dict)
    return figures


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}."): value
        for name, value in tensors.items()
        if name.startswith(f"{prefix}.")
    }
