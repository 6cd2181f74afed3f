"""Batches of several datasets, and the parts of batches that processes share."""

from __future__ import annotations

import pytest
import torch

from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.loader import EpochBatches, GraphLoader


def visited(loader):
    """(source, cell) of all graphs, batch by batch."""
    return [[(int(batch.source), int(cell)) for cell in batch["cell"].atac] for batch in loader]


@pytest.fixture
def two(random_dataset, simulated_dataset):
    return [MultiomeGraphs(random_dataset), MultiomeGraphs(simulated_dataset)[:57]]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_cell_of_every_dataset_comes_once_an_epoch(two, workers):
    loader = GraphLoader(two, 8, shuffle=True, seed=3, cis=False, num_workers=workers)
    batches = visited(loader)
    assert len(batches) == len(loader) == -(-len(two[0]) // 8) + -(-len(two[1]) // 8)
    assert all(len({source for source, _ in batch}) == 1 for batch in batches)
    found = sorted(cell for batch in batches for cell in batch)
    assert found == [(i, cell) for i, graphs in enumerate(two) for cell in range(len(graphs))]


def test_seed_and_epoch_alone_decide_the_order(two):
    loader, same, other = (GraphLoader(two, 8, shuffle=True, seed=seed, cis=False) for seed in (3, 3, 4))
    first = visited(loader)
    assert first == visited(loader) == visited(same) != visited(other)
    loader.set_epoch(1)
    assert visited(loader) != first
    sources = [batch[0][0] for batch in first]
    assert sources != sorted(sources)  # batches of the two are mixed
    loader.set_epoch(0)
    assert visited(loader) == first


def test_batches_hold_the_graphs_of_their_dataset(two):
    for batch in GraphLoader(two, 8, shuffle=True, seed=1, cis=False):
        expected = two[int(batch.source)].batch(batch["cell"].atac.tolist(), cis=False)
        assert torch.equal(batch["peak"].id, expected["peak"].id)
        assert batch.source.shape == () and batch.source.dtype == torch.int64


def test_one_dataset_keeps_its_order_and_is_source_zero(two):
    alone = visited(GraphLoader(two[1], 8, cis=False))
    assert alone == [[(0, cell) for cell in range(i, min(i + 8, 57))] for i in range(0, 57, 8)]
    shuffled = GraphLoader(two[1], 8, shuffle=True, seed=2, cis=False)
    order = torch.randperm(57, generator=torch.Generator().manual_seed(2 * 1_000_003))
    assert [cell for batch in visited(shuffled) for _, cell in batch] == order.tolist()


@pytest.mark.parametrize("parts", [1, 2, 3, 9])
def test_parts_divide_every_batch(two, parts):
    whole = visited(GraphLoader(two, 8, shuffle=True, seed=5, cis=False))
    shared = [
        visited(GraphLoader(two, 8, shuffle=True, seed=5, share=(i, parts), cis=False)) for i in range(parts)
    ]
    assert {len(part) for part in shared} == {len(whole)}
    for batch, pieces in zip(whole, zip(*shared, strict=True), strict=True):
        assert sorted(cell for piece in pieces for cell in piece) == sorted(batch)
        sizes = [len(piece) for piece in pieces]
        assert max(sizes) - min(sizes) <= 1 and sizes[0] == max(sizes)


def test_a_dataset_without_graphs_has_no_batch(two):
    empty = two[0].index_select([])
    assert visited(GraphLoader([empty, two[1]], 8, cis=False)) == [
        [(1, cell) for cell in range(i, min(i + 8, 57))] for i in range(0, 57, 8)
    ]
    assert list(EpochBatches([0, 0], 8, shuffle=True, seed=0)) == []
