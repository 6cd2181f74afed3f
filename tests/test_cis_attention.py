"""Prior edges, and attention over them against a softmax written out gene by gene."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dense_cis import dense_attention, random_edges, same, same_gradients
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.graphs.schema import NO_DISTANCE, UNPLACED
from scweave.models.layers import prior_edges
from scweave.models.layers.cis_attention import CisAttention
from scweave.models.layers.prior_edges import PriorEdges

WIDTH = 4


def make(edges, **options):
    torch.manual_seed(0)
    attention = CisAttention(edges, WIDTH, **options).double()
    with torch.no_grad():
        attention.query.normal_(0, 1.5)
        if attention.bias is not None:
            attention.bias.normal_(0, 1)
    return attention


def random_key(n_peaks=9, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_peaks, WIDTH, generator=generator, dtype=torch.float64).requires_grad_()


def per_gene(edges, weights):
    return torch.zeros(edges.n_genes, weights.shape[1]).double().index_add(0, edges.gene, weights.double())


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"distance": False},
        {"top": 1},
        {"top": 3},
        {"threshold": 0.6},
        {"top": 3, "threshold": 0.5},
        {"top": 10, "threshold": 0.8},
        {"top": 2, "distance": False},
    ],
    ids=str,
)
def test_weights_and_gradients_equal_the_plain_softmax(heads, options):
    edges, key = random_edges(), random_key()
    attention = make(edges, heads=heads, **options)
    ours, theirs = attention(key), dense_attention(attention, key)[edges.gene, edges.peak]
    same(ours, theirs)
    assert int((ours > 0).sum()) > 0
    if options.get("top", 9) < 9 or options.get("threshold"):
        assert int((ours == 0).sum()) > 0
    found = same_gradients(ours, theirs, dict(attention.named_parameters()) | {"key": key})
    assert all(float(grad.abs().max()) > 1e-6 for grad in found.values()) or options.get("top") == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(0, 4), st.booleans())
def test_weights_of_a_gene_add_up_to_one(seed, heads, top, distance):
    edges = random_edges(seed)
    attention = make(edges, heads=heads, top=top, distance=distance)
    weights = attention(random_key(seed=seed))
    has_edges = torch.bincount(edges.gene, minlength=edges.n_genes) > 0
    same(per_gene(edges, weights), has_edges.double()[:, None].expand(-1, heads))
    if top:
        assert int(per_gene(edges, weights > 0).max()) <= top


def test_attention_begins_nearly_uniform():
    edges = random_edges()
    weights = CisAttention(edges, WIDTH, heads=2).double()(random_key())
    uniform = 1 / torch.bincount(edges.gene)[edges.gene].double()
    torch.testing.assert_close(weights, uniform[:, None].expand(-1, 2), rtol=0.1, atol=0)
    assert not torch.equal(weights[:, 0], weights[:, 1])


def test_ties_for_the_best_go_to_the_first_edges_of_a_gene():
    edges = random_edges()
    attention = make(edges, top=2, distance=False)
    torch.nn.init.zeros_(attention.query)
    weights = attention(random_key())[:, 0]
    for gene in range(1, edges.n_genes):
        own = weights[edges.gene == gene]
        assert own[:2].tolist() == [1 / min(len(own), 2)] * min(len(own), 2)
        assert not own[2:].any()


def test_the_bias_reaches_from_the_first_knot_to_the_last():
    distance = torch.tensor([0, -1, 250_000, -250_000, NO_DISTANCE])
    edges = PriorEdges(torch.zeros(5).long(), torch.arange(5), distance, 1, 5)
    attention = make(edges)
    torch.nn.init.zeros_(attention.query)
    scores = attention.scores(random_key(5))[:, 0]
    assert scores[0] == attention.bias[0, 0, 0]
    torch.testing.assert_close(scores[1], attention.bias[1, 0, 0], rtol=0, atol=0.05)
    same(scores[2:4], attention.bias[:, -1, 0])
    assert scores[4] == 0


def test_edges_without_any_distance_are_finite():
    edges = random_edges()
    bare = PriorEdges(
        edges.gene, edges.peak, torch.full_like(edges.gene, NO_DISTANCE), edges.n_genes, edges.n_peaks
    )
    assert not bare.placed.any()
    with_bias, without = make(bare), make(bare, distance=False)
    without.load_state_dict({**without.state_dict(), "query": with_bias.query})
    weights = with_bias(random_key())
    same(weights, without(random_key()))
    weights.square().sum().backward()
    assert not with_bias.bias.grad.any()
    assert torch.isfinite(with_bias.query.grad).all()


@pytest.mark.parametrize("distance", [True, False])
def test_penalty_is_the_density_of_normal_priors(distance):
    first, second = (make(random_edges(), distance=distance) for _ in range(2))
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.mul_(0.3)
    expected = 0.0
    for attention, sign in ((first, 1), (second, -1)):
        expected -= sign * stats.norm.logpdf(attention.query.detach(), scale=7**-0.5).sum()
        if distance:
            expected -= sign * stats.norm.logpdf(attention.bias.detach(), scale=0.1**-0.5).sum()
    assert float((first.penalty(7) - second.penalty(7)).detach()) == pytest.approx(expected, rel=1e-9)


def triples(edges):
    return list(zip(edges.gene.tolist(), edges.peak.tolist(), edges.distance.tolist(), strict=True))


def test_edges_by_peak_are_the_same_edges():
    edges = random_edges()
    for peak in range(edges.n_peaks):
        here = edges.by_peak[edges.peak_ptr[peak] : edges.peak_ptr[peak + 1]]
        assert here.tolist() == (edges.peak == peak).nonzero().squeeze(1).tolist()
    assert edges.peak_ptr[-1] == len(edges)


def test_edges_of_a_window_prior_are_the_stored_ones(random_dataset):
    graphs = MultiomeGraphs(random_dataset)
    edges = PriorEdges.from_graphs(graphs)
    stored = graphs.cis
    gene = np.repeat(np.arange(len(graphs.genes)), np.diff(stored.indptr)).tolist()
    assert triples(edges) == list(zip(gene, stored.peak.tolist(), stored.distance.tolist(), strict=True))
    assert (edges.n_genes, edges.n_peaks) == (len(graphs.genes), len(graphs.peaks))
    assert edges.placed.all()


def test_edges_of_a_chromosome_prior_are_all_pairs_on_a_chromosome(chromosome_dataset):
    graphs = MultiomeGraphs(chromosome_dataset)
    genes, peaks = (graphs.store.table(name).to_dict("records") for name in ("genes", "peaks"))
    expected = []
    for g, gene in enumerate(genes):
        for p, peak in enumerate(peaks):
            if gene["chrom"] == peak["chrom"]:
                centre = (peak["start"] + peak["end"]) // 2
                expected.append((g, p, (centre - gene["tss"]) * (1 if gene["strand"] == "+" else -1)))
    edges = PriorEdges.from_graphs(graphs)
    assert triples(edges) == expected
    assert len(edges) == graphs.n_cis


def test_genes_that_have_no_place_have_no_edges_and_are_refused(chromosome_dataset):
    graphs = MultiomeGraphs(chromosome_dataset)
    graphs.genes.chrom[:] = UNPLACED
    with pytest.raises(InputError, match=r"has no edge between a peak and a gene.*--mode published"):
        PriorEdges.from_graphs(graphs)


def test_more_edges_than_fit_are_refused(chromosome_dataset, monkeypatch):
    graphs = MultiomeGraphs(chromosome_dataset)
    monkeypatch.setattr(prior_edges, "MOST_EDGES", graphs.n_cis)
    assert len(PriorEdges.from_graphs(graphs)) == graphs.n_cis
    monkeypatch.setattr(prior_edges, "MOST_EDGES", graphs.n_cis - 1)
    with pytest.raises(InputError, match=f"has {graphs.n_cis:,} pairs .*Build it with --window BP"):
        PriorEdges.from_graphs(graphs)
