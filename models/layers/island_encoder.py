"""AllIslands: the published encoder of annATAC, in which every island of the genome is a token."""

from __future__ import annotations

from typing import Final, Protocol

import torch
from torch import Tensor, nn

from .linformer import LinformerBlock, first_projection
from .profiles import Profiles

MASK: Final = 6  # the value of an island whose value is hidden
N_VALUES: Final = 7


class Places(Protocol):
    """What an encoder takes from training cells."""

    @property
    def positions(self) -> Tensor:
        """(islands, width) vectors of islands."""

    @property
    def openness(self) -> Tensor:
        """(islands,) share of cells in which each is open."""


class AllIslands(nn.Module):
    """A value embedding plus frozen position vectors, then Linformer blocks.

    Closed islands are tokens too, and one more token of value 0 and no position comes last.

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
        (islands + 1, width), frozen.
    projection
        (islands + 1, slots), shared by keys and values, heads and layers.
    """

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
        self.values = nn.Embedding(N_VALUES, width)
        self.positions: Tensor
        self.register_buffer("positions", torch.zeros(n_islands + 1, width))
        self.projection = nn.Parameter(torch.empty(n_islands + 1, slots).uniform_(-1, 1) * slots**-0.5)
        blocks = [LinformerBlock(width, heads, head_width, hidden, dropout=dropout) for _ in range(layers)]
        self.blocks = nn.ModuleList(blocks)

    def settle(self, places: Places) -> None:
        """Take the vectors of islands."""
        self.positions[:-1] = places.positions

    def forward(self, islands: Profiles) -> Tensor:
        """Encode cells, (cells, islands + 1, width); ``islands`` are those whose value is not 0."""
        return self._encode(islands, None)

    def at(self, islands: Profiles, some: Tensor) -> Tensor:
        """Encode some (nodes,) of the islands given, (some, width), as `forward` does, at three quarters of the cost."""
        cell = islands.cell[some]
        sizes = torch.bincount(cell, minlength=len(islands))
        place = torch.arange(len(cell), device=cell.device) - (sizes.cumsum(0) - sizes)[cell]
        wanted = islands.ids.new_zeros(len(islands), int(sizes.max()))
        wanted[cell, place] = islands.ids[some]
        return self._encode(islands, wanted)[cell, place]

    def _encode(self, islands: Profiles, wanted: Tensor | None) -> Tensor:
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
            only = wanted if block is self.blocks[-1] else None
            x, projected = block(x, self.projection, projected=projected, wanted=only), None
        return x
