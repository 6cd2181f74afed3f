"""Encoders of cells as islands: a token is a value, a place on the genome, and what the cell's others say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .linformer import LinformerBlock, first_projection
from .profiles import Profiles

MASK: Final = 6  # the value of an island whose value is hidden
N_VALUES: Final = 7


class IslandEncoder(nn.Module, ABC):
    """A value embedding plus frozen position vectors, then Linformer blocks.

    Parameters
    ----------
    n_islands
        Number of islands.
    width, layers, heads, head_width, hidden, slots, dropout
        Sizes; see `LinformerBlock`. ``slots`` is what tokens are projected to.

    Attributes
    ----------
    values
        (7, width) embeddings of the values 0 to 5, and of a hidden one.
    positions
        (tokens, width), frozen.
    projection
        (tokens, slots), shared by keys and values, heads and layers.
    """

    extra: int  # tokens beyond the islands

    def __init__(
        self,
        n_islands: int,
        *,
        width: int,
        layers: int,
        heads: int,
        head_width: int,
        hidden: int,
        slots: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        n_tokens = n_islands + self.extra
        self.values = nn.Embedding(N_VALUES, width)
        self.positions: Tensor
        self.register_buffer("positions", torch.zeros(n_tokens, width))
        self.projection = nn.Parameter(torch.empty(n_tokens, slots).uniform_(-1, 1) * slots**-0.5)
        blocks = [LinformerBlock(width, heads, head_width, hidden, dropout=dropout) for _ in range(layers)]
        self.blocks = nn.ModuleList(blocks)

    @abstractmethod
    def forward(self, islands: Profiles) -> Tensor:
        """Encode cells, (cells, tokens, width); ``islands`` are those whose value is not 0."""

    @abstractmethod
    def nodes(self, encoded: Tensor, islands: Profiles, some: Tensor) -> Tensor:
        """Pick the encodings of some (nodes,) of the islands given, (some, width)."""


class AllIslands(IslandEncoder):
    """Every island is a token, closed ones too, and one more of value 0 comes last, as published."""

    extra = 1

    def forward(self, islands: Profiles) -> Tensor:
        """Encode cells, (cells, islands + 1, width)."""
        values = islands.ids.new_zeros(len(islands), len(self.positions))
        values[islands.cell, islands.ids] = islands.counts.long()
        projected: Tensor | None = first_projection(
            self.projection,
            self.values.weight,
            self.positions,
            cell=islands.cell,
            island=islands.ids,
            value=islands.counts.long(),
            n_cells=len(islands),
        )
        x: Tensor = self.values(values) + self.positions
        for block in self.blocks:
            x, projected = block(x, self.projection, projected=projected), None
        return x

    def nodes(self, encoded: Tensor, islands: Profiles, some: Tensor) -> Tensor:
        """Pick by island."""
        return encoded[islands.cell[some], islands.ids[some]]


class OpenIslands(IslandEncoder):
    """Only islands that are not closed are tokens; those of a cell lie side by side, padded to the longest."""

    extra = 0

    def forward(self, islands: Profiles) -> Tensor:
        """Encode cells, (cells, most islands of a cell, width)."""
        place, ids = self._places(islands), islands.ids
        shape = len(islands), int(islands.ptr.diff().max())
        x = self.values.weight.new_zeros(*shape, self.positions.shape[1])
        x = x.index_put((islands.cell, place), self.values(islands.counts.long()) + self.positions[ids])
        projection = self.projection.new_zeros(*shape, self.projection.shape[1])
        projection = projection.index_put((islands.cell, place), F.embedding(ids, self.projection))
        for block in self.blocks:
            x = block(x, projection)
        return x

    def nodes(self, encoded: Tensor, islands: Profiles, some: Tensor) -> Tensor:
        """Pick by place among the cell's islands."""
        return encoded[islands.cell[some], self._places(islands)[some]]

    @staticmethod
    def _places(islands: Profiles) -> Tensor:
        return torch.arange(len(islands.ids), device=islands.ids.device) - islands.ptr[islands.cell]
