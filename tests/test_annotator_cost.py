"""What reading a cell takes: numbers and operations counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scweave.graphs.dataset import MultiomeGraphs
from scweave.models.annotation.cost import cost_of
from scweave.models.layers.bags import bag, counted
from scweave.models.layers.profiles import Profiles
from scweave.models.layers.transformer_block import SelfAttention
from tiny_pairs import make_model, training_cells


class BagAndMaps(nn.Module):
    """A sparse sum of genes, then two dense maps with an activation between."""

    def __init__(self, n_genes):
        super().__init__()
        self.register_buffer("table", torch.ones(n_genes, 6))
        self.maps = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3, bias=False))

    def forward(self, batch):
        profiles = Profiles.genes(batch)
        return self.maps(profiles.bag(profiles.counts, self.table))


@pytest.fixture
def graphs(random_dataset):
    return MultiomeGraphs(random_dataset)


def test_numbers_and_operations_of_a_known_model(graphs):
    batch, model = graphs.batch(range(9), cis=False), BagAndMaps(len(graphs.genes))
    nodes = batch["gene"].num_nodes
    dense = 2 * 9 * (6 * 10 + 10 * 3)
    assert cost_of(model, batch) == {
        "parameters": 6 * 10 + 10 + 10 * 3,
        "fitted": 6 * len(graphs.genes),
        "flops_per_cell": round((2 * nodes * 6 + dense) / 9),
    }
    assert not model.training
    empty = graphs.only(["atac"]).batch(range(9), cis=False)
    assert cost_of(model, empty)["flops_per_cell"] == round(dense / 9)
    assert cost_of(model, graphs.batch([], cis=False))["flops_per_cell"] == 0


class Attending(nn.Module):
    def __init__(self, n_tokens):
        super().__init__()
        self.attention, self.n_tokens = SelfAttention(8, 2), n_tokens

    def forward(self, batch):
        return self.attention(torch.ones(batch.num_graphs, self.n_tokens, 8))


def test_operations_of_attention(graphs):
    tokens, width = 5, 8
    maps = 4 * 2 * tokens * width * width
    attention = 2 * 2 * tokens * tokens * width  # queries with keys, weights with values
    found = cost_of(Attending(tokens), graphs.batch(range(4), cis=False))
    assert found["flops_per_cell"] == maps + attention
    assert found["parameters"] == 4 * (width * width + width)


def test_sparse_sums_are_counted_where_they_are_asked_about():
    table, ids = torch.ones(4, 3), torch.tensor([0, 3, 3])
    values, ptr = torch.ones(3), torch.tensor([0, 1, 3])
    bag(table, ids, values, ptr)
    with counted() as outer:
        bag(table, ids, values, ptr)
        with counted() as inner:
            bag(table, ids[:1], values[:1], ptr[:2])
        bag(table, ids, values, ptr)
    assert (inner.flops, outer.flops) == (2 * 1 * 3, 2 * 2 * 3 * 3)
    bag(table, ids, values, ptr)
    assert outer.flops == 36


def test_a_cell_costs_less_where_less_is_attended(simulated_dataset):
    graphs = training_cells(simulated_dataset)
    batch = graphs.batch(range(8), cis=False)
    costs = [
        cost_of(make_model(graphs, "default", attention=asks), batch) for asks in ("cross", "self", "none")
    ]
    assert costs[0]["flops_per_cell"] == costs[1]["flops_per_cell"] > costs[2]["flops_per_cell"] > 0
    own = make_model(graphs, "default", attention="none")
    assert costs[2]["parameters"] == sum(p.numel() for p in own.parameters())
    assert costs[2]["fitted"] == sum(b.numel() for b in own.buffers())
