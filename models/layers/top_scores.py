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
        d_query = _gradients(row, query, peak, key, weight)
        d_key = _gradients(peak, key, row, query, weight)
        return *d_query, *d_key, None, None, None, None, None


def _gradients(
    owner: Tensor, owners: ScaledRows, other: Tensor, others: ScaledRows, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the owners' base and direction: sums of ``weight · others[other]`` over edges.

    They are summed by distinct id at once, so that neither edges nor nodes ever hold a row each.
    """
    row, column = owners.unique[owner], others.unique[other]
    order = torch.argsort(row, stable=True)
    offsets = torch.searchsorted(row[order], torch.arange(len(owners.base), device=row.device))
    base = F.embedding_bag(column[order], others.base, offsets, mode="sum", per_sample_weights=weight[order])
    scaled = weight * others.scale[other]
    base.addcmul_(weight.new_zeros(len(base)).index_add(0, row, scaled)[:, None], others.direction)
    along = weight * owners.scale[owner]
    by_id = weight.new_zeros(len(others.base)).index_add(0, column, along)
    return base, by_id @ others.base + (along @ others.scale[other]) * others.direction
