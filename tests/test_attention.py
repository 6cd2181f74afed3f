"""Streamed links and their sums: equal to dense attention and to a plain dict, whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dense_crossrec import dense_weights, features, graphs_of
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.interpret.attention import stream_links
from scweave.interpret.links.sums import LinkSums
from scweave.models.crossrec import CrossRec, CrossRecConfig


def make_model(graphs, **options):
    torch.manual_seed(0)
    config = CrossRecConfig(**{"id_width": 12, "width": 8, "heads": 2, **options})
    model = CrossRec.from_graphs(graphs, config).double().eval()
    with torch.no_grad():
        for layer in (model.query, model.key):  # scores on both sides of the threshold
            layer.weight.mul_(1.2)
    return model


@torch.no_grad()
def dense_links(model, graphs):
    """(cell, gene, peak) -> mean weight over heads, from dense matrices."""
    links = {}
    batch = graphs.batch(range(len(graphs)))
    cells = graphs.pairs_of(range(len(graphs)))[0]
    for cell, (genes, expression, peaks, access) in zip(cells, graphs_of(batch), strict=True):
        chrom = model.gene_features.chrom[genes][:, None] == model.peak_features.chrom[peaks]
        weights = dense_weights(
            model,
            features(model.gene_features, genes, expression),
            features(model.peak_features, peaks, access),
            chrom.double(),
        )
        mean = torch.stack(weights).mean(0)
        for g, p in mean.nonzero().tolist():
            links[int(cell), int(genes[g]), int(peaks[p])] = float(mean[g, p])
    return links


@pytest.fixture
def graphs(random_dataset):
    return MultiomeGraphs(random_dataset)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_links_equal_dense_attention_for_any_batch_size(graphs, batch_size):
    model = make_model(graphs)
    links, n_cells = {}, 0
    for piece in stream_links(model, graphs, batch_size=batch_size, progress=False):
        assert (piece.cell.dtype, piece.gene.dtype, piece.peak.dtype) == (np.int64,) * 3
        assert piece.weight.dtype == np.float32
        assert (np.diff(piece.cell) >= 0).all()
        n_cells += piece.n_cells
        links |= dict(zip(zip(piece.cell, piece.gene, piece.peak, strict=True), piece.weight, strict=True))
    expected = dense_links(model, graphs)
    assert n_cells == len(graphs)
    assert len(expected) > 100
    assert links.keys() == expected.keys()
    np.testing.assert_allclose([links[key] for key in expected], list(expected.values()), rtol=1e-6)


def test_a_subset_keeps_the_rows_of_its_cells(random_dataset):
    graphs = MultiomeGraphs(random_dataset, split="test")[[2, 0]]
    cells = np.concatenate([p.cell for p in stream_links(make_model(graphs), graphs, progress=False)])
    assert set(cells) == {2, 8}


def test_what_cannot_be_mapped_is_refused(random_dataset, graphs):
    with pytest.raises(InputError, match=r"Linear has no attention .* --model crossrec"):
        next(stream_links(torch.nn.Linear(1, 1), graphs))
    pairs = MultiomeGraphs(random_dataset, view="pairs")
    with pytest.raises(InputError, match="view='cells'"):
        next(stream_links(make_model(pairs), pairs))
    with pytest.raises(InputError, match="batch size is 0"):
        next(stream_links(make_model(graphs), graphs, batch_size=0))


pieces = st.lists(
    st.lists(st.tuples(st.integers(0, 12), st.floats(0, 1, width=32)), max_size=20), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(pieces, st.integers(1, 30))
def test_sums_equal_a_plain_dict(pieces, buffer):
    sums, expected = LinkSums(buffer=buffer), {}
    for piece in pieces:
        keys = np.array([key for key, _ in piece], np.int64)
        sums.add(keys, np.array([weight for _, weight in piece], np.float32))
        for key, weight in piece:
            total, count = expected.get(key, (0.0, 0))
            expected[key] = total + weight, count + 1
    keys, totals, counts = sums.totals()
    assert keys.tolist() == sorted(expected)
    np.testing.assert_allclose(totals, [expected[key][0] for key in sorted(expected)], rtol=1e-12)
    assert counts.tolist() == [expected[key][1] for key in sorted(expected)]


def test_sums_hold_no_more_than_twice_the_distinct_keys():
    sums = LinkSums(buffer=100)
    for _ in range(200):
        sums.add(np.arange(50), np.ones(50))
        assert sums._held + len(sums._keys) <= 200
    keys, totals, counts = sums.totals()
    assert (totals == 200).all()
    assert (counts == 200).all()
    assert len(keys) == 50
