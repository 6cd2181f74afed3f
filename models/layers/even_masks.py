"""Masks for pre-training: a fixed share of each cell's islands, spread evenly over their values."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from .profiles import Profiles

_LEVELS: Final = 6  # values 0 to 5
_MIX = (-4658895280553007687, -7723592293110705685)  # multipliers of splitmix64, as signed numbers
_GOLDEN = -7046029254386353131
_BITS: Final = 53


def even_masks(islands: Profiles, share: float, keys: Tensor) -> Tensor:
    """Choose ``share`` of the open islands of each cell, as equally many of each value as there are.

    A cell of n open islands gets round(share · n), at least one where n > 0. Values that have fewer islands
    than their part give all, and the others share what is left, the commonest taking what does not divide.

    Parameters
    ----------
    islands
        Open islands with values from 1 to 5.
    share
        From 0 to 1.
    keys
        (nodes,) random numbers: within cell and value, the smallest are chosen.

    Returns
    -------
    (nodes,) bool.
    """
    group = islands.cell * _LEVELS + islands.counts.long()
    counts = torch.bincount(group, minlength=len(islands) * _LEVELS)
    quota = _even_quotas(counts.view(-1, _LEVELS), share).flatten()
    order = torch.argsort(keys, stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    first = counts.cumsum(0) - counts
    rank = torch.arange(len(order), device=keys.device) - first[group[order]]
    chosen = torch.zeros_like(order, dtype=torch.bool)
    chosen[order] = rank < quota[group[order]]
    return chosen


def _even_quotas(counts: Tensor, share: float) -> Tensor:
    """Share out a budget among values, (cells, values), none getting more than there are."""
    total = counts.sum(1)
    left = torch.maximum((share * total).round().long(), (total > 0).long())
    ordered, order = counts.sort(dim=1, stable=True)
    quota = torch.zeros_like(counts)
    for place in range(counts.shape[1]):  # the rarest value first
        part = torch.minimum(ordered[:, place], left // (counts.shape[1] - place))
        quota.scatter_(1, order[:, place : place + 1], part[:, None])
        left = left - part
    return quota


def random_keys(*numbers: Tensor | int) -> Tensor:
    """Return random numbers in [0, 1), float64, that depend on integers alone.

    A cell's draw is so the same in any batch, in any process, and in an epoch that is repeated. The
    integers are mixed one after the other (splitmix64, Steele et al., OOPSLA 2014).

    Parameters
    ----------
    *numbers
        Integers, or int64 tensors of shapes that broadcast.
    """
    state = torch.zeros((), dtype=torch.int64)
    for number in numbers:
        state = _mixed((state.to(number.device) if isinstance(number, Tensor) else state) * 31 + number)
    return _shifted(state, 64 - _BITS).double() * 2.0**-_BITS


def _mixed(state: Tensor) -> Tensor:
    state = state + _GOLDEN
    state = (state ^ _shifted(state, 30)) * _MIX[0]
    state = (state ^ _shifted(state, 27)) * _MIX[1]
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, by: int) -> Tensor:
    """Shift to the right with zeros, which torch does not for signed numbers."""
    return (state >> by) & ((1 << (64 - by)) - 1)
