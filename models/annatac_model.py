"""What both modes of annATAC share: islands, weights of types, and how pre-training is taken up."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.schema import ATAC
from .annatac_config import check_same_encoder
from .annatac_pretraining import MaskedIslands, told_rank
from .annotation.calibration import Calibration
from .annotation.island_places import island_places
from .annotation.islands import Islands, check_covered
from .annotation.model import AnnotatorModel, vocabulary
from .annotation.pretraining import PretrainingModel
from .annotation.schedules import warm_restarts

Floats = NDArray[np.float64]


class IslandAnnotator(AnnotatorModel):
    """An annotator that reads cells as islands.

    Parameters
    ----------
    n_islands, n_types
        Sizes.
    config
        Settings of the mode.

    Attributes
    ----------
    islands, encoder, head
        The parts.
    importance
        (types,) weight of each type in the loss, of mean 1 over training cells.
    """

    kind: ClassVar[str] = "annatac"
    reads_places = True
    at_once = 64
    modalities = (ATAC,)
    config: Any
    encoder: nn.Module
    head: nn.Module

    def __init__(self, n_islands: int, n_types: int, config: Any) -> None:
        super().__init__()
        self.config, self.novel_below = config, config.novel_below
        self.islands = Islands(n_islands, config.island)
        self.encoder, self.head = self.make_encoder(n_islands), self.make_head(n_islands, n_types)
        self.importance: Tensor
        self.register_buffer("importance", torch.ones(n_types))
        self.calibration = Calibration(n_types, self.embedding_width)

    @property
    @abstractmethod
    def embedding_width(self) -> int:
        """Width of the embedding."""

    @abstractmethod
    def make_encoder(self, n_islands: int) -> nn.Module:
        """Make an untrained encoder."""

    @abstractmethod
    def make_head(self, n_islands: int, n_types: int) -> nn.Module:
        """Make an untrained head."""

    @abstractmethod
    def weigh(self, share: Floats) -> Floats:
        """Return how types weigh in the loss, up to a factor, that are these shares of the training cells."""

    def adopt(self, graphs: MultiomeGraphs) -> None:
        """Fit what is fitted on labelled training cells and not trained."""

    @classmethod
    def from_graphs(cls, graphs: MultiomeGraphs, config: Any, *, seed: int = 0) -> Self:
        """Find the islands of training cells, place them among each other, and make an untrained model.

        Labels are of ``graphs`` alone; places are of all training cells of its data set.
        """
        islands = Islands.of([graphs], config.island, tss=config.tss)
        model = cls._made(islands, graphs, config, seed)
        places = island_places(islands, [graphs.part("cells", "train")], config.width, seed=seed)
        model.encoder.settle(places)  # type: ignore[operator]  # encoders of islands have it
        model.notes = told_rank(places.rank, config.width)
        return model

    @classmethod
    def from_pretrained(
        cls, pretrained: PretrainingModel, graphs: MultiomeGraphs, config: Any, *, seed: int = 0
    ) -> Self:
        """Take up islands and encoder, and make the head anew."""
        if not isinstance(pretrained, MaskedIslands) or pretrained.mode != cls.mode:
            raise InputError(
                f"--init: {pretrained.kind}, pre-trained in {pretrained.mode} mode, does not go on as {cls.kind} in"
                f" {cls.mode} mode. Pass a run of the same --model and --mode."
            )
        check_same_encoder(config, pretrained.config)
        islands = deepcopy(pretrained.islands).train()
        islands.place([graphs.peaks.frame], islands.chromosomes)
        told = check_covered(islands, graphs, every=not config.tss)
        model = cls._made(islands, graphs, config, seed)
        model.encoder.load_state_dict(pretrained.encoder.state_dict())
        model.notes = [*pretrained.notes, told]
        return model

    @classmethod
    def _made(cls, islands: Islands, graphs: MultiomeGraphs, config: Any, seed: int) -> Self:
        """Make an untrained model for the labels of training cells."""
        graphs.require(cls.modalities, cls.kind)
        types, codes = vocabulary(graphs)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(len(islands), len(types), config)
        model.cell_types, model.islands = types, islands
        weight = model.weigh(np.bincount(codes, minlength=len(types)) / len(codes))
        model.importance.copy_(torch.from_numpy(weight / weight[codes].mean()))
        model.adopt(graphs)
        return model

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: Any, n_chrom: int) -> Self:
        """Make a model of the shapes that saved weights have."""
        del n_chrom
        return cls(len(tensors["islands.bin"]), len(tensors["importance"]), config)

    @property
    def chromosomes(self) -> tuple[str, ...]:
        """Names for the codes of the islands' chromosomes."""
        return self.islands.chromosomes

    def place(self, peaks: Sequence[pd.DataFrame], chromosomes: Sequence[str]) -> None:
        """Find the islands of peaks."""
        self.islands.place(peaks, chromosomes)

    def lr_factor(self, epoch: float) -> float:
        """Anneal, and restart."""
        return warm_restarts(epoch, cycle=self.config.cycle)
