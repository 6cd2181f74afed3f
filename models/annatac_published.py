"""annATAC as published: every island is a token of a Linformer encoder, and a convolution reads them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.schema import ATAC
from .annatac_config import IslandConfig, check_same_encoder
from .annatac_pretraining import MaskedIslands, told_rank
from .annotation.calibration import Calibration
from .annotation.island_positions import island_positions
from .annotation.islands import Islands, check_covered
from .annotation.model import AnnotatorModel, Reading, vocabulary
from .annotation.pretraining import PretrainingModel
from .annotation.schedules import warm_restarts
from .layers.island_encoder import AllIslands, IslandEncoder
from .layers.island_heads import HEADS, ConvolutionHead


@dataclass(frozen=True)
class AnnAtacConfig(IslandConfig):
    """What can be chosen of annATAC, in addition to its encoder.

    Attributes
    ----------
    head
        Hidden layers of the head, 2 or 3.
    head_dropout
        After them.
    cycle
        Epochs of the first cycle of the learning rate, which restarts in cycles twice as long; 0: constant.
    novel_below
        Confidence below which a cell is said to be of a novel type.
    """

    head: int = 2
    head_dropout: float = 0.1
    cycle: int = 10
    novel_below: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        for good, problem in (
            (self.head in HEADS, f"head={self.head}: choose {' or '.join(map(str, HEADS))}"),
            (
                0 <= self.head_dropout < 1,
                f"head_dropout={self.head_dropout}: choose a number from 0 to below 1",
            ),
            (self.cycle >= 0, f"cycle={self.cycle}: must not be negative"),
            (0 <= self.novel_below <= 1, f"novel_below={self.novel_below}: choose a number from 0 to 1"),
        ):
            if not good:
                raise InputError(f"--set {problem}.")


class IslandAnnotator(AnnotatorModel):
    """What both modes of annATAC share: islands, encoder, weights of types, and how pre-training is taken up.

    Parameters
    ----------
    n_islands, n_types
        Sizes.
    config
        See `AnnAtacConfig`.

    Attributes
    ----------
    islands, encoder, head
        The parts.
    importance
        (types,) weight of each type in the loss, of mean 1 over training cells.
    """

    kind: ClassVar[str] = "annatac"
    reads_places = True
    modalities = (ATAC,)
    encoder_class: ClassVar[type[IslandEncoder]]
    config: AnnAtacConfig
    head: nn.Module

    def __init__(self, n_islands: int, n_types: int, config: AnnAtacConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config, self.seed, self.novel_below = config, seed, config.novel_below
        self.islands = Islands(n_islands, config.island)
        self.encoder = self.encoder_class(n_islands, **config.sizes(), dropout=config.dropout)
        self.head = self.make_head(n_islands, n_types)
        self.importance: Tensor
        self.register_buffer("importance", torch.ones(n_types))
        self.calibration = Calibration(n_types, HEADS[config.head][-1])

    @classmethod
    def from_graphs(cls, graphs: MultiomeGraphs, config: AnnAtacConfig, *, seed: int = 0) -> Self:
        """Find the islands of labelled training cells, place them among each other, and make an untrained model."""
        graphs.require(cls.modalities, cls.kind)
        types, codes = vocabulary(graphs)
        islands = Islands.of([graphs], config.island, tss=config.tss)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(len(islands), len(types), config, seed=seed)
        model.cell_types, model.islands = types, islands
        everyone = graphs.part("cells", "train")  # places need no labels
        positions, rank = island_positions(islands, [everyone], config.width, seed=seed)
        model.encoder.positions[: len(islands)] = positions
        model.notes = told_rank(rank, config.width)
        model.importance.copy_(model.weigh(np.bincount(codes, minlength=len(types))))
        return model

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: AnnAtacConfig, n_chrom: int) -> Self:
        """Make a model of the shapes that saved weights have."""
        del n_chrom
        return cls(len(tensors["islands.bin"]), len(tensors["importance"]), config)

    def make_head(self, n_islands: int, n_types: int) -> nn.Module:
        """Make an untrained head."""
        raise NotImplementedError

    def weigh(self, sizes: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
        """Return the weights of types with so many training cells each: (1 − n/N)², of mean 1 over the cells."""
        weight = (1 - sizes / sizes.sum()) ** 2
        return torch.from_numpy(weight / (weight * sizes).sum() * sizes.sum())

    def start_from(self, pretrained: PretrainingModel, graphs: MultiomeGraphs) -> None:
        """Take up islands and encoder; the head is made anew."""
        if not isinstance(pretrained, MaskedIslands) or pretrained.mode != self.mode:
            raise InputError(
                f"--init: a {pretrained.kind} that was pre-trained in {pretrained.mode} mode does not go on as"
                f" {self.kind} in {self.mode} mode. Pass a run of the same --model and --mode."
            )
        check_same_encoder(self.config, pretrained.config)
        self.islands = deepcopy(pretrained.islands).train()
        self.islands.place([graphs.peaks.frame], self.islands.chromosomes)
        check_covered(self.islands, graphs)
        self.encoder = deepcopy(pretrained.encoder).train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.head = self.make_head(len(self.islands), len(self.cell_types))
        self.notes = list(pretrained.notes)

    @property
    def chromosomes(self) -> tuple[str, ...]:
        """Names for the codes of the islands' chromosomes."""
        return self.islands.chromosomes

    def place(self, peaks: Sequence[pd.DataFrame], chromosomes: Sequence[str]) -> None:
        """Find the islands of peaks."""
        self.islands.place(peaks, chromosomes)

    def loss(self, batch: Batch, codes: Tensor) -> dict[str, Tensor]:
        """Return the cross-entropy of cells, weighted by type."""
        each = F.cross_entropy(self(batch).logits, codes, reduction="none")
        return {"loss": (each * self.importance[codes]).mean(), "told": each.mean()}

    def lr_factor(self, epoch: float) -> float:
        """Anneal, and restart."""
        return warm_restarts(epoch, cycle=self.config.cycle)


class PublishedMaskedIslands(MaskedIslands):
    """Pre-training as published."""

    mode = "published"
    encoder_class = AllIslands


class PublishedAnnAtac(IslandAnnotator):
    """Every island is a token."""

    mode = "published"
    encoder_class = AllIslands

    def make_head(self, n_islands: int, n_types: int) -> ConvolutionHead:
        """Make the convolution and its perceptron."""
        sizes = self.config.head, self.config.head_dropout
        return ConvolutionHead(n_islands + 1, self.config.width, n_types, depth=sizes[0], dropout=sizes[1])

    def forward(self, batch: Batch) -> Reading:
        """Read cells; the embedding is the last hidden layer."""
        return Reading(*self.head(self.encoder(self.islands(batch))))
