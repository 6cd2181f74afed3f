"""Expression from linked peaks against cells x peaks x genes written out; peaks against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dense_cis import dense_expression, profiles_of, random_edges, random_profiles, same, same_gradients
from scweave.graphs.csr import CsrRows
from scweave.graphs.segments import segment_sum
from scweave.models.layers import linked_expression, profiles
from scweave.models.layers.cis_attention import CisAttention
from scweave.models.layers.linked_expression import LinkedExpression

PROGRAMMES = 4


def make(edges=None, *, own=True, smooth=True, **options):
    torch.manual_seed(0)
    attention = CisAttention(edges or random_edges(), PROGRAMMES, **options)
    layer = LinkedExpression(attention, PROGRAMMES, own=own, smooth=smooth).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, 1)
        layer.programme.normal_()
        layer.mean.uniform_()
        layer.base.fill_(4.0)
    return layer


def inputs(n_cells=5):
    generator = torch.Generator().manual_seed(2)
    key = torch.randn(9, PROGRAMMES, generator=generator, dtype=torch.float64)
    place = torch.randn(n_cells, PROGRAMMES, generator=generator, dtype=torch.float64)
    return key.requires_grad_(), random_profiles(n_cells=n_cells), place.requires_grad_()


@pytest.mark.parametrize(
    "options",
    [{}, {"own": False}, {"smooth": False}, {"heads": 3}, {"heads": 2, "top": 2}, {"threshold": 0.5}],
    ids=str,
)
def test_rates_and_gradients_equal_the_dense_formula(options):
    layer, (key, cells, place) = make(**options), inputs()
    ours, theirs = layer(key, cells, place), dense_expression(layer, key, cells, place)
    same(ours, theirs)
    found = same_gradients(ours, theirs, dict(layer.named_parameters()) | {"key": key, "place": place})
    for name, grad in found.items():
        assert bool(grad.any()) == (layer.smooth or name != "place"), name


def test_genes_without_edges_keep_their_bias():
    layer, (key, cells, place) = make(), inputs()
    rates = layer(key, cells, place)
    assert torch.equal(rates[:, 0], layer.bias[0].expand(len(cells)))
    assert (rates[:, 1:].std(0) > 0).all()


def test_no_cells_give_no_rates():
    layer = make()
    assert layer(inputs()[0], random_profiles(n_cells=0), torch.zeros(0, PROGRAMMES).double()).shape == (0, 7)


@pytest.mark.parametrize("options", [{}, {"own": False}, {"smooth": False}, {"heads": 2}], ids=str)
def test_weights_times_openness_add_up_to_the_mean_rate(options):
    layer, (key, cells, place) = make(**options), inputs()
    edges = layer.attention.edges
    effect = layer.weights(key) * layer.openness(cells, place)[edges.peak]
    same(layer.bias + segment_sum(effect, edges.gene, edges.n_genes), layer(key, cells, place).mean(0))


def test_penalty_adds_the_prior_of_gains():
    layer = make(heads=2)
    gains = 0.5 * (F.softplus(layer.gain) ** 2).sum()
    same(layer.penalty(3.0), layer.attention.penalty(3.0) + gains)


def rows_of(counts):
    cells = profiles_of(counts)
    return CsrRows(
        cells.ptr.numpy(), cells.ids.numpy(), cells.counts.numpy().astype(np.uint8), counts.shape[1]
    )


@pytest.mark.parametrize("chunk", [3, 1024])
def test_fitted_peaks_equal_numpy(chunk, monkeypatch):
    monkeypatch.setattr(linked_expression, "_CHUNK", chunk)
    monkeypatch.setattr(profiles, "_CHUNK", chunk)
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.8, (20, 9))
    counts[4] = 0
    counts[:, 2] = 0
    train = np.sort(rng.permutation(20)[:13])
    places = rng.normal(1, 2, (13, PROGRAMMES))
    layer = make()
    layer.fit_peaks(rows_of(counts), train, torch.from_numpy(places))

    depth = counts[train].sum(1, keepdims=True)
    x = np.log1p(counts[train]) / np.maximum(depth / depth.mean(), 0.2)
    product = (x - x.mean(0)).T @ (places - places.mean(0)) / 13
    loading = product / np.sqrt(np.maximum(x.var(0), 1e-9))[:, None]
    loading /= np.sqrt((loading**2).sum(1, keepdims=True) + PROGRAMMES / 13)
    assert float(layer.base) == pytest.approx(depth.mean())
    np.testing.assert_allclose(layer.mean, x.mean(0), atol=1e-6)
    np.testing.assert_allclose(layer.programme, loading, atol=1e-6)
    assert not layer.programme[2].any()
    assert (layer.programme.norm(dim=1) < 1).all()


def test_loadings_shrink_where_they_are_no_larger_than_chance():
    rng = np.random.default_rng(1)
    place = rng.normal(size=(400, 1)).repeat(PROGRAMMES, 1)
    place[:, 1:] = rng.normal(size=(400, PROGRAMMES - 1))
    counts = np.column_stack([rng.poisson(np.exp(2 * place[:, 0] - 1)), rng.poisson(1.0, (400, 8))])
    layer = make()
    layer.fit_peaks(rows_of(counts.clip(0, 200)), np.arange(400), torch.from_numpy(place))
    length = layer.programme.norm(dim=1)
    assert length[0] > 0.9
    assert length[1:].mean() < 0.9 * length[0]
