"""Draws of cells, decided by a seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


def drawn(cells: Int64, most: int, seed: int) -> Int64:
    """Return ``most`` of the cells, in ascending order, drawn by ``seed``; all where there are no more."""
    if len(cells) <= most:
        return cells
    return np.sort(np.random.default_rng([seed, 3]).permutation(cells)[:most])


def stratified(codes: Int64, most: int, seed: int) -> Int64:
    """Return about ``most`` cells, in ascending order: the same share of each type, at least one.

    Parameters
    ----------
    codes
        (cells,) type of each cell.
    most
        Cells to keep; all where there are no more.
    seed
        Decides which.
    """
    if len(codes) <= most:
        return np.arange(len(codes))
    order = np.random.default_rng([seed, 4]).permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    sizes = np.bincount(codes)
    rank = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    kept = np.repeat(np.ceil(sizes * most / len(codes)), sizes)
    return np.sort(order[rank < kept])
