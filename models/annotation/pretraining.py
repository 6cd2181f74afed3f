"""What every model does that is trained on cells without labels, before it is trained to annotate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import pandas as pd
from torch import Tensor, nn, optim
from torch_geometric.data import Batch

from ...graphs.dataset import MultiomeGraphs
from .islands import Islands


class PretrainingModel(nn.Module, ABC):
    """A model that learns from unlabelled cells, of one data set or several.

    Attributes
    ----------
    kind, mode
        Names in `registry`, those of the annotator that takes it up.
    stage, reads_places, at_once
        As of an `AnnotatorModel`.
    config
        Dataclass of settings.
    notes
        What was met while it was made that a reader of its results should know.
    modalities
        What the model reads.
    """

    kind: ClassVar[str]
    mode: ClassVar[str] = "default"
    stage: ClassVar[str] = "pretrain"
    reads_places: ClassVar[bool] = False
    at_once: ClassVar[int] = 64
    modalities: ClassVar[tuple[str, ...]]
    config: Any
    notes: Sequence[str] = ()

    @classmethod
    @abstractmethod
    def from_graphs(cls, graphs: Sequence[MultiomeGraphs], config: Any, *, seed: int = 0) -> Self:
        """Make a model for training cells of data sets, in the cells view."""

    @classmethod
    def places_of(cls, graphs: Sequence[MultiomeGraphs], config: Any) -> Islands | None:
        """Return the islands of data sets by which the model would know their cells; None where it reads none."""
        return None

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: Any, n_chrom: int) -> Self:
        """Make a model of the shapes that saved weights have."""

    @abstractmethod
    def set_epoch(self, epoch: int | None) -> None:
        """Choose the masks of a training epoch; those of held-out cells are the same at all times (None)."""

    @abstractmethod
    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the training ``loss``, and ``weight``: of how many items it is the mean."""

    @abstractmethod
    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """Measure held-out cells: sums, to be added over batches."""

    @abstractmethod
    def figures(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Turn added sums into figures, of which ``loss`` is one."""

    @abstractmethod
    def told(self, sums: Mapping[str, Tensor]) -> dict[str, Any]:
        """Turn added sums into what an evaluation tells: figures by task, and those of baselines."""

    def score(self, figures: Mapping[str, float]) -> float:
        """Return the score by which the best epoch is chosen."""
        return -figures["loss"]

    def optimisers(self, lr: float, weight_decay: float) -> list[optim.Optimizer]:
        """Return the optimisers of all parameters."""
        return [optim.Adam(self.parameters(), lr=lr, weight_decay=weight_decay, fused=True)]

    def lr_factor(self, epoch: float) -> float:
        """Return the share of the learning rate that a step takes; ``epoch`` counts parts of epochs."""
        return 1.0

    def refresh(self) -> None:
        """Bring up to date what training keeps for later, before the model is measured or saved."""

    @property
    @abstractmethod
    def chromosomes(self) -> tuple[str, ...]:
        """Names of the chromosomes by which it knows places."""

    def place(self, peaks: Sequence[pd.DataFrame], chromosomes: Sequence[str]) -> None:
        """Find the peaks of data sets among what the model reads; see `AnnotatorModel.place`."""
