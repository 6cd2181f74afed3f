"""Jagged operations: nodes of many graphs side by side, cut into segments by pointers.

A *block* is the nodes of one graph on one chromosome. Nodes are stored by (graph, chromosome), so
blocks are contiguous and a vector of pointers describes them all.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def block_pointers(graph: Tensor, chrom: Tensor, n_graphs: int, n_chrom: int) -> Tensor:
    """Return where each (graph, chromosome) block begins.

    Parameters
    ----------
    graph, chrom
        (nodes,) int64, sorted by graph, then chromosome; unplaced nodes (negative chrom) come last.
    n_graphs, n_chrom
        Numbers of graphs and chromosomes.

    Returns
    -------
    (n_graphs · (n_chrom + 1) + 1,) int64. The last block of each graph holds its unplaced nodes.
    """
    block = graph * (n_chrom + 1) + torch.where(chrom < 0, n_chrom, chrom)
    sizes = torch.bincount(block, minlength=n_graphs * (n_chrom + 1))
    return torch.nn.functional.pad(sizes.cumsum(0), (1, 0))


def unique_ids(ids: Tensor, n_ids: int) -> tuple[Tensor, Tensor]:
    """Return the sorted distinct ids and, for each entry, its position among them.

    Both are int64; linear in ``n_ids`` and the entries, without sorting.
    """
    present = torch.zeros(n_ids, dtype=torch.bool, device=ids.device)
    present[ids] = True
    unique = present.nonzero().squeeze(1)
    position = torch.empty(n_ids, dtype=torch.long, device=ids.device)
    position[unique] = torch.arange(len(unique), device=ids.device)
    return unique, position[ids]


def segment_sum(values: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """Sum rows of ``values`` (n, …) by ``segment`` (n,) into (n_segments, …)."""
    return values.new_zeros(n_segments, *values.shape[1:]).index_add(0, segment, values)


def segment_softmax(scores: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """Softmax of ``scores`` (n, …) within each segment, column by column; empty segments are fine.

    Formula: exp(s_i - max) / Σ_j exp(s_j - max) over the entries j of i's segment.
    """
    shape = (n_segments, *scores.shape[1:])
    index = segment.reshape(-1, *[1] * (scores.dim() - 1)).expand_as(scores)
    top = scores.new_full(shape, -torch.inf).scatter_reduce(0, index, scores.detach(), "amax")
    weights = torch.exp(scores - top.index_select(0, segment))
    return weights / segment_sum(weights, segment, n_segments).index_select(0, segment)


def segment_rank(scores: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """Rank ``scores`` (n, columns) within each segment from 0, the largest first, ties by lower index.

    Parameters
    ----------
    scores
        (n, columns).
    segment
        (n,) int64, ascending.
    n_segments
        Number of segments.
    """
    sizes = torch.bincount(segment, minlength=n_segments)
    first = sizes.cumsum(0) - sizes
    by_score = torch.argsort(scores, dim=0, descending=True, stable=True)
    order = torch.gather(by_score, 0, torch.argsort(segment[by_score], dim=0, stable=True))
    place = torch.arange(len(segment), device=segment.device) - first[segment]
    return torch.empty_like(order).scatter_(0, order, place[:, None].expand_as(order))


def like_sized(queries: Tensor, keys: Tensor, *, tile: int) -> Iterator[tuple[Tensor, int, int]]:
    """Group blocks of like size, so that each group can be padded to one dense tile.

    Parameters
    ----------
    queries, keys
        (blocks,) sizes; blocks that lack either are left out.
    tile
        Largest number of padded query-key pairs a group.

    Yields
    ------
    blocks : (group,) int64
    width, depth : padded numbers of queries and keys
    """
    alive = ((queries > 0) & (keys > 0)).nonzero().squeeze(1)
    if not len(alive):
        return
    widths, depths = _round_up(queries[alive]), _round_up(keys[alive])
    sizes, group = torch.unique(torch.stack([widths, depths], 1), dim=0, return_inverse=True)
    order = torch.argsort(group, stable=True)
    members = alive[order].split(torch.bincount(group).tolist())
    for (width, depth), blocks in zip(sizes.tolist(), members, strict=True):
        for part in blocks.split(max(1, tile // (width * depth))):
            yield part, min(width, int(queries[part].max())), min(depth, int(keys[part].max()))


def padded(starts: Tensor, counts: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return positions (blocks, width), clamped into each block, and which of them are real."""
    step = torch.arange(width, device=starts.device)
    here = step < counts[:, None]
    return starts[:, None] + torch.minimum(step, counts[:, None] - 1), here


def _round_up(sizes: Tensor) -> Tensor:
    """Round up to 2^i or 1.5 · 2^i: few distinct sizes, little padding."""
    power = 2.0 ** torch.ceil(torch.log2(sizes.double()))
    return torch.where(sizes <= 0.75 * power, 0.75 * power, power).ceil().long()


def stable_topk(tile: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Top k along the last dimension, ties to the lower index (``torch.topk`` alone promises no order)."""
    best, where = tile.topk(min(k + 1, tile.shape[-1]), dim=-1)
    if best.shape[-1] <= k:
        return best, where
    tied = (best[..., k - 1] == best[..., k]) & (best[..., k] > -torch.inf)
    if bool(tied.any()):
        order = torch.sort(tile[tied], dim=-1, descending=True, stable=True)
        best[tied, :k], where[tied, :k] = order.values[:, :k], order.indices[:, :k]
    return best[..., :k], where[..., :k]
