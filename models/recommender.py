"""The face that both modes of CrossRec show to training, evaluation and checkpoints, and the list of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Protocol, Self

from torch import Tensor, optim
from torch_geometric.data import Batch

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from .crossrec import CrossRec, CrossRecConfig
from .crossrec_cis import CisConfig, CisCrossRec

Mode = Literal["default", "published"]
Config = CrossRecConfig | CisConfig
AnyRecommender = CrossRec | CisCrossRec


class Recommender(Protocol):
    """A model that matches RNA to ATAC profiles and translates the second into the first."""

    mode: ClassVar[str]
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


@dataclass(frozen=True)
class Kind:
    """A mode of CrossRec: its classes, and how it is usually trained."""

    model: type[CrossRec] | type[CisCrossRec]
    config: type[CrossRecConfig] | type[CisConfig]
    batch_size: int
    lr: float
    weight_decay: float


KINDS: Final[dict[str, Kind]] = {
    "default": Kind(CisCrossRec, CisConfig, 512, 2e-3, 1e-2),
    "published": Kind(CrossRec, CrossRecConfig, 32, 5e-4, 1e-5),
}


def kind_of(mode: str) -> Kind:
    """Look a mode up.

    Raises
    ------
    InputError
        There is no such mode.
    """
    if mode not in KINDS:
        raise InputError(f"--mode {mode}: choose {' or '.join(KINDS)}.")
    return KINDS[mode]


def make_model(graphs: MultiomeGraphs, config: Config, *, seed: int) -> AnyRecommender:
    """Make the untrained model of a configuration."""
    kind = next(kind for kind in KINDS.values() if isinstance(config, kind.config))
    return kind.model.from_graphs(graphs, config, seed=seed)  # type: ignore[arg-type]
