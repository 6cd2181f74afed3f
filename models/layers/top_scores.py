"""The k best query-key scores of every query within its block, differentiable at the cost of the k."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...graphs.segments import block_topk


@dataclass(frozen=True)
class ScaledRows:
    """Vectors that share a base: node i has ``base[unique[i]] + scale[i] · direction``.

    Node features differ between cells by one scalar only (the count), so every gene and peak is
    projected once a step, and this is all that a node's query or key needs.

    Attributes
    ----------
    base
        (unique ids, d).
    direction
        (d,).
    unique
        (nodes,) int64 into ``base``.
    scale
        (nodes,).
    """

    base: Tensor
    direction: Tensor
    unique: Tensor
    scale: Tensor

    def __call__(self, nodes: Tensor) -> Tensor:
        """Return the vectors of some nodes, (n, d)."""
        return self.base[self.unique[nodes]].addcmul_(self.scale[nodes, None], self.direction)

    def part(self, begin: int, end: int) -> ScaledRows:
        """Return the columns ``begin:end`` (one attention head)."""
        return ScaledRows(
            self.base[:, begin:end].contiguous(), self.direction[begin:end].contiguous(), self.unique, self.scale
        )

    def of(self, nodes: Tensor) -> ScaledRows:
        """Return the same for some nodes only, (n,) positions or mask."""
        return ScaledRows(self.base, self.direction, self.unique[nodes], self.scale[nodes])

    def all(self) -> Tensor:
        """Return the vectors of all nodes, (nodes, d); differentiable."""
        return F.embedding(self.unique, self.base) + self.scale[:, None] * self.direction


def top_scores(
    query: ScaledRows, key: ScaledRows, query_ptr: Tensor, key_ptr: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Score queries against the keys of their block and keep the best ``k`` of each.

    Parameters
    ----------
    query, key
        Vectors of the nodes, (queries, d) and (keys, d).
    query_ptr, key_ptr
        (blocks + 1,) pointers.
    k
        Scores to keep.

    Returns
    -------
    scores : (queries, k)
        Descending, ``-inf`` where there is no key; gradients reach ``base`` and ``direction``.
    keys : (queries, k) int64
        Positions of the keys, -1 where there is none.
    """
    scores, keys = _TopScores.apply(
        query.base, query.direction, key.base, key.direction, query, key, query_ptr, key_ptr, k
    )
    return scores, keys


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
        query_ptr: Tensor,
        key_ptr: Tensor,
        k: int,
    ) -> tuple[Tensor, Tensor]:
        scores, keys = block_topk(query, key, query_ptr, key_ptr, k)
        ctx.save_for_backward(
            q_base, q_direction, k_base, k_direction, query.unique, query.scale, key.unique, key.scale, keys
        )
        ctx.mark_non_differentiable(keys)
        return scores, keys

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        qb, qd, kb, kd, q_unique, q_scale, k_unique, k_scale, keys = ctx.saved_tensors
        query, key = ScaledRows(qb, qd, q_unique, q_scale), ScaledRows(kb, kd, k_unique, k_scale)
        row, column = ((keys >= 0) & (grad != 0)).nonzero(as_tuple=True)
        peak, weight = keys[row, column], grad[row, column]
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
