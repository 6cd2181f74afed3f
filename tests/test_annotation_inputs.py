"""Features of the simple annotators against plain dense numpy and scikit-learn in double precision."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.decomposition import PCA, TruncatedSVD

from handmade_experiment import build_one
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.models.annotation import inputs as module
from scweave.models.annotation.draws import stratified
from scweave.models.annotation.inputs import (
    Inputs,
    TfIdf,
    resolve,
    variable_genes,
    weighted_matrix,
)
from scweave.models.annotation.model import labelled
from scweave.models.annotation.prepared import Prepared

KINDS = ["lsi", "pca", "both", "tfidf", "logcounts"]
SPARSE = ("tfidf", "logcounts")
WIDTH = 5


@pytest.fixture(autouse=True)
def double():
    """Numbers are fitted and kept in double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=["random", "simulated"])
def graphs(request):
    return labelled(
        MultiomeGraphs(request.getfixturevalue(f"{request.param}_dataset"), view="cells", split="train")
    )


def cells_of(graphs):
    return graphs.pairs_of(range(len(graphs)))[0]


def every(graphs):
    return np.arange(len(graphs.cells))


def prepare(graphs, features, **options):
    return Prepared.of(graphs, features, **{"width": WIDTH, "seed": 1} | options)


def plain_tfidf(graphs):
    """TF-IDF of all cells, dense, fitted on the training cells."""
    counts = graphs.atac_rows.matrix(every(graphs)).toarray().astype(np.float64)
    seen = (counts[cells_of(graphs)] > 0).sum(0)
    idf = np.log(1 + len(graphs) / np.maximum(seen, 1)) * (seen > 0)
    values = np.log(1 + counts) * idf
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)


def plain_log(graphs):
    counts = graphs.rna_rows.matrix(every(graphs)).toarray().astype(np.float64)
    return np.log1p(1e4 * counts / np.maximum(counts.sum(1, keepdims=True), 1))


def scaled(sums, train):
    return (sums - sums[train].mean(0)) / np.sqrt(sums[train].var(0).mean())


def plain_lsi(graphs, *, width=WIDTH, seed=1):
    values, train = plain_tfidf(graphs), cells_of(graphs)
    svd = TruncatedSVD(width + 1, random_state=seed).fit(values[train])
    sums = values @ svd.components_.T
    depth = np.log1p(graphs.atac_rows.matrix(train).toarray().sum(1))
    deep = abs(np.corrcoef(sums[train, 0], depth)[0, 1]) > 0.5
    return scaled(sums[:, 1:] if deep else sums[:, :width], train), deep


def plain_pca(graphs, *, width=WIDTH):
    values, train = plain_log(graphs)[:, variable_genes(graphs)], cells_of(graphs)
    pca = PCA(width, svd_solver="full").fit(values[train])
    return scaled(pca.transform(values), train)


def up_to_sign(ours, theirs):
    signs = np.sign((ours * theirs).sum(0))
    np.testing.assert_allclose(ours * signs, theirs, rtol=0, atol=1e-8)


def changed(folder, dataset, *, cells=None, types=None):
    """A copy of a dataset with another table of cells, and more cell types in its manifest."""
    shutil.copytree(dataset, folder)
    table = pd.read_parquet(folder / "cells.parquet")
    (cells(table) if cells else table).to_parquet(folder / "cells.parquet", index=False)
    if types:
        manifest = folder / "dataset.json"
        names = '"cell_types": ' + str(types).replace("'", '"')
        text = manifest.read_text()
        begin = text.index('"cell_types"')
        manifest.write_text(text[:begin] + names + text[text.index("]", begin) + 1 :])
    return folder


def test_tfidf_equals_the_dense_formula(graphs):
    tfidf = TfIdf(len(graphs.peaks))
    tfidf.fit(graphs.atac_rows, cells_of(graphs))
    found = weighted_matrix(tfidf, graphs.atac_rows, every(graphs))
    np.testing.assert_allclose(found.toarray(), plain_tfidf(graphs), rtol=0, atol=1e-12)
    found = prepare(graphs, "tfidf").train
    np.testing.assert_allclose(found.toarray(), plain_tfidf(graphs)[cells_of(graphs)], rtol=0, atol=1e-12)


def test_log_counts_equal_the_dense_formula(graphs):
    values, train = plain_log(graphs), cells_of(graphs)
    values = values * (values[train] > 0).any(0)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    expected = np.divide(values, length, out=np.zeros_like(values), where=length > 0)
    inputs = prepare(graphs, "logcounts").inputs
    np.testing.assert_allclose(inputs.of(graphs, every(graphs)).toarray(), expected, rtol=0, atol=1e-12)


def test_lsi_is_truncated_svd_of_tfidf(graphs):
    expected, _ = plain_lsi(graphs)
    up_to_sign(prepare(graphs, "lsi").inputs.of(graphs, every(graphs)), expected)


