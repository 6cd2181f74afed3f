"""Profiles, and their encoder, against dense numpy and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dense_cis import profiles_of, random_profiles, same, same_gradients
from scweave.graphs.csr import CsrRows
from scweave.graphs.dataset import MultiomeGraphs
from scweave.models.layers import profiles as module
from scweave.models.layers.profile_encoder import ProfileEncoder
from scweave.models.layers.profiles import DEPTHS, Profiles

COMPONENTS, WIDTH, N_FEATURES = 4, 5, 9


@pytest.fixture(scope="module")
def graphs(random_dataset):
    return MultiomeGraphs(random_dataset, view="pairs")


def equal(first, second):
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in ("ids", "counts", "ptr"))


def test_profiles_of_a_batch_are_those_of_its_cells(graphs):
    which = [0, 3, 41, 60, 5]
    batch, (rna, atac) = graphs.batch(which), graphs.pairs_of(which)
    assert (rna != atac).any()
    assert equal(Profiles.genes(batch), Profiles.of(graphs.rna_rows, rna))
    assert equal(Profiles.peaks(batch), Profiles.of(graphs.atac_rows, atac))
    dense = Profiles.peaks(batch).dense(len(graphs.peaks))
    np.testing.assert_array_equal(dense, graphs.atac_rows.matrix(atac).toarray())


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_chunks_are_all_cells_in_order(graphs, chunk, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    cells = np.array([7, 2, 3, 30, 2])
    parts = list(Profiles.chunks(graphs.rna_rows, cells))
    assert [len(part) for part in parts] == [min(chunk, 5 - i) for i in range(0, 5, chunk)]
    dense = torch.cat([part.dense(len(graphs.genes)) for part in parts])
    assert torch.equal(dense, Profiles.of(graphs.rna_rows, cells).dense(len(graphs.genes)))


def test_sums_by_cell_equal_dense_ones():
    profiles = random_profiles(n_cells=6)
    dense = profiles.dense(N_FEATURES)
    table = torch.randn(N_FEATURES, 3).double()
    assert len(profiles) == 6
    assert not dense[2].any()
    same(profiles.total(profiles.counts), dense.sum(1))
    same(profiles.bag(profiles.counts, table), dense @ table)
    same(profiles.depths(), torch.log1p(torch.stack([dense.sum(1), (dense > 0).double().sum(1)], 1)))
    assert torch.equal(profiles.cell, dense.nonzero()[:, 0])


@pytest.mark.parametrize("mask", [[1, 0, 1, 1, 0], [0] * 5, [1] * 5, [0, 0, 1, 0, 0]], ids=str)
def test_some_cells_are_rows_of_the_dense_counts(mask):
    profiles, cells = random_profiles(), torch.tensor(mask, dtype=torch.bool)
    some = profiles.some(cells)
    assert len(some) == sum(mask)
    assert torch.equal(some.dense(N_FEATURES), profiles.dense(N_FEATURES)[cells])


def make(weighting="tf-idf", *, components=COMPONENTS, **options):
    torch.manual_seed(0)
    encoder = ProfileEncoder(
        N_FEATURES, components, WIDTH, hidden=6, weighting=weighting, **{"dropout": 0.0, **options}
    ).double()
    with torch.no_grad():
        for parameter in (*encoder.parameters(), encoder.table, encoder.centre):
            parameter.normal_()
        for positive in (encoder.rarity, encoder.depth_centre, encoder.depth_scale):
            positive.uniform_(0.5, 2)
    return encoder


def dense_values(encoder, dense):
    weight = dense.sqrt() if encoder.weighting == "sqrt" else torch.log1p(dense) * encoder.rarity
    return weight / weight.norm(dim=1, keepdim=True).clamp_min(1e-6)


def dense_features(encoder, dense):
    summed = dense_values(encoder, dense) @ (encoder.table + encoder.change) - encoder.centre
    depths = torch.log1p(torch.stack([dense.sum(1), (dense > 0).double().sum(1)], 1))
    return torch.cat([summed, (depths - encoder.depth_centre) / encoder.depth_scale], 1)


@pytest.mark.parametrize("weighting", ["sqrt", "tf-idf"])
def test_encodings_and_gradients_equal_the_dense_formula(weighting):
    encoder, profiles = make(weighting).eval(), random_profiles()
    dense = profiles.dense(N_FEATURES)
    features = dense_features(encoder, dense)
    theirs = encoder.linear(features) + encoder.network(features)
    same(encoder(profiles), theirs)
    same_gradients(encoder(profiles), theirs, dict(encoder.named_parameters()))
    same(encoder.position(profiles), dense_values(encoder, dense) @ encoder.table - encoder.centre)
    same(encoder.depths(profiles), features[:, -DEPTHS:])


def test_a_cell_alone_equals_the_cell_in_a_batch():
    encoder, profiles = make().eval(), random_profiles()
    for cell in range(len(profiles)):
        own = torch.arange(len(profiles)) == cell
        torch.testing.assert_close(encoder(profiles.some(own)), encoder(profiles)[own], rtol=0, atol=1e-12)


def test_features_are_left_out_in_training_only():
    encoder, profiles = make(token_dropout=0.5), random_profiles(n_cells=40)
    torch.manual_seed(3)
    values = encoder.values(profiles, drop=0.5)
    kept = values > 0
    assert 0.4 < float(kept.double().mean()) < 0.6
    length = profiles.total(values * values)
    expected = (profiles.total(kept.double()) > 0).double()
    same(length, expected)
    assert not torch.equal(encoder.features(profiles), encoder.features(profiles))
    assert torch.equal(encoder.position(profiles), encoder.position(profiles))
    encoder.eval()
    assert torch.equal(encoder.features(profiles), encoder.features(profiles))


def test_it_starts_with_a_linear_map_and_a_silent_network():
    torch.manual_seed(0)
    encoder = ProfileEncoder(N_FEATURES, COMPONENTS, WIDTH).double().eval()
    profiles, linear = random_profiles(), torch.randn(COMPONENTS + DEPTHS, 3).double()
    encoder.table.normal_()
    encoder.start_linear(linear)
    encoded = encoder(profiles)
    same(encoded[:, :3], encoder.features(profiles) @ linear)
    assert not encoded[:, 3:].any()


def rows_of(dense):
    cells = profiles_of(dense)
    return CsrRows(
        cells.ptr.numpy(), cells.ids.numpy(), cells.counts.numpy().astype(np.uint8), dense.shape[1]
    )


@pytest.mark.parametrize("weighting", ["sqrt", "tf-idf"])
def test_fitted_components_equal_an_exact_decomposition(weighting):
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (40, N_FEATURES))
    train = np.sort(rng.permutation(40)[:30])
    encoder = make(weighting)
    encoder.fit_components(rows_of(counts), train, seed=0)
    own = torch.from_numpy(counts[train]).double()
    seen = (own > 0).sum(0).clamp_min(1)
    if weighting == "tf-idf":
        torch.testing.assert_close(encoder.rarity, torch.log1p(30 / seen.double()), rtol=1e-6, atol=0)
    position = encoder.position(profiles_of(counts[train]))
    torch.testing.assert_close(position.mean(0), torch.zeros(COMPONENTS).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        position.std(0, correction=0), torch.ones(COMPONENTS).double(), rtol=1e-5, atol=0
    )
    axes = torch.linalg.svd(dense_values(encoder, own))[2][:COMPONENTS]
    found = encoder.table / encoder.table.norm(dim=0)
    torch.testing.assert_close((axes @ found).abs(), torch.eye(COMPONENTS).double(), rtol=0, atol=1e-4)
    depths = encoder.depths(profiles_of(counts[train]))
    torch.testing.assert_close(depths.mean(0), torch.zeros(DEPTHS).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(depths.std(0, correction=0), torch.ones(DEPTHS).double(), rtol=1e-5, atol=0)


def test_few_cells_have_few_components():
    counts = np.random.default_rng(1).poisson(1.0, (4, N_FEATURES))
    encoder = ProfileEncoder(N_FEATURES, 8, WIDTH).double().eval()
    encoder.fit_components(rows_of(counts), np.arange(4), seed=0)
    assert encoder.table.abs().sum(0).bool().tolist() == [True] * 3 + [False] * 5
    assert torch.isfinite(encoder(profiles_of(counts))).all()
    assert not encoder.position(profiles_of(counts))[:, 3:].any()


def test_components_depend_on_the_seed_alone():
    rows = rows_of(np.random.default_rng(1).poisson(1.0, (30, N_FEATURES)))
    tables = []
    for _ in range(2):
        encoder = make()
        encoder.fit_components(rows, np.arange(30), seed=4)
        tables.append(encoder.table)
    assert torch.equal(*tables)


def test_copies_of_few_cells_give_no_components_of_noise():
    rng = np.random.default_rng(0)
    counts = np.tile(rng.poisson(1.0, (3, N_FEATURES)), (10, 1))
    encoder = make(components=6)
    encoder.fit_components(rows_of(counts), np.arange(30), seed=0)
    other = encoder.position(profiles_of(rng.poisson(1.0, (20, N_FEATURES))))
    assert float(other.abs().max()) < 20
    assert int((encoder.table == 0).all(0).sum()) >= 3


def test_features_that_training_never_saw_do_not_shrink_a_cell():
    rng = np.random.default_rng(1)
    counts = rng.poisson(1.0, (30, N_FEATURES))
    counts[:, 0] = 0
    encoder = make("tf-idf")
    encoder.fit_components(rows_of(counts), np.arange(30), seed=0)
    cell = rng.poisson(1.0, (1, N_FEATURES))
    cell[:, 0] = 0
    seen = cell.copy()
    seen[:, 0] = 9
    torch.testing.assert_close(
        encoder.position(profiles_of(cell)), encoder.position(profiles_of(seen)), rtol=0, atol=1e-12
    )
