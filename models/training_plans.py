"""Training plans on Lightning: the steps of an epoch, for models of pairs and for models of labelled cells."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score
from torch import Tensor
from torch_geometric.data import Batch

from ..graphs.loader import GraphLoader
from ..graphs.schema import CELL, CELL_TYPE
from .annotation.model import AnnotatorModel
from .recommender import Recommender
from .run_keeper import SCORE
from .train_options import TrainOptions

_VALIDATION = "validation_"


class GraphTraining(L.LightningModule):
    """Seeded epochs over graph batches, with all of a model's optimisers in each step."""

    def __init__(self, model: Any, options: TrainOptions, *, first_epoch: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False  # dense and sparse parameters have an optimiser each
        self.model, self.options, self.first_epoch = model, options, first_epoch
        self._rates: list[list[float]] = []

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the training ``loss`` of a batch and its parts."""

    @abstractmethod
    def lr_factor(self, step: int) -> float:
        """Return the share of the learning rate that a step takes, counted from the first epoch on."""

    @property
    def epoch(self) -> int:
        """Number of the epoch, counted over interruptions."""
        return self.first_epoch + int(self.current_epoch)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Take the model's optimisers, and remember their learning rates."""
        optimisers: list[torch.optim.Optimizer] = self.model.optimisers(
            self.options.lr, self.options.weight_decay
        )
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
        parts = self.losses(batch)
        optimisers = self.optimizers()
        optimisers = optimisers if isinstance(optimisers, list) else [optimisers]
        factor = self.lr_factor(self.epoch * self.steps + index)
        for optimiser, rates in zip(optimisers, self._rates, strict=True):
            optimiser.zero_grad()
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        self.manual_backward(parts["loss"])
        for optimiser in optimisers:
            optimiser.step()
        self.log_stage("train", {name: value.detach() for name, value in parts.items()}, batch.num_graphs)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return int(self.trainer.num_training_batches)

    def on_validation_epoch_start(self) -> None:
        """Let the model bring up to date what it keeps."""
        self.model.refresh()

    def log_stage(self, stage: str, values: dict[str, Tensor], size: int) -> None:
        """Log values of a batch, which Lightning averages over the epoch."""
        named = {f"{stage}_{name}": value for name, value in values.items()}
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=size)


class RecommenderTraining(GraphTraining):
    """The training plan of a recommender: pairs, and measures that are averaged over batches."""

    model: Recommender

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch of pairs."""
        return self.model.loss(batch)

    def lr_factor(self, step: int) -> float:
        """Ask the model."""
        return self.model.lr_factor(step)

    def validation_step(self, batch: Batch, _: int) -> None:
        """Take the model's measures."""
        self.log_stage("validation", self.model.validate(batch), batch.num_graphs)

    def on_validation_epoch_end(self) -> None:
        """Log the score of the epoch."""
        found = self.trainer.callback_metrics
        named = {
            name.removeprefix(_VALIDATION): float(value)
            for name, value in found.items()
            if name.startswith(_VALIDATION)
        }
        self.log(SCORE, self.model.score(named))


class AnnotatorTraining(GraphTraining):
    """The training plan of an annotator: labelled cells, and figures of all validation cells together.

    Parameters
    ----------
    model, options, first_epoch
        As of `GraphTraining`.
    codes
        Place in the model's vocabulary of each type of the dataset; the last is that of unlabelled cells.
    """

    model: AnnotatorModel

    def __init__(
        self, model: AnnotatorModel, options: TrainOptions, codes: Tensor, *, first_epoch: int = 0
    ) -> None:
        super().__init__(model, options, first_epoch=first_epoch)
        self.codes = codes
        self._logits: list[Tensor] = []
        self._truth: list[Tensor] = []

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch of labelled cells."""
        return self.model.loss(batch, self._codes(batch))

    def lr_factor(self, step: int) -> float:
        """Ask the model."""
        return self.model.lr_factor(step / self.steps)

    def validation_step(self, batch: Batch, _: int) -> None:
        """Keep the logits of cells whose type the model knows."""
        self._logits.append(self.model(batch).logits.cpu())
        self._truth.append(self._codes(batch).cpu())

    def on_validation_epoch_end(self) -> None:
        """Log the figures of the epoch and its score."""
        truth, logits = torch.cat(self._truth), torch.cat(self._logits)
        self._logits, self._truth = [], []
        figures = validation_figures(logits[truth >= 0], truth[truth >= 0])
        self.log_dict({f"{_VALIDATION}{name}": value for name, value in figures.items()})
        self.log(SCORE, self.model.score(figures))

    def _codes(self, batch: Batch) -> Tensor:
        return self.codes.to(batch[CELL][CELL_TYPE].device)[batch[CELL][CELL_TYPE]]


def validation_figures(logits: Tensor, codes: Tensor) -> dict[str, float]:
    """Return loss, loss with equal weight for each type, accuracy and macro-F1 of cells.

    Parameters
    ----------
    logits, codes
        (cells, types) and (cells,).
    """
    loss = F.cross_entropy(logits.double(), codes, reduction="none")  # also where training mixes precision
    weight = 1.0 / torch.bincount(codes)[codes]
    predicted, truth = logits.argmax(1).numpy(), codes.numpy()
    return {
        "loss": float(loss.mean()),
        "balanced_loss": float((loss * weight).sum() / weight.sum()),
        "accuracy": float(np.mean(predicted == truth)),
        "macro_f1": float(f1_score(truth, predicted, average="macro", zero_division=0.0)),
    }
