"""Jagged operations against plain loops over segments."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scweave.graphs.csr import ranges, smallest_unsigned
from scweave.graphs.segments import (
    block_pointers,
    like_sized,
    padded,
    segment_rank,
    segment_softmax,
    segment_sum,
    stable_topk,
    unique_ids,
)

SEEDS = st.integers(0, 100_000)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), max_size=12))
def test_ranges_concatenate_aranges(pairs):
    expected = [i for start, count in pairs for i in range(start, start + count)]
    starts, counts = [p[0] for p in pairs], [p[1] for p in pairs]
    assert ranges(starts, counts).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 5), st.integers(1, 4))
def test_block_pointers_count_each_graph_and_chromosome(seed, n_graphs, n_chrom):
    rng = np.random.default_rng(seed)
    nodes = sorted(
        (int(rng.integers(n_graphs)), int(rng.integers(-1, n_chrom)) % (n_chrom + 1))
        for _ in range(rng.integers(0, 40))
    )
    graph = torch.tensor([g for g, _ in nodes], dtype=torch.long)
    chrom = torch.tensor([c if c < n_chrom else -1 for _, c in nodes], dtype=torch.long)
    ptr = block_pointers(graph, chrom, n_graphs, n_chrom)
    sizes = ptr.diff().view(n_graphs, n_chrom + 1)
    for g in range(n_graphs):
        for c in range(n_chrom + 1):
            assert sizes[g, c] == nodes.count((g, c))


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(0, 30))
def test_unique_ids_equal_torch_unique(seed, n):
    ids = torch.from_numpy(np.random.default_rng(seed).integers(0, 20, n))
    unique, position = unique_ids(ids, 20)
    expected, inverse = torch.unique(ids, return_inverse=True)
    assert torch.equal(unique, expected)
    assert torch.equal(position, inverse)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(0, 30), st.integers(1, 6))
def test_segment_sum_and_softmax_equal_loops(seed, n, n_segments):
    rng = np.random.default_rng(seed)
    segment = torch.from_numpy(rng.integers(0, n_segments, n))
    scores = torch.from_numpy(rng.normal(0, 30, n)).requires_grad_()
    ours = segment_softmax(scores, segment, n_segments)
    for s in range(n_segments):
        own = segment == s
        torch.testing.assert_close(ours[own], torch.softmax(scores[own], 0))
        total = segment_sum(scores, segment, n_segments)[s]
        torch.testing.assert_close(total, scores[own].sum())
    weight = torch.from_numpy(rng.random(n))
    mine = torch.autograd.grad((ours * weight).sum(), scores, retain_graph=True)[0] if n else scores
    loops = [torch.softmax(scores[segment == s], 0) @ weight[segment == s] for s in range(n_segments)]
    other = torch.autograd.grad(torch.stack(loops).sum(), scores)[0] if n else scores
    torch.testing.assert_close(mine, other)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(0, 30), st.integers(1, 6), st.sampled_from([(), (1,), (3,), (2, 3)]))
def test_softmax_takes_every_column_for_itself(seed, n, n_segments, columns):
    rng = np.random.default_rng(seed)
    segment = torch.from_numpy(rng.integers(0, n_segments, n))
    scores = torch.from_numpy(rng.normal(0, 30, (n, *columns)))
    ours = segment_softmax(scores, segment, n_segments)
    assert ours.shape == scores.shape
    for s in range(n_segments):
        torch.testing.assert_close(ours[segment == s], torch.softmax(scores[segment == s], 0))


def test_entries_of_no_score_get_no_weight_and_no_gradient():
    scores = torch.tensor([[0.0], [1.0], [2.0], [3.0]]).double().requires_grad_()
    left_out = torch.tensor([[False], [True], [False], [False]])
    weights = segment_softmax(scores.masked_fill(left_out, -torch.inf), torch.tensor([0, 0, 0, 1]), 3)
    torch.testing.assert_close(weights[[0, 2], 0], torch.softmax(scores[[0, 2], 0], 0))
    assert weights[[1, 3], 0].tolist() == [0, 1]
    (grad,) = torch.autograd.grad(weights[0].sum(), scores)
    assert torch.isfinite(grad).all()
    assert grad[:, 0].bool().tolist() == [True, False, True, False]


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(0, 30), st.integers(0, 6), st.integers(1, 3))
def test_ranks_equal_sorted_lists_of_each_segment(seed, n, n_segments, columns):
    rng = np.random.default_rng(seed)
    n = n if n_segments else 0
    segment = np.sort(rng.integers(0, max(n_segments, 1), n))
    scores = rng.integers(-2, 3, (n, columns)).astype(float)  # many ties
    ranks = segment_rank(torch.from_numpy(scores), torch.from_numpy(segment), n_segments)
    assert ranks.shape == (n, columns)
    for s in range(n_segments):
        own = np.flatnonzero(segment == s)
        for column in range(columns):
            order = sorted(own, key=lambda i, c=column: (-scores[i, c], i))
            assert ranks[order, column].tolist() == list(range(len(own)))


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(0, 40), st.integers(1, 200))
def test_like_sized_groups_hold_every_block_once(seed, n, tile):
    rng = np.random.default_rng(seed)
    queries, keys = (torch.from_numpy(rng.integers(0, 30, n)) for _ in range(2))
    seen = []
    for blocks, width, depth in like_sized(queries, keys, tile=tile):
        assert (queries[blocks] <= width).all()
        assert (keys[blocks] <= depth).all()
        assert len(blocks) == 1 or len(blocks) * width * depth <= tile
        seen += blocks.tolist()
    assert sorted(seen) == ((queries > 0) & (keys > 0)).nonzero().squeeze(1).tolist()


def test_padded_positions_stay_in_their_block():
    at, here = padded(torch.tensor([0, 5]), torch.tensor([2, 3]), 3)
    assert at.tolist() == [[0, 1, 1], [5, 6, 7]]
    assert here.tolist() == [[True, True, False], [True, True, True]]


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 12), st.integers(1, 12))
def test_ties_of_the_top_go_to_the_lower_index(seed, n, k):
    tile = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, (4, n)).astype(float))
    values, index = stable_topk(tile, min(k, n))
    order = torch.sort(tile, dim=1, descending=True, stable=True)
    assert torch.equal(values, order.values[:, :k])
    for row in range(4):
        assert set(index[row].tolist()) == set(order.indices[row, :k].tolist())


def test_smallest_unsigned():
    assert [smallest_unsigned(n).itemsize for n in (0, 255, 256, 65_535, 65_536)] == [1, 1, 2, 2, 4]
