"""Training plans on Lightning: the steps of an epoch, for models of pairs, of labelled and of unlabelled cells."""

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
from ..graphs.schema import ATAC, CELL, CELL_TYPE
from .annotation.model import AnnotatorModel
from .annotation.pretraining import PretrainingModel
from .exchange import EpochSums, gather_rows, share
from .recommender import Recommender
from .run_keeper import SCORE
from .step_gradients import StepGradients
from .train_options import TrainOptions


class GraphTraining(L.LightningModule):
    """Seeded epochs over graph batches, with all of a model's optimisers in each step.

    Several processes may train together: each has a part of every batch, which may be empty.

    Attributes
    ----------
    figures
        What the latest epoch brought, by name: means of the losses over its items, validation, and the score.
    """

    def __init__(self, model: Any, options: TrainOptions, *, first_epoch: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False  # dense and sparse parameters have an optimiser each
        self.model, self.options, self.first_epoch = model, options, first_epoch
        self.figures: dict[str, float] = {}
        self._rates: list[list[float]] = []
        self._trained, self._measured = EpochSums(), EpochSums()

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the training ``loss`` of a batch and its parts; ``weight`` items where these are no graphs."""

    @abstractmethod
    def lr_factor(self, step: int) -> float:
        """Return the share of the learning rate that a step takes, counted from the first epoch on."""

    @abstractmethod
    def measure(self, batch: Batch) -> None:
        """Keep what `validation` needs of a batch of validation graphs."""

    @abstractmethod
    def validation(self) -> dict[str, float]:
        """Return the figures of all validation graphs, those of other processes included."""

    @property
    def epoch(self) -> int:
        """Number of the epoch, counted over interruptions."""
        return self.first_epoch + int(self.current_epoch)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-int(self.trainer.num_training_batches) // self.options.accumulate)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Take the model's optimisers, and remember their learning rates."""
        optimisers: list[torch.optim.Optimizer] = self.model.optimisers(
            self.options.lr, self.options.weight_decay
        )
        self._rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
        self._gradients = StepGradients(
            optimisers, several=self.options.accumulate > 1, clip=self.options.clip
        )
        return optimisers

    def on_train_epoch_start(self) -> None:
        """Make order and dropout a function of seed and epoch, so that a resumed run repeats them."""
        loader = self.trainer.train_dataloader
        assert isinstance(loader, GraphLoader)
        loader.set_epoch(self.epoch)
        torch.manual_seed((self.options.seed + share()[0]) * 1_000_003 + self.epoch + 1)

    def training_step(self, batch: Batch, index: int) -> None:
        """Add the gradient of a batch, and take a step of all optimisers after the last one of the step."""
        every = self.options.accumulate
        if index % every == 0:
            self._gradients.begin()
        if batch.num_graphs:
            self._add(batch)
        if (index + 1) % every == 0 or index + 1 == self.trainer.num_training_batches:
            self._gradients.finish()
            self._step(self.epoch * self.steps + index // every)

    def _add(self, batch: Batch) -> None:
        parts = self.losses(batch)
        graphs = parts["loss"].new_full((), batch.num_graphs, dtype=torch.float64)
        weight = parts.pop("weight", graphs).detach().double()
        self.manual_backward(self._gradients.add(parts["loss"], weight))
        self._trained.add_means(parts, weight)

    def _step(self, step: int) -> None:
        factor = self.lr_factor(step)
        optimisers = self.optimizers()
        for optimiser, rates in zip(
            optimisers if isinstance(optimisers, list) else [optimisers], self._rates, strict=True
        ):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimiser.step()

    def on_validation_epoch_start(self) -> None:
        """Let the model bring up to date what it keeps."""
        self.model.refresh()

    def validation_step(self, batch: Batch, _: int) -> None:
        """Measure a batch."""
        if batch.num_graphs:
            self.measure(batch)

    def on_validation_epoch_end(self) -> None:
        """Put together what the epoch brought."""
        trained = self._trained.take_means(self.device)
        found = self.validation()
        named = {
            **{f"train_{name}": value for name, value in trained.items()},
            **{f"validation_{name}": value for name, value in found.items()},
            SCORE: float(self.model.score(found)),
        }
        self.figures = dict(sorted(named.items()))


class RecommenderTraining(GraphTraining):
    """The training plan of a recommender: pairs, and measures that are averaged over batches."""

    model: Recommender

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch of pairs."""
        return self.model.loss(batch)

    def lr_factor(self, step: int) -> float:
        """Ask the model."""
        return self.model.lr_factor(step)

    def measure(self, batch: Batch) -> None:
        """Take the model's measures."""
        found = self.model.validate(batch)
        graphs = torch.full((), batch.num_graphs, dtype=torch.float64, device=self.device)
        self._measured.add_means(found, graphs)

    def validation(self) -> dict[str, float]:
        """Return the means over pairs."""
        return self._measured.take_means(self.device)


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
        self._read: list[Tensor] = []

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch of labelled cells."""
        return self.model.loss(batch, self._codes(batch))

    def lr_factor(self, step: int) -> float:
        """Ask the model."""
        return self.model.lr_factor(step / self.steps)

    def measure(self, batch: Batch) -> None:
        """Keep each cell's number, type and logits."""
        logits = self.model(batch).logits.double()
        told = torch.stack([batch[CELL][ATAC], self._codes(batch)], 1)
        self._read.append(torch.cat([told.double(), logits], 1))

    def validation(self) -> dict[str, float]:
        """Return the figures of cells whose type the model knows; batches and processes do not matter to them."""
        none = torch.zeros(0, 2 + len(self.model.cell_types), dtype=torch.float64, device=self.device)
        rows = gather_rows(torch.cat([none, *self._read])).cpu()
        self._read = []
        rows = rows[rows[:, 0].argsort()]
        truth, logits = rows[:, 1].long(), rows[:, 2:]
        return validation_figures(logits[truth >= 0], truth[truth >= 0])

    def _codes(self, batch: Batch) -> Tensor:
        return self.codes.to(batch[CELL][CELL_TYPE].device)[batch[CELL][CELL_TYPE]]


class PretrainingTraining(GraphTraining):
    """The training plan of a model that learns from unlabelled cells: sums over all validation cells."""

    model: PretrainingModel

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch of cells."""
        return self.model.loss(batch)

    def lr_factor(self, step: int) -> float:
        """Ask the model."""
        return self.model.lr_factor(step / self.steps)

    def on_train_epoch_start(self) -> None:
        """Choose the masks of the epoch."""
        super().on_train_epoch_start()
        self.model.set_epoch(self.epoch)

    def on_validation_epoch_start(self) -> None:
        """Choose the masks of held-out cells."""
        super().on_validation_epoch_start()
        self.model.set_epoch(None)

    def measure(self, batch: Batch) -> None:
        """Take the model's sums."""
        self._measured.add(self.model.measure(batch))

    def validation(self) -> dict[str, float]:
        """Turn the sums into figures."""
        return self.model.figures(self._measured.take(self.device))


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
