"""OpenIslands: the corrected encoder of annATAC, to which a cell is its open islands and nothing else."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .island_encoder import MASK, N_VALUES, Places
from .linformer import LinformerBlock
from .profiles import Profiles

_FAR: Final = 5.0  # largest number of a position: of islands that few cells have, some are extreme
_NEVER: Final = -1e9


class OpenIslands(nn.Module):
    """Tokens of open islands, Linformer blocks over them, and a summary of the cell.

    A token is a linear map of the island's position plus the embedding of its value. In a block, slots are sums
    of the cell's tokens, Σ e(island)·weight·x, with e a linear map of the position. The summary reads the tokens
    by learned softmax weights (``pools``), and by sums of weight·relu(score)·x (``channels``). An
    island's weight is ln(1 + 1 / its openness), of unit length a cell, so that all is alike at any depth. What is
    hidden from pre-training, and what no training cell has, has no weight.

    Parameters
    ----------
    n_islands
        Number of islands.
    width, layers, heads, head_width, hidden, slots, dropout
        Sizes; see `LinformerBlock`. Blocks begin with adding nothing; there may be none.
    pools, channels
        Ways in which the summary reads tokens.
    summary
        Width of the summary.
    summary_dropout
        Before its linear map.

    Attributes
    ----------
    positions
        (islands, width), trained in pre-training alone.
    rarity
        (islands,) ln(1 + 1 / openness).

    Shapes
    ------
    A step costs O(open islands of all cells).
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
        pools: int,
        channels: int,
        summary: int,
        dropout: float = 0.0,
        summary_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(n_islands, width), requires_grad=False)
        self.rarity: Tensor
        self.register_buffer("rarity", torch.ones(n_islands))
        self.values = nn.Embedding(N_VALUES, width)
        nn.init.normal_(self.values.weight, std=0.1)
        self.entry = nn.Linear(width, width)
        self.slot = nn.Linear(width, slots, bias=False) if layers else None
        blocks = [LinformerBlock(width, heads, head_width, hidden, dropout=dropout) for _ in range(layers)]
        for block in blocks:
            for last in (block.out, block.second):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.pool, self.channel = nn.Linear(width, pools), nn.Linear(width, channels)
        nn.init.ones_(self.channel.bias)
        self.drop = nn.Dropout(summary_dropout)
        self.summary_norm = nn.LayerNorm((pools + channels) * width)
        self.summary = nn.Linear((pools + channels) * width, summary)

    def settle(self, places: Places) -> None:
        """Take the vectors of islands, and how often they are open."""
        self.positions.data.copy_(places.positions.clamp(-_FAR, _FAR))
        seen = places.openness > 0
        self.rarity.copy_(torch.log1p(1 / places.openness.where(seen, 1.0)) * seen)

    def forward(self, islands: Profiles) -> Tensor:
        """Return the summary of cells, (cells, summary)."""
        return self.encode(islands)[0]

    def encode(self, islands: Profiles, *, asked: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the summary of cells, and the tokens of the nodes asked for, (asked, width).

        Parameters
        ----------
        islands
            Open islands of cells, hidden ones among them.
        asked
            (nodes,) bool.
        """
        cells, summaries, nodes, tokens = [], [], [], []
        for group in _of_like_size(islands):
            x, shown, weight = self._tokens(group)
            cells.append(group.cells)
            summaries.append(self._summary(x, shown, weight))
            if asked is not None and len(asked):
                wanted = asked[group.node] & group.there
                nodes.append(group.node[wanted])
                tokens.append(x[wanted])
        summary = torch.cat(summaries)[torch.cat(cells).argsort()]
        if not tokens:
            return summary, summary.new_zeros(0, len(self.norm.weight))
        return summary, torch.cat(tokens)[torch.cat(nodes).argsort()]

    def _tokens(self, group: _Group) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens (cells, islands, width), which of them are shown, and their weights (cells, islands)."""
        position = F.embedding(group.ids, self.positions)
        x = self.entry(position) + self.values(group.values)
        shown = group.there & (group.values != MASK)
        weight = self.rarity[group.ids] * shown
        weight = weight / weight.square().sum(1, keepdim=True).sqrt().clamp_min(1e-6)
        if self.slot is not None:
            projection = self.slot(position) * weight[..., None]
            for block in self.blocks:
                x = block(x, projection)
        return self.norm(x), shown, weight

    def _summary(self, x: Tensor, shown: Tensor, weight: Tensor) -> Tensor:
        share = self.pool(x).masked_fill(~shown[..., None], _NEVER).softmax(1) * shown[..., None]
        amount = self.channel(x).relu() * weight[..., None]
        read = torch.cat([share, amount.to(share.dtype)], 2).mT @ x.to(share.dtype)
        found: Tensor = self.summary(self.drop(self.summary_norm(read.flatten(1))))
        return found


class _Group(NamedTuple):
    """Cells of like size side by side, padded to the largest.

    ``cells`` (cells,); the others (cells, islands): number of the node, island and value, and whether it is
    there. Padding repeats the first node.
    """

    cells: Tensor
    node: Tensor
    ids: Tensor
    values: Tensor
    there: Tensor


def _of_like_size(islands: Profiles) -> list[_Group]:
    """Group cells, the largest of a group being at most twice the smallest, so that padding is less than half."""
    sizes = islands.ptr.diff()
    level = sizes.clamp_min(1).double().log2().floor()
    groups = []
    for one in level.unique():
        cells = (level == one).nonzero().squeeze(1)
        place = torch.arange(int(sizes[cells].max().clamp_min(1)), device=sizes.device)
        there = place < sizes[cells, None]
        node = (islands.ptr[cells, None] + place).where(there, 0)
        ids, values = islands.ids, islands.counts.long()
        if not len(ids):  # cells without any open island
            ids, values = ids.new_zeros(1), ids.new_zeros(1)
        groups.append(_Group(cells, node, ids[node], values[node], there))
    return groups
