"""How many open peaks of a cell score above a threshold for each gene, in tiles, with a recomputed backward."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_TILE = 1024  # peaks and genes a tile: the scores stay in the processor's cache


def link_counts(
    query: Tensor, key: Tensor, ptr: Tensor, *, threshold: float = 0.8, enough: float = math.inf
) -> Tensor:
    """Count, for each cell and gene, the open peaks with σ(q·k) > threshold.

    The gradient is straight-through: that of Σ σ(q·k) over the cell's peaks.

    Parameters
    ----------
    query
        (genes, d).
    key
        (peaks, d), open peaks of all cells side by side.
    ptr
        (cells + 1,) pointers into the peaks.
    threshold
        Smallest sigmoid that counts, in (0, 1).
    enough
        A gene that has more than this in all cells at hand is not counted further: its counts are
        then lower bounds above ``enough``. Gradients do not change.

    Returns
    -------
    (cells, genes) counts, of the type of ``query``.

    Notes
    -----
    Memory is (cells, genes) and a tile, whatever the number of peaks. The backward recomputes the
    scores, for the genes alone whose gradient is not zero.
    """
    return _LinkCounts.apply(query, key, ptr, threshold, enough)  # type: ignore[no-any-return, no-untyped-call]


class _LinkCounts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, ptr: Tensor, threshold: float, enough: float) -> Tensor:
        ctx.save_for_backward(query, key, ptr)
        limit = math.log(threshold / (1 - threshold))
        cell = torch.repeat_interleave(ptr.diff())
        counts = query.new_zeros(len(ptr) - 1, len(query))
        for begin in range(0, len(key), _TILE):
            peaks = slice(begin, begin + _TILE)
            first, last = int(cell[begin]), int(cell[peaks][-1])
            here = counts[first : last + 1]
            for genes in (here <= enough).any(0).nonzero().squeeze(1).split(_TILE):
                passed = key[peaks] @ query[genes].T > limit
                here[:, genes] += _by_cell(passed, cell[peaks] - first, len(here))
        return counts

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, ptr = ctx.saved_tensors
        cell = torch.repeat_interleave(ptr.diff())
        active = (grad != 0).any(0).nonzero().squeeze(1)
        q, g = query[active], grad[:, active].contiguous()
        d_q, d_key = torch.zeros_like(q), torch.zeros_like(key)
        for peaks, genes in _tiles(len(key), len(q)):
            slope = torch.sigmoid_(key[peaks] @ q[genes].T)
            slope.addcmul_(slope, slope, value=-1).mul_(_of_cell(g[:, genes], cell[peaks]))
            d_q[genes].addmm_(slope.T, key[peaks])
            d_key[peaks].addmm_(slope, q[genes])
        return torch.zeros_like(query).index_copy_(0, active, d_q), d_key, None, None, None


def _tiles(n_peaks: int, n_genes: int) -> Iterator[tuple[slice, slice]]:
    for gene in range(0, n_genes, _TILE):
        for peak in range(0, n_peaks, _TILE):
            yield slice(peak, peak + _TILE), slice(gene, gene + _TILE)


def _by_cell(passed: Tensor, cell: Tensor, n_cells: int) -> Tensor:
    """Count the rows (peaks) of a tile for each of its cells, (cells, genes)."""
    if n_cells == 1:
        return passed.sum(0, keepdim=True)  # adds bytes: far faster than a product of floats
    member = torch.arange(n_cells, device=cell.device)[:, None] == cell  # (cells, peaks)
    return member.float() @ passed.float()


def _of_cell(grad: Tensor, cell: Tensor) -> Tensor:
    """Gradients (cells, genes) for each peak of a tile; one row serves a tile within one cell."""
    return grad[cell[0]] if int(cell[0]) == int(cell[-1]) else grad[cell]
