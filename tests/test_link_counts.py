"""Counts of links in tiles against the plain formula, over several tiles and cells."""

from __future__ import annotations

import pytest
import torch

from scweave.models.layers import link_counts as module
from scweave.models.layers.link_counts import link_counts


def plain(query, key, ptr, threshold):
    sigmoid = torch.sigmoid(query @ key.T)
    hard = (sigmoid > threshold).to(sigmoid.dtype)
    straight = hard + sigmoid - sigmoid.detach()
    cells = zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True)
    return torch.stack([straight[:, begin:end].sum(1) for begin, end in cells])


@pytest.fixture(params=[3, 8, 1024])
def tile(request, monkeypatch):
    monkeypatch.setattr(module, "_TILE", request.param)
    return request.param


@pytest.mark.parametrize("sizes", [[25], [0, 4, 0, 9, 12, 0], [1] * 7, [0, 0]])
def test_counts_and_gradients_equal_the_plain_formula(tile, sizes):
    torch.manual_seed(0)
    query = torch.randn(17, 6, dtype=torch.float64, requires_grad=True)
    key = torch.randn(sum(sizes), 6, dtype=torch.float64, requires_grad=True)
    ptr = torch.tensor([0, *torch.tensor(sizes).cumsum(0).tolist()])
    ours, theirs = link_counts(query, key, ptr, threshold=0.7), plain(query, key, ptr, 0.7)
    assert torch.equal(ours, theirs.detach().round())
    weight = torch.randn_like(ours)
    weight[:, 5] = 0  # a gene without gradient is skipped
    mine = torch.autograd.grad((ours * weight).sum(), (query, key))
    other = torch.autograd.grad((theirs * weight).sum(), (query, key))
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sizes", [[60], [20, 0, 25, 15]])
def test_enough_changes_neither_decisions_nor_gradients(tile, sizes):
    torch.manual_seed(1)
    query = torch.randn(17, 6, dtype=torch.float64, requires_grad=True)
    key = torch.randn(60, 6, dtype=torch.float64, requires_grad=True)
    ptr = torch.tensor([0, *torch.tensor(sizes).cumsum(0).tolist()])
    whole, early = link_counts(query, key, ptr), link_counts(query, key, ptr, enough=3)
    assert torch.equal(whole > 3, early > 3)
    assert torch.equal(whole[whole <= 3], early[whole <= 3])
    assert (early <= whole).all()
    if tile == 3:
        assert (early < whole).any()
    weight = torch.randn_like(whole)
    mine = torch.autograd.grad((early * weight).sum(), (query, key))
    other = torch.autograd.grad((whole * weight).sum(), (query, key))
    for a, b in zip(mine, other, strict=True):
        assert torch.equal(a, b)
