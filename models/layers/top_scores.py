"""The k best query-key scores of every query within its block, differentiable at the cost of the k."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .block_topk import Blocks, block_topk
from .scaled_rows import ScaledRows


def top_scores(
    query: ScaledRows, key: ScaledRows, queries: Blocks, keys: Blocks, k: int
) -> tuple[Tensor, Tensor]:
    """Score queries against the keys of their block and keep the best ``k`` of each.

    Parameters
    ----------
    query, key
        Vectors of the nodes, (queries, d) and (keys, d).
    queries, keys
        Their blocks.
    k
        Scores to keep.

    Returns
    -------
    scores : (queries, k)
        Descending, ``-inf`` where there is no key; gradients reach ``base`` and ``direction``.
    keys : (queries, k) int64
        Positions of the keys, -1 where there is none.
    """
    scores, found = _TopScores.apply(  # type: ignore[no-untyped-call]
        query.base, query.direction, key.base, key.direction, query, key, queries, keys, k
    )
    return scores, found


class _TopScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q_base: Tensor,
        q_direction: Tensor,
        k_base: Tensor,
        k_direction: Tensor,
        query: ScaledRows,
        key: ScaledRows,
        queries: Blocks,
        keys: Blocks,
        k: int,
    ) -> tuple[Tensor, Tensor]:
        scores, found = block_topk(query, key, queries, keys, k)
        ctx.save_for_backward(
            q_base, q_direction, k_base, k_direction, query.unique, query.scale, key.unique, key.scale, found
        )
        ctx.mark_non_differentiable(found)
        return scores, found

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        qb, qd, kb, kd, q_unique, q_scale, k_unique, k_scale, found = ctx.saved_tensors
        query, key = ScaledRows(qb, qd, q_unique, q_scale), ScaledRows(kb, kd, k_unique, k_scale)
        row, column = ((found >= 0) & (grad != 0)).nonzero(as_tuple=True)
        peak, weight = found[row, column], grad[row, column]
        d_query = _weighted_rows(row, peak, weight, key, len(q_unique))
        order = torch.argsort(peak, stable=True)
        d_key = _weighted_rows(peak[order], row[order], weight[order], query, len(k_unique))
        return *_gradients(d_query, query), *_gradients(d_key, key), None, None, None, None, None


def _weighted_rows(owner: Tensor, other: Tensor, weight: Tensor, rows: ScaledRows, n: int) -> Tensor:
    """Sum ``weight · rows[other]`` by ``owner`` (ascending) into (n, d), never holding the rows of all edges."""
    offsets = torch.searchsorted(owner, torch.arange(n, device=owner.device))
    bags = F.embedding_bag(rows.unique[other], rows.base, offsets, mode="sum", per_sample_weights=weight)
    scale = weight.new_zeros(n).index_add(0, owner, weight * rows.scale[other])
    return bags.addcmul_(scale[:, None], rows.direction)


def _gradients(d_rows: Tensor, rows: ScaledRows) -> tuple[Tensor, Tensor]:
    """Turn gradients of node vectors into those of base and direction."""
    return torch.zeros_like(rows.base).index_add_(0, rows.unique, d_rows), rows.scale @ d_rows