@pytest.mark.parametrize("kind", ["deep", "level"])
def test_the_first_component_is_left_out_where_it_is_depth(random_dataset, tmp_path, kind):
    """Cells that differ by depth alone, and cells of equal depth of two kinds."""
    rng = np.random.default_rng(0)
    graphs = labelled(MultiomeGraphs(random_dataset, split="train"))
    counts = np.zeros((40, 90), np.int64)
    for cell in range(40):
        if kind == "deep":
            counts[cell, rng.choice(90, 3 + 2 * cell, replace=False)] = 1
        else:
            counts[cell, 45 * (cell % 2) + rng.choice(45, rng.integers(19, 22), replace=False)] = 1
    rows = sparse.csr_matrix(counts)
    graphs.atac_rows = type(graphs.atac_rows)(rows.indptr.astype(np.int64), rows.indices, rows.data, 90)
    expected, deep = plain_lsi(graphs)
    assert deep == (kind == "deep")
    up_to_sign(prepare(graphs, "lsi").inputs.of(graphs, every(graphs)), expected)


def test_pca_is_that_of_highly_variable_genes(graphs):
    assert 0 < len(variable_genes(graphs)) <= len(graphs.genes)
    up_to_sign(prepare(graphs, "pca").inputs.of(graphs, every(graphs)), plain_pca(graphs))


def test_all_genes_are_read_where_none_is_marked(random_dataset):
    graphs = labelled(MultiomeGraphs(random_dataset, split="train"))
    graphs.genes.tensors["highly_variable"].zero_()
    assert list(variable_genes(graphs)) == list(range(len(graphs.genes)))
    up_to_sign(prepare(graphs, "pca").inputs.of(graphs, every(graphs)), plain_pca(graphs))


def test_both_are_the_two_side_by_side(graphs):
    lsi, pca, both = (prepare(graphs, name) for name in ("lsi", "pca", "both"))
    np.testing.assert_array_equal(both.train, np.concatenate([lsi.train, pca.train], 1))
    shared = Inputs.beside(lsi.inputs, pca.inputs)
    np.testing.assert_array_equal(shared.of(graphs, every(graphs)), both.inputs.of(graphs, every(graphs)))
    assert shared.get_submodule("lsi") is lsi.inputs.get_submodule("lsi")
    assert (both.inputs.width, both.inputs.modalities) == (2 * WIDTH, ("rna", "atac"))


@pytest.mark.parametrize("features", ["lsi", "pca", "both"])
def test_training_features_have_mean_zero_and_mean_variance_one(graphs, features):
    train = prepare(graphs, features).train
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-10)
    np.testing.assert_allclose(train.var(0).mean(), 1, rtol=1e-10)


@pytest.mark.parametrize("features", ["lsi", "pca", "both"])
def test_a_batch_in_any_order_and_chunks_of_any_size_give_the_same(graphs, features, monkeypatch):
    inputs, which = prepare(graphs, features).inputs, [5, 0, 3, 3, 8]
    expected = inputs.of(graphs, graphs.pairs_of(which)[0])
    np.testing.assert_allclose(inputs(graphs.batch(which)), expected, rtol=0, atol=1e-12)
    for i, one in enumerate(which):
        np.testing.assert_allclose(inputs(graphs.batch([one]))[0], expected[i], rtol=0, atol=1e-12)
    monkeypatch.setattr(module, "_CHUNK", 2)
    np.testing.assert_array_equal(inputs.of(graphs, graphs.pairs_of(which)[0]), expected)


@pytest.mark.parametrize("features", KINDS)
def test_single_precision_and_cells_without_counts(random_dataset, features):
    torch.set_default_dtype(torch.float32)
    graphs = labelled(MultiomeGraphs(random_dataset, split="train"))
    assert graphs.atac_rows.matrix([3]).nnz == graphs.rna_rows.matrix([3]).nnz == 0
    found = prepare(graphs, features).inputs.of(graphs, np.array([3, 4]))
    assert np.isfinite(found.toarray() if features in SPARSE else found).all()
    if features in SPARSE:
        assert found[0].nnz == 0


@pytest.mark.parametrize("features", KINDS)
def test_test_cells_change_nothing(random_dataset, tmp_path, features):
    other = tmp_path / "other"
    shutil.copytree(random_dataset, other)
    split = pd.read_parquet(other / "cells.parquet")["split"].to_numpy()
    for name in ("rna", "atac"):
        values, pointers = np.load(other / f"{name}_values.npy"), np.load(other / f"{name}_indptr.npy")
        values[np.repeat(split == "test", np.diff(pointers))] += 7
        np.save(other / f"{name}_values.npy", values)
    first, second = (
        prepare(labelled(MultiomeGraphs(path, split="train")), features) for path in (random_dataset, other)
    )
    for name, value in first.inputs.state_dict().items():
        assert torch.equal(value, second.inputs.state_dict()[name]), name
    dense = [x.toarray() if features in SPARSE else x for x in (first.validation, second.validation)]
    np.testing.assert_array_equal(*dense)


