"""The best products of each block, and their gradients, against scoring every pair plainly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scweave.graphs.segments import block_pointers
from scweave.models.layers import block_topk as module
from scweave.models.layers.block_topk import Blocks
from scweave.models.layers.scaled_rows import ScaledRows
from scweave.models.layers.top_scores import top_scores

N_CHROM, WIDTH = 3, 4


def random_nodes(rng, n_ids, n_graphs):
    chrom = torch.from_numpy(np.sort(rng.integers(0, N_CHROM + 1, n_ids)))  # the last is unplaced
    own = [np.flatnonzero(rng.random(n_ids) < 0.5) for _ in range(n_graphs)]
    ids = torch.from_numpy(np.concatenate(own))
    graph = torch.from_numpy(np.repeat(np.arange(n_graphs), [len(o) for o in own]))
    coded = torch.where(chrom == N_CHROM, -1, chrom)
    blocks = Blocks(
        block_pointers(graph, coded[ids], n_graphs, N_CHROM),
        block_pointers(torch.zeros_like(chrom), coded, 1, N_CHROM),
    )
    rows = ScaledRows(
        torch.from_numpy(rng.normal(size=(n_ids, WIDTH))).requires_grad_(),
        torch.from_numpy(rng.normal(size=WIDTH)).requires_grad_(),
        ids,
        torch.from_numpy(rng.integers(1, 4, len(ids)).astype(float)),
    )
    return rows, blocks, graph, coded[ids]


@pytest.mark.parametrize(("table", "tile"), [(1 << 24, 1 << 21), (30, 40)])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 100_000), k=st.integers(1, 12))
def test_scores_keys_and_gradients_equal_the_plain_formula(table, tile, seed, k):
    rng = np.random.default_rng(seed)
    query, queries, q_graph, q_chrom = random_nodes(rng, 14, 3)
    key, keys, k_graph, k_chrom = random_nodes(rng, 20, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TABLE", table)
        patch.setattr(module, "_TILE", tile)
        scores, found = top_scores(query, key, queries, keys, k)
    same = (q_graph[:, None] == k_graph) & (q_chrom[:, None] == k_chrom) & (q_chrom[:, None] >= 0)
    dense = (query.all() @ key.all().T).masked_fill(~same, -torch.inf)
    order = torch.sort(dense, dim=1, descending=True, stable=True)
    n = min(k, dense.shape[1])
    torch.testing.assert_close(scores[:, :n], order.values[:, :n], rtol=1e-12, atol=1e-12)
    real = order.values[:, :n] > -torch.inf
    assert torch.equal(found[:, :n][real], order.indices[:, :n][real])
    assert (found[:, :n][~real] == -1).all()
    weight = torch.from_numpy(rng.normal(size=scores.shape))
    leaves = (query.base, query.direction, key.base, key.direction)
    ours = torch.where(scores > -torch.inf, scores * weight, 0.0).sum()
    theirs = torch.where(real, dense.gather(1, order.indices[:, :n]) * weight[:, :n], 0.0).sum()
    if real.any():
        for mine, other in zip(
            torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves), strict=True
        ):
            torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)


def test_equal_scores_go_to_the_lower_position():
    rng = np.random.default_rng(0)
    query, queries, *_ = random_nodes(rng, 14, 2)
    key, keys, *_ = random_nodes(rng, 20, 2)
    flat = ScaledRows(torch.zeros_like(key.base), torch.zeros_like(key.direction), key.unique, key.scale)
    _, found = top_scores(query, flat, queries, keys, 3)
    for block in range(len(queries.nodes) - 1):
        rows = found[queries.nodes[block] : queries.nodes[block + 1]]
        first, last = int(keys.nodes[block]), int(keys.nodes[block + 1])
        if (block + 1) % (N_CHROM + 1) == 0:
            assert (rows == -1).all()  # unplaced nodes never meet
            continue
        expected = sorted(range(first, last))[:3]
        for row in rows:
            assert sorted(row[row >= 0].tolist()) == expected
