"""The k largest query-key products of every query within its (graph, chromosome) block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...graphs.segments import like_sized, padded, stable_topk
from .scaled_rows import ScaledRows

_TABLE = 1 << 24  # products of distinct ids held at a time
_TILE = 1 << 21  # scores of nodes held at a time


@dataclass(frozen=True)
class Blocks:
    """Where the (graph, chromosome) blocks of one node type lie.

    Attributes
    ----------
    nodes
        (graphs · kinds + 1,) pointers into the nodes; kinds are the chromosomes and, last, "unplaced".
    ids
        (kinds + 1,) pointers into the distinct ids, which are sorted by chromosome.
    """

    nodes: Tensor
    ids: Tensor


@torch.no_grad()
def block_topk(
    query: ScaledRows, key: ScaledRows, queries: Blocks, keys: Blocks, k: int
) -> tuple[Tensor, Tensor]:
    """Find each query's ``k`` largest products with the keys of its block.

    With q = q0 + e·u and k = k0 + a·w a score is ``q0·k0 + e (u·k0) + a (w·q0) + e a (u·w)``: the
    first term is one matrix product over the distinct ids of a chromosome, shared by all cells,
    and each score is then a look-up and two multiply-adds.

    Parameters
    ----------
    query, key
        Vectors of the nodes.
    queries, keys
        Their blocks; unplaced nodes never meet.
    k
        How many.

    Returns
    -------
    scores : (queries, k)
        Descending; ``-inf`` where a block has fewer than ``k`` keys.
    keys : (queries, k) int64
        Positions of the keys, -1 where there is none. Ties go to the lower position.
    """
    scores = query.base.new_full((len(query.unique), k), -torch.inf)
    found = query.unique.new_full((len(query.unique), k), -1)
    along_key = key.base @ query.direction  # u·k0
    along_query = query.base @ key.direction  # w·q0
    both = query.direction @ key.direction
    for first, last, table, offset in _tables(query, key, queries, keys):
        stride = keys.ids.diff()
        for blocks, width, depth in _groups(queries, keys, first, last):
            q_at, q_here = padded(queries.nodes[blocks], queries.nodes.diff()[blocks], width)
            k_at, k_here = padded(keys.nodes[blocks], keys.nodes.diff()[blocks], depth)
            kind = blocks % (len(keys.ids) - 1)
            q_id, k_id = query.unique[q_at], key.unique[k_at]
            row = offset[kind - first, None] + (q_id - queries.ids[kind, None]) * stride[kind, None]
            place = row[:, :, None] + (k_id - keys.ids[kind, None])[:, None, :]
            tile = table.index_select(0, place.view(-1)).view(place.shape)  # (blocks, queries, keys)
            e, a = query.scale[q_at][:, :, None], key.scale[k_at][:, None, :]
            tile.addcmul_(e, along_key[k_id][:, None, :] + a * both)
            tile.addcmul_(a, along_query[q_id][:, :, None])
            tile.masked_fill_(~k_here[:, None, :], -torch.inf)
            best, where = stable_topk(tile, min(k, depth))
            position = k_at.gather(1, where.flatten(1)).view(where.shape)[q_here]
            rows, best = q_at[q_here], best[q_here]
            scores[rows, : best.shape[1]] = best
            found[rows, : best.shape[1]] = torch.where(best == -torch.inf, -1, position)
    return scores, found


def _tables(
    query: ScaledRows, key: ScaledRows, queries: Blocks, keys: Blocks
) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """Multiply the distinct queries and keys of each chromosome, several small chromosomes at a time.

    Yields the range of chromosomes, their products end to end, and where each begins.
    """
    sizes = (queries.ids.diff() * keys.ids.diff())[:-1].tolist()  # the last kind is unplaced
    first = 0
    while first < len(sizes):
        last, total = first + 1, sizes[first]
        while last < len(sizes) and total + sizes[last] <= _TABLE:
            total += sizes[last]
            last += 1
        table = query.base.new_empty(total)
        starts = [sum(sizes[first:c]) for c in range(first, last)]
        for c, start in zip(range(first, last), starts, strict=True):
            q = query.base[queries.ids[c] : queries.ids[c + 1]]
            k = key.base[keys.ids[c] : keys.ids[c + 1]]
            torch.mm(q, k.T, out=table[start : start + sizes[c]].view(len(q), len(k)))
        yield first, last, table, torch.tensor(starts, device=table.device)
        first = last


def _groups(queries: Blocks, keys: Blocks, first: int, last: int) -> Iterator[tuple[Tensor, int, int]]:
    """Group the blocks of some chromosomes by size."""
    kinds = len(keys.ids) - 1
    kind = torch.arange(len(queries.nodes) - 1, device=queries.nodes.device) % kinds
    wanted = (kind >= first) & (kind < last)
    return like_sized(queries.nodes.diff() * wanted, keys.nodes.diff(), tile=_TILE)
