"""What both modes and both stages of scMoAnno share: components of two modalities, and how stage 2 begins with stage 1."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Batch

from ..graphs.dataset import MultiomeGraphs
from ..graphs.schema import ATAC, RNA
from .annotation.calibration import Calibration
from .annotation.model import AnnotatorModel, vocabulary
from .annotation.paired_components import Pair, PairedComponents

Int64 = NDArray[np.int64]


class PairAnnotator(AnnotatorModel):
    """An annotator that reads components of RNA and ATAC, of which one may be missing.

    Parameters
    ----------
    components
        Fitted or empty.
    n_types
        Number of types.
    config
        Settings of the mode.
    """

    kind: ClassVar[str] = "scmoanno"
    either = True
    modalities = (RNA, ATAC)
    config: Any

    def __init__(self, components: PairedComponents, n_types: int, config: Any) -> None:
        super().__init__()
        self.config, self.components = config, components
        self.n_types = n_types
        self.make_parts(components.width)
        self.calibration = Calibration(n_types, self.embedding_width)
        alone = self.modalities if self.stage == "train" else ()
        self.alone = nn.ModuleDict({name: Calibration(n_types, self.embedding_width) for name in alone})

    def calibrations(self) -> dict[tuple[str, ...], Calibration]:
        """Return those of both modalities, and of either alone."""
        alone: Any = self.alone
        return {self.modalities: self.calibration, **{(name,): alone[name] for name in alone}}

    @property
    @abstractmethod
    def embedding_width(self) -> int:
        """Width of the embedding."""

    @abstractmethod
    def make_parts(self, width: int) -> None:
        """Make what is trained, for components of a width."""

    @classmethod
    @abstractmethod
    def fit_components(cls, graphs: MultiomeGraphs, config: Any, seed: int) -> PairedComponents:
        """Fit components on training cells."""

    def adopt(self, graphs: MultiomeGraphs, codes: Int64) -> None:
        """Fit what else is fitted on labelled training cells, of types ``codes``."""

    @classmethod
    def from_graphs(cls, graphs: MultiomeGraphs, config: Any, *, seed: int = 0) -> Self:
        """Fit components on labelled training cells, and make an untrained model."""
        graphs.require(cls.modalities, f"training {cls.kind}")
        return cls._made(cls.fit_components(graphs, config, seed), graphs, config, seed)

    @classmethod
    def from_first(cls, first: PairAnnotator, graphs: MultiomeGraphs, config: Any, *, seed: int = 0) -> Self:
        """Make an untrained second stage that reads what the first stage learnt."""
        model = cls._made(deepcopy(first.components).train(), graphs, config, seed)
        model.take_up(first)
        return model

    def take_up(self, first: nn.Module) -> None:
        """Take the trained parts of the first stage."""

    @classmethod
    def _made(cls, components: PairedComponents, graphs: MultiomeGraphs, config: Any, seed: int) -> Self:
        types, codes = vocabulary(graphs)
        config = config.settled(len(codes))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(components, len(types), config)
        model.cell_types = types
        model.notes = _notes(components, config.width)
        model.adopt(graphs, codes)
        return model

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: Any, n_chrom: int) -> Self:
        """Make a model of the shapes that saved weights have."""
        del n_chrom
        own = {name.removeprefix("components."): value for name, value in tensors.items()}
        return cls(PairedComponents.shaped(own, config.peaks), len(tensors["calibration.centroids"]), config)

    def pair(self, batch: Batch) -> Pair:
        """Return the components of cells."""
        found: Pair = self.components(batch)
        return found


def _notes(components: PairedComponents, asked: int) -> list[str]:
    """Say where there are fewer components than asked for."""
    found = zip(("RNA", "ATAC"), components.ranks, strict=True)
    return [
        f"{n:,} components of {name}, of {asked:,} asked for: as many as training cells, their features and attention"
        " heads allow"
        for name, n in found
        if n < asked
    ]
