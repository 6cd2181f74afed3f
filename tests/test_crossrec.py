"""CrossRec against its dense formula in float64: outputs, gradients, links, batches of any size."""

from __future__ import annotations

import pytest
import torch

from dense_crossrec import dense_counts, dense_forward, dense_loss, dense_weights, features, graphs_of
from scweave.graphs.dataset import MultiomeGraphs
from scweave.models.crossrec import CrossRec, CrossRecConfig


@pytest.fixture
def graphs(chromosome_dataset):
    return MultiomeGraphs(chromosome_dataset, view="pairs")


def make(graphs, **options):
    torch.manual_seed(0)
    config = CrossRecConfig(**{"id_width": 12, "width": 8, "dropout": 0.0, **options})
    model = CrossRec.from_graphs(graphs, config).double()
    with torch.no_grad():
        for layer in (model.query, model.key):  # scores on both sides of the threshold
            layer.weight.mul_(1.2)
    return model


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    grads = {}
    for name, parameter in model.named_parameters():
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        grads[name] = grad.to_dense().clone() if grad.is_sparse else grad.clone()
    return grads


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("which", [[0], [3], [0, 1, 2, 3, 41, 42, 43, 0], list(range(60))])
def test_outputs_equal_the_dense_formula(graphs, heads, which):
    model, batch = make(graphs, heads=heads), graphs.batch(which)
    ours = model(batch)
    logits, genes, peaks = dense_forward(model, batch)
    torch.testing.assert_close(ours.logits, logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.genes, genes, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.peaks, peaks, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.integration, torch.cat([genes, peaks], 1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "options",
    [{}, {"heads": 2}, {"target": "binary"}, {"alpha": 0.0}, {"sparse_ids": False}, {"on_above": 2}],
)
def test_loss_and_gradients_equal_the_dense_formula(graphs, options):
    model = make(graphs, **options)
    for which in ([0], [41], [0, 1, 2, 3, 41, 42, 43, 0]):
        batch = graphs.batch(which)
        ours, theirs = model.loss(batch)["loss"], dense_loss(model, batch) if model.config.alpha else None
        if theirs is None:
            theirs = torch.nn.functional.cross_entropy(
                dense_forward(model, batch)[0], batch["cell"].match.long()
            )
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        mine, other = gradients(model, ours), gradients(model, theirs)
        for name, grad in other.items():
            torch.testing.assert_close(
                mine[name], grad, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}"
            )
        assert max(float(grad.abs().max()) for name, grad in other.items() if "query" in name) > 1e-6


def test_cases_that_matter_are_in_the_oracle(graphs):
    """Fewer than ten peaks, off-chromosome fill, negative scores in the ten, unplaced genes, empty cells."""
    model, batch = make(graphs), graphs.batch(range(len(graphs)))
    seen = set()
    for gene_ids, expression, peak_ids, access in graphs_of(batch):
        genes = features(model.gene_features, gene_ids, expression)
        peaks = features(model.peak_features, peak_ids, access)
        same = model.gene_features.chrom[gene_ids][:, None] == model.peak_features.chrom[peak_ids][None]
        scores = (model.query(genes) @ model.key(peaks).T) * same
        passed = (
            (torch.sigmoid(scores) > 0.8).any(1) if len(peak_ids) else torch.zeros(len(gene_ids), dtype=bool)
        )
        few = (scores > 0).sum(1) < 10
        others = len(peak_ids) - same.sum(1)
        seen |= {"empty"} if not len(peak_ids) else set()
        seen |= {"unplaced"} if (model.gene_features.chrom[gene_ids] < 0).any() else set()
        seen |= {"passes"} if passed.any() else set()
        seen |= {"fill"} if (passed & few & (others > 0)).any() else set()
        seen |= (
            {"negative"}
            if (passed & few & ((scores > 0).sum(1) + others < 10) & (scores < 0).any(1)).any()
            else set()
        )
    assert seen == {"empty", "unplaced", "passes", "fill", "negative"}


def test_links_are_the_dense_attention(graphs):
    for heads in (1, 2):
        model, batch = make(graphs, heads=heads), graphs.batch(range(12))
        links = model.attention(batch)
        dense = torch.zeros(batch["gene"].num_nodes, batch["peak"].num_nodes, heads).double()
        for i, (gene_ids, expression, peak_ids, access) in enumerate(graphs_of(batch)):
            genes = features(model.gene_features, gene_ids, expression)
            peaks = features(model.peak_features, peak_ids, access)
            same = model.gene_features.chrom[gene_ids][:, None] == model.peak_features.chrom[peak_ids][None]
            block = torch.stack(dense_weights(model, genes, peaks, same.double()), 2)
            g, p = batch["gene"].ptr, batch["peak"].ptr
            dense[g[i] : g[i + 1], p[i] : p[i + 1]] = block
        ours = torch.zeros_like(dense)
        ours[links.gene, links.peak] = links.weight
        torch.testing.assert_close(ours, dense, rtol=1e-9, atol=1e-12)
        assert len(links.gene) == int((dense > 0).any(2).sum()) > 0


def test_translation_counts_equal_the_dense_formula(graphs):
    model, batch = make(graphs), graphs.batch([0, 3, 5, 41])
    dense = torch.stack([dense_counts(model, peaks, access) for _, _, peaks, access in graphs_of(batch)])
    dense = dense.detach().round()  # the straight-through sum carries rounding
    assert torch.equal(model.translate(batch), dense)
    mask = torch.tensor([False, True, False, True])
    assert torch.equal(model.translate(batch, mask), dense[mask])
    assert set(model.switch(dense).unique().tolist()) <= {0.0, 1.0}


def test_one_pair_alone_equals_the_pair_in_a_batch(graphs):
    model = make(graphs).eval()
    together = model(graphs.batch(range(20))).logits
    alone = torch.cat([model(graphs.batch([i])).logits for i in range(20)])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-10)
    backwards = model(graphs.batch(range(19, -1, -1))).logits.flip(0)
    torch.testing.assert_close(backwards, together, rtol=0, atol=1e-10)


def test_adaptive_alpha_keeps_translation_at_a_tenth(graphs):
    model, batch = make(graphs, adaptive_alpha=True), graphs.batch([0, 1, 2])
    parts = model.loss(batch)
    torch.testing.assert_close(parts["loss"], 1.1 * parts["matching"])
