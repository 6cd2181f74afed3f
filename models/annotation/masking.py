"""What pre-training hides of cells, and what it asks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layers.even_masks import even_masks, random_keys
from ..layers.island_encoder import MASK
from ..layers.profiles import Profiles

_CHOICE, _SHOWN, _CLOSED = 1, 2, 3  # what a random number is for


@dataclass(frozen=True)
class Masked:
    """Cells some of whose islands are hidden.

    Attributes
    ----------
    islands
        Islands with what is left of their values; a hidden one has `MASK`.
    asked
        (nodes,) bool, whether its value is asked for.
    truth
        (asked,) values.
    """

    islands: Profiles
    asked: Tensor
    truth: Tensor


def mask(islands: Profiles, draw: Tensor, *, share: float, hidden: float) -> Masked:
    """Ask for a share of the open islands of each cell, spread evenly over values, and hide most of those.

    Parameters
    ----------
    islands
        Open islands of cells.
    draw
        (cells,) int64, which decide all that is random.
    share
        Of the open islands, to ask for.
    hidden
        Share of these whose value is replaced; the others are shown as they are.
    """
    of_node = draw[islands.cell]
    asked = even_masks(islands, share, random_keys(of_node, islands.ids, _CHOICE))
    replaced = asked & (random_keys(of_node, islands.ids, _SHOWN) < hidden)
    values = islands.counts.masked_fill(replaced, MASK)
    return Masked(Profiles(islands.ids, values, islands.ptr), asked, islands.counts[asked].long())


def mask_among_closed(islands: Profiles, draw: Tensor, openness: Tensor, *, share: float) -> Masked:
    """Hide a share of the open islands of each cell, and as many closed ones, which are so added to the cell.

    To tell them apart is to tell which islands are open with the others of the cell.

    Parameters
    ----------
    islands, draw, share
        As of `mask`.
    openness
        (islands,) how often each is open: closed ones are drawn, half of them by it and half alike, so that
        to know which islands are often open does not do.
    """
    n_islands = len(openness)
    known = mask(islands, draw, share=share, hidden=1.0)
    hidden = islands.ptr.new_zeros(len(islands)).index_add(0, islands.cell, known.asked.long())
    cell = torch.repeat_interleave(hidden)
    number = torch.arange(len(cell), device=cell.device)
    chances = draw_chances(openness).cumsum(0)
    keys = random_keys(draw[cell], number - (hidden.cumsum(0) - hidden)[cell], _CLOSED)
    ids = torch.searchsorted(chances, keys * chances[-1]).clamp_max(n_islands - 1)
    key = torch.unique(cell * n_islands + ids)
    own = islands.cell * n_islands + islands.ids
    key = key[~torch.isin(key, own)]
    keys, order = torch.cat([own, key]).sort()
    n_closed = len(key)
    values = F.pad(known.islands.counts, (0, n_closed), value=MASK)[order]
    asked = F.pad(known.asked, (0, n_closed), value=True)[order]
    truth = F.pad(islands.counts.long(), (0, n_closed))[order]
    ptr = F.pad(torch.bincount(keys // n_islands, minlength=len(islands)).cumsum(0), (1, 0))
    return Masked(Profiles(keys % n_islands, values, ptr), asked, truth[asked])


def draw_chances(openness: Tensor) -> Tensor:
    """Return the chance of each island to be drawn where a closed one is wanted, (islands,) float64."""
    wide = openness.double()
    return (wide / wide.sum().clamp_min(1e-12) + 1 / len(wide)) / 2
