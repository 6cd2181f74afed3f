"""The face that both modes of CrossRec show to training, evaluation and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor, optim
from torch_geometric.data import Batch

from ..graphs.dataset import MultiomeGraphs
from .crossrec import CrossRec
from .crossrec_cis import CisCrossRec

AnyRecommender = CrossRec | CisCrossRec


class Recommender(Protocol):
    """A model that matches RNA to ATAC profiles and translates the second into the first."""

    kind: ClassVar[str]
    mode: ClassVar[str]
    reads_places: ClassVar[bool]
    at_once: ClassVar[int]
    modalities: tuple[str, ...]
    config: Any

    @classmethod
    def from_graphs(cls, graphs: MultiomeGraphs, config: Any, *, seed: int = 0) -> Self:
        """Make an untrained model for the genes and peaks of a dataset."""
        ...

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: Any, n_chrom: int) -> Self:
        """Make a model of the shapes that saved weights have."""
        ...

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the training ``loss`` of a batch of pairs and its parts."""
        ...

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Return measures of a batch, to be averaged over batches."""
        ...

    def score(self, measures: Mapping[str, float]) -> float:
        """Return the score by which the best epoch is chosen, from averaged measures."""
        ...

    def optimisers(self, lr: float, weight_decay: float) -> list[optim.Optimizer]:
        """Return the optimisers of all parameters."""
        ...

    def lr_factor(self, step: int) -> float:
        """Return the share of the learning rate that a step takes."""
        ...

    def refresh(self) -> None:
        """Bring up to date what training keeps for later, before the model is measured or saved."""
        ...

    def match(self, batch: Batch) -> Tensor:
        """Return the log odds that each graph's profiles are of one cell, (graphs,)."""
        ...