def test_unlabelled_and_unknown_cells_take_no_part(random_dataset, tmp_path):
    def one_more_type(table):
        table.loc[(table["split"] == "validation") & (table.index > 20), "cell_type"] = "Z"
        return table

    dataset = changed(tmp_path / "dataset", random_dataset, cells=one_more_type, types=["A", "B", "Z"])
    prepared = prepare(labelled(MultiomeGraphs(dataset, split="train")), "lsi")
    cells = pd.read_parquet(dataset / "cells.parquet")
    assert prepared.cell_types == ("A", "B")
    train = cells[(cells["split"] == "train") & cells["cell_type"].notna()]
    held_out = cells[(cells["split"] == "validation") & cells["cell_type"].isin(["A", "B"])]
    assert list(np.array(["A", "B"])[prepared.codes]) == list(train["cell_type"])
    assert list(np.array(["A", "B"])[prepared.truth]) == list(held_out["cell_type"])
    assert (len(prepared.train), len(prepared.validation)) == (len(train), len(held_out))
    np.testing.assert_array_equal(
        prepared.validation, prepared.inputs.of(MultiomeGraphs(dataset), held_out.index.to_numpy())
    )


@pytest.mark.parametrize("features", KINDS)
def test_many_cells_are_drawn_from(simulated_dataset, features):
    graphs = labelled(MultiomeGraphs(simulated_dataset, split="train"))
    few, all_of_them = prepare(graphs, features, most=60), prepare(graphs, features)
    assert all_of_them.notes == ()
    assert len(few.notes) == 1 and f"60 of {len(graphs)} training cells" in few.notes[0]
    if features in SPARSE:
        assert few.train.shape[0] == len(few.codes) < 65
        assert set(few.codes) == set(all_of_them.codes)
    else:
        assert len(few.train) == len(graphs)
    if features in ("lsi", "tfidf"):  # rarity comes from all cells
        name = "tfidf.rarity" if features == "tfidf" else "lsi.tfidf.rarity"
        assert torch.equal(few.inputs.state_dict()[name], all_of_them.inputs.state_dict()[name])


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 120), st.integers(0, 3))
def test_a_stratified_draw_keeps_shares_and_every_type(sizes, most, seed):
    codes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    kept = stratified(codes, most, seed)
    assert (np.diff(kept) > 0).all()
    assert min(most, len(codes)) <= len(kept) <= most + len(sizes)
    share = min(1, most / len(codes))
    np.testing.assert_array_equal(np.bincount(codes[kept]), np.ceil(np.array(sizes) * share))


@pytest.mark.parametrize(("name", "feature"), [("atac", "lsi"), ("rna", "pca")])
def test_one_modality_is_enough_for_its_features(made, tmp_path, name, feature):
    build_one(tmp_path, made, name, gtf=False, fasta=False)
    graphs = labelled(MultiomeGraphs(tmp_path / "dataset", split="train"))
    assert resolve("auto", graphs.modalities) == feature
    prepared = prepare(graphs, "auto", width=50)
    assert prepared.inputs.modalities == (name,)
    assert prepared.inputs.width == 50
    assert np.isfinite(prepared.train).all()
    missing = {"atac": "RNA", "rna": "ATAC"}[name]
    for features in set(KINDS) - set({"atac": ["lsi", "tfidf"], "rna": ["pca", "logcounts"]}[name]):
        with pytest.raises(InputError, match=f"features={features} needs .*{missing}.* has no {missing}"):
            prepare(graphs, features)


def test_more_components_than_there_are_stay_zero(random_dataset):
    graphs = labelled(MultiomeGraphs(random_dataset, split="train"))
    found = prepare(graphs, "both", width=50).train
    assert found.shape == (len(graphs), 100)
    n = len(graphs)
    assert not found[:, n:50].any()
    assert not found[:, 50 + n - 1 :].any()
    assert np.isfinite(found).all()


@pytest.mark.parametrize("values", [0, 1])
def test_cells_that_are_all_alike_have_features_all_zero(random_dataset, values):
    graphs = labelled(MultiomeGraphs(random_dataset, split="train"))
    for name, width in (("rna", len(graphs.genes)), ("atac", len(graphs.peaks))):
        rows = sparse.csr_matrix(np.full((40, width), values))
        rows = type(graphs.atac_rows)(rows.indptr.astype(np.int64), rows.indices, rows.data, width)
        setattr(graphs, f"{name}_rows", rows)
    found = prepare(graphs, "both").train
    np.testing.assert_allclose(found, 0, atol=1e-5)
