"""A post-norm Linformer block, exact, at half the published layer's work and less than half its memory.

Tokens ask a few slots instead of each other: a slot is a sum of all tokens, weighted by a projection E that
keys, values, heads and layers share. As softmax(q·Kᵀ)·V has K = Eᵀ(x·W_k) = (Eᵀx)·W_k, the tokens are
projected once, and queries and keys, values and output fold into one small matrix each per cell:
A = W_q·Kᵀ/√(head width) and B = V·W_o. What is left is per token, and is done a tile of tokens at a time.

Source: Linformer (Wang et al. 2020) as annATAC uses it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ...graphs.errors import InputError

_TILE, _GPU_TILE = 2048, 1 << 16  # tokens worked through at a time: on a CPU, as many as its cache holds


class LinformerBlock(nn.Module):
    """y = LN(x + drop(attention(x))), then LN(y + drop(W₂·GELU(W₁·y))).

    Parameters
    ----------
    width
        Width d of the tokens.
    heads, head_width
        Attention heads and the width of each; their product need not be d.
    hidden
        Width of the feed-forward layer.
    dropout
        Share of dropped entries behind attention and behind the feed-forward layer.
    """

    def __init__(self, width: int, heads: int, head_width: int, hidden: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, inner = heads, heads * head_width
        self.query, self.key, self.value = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.out = nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.last_norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        projection: Tensor,
        *,
        projected: Tensor | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Return all tokens, (cells, tokens, d), or those wanted.

        Parameters
        ----------
        x
            (cells, tokens, d).
        projection
            E, (tokens, slots) for all cells or (cells, tokens, slots) for cells with tokens of their own.
            Rows of padding must be zero, their gradients dropped, and padded tokens finite: then padding
            changes nothing for the tokens of a cell.
        projected
            Eᵀx, (cells, slots, d), where it is known; see `first_projection`.
        wanted
            (cells, some), the tokens to return: the last block of a stack need not give what is not read.

        Raises
        ------
        InputError
            Where shapes do not fit each other.
        """
        _check(x, projection, projected, self.query.in_features)
        if projected is None:
            projected = projection.mT.expand(len(x), -1, -1) @ x
        if wanted is not None:
            x = x.gather(1, wanted[..., None].expand(-1, -1, x.shape[2]))
        # A tile's gradients are added up in the type of x, whatever its products are in.
        several, sizes = _tiles(len(x), x.shape[1], _GPU_TILE if x.is_cuda else _TILE)
        asks, gives = (part.to(x.dtype).split(several) for part in self.fold(projected))
        parts = x.flatten(0, 1).split([cells * tokens for _, cells, tokens in sizes])
        found = [
            self.tile(part.view(cells, tokens, -1), asks[which], gives[which]).flatten(0, 1)
            for part, (which, cells, tokens) in zip(parts, sizes, strict=True)
        ]
        return torch.cat(found).view(x.shape) if found else x

    def tile(self, x: Tensor, ask: Tensor, give: Tensor) -> Tensor:
        """Do what the block does to some tokens; ``x`` is (cells, tokens, d), the rest as `fold` gives it."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        scores = x.to(dtype) @ ask.to(dtype)
        attention = scores.unflatten(2, (self.heads, -1)).softmax(3).flatten(2).to(dtype)
        y = self.norm(x + self.drop(attention @ give.to(dtype) + self.out.bias))
        linear = (part for layer in (self.first, self.second) for part in (layer.weight, layer.bias))
        added = _FeedForward.apply(y.to(dtype), *linear)  # type: ignore[no-untyped-call]
        done: Tensor = self.last_norm(y + self.drop(added))
        return done

    def fold(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """Fold the maps on both sides of the scores, and of the values, into one each.

        Parameters
        ----------
        projected
            Eᵀx, (cells, slots, d).

        Returns
        -------
        ask : (cells, d, heads · slots) from a token to its scores
        give : (cells, heads · slots, d) from attention to what it adds to the token
        """
        keys, values = (
            layer(projected).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.key, self.value)
        )  # (cells, heads, slots, head width)
        query = self.query.weight.unflatten(0, (self.heads, -1)) / math.sqrt(keys.shape[-1])
        out = self.out.weight.unflatten(1, (self.heads, -1)).permute(1, 2, 0)  # (heads, head width, d)
        return (keys @ query).flatten(1, 2).mT, (values @ out).flatten(1, 2)


def first_projection(
    projection: Tensor,
    states: Tensor,
    positions: Tensor,
    *,
    cell: Tensor,
    island: Tensor,
    value: Tensor,
    n_cells: int,
) -> Tensor:
    """Project the embedded islands of cells, Eᵀ(positions + states[values]), at the cost of the open ones.

    Parameters
    ----------
    projection
        E, (islands, slots).
    states
        (values, d) embedding of each value an island can have; 0 is closed.
    positions
        (islands, d) embedding of each island.
    cell, island, value
        (nodes,) islands whose value is not 0, in any order.
    n_cells
        Number of cells.

    Returns
    -------
    (cells, slots, d), differentiable in projection, states and positions.
    """
    n_values = len(states)
    closed = projection.mT @ (positions + states[0])
    sums = projection.new_zeros(n_cells * n_values, projection.shape[1])
    sums = sums.index_add(0, cell * n_values + value, projection.index_select(0, island))
    return closed + sums.view(n_cells, n_values, -1).mT @ (states - states[0])


def _tiles(cells: int, tokens: int, size: int) -> tuple[int, list[tuple[int, int, int]]]:
    """Cut cells into tiles of some tokens of one cell, or of all tokens of several.

    Returns
    -------
    several : cells at a time
    tiles : which cells (in units of several), how many, and how many tokens of each
    """
    several = max(size // max(tokens, 1), 1)
    return several, [
        (first // several, min(several, cells - first), min(size, tokens - begin))
        for first in range(0, cells, several)
        for begin in range(0, tokens, size)
    ]


class _FeedForward(torch.autograd.Function):
    """W₂·GELU(W₁·y) in the type of y; keeps what comes before GELU alone, and works GELU out again."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, first: Tensor, first_bias: Tensor, second: Tensor, second_bias: Tensor
    ) -> Tensor:
        hidden = F.linear(y, first.to(y.dtype), first_bias.to(y.dtype))
        ctx.save_for_backward(y, hidden, first, second)
        return F.linear(F.gelu(hidden), second.to(y.dtype), second_bias.to(y.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        y, hidden, first, second = ctx.saved_tensors
        rows, hidden = grad.flatten(0, 1), hidden.flatten(0, 1)
        inner = rows @ second.to(y.dtype)
        torch.ops.aten.gelu_backward.grad_input(inner, hidden, grad_input=inner)
        weights = inner.t() @ y.flatten(0, 1), inner.sum(0), rows.t() @ F.gelu(hidden), rows.sum(0)
        return (inner @ first.to(y.dtype)).view_as(y), *weights


def _check(x: Tensor, projection: Tensor, projected: Tensor | None, width: int) -> None:
    cells, tokens, d = x.shape if x.dim() == 3 else (0, 0, 0)
    own = projection.shape[:-2]
    if (
        d != width
        or projection.dim() not in (2, 3)
        or projection.shape[-2] != tokens
        or own not in ((), (cells,))
    ):
        raise InputError(
            f"Tokens of shape {tuple(x.shape)} and a projection of shape {tuple(projection.shape)} do not fit a "
            f"block of width {width}. Give (cells, tokens, {width}), and ([cells,] tokens, slots)."
        )
    expected = (cells, projection.shape[-1], width)
    if projected is not None and projected.shape != expected:
        raise InputError(
            f"Projected tokens have shape {tuple(projected.shape)} where {expected} is needed. "
            "Give Eᵀx, (cells, slots, width)."
        )
