"""annATAC as published: every island is a token of a Linformer encoder, and a convolution reads them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Batch

from ..graphs.errors import InputError
from .annatac_config import IslandConfig
from .annatac_model import IslandAnnotator
from .annatac_pretraining import MaskedIslands
from .annotation.islands import MOST
from .annotation.masking import Masked, mask
from .annotation.model import NOVEL_BELOW, Reading
from .layers.island_encoder import AllIslands
from .layers.island_heads import HEADS, ConvolutionHead
from .layers.profiles import Profiles

Floats = NDArray[np.float64]

_HIDDEN: Final = 0.9  # of the islands asked for; the others are shown


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
    novel_below: float = NOVEL_BELOW

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


class PublishedMaskedIslands(MaskedIslands):
    """Pre-training as published: a linear map of the token tells its value."""

    mode = "published"
    at_once = 16  # every island is a token
    config: IslandConfig
    encoder: AllIslands

    def __init__(self, n_islands: int, config: IslandConfig) -> None:
        super().__init__(n_islands, config)
        self.classifier = nn.Linear(config.width, MOST + 1)

    def make_encoder(self, n_islands: int) -> AllIslands:
        """Make the transformer."""
        return AllIslands(n_islands, **self.config.sizes(), dropout=self.config.dropout)

    def hide(self, islands: Profiles, draw: Tensor) -> Masked:
        """Hide nine tenths of the islands asked for, and show the others; of held-out cells hide all."""
        return mask(islands, draw, share=self.config.mask, hidden=1.0 if self.held_out else _HIDDEN)

    def tell(self, masked: Masked) -> Tensor:
        """Return the logits of the values asked for."""
        told: Tensor = self.classifier(self.encoder.at(masked.islands, masked.asked))
        return told


class PublishedAnnAtac(IslandAnnotator):
    """Every island is a token, and the head reads them all."""

    mode = "published"
    at_once = 16  # every island is a token
    config: AnnAtacConfig

    @property
    def embedding_width(self) -> int:
        """Width of the last hidden layer."""
        return HEADS[self.config.head][-1]

    def make_encoder(self, n_islands: int) -> AllIslands:
        """Make the transformer."""
        return AllIslands(n_islands, **self.config.sizes(), dropout=self.config.dropout)

    def make_head(self, n_islands: int, n_types: int) -> ConvolutionHead:
        """Make the convolution and its perceptron."""
        sizes = self.config.head, self.config.head_dropout
        return ConvolutionHead(n_islands + 1, self.config.width, n_types, depth=sizes[0], dropout=sizes[1])

    def weigh(self, share: Floats) -> Floats:
        """Return (1 − share)²."""
        return (1 - share) ** 2

    def forward(self, batch: Batch) -> Reading:
        """Read cells; the embedding is the last hidden layer."""
        return Reading(*self.head(self.encoder(self.islands(batch))))

    def loss(self, batch: Batch, codes: Tensor) -> dict[str, Tensor]:
        """Return the cross-entropy of cells, weighted by type."""
        each = F.cross_entropy(self(batch).logits, codes, reduction="none")
        return {"loss": (each * self.importance[codes]).mean(), "told": each.mean()}
