"""Sums over open peaks against a dense product, whatever the cells and the chunks."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dense_cis import random_edges, random_profiles, same, same_gradients
from scweave.models.layers import open_sums as module
from scweave.models.layers.open_sums import open_sums
from scweave.models.layers.prior_edges import PriorEdges


def dense_sums(weight, edges, profiles, value):
    joined = weight.new_zeros(edges.n_peaks, edges.n_genes).index_put((edges.peak, edges.gene), weight)
    open_ = torch.zeros(len(profiles), edges.n_peaks).double()
    open_[profiles.cell, profiles.ids] = value
    return open_ @ joined


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.integers(0, 8), st.sampled_from([1, 2, 3, 7, 1 << 15]))
def test_sums_and_gradients_equal_the_dense_product(seed, n_cells, chunk):
    edges, profiles = random_edges(seed), random_profiles(seed, n_cells=n_cells)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(len(edges), generator=generator, dtype=torch.float64).requires_grad_()
    value = torch.randn(len(profiles.ids), generator=generator, dtype=torch.float64)
    with patch.object(module, "_NODES", chunk):
        ours = open_sums(weight, edges, profiles.ids, value, profiles.ptr)
        theirs = dense_sums(weight, edges, profiles, value)
        same(ours, theirs)
        same_gradients(ours, theirs, {"weight": weight})


@pytest.mark.parametrize("chunk", [2, 1 << 15])
def test_gradients_equal_finite_differences(chunk, monkeypatch):
    monkeypatch.setattr(module, "_NODES", chunk)
    edges, profiles = random_edges(3), random_profiles(3)
    weight = torch.randn(len(edges), dtype=torch.float64, requires_grad=True)

    def summed(weight):
        return open_sums(weight, edges, profiles.ids, profiles.counts, profiles.ptr)

    assert torch.autograd.gradcheck(summed, (weight,))
    assert torch.autograd.gradgradcheck(summed, (weight,))


def test_cells_without_peaks_and_peaks_without_edges_sum_to_zero():
    edges = random_edges()
    lonely = torch.full((2,), edges.n_peaks - 1)
    ptr = torch.tensor([0, 0, 2, 2])
    weight = torch.ones(len(edges), dtype=torch.float64, requires_grad=True)
    sums = open_sums(weight, edges, lonely, torch.ones(2, dtype=torch.float64), ptr)
    assert sums.shape == (3, edges.n_genes)
    assert not sums.any()
    sums.sum().backward()
    assert not weight.grad.any()


def test_a_prior_without_edges_sums_to_zero():
    empty = torch.zeros(0, dtype=torch.long)
    edges, profiles = PriorEdges(empty, empty, empty, 4, 9), random_profiles()
    sums = open_sums(torch.zeros(0).double(), edges, profiles.ids, profiles.counts, profiles.ptr)
    assert torch.equal(sums, torch.zeros(5, 4).double())
