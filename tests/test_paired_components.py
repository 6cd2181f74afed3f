"""Components of both modalities against scanpy, scikit-learn and numpy on dense matrices, in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import scanpy as sc
import torch
from anndata import AnnData
from scipy import sparse
from sklearn.decomposition import PCA, TruncatedSVD

from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.models.annotation import components as module
from scweave.models.annotation.components import principal_axes
from scweave.models.annotation.inputs import variable_genes
from scweave.models.annotation.paired_components import PairedComponents, most_components
from scweave.models.registry import kind_of
from tiny_pairs import TINY, cells_of, dense_of, emptied, redrawn, training_cells

WIDTH = 5
LIMITS = {
    "covariance_eigh": {},
    "arpack": {"_FEW_FEATURES": 0},
    "randomised": {"_FEW_FEATURES": 0, "_FEW_AXES": 0},
}


@pytest.fixture(autouse=True)
def double():
    """Numbers are fitted and kept in double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=["random", "simulated"])
def root(request):
    return request.getfixturevalue(f"{request.param}_dataset")


def counted(rows, cells):
    """Cells that have counts."""
    return cells[np.diff(rows.indptr)[cells] > 0]


def read(components, graphs, cells):
    """Components of cells, (cells, width) of RNA and of ATAC, and what is there."""
    pair = components(graphs.batch_of_pairs(cells, cells, cis=False))
    return pair.rna.numpy(), pair.atac.numpy(), pair.has.numpy()


def up_to_sign(ours, theirs, atol=1e-8):
    signs = np.sign((ours * theirs).sum(0))
    np.testing.assert_allclose(ours * signs, theirs, rtol=0, atol=atol)


def plain_log(rows, cells):
    counts = dense_of(rows, cells)
    return np.log1p(1e4 * counts / np.maximum(counts.sum(1, keepdims=True), 1))


def scaled(sums, train):
    """Sums of all cells, centred and of mean variance one over training cells."""
    return (sums - sums[train].mean(0)) / np.sqrt(sums[train].var(0).mean())


def plain_pca(rows, train, features, every, width=WIDTH):
    pca = PCA(width, svd_solver="full").fit(plain_log(rows, train)[:, features])
    return scaled(pca.transform(plain_log(rows, every)[:, features]), train)


def test_pca_of_genes_equals_scanpy_for_training_and_for_new_cells(root):
    graphs = training_cells(root)
    every, rows = np.arange(len(graphs.cells)), graphs.rna_rows
    train, genes = counted(rows, cells_of(graphs)), variable_genes(graphs)
    data = AnnData(dense_of(rows, train))
    sc.pp.normalize_total(data, target_sum=1e4)
    sc.pp.log1p(data)
    data = data[:, genes].copy()
    sc.pp.pca(data, n_comps=WIDTH, zero_center=True, svd_solver="full", dtype="float64")
    components = PairedComponents.fitted(graphs, WIDTH, "pca")
    scale = float(components.rna.scale)
    assert scale == pytest.approx(np.sqrt(data.obsm["X_pca"].var(0).mean()), rel=1e-12)
    up_to_sign(read(components, graphs, train)[0] * scale, data.obsm["X_pca"])
    new = np.setdiff1d(every, train)
    assert len(new)
    projected = (plain_log(rows, new)[:, genes] - data.X.mean(0)) @ data.varm["PCs"]
    up_to_sign(read(components, graphs, new)[0] * scale, projected)


def test_components_of_peaks_equal_the_dense_ones(root):
    graphs = training_cells(root)
    every, rows = np.arange(len(graphs.cells)), graphs.atac_rows
    train = counted(rows, cells_of(graphs))
    found = read(PairedComponents.fitted(graphs, WIDTH, "pca"), graphs, every)[1]
    up_to_sign(found, plain_pca(rows, train, np.arange(rows.n_columns), every))
    counts = dense_of(rows, every)
    seen = (counts[train] > 0).sum(0)
    values = np.log1p(counts) * np.log(1 + len(train) / np.maximum(seen, 1)) * (seen > 0)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
    sums = values @ TruncatedSVD(WIDTH + 1, random_state=4).fit(values[train]).components_.T
    deep = abs(np.corrcoef(sums[train, 0], np.log1p(counts[train].sum(1)))[0, 1]) > 0.5
    expected = scaled(sums[:, 1:] if deep else sums[:, :WIDTH], train)
    up_to_sign(read(PairedComponents.fitted(graphs, WIDTH, "lsi", seed=4), graphs, every)[1], expected)


def test_pca_reads_the_most_variable_peaks_where_so_many_are_asked_for(simulated_dataset):
    graphs = training_cells(simulated_dataset)
    every, rows, train = np.arange(len(graphs.cells)), graphs.atac_rows, cells_of(graphs)
    train = counted(rows, train)
    chosen = np.sort(np.argsort(-plain_log(rows, train).var(0), kind="stable")[:37])
    components = PairedComponents.fitted(graphs, WIDTH, "pca", variable_peaks=37)
    assert np.flatnonzero(components.atac.table.abs().sum(1).numpy()).tolist() == chosen.tolist()
    up_to_sign(read(components, graphs, every)[1], plain_pca(rows, train, chosen, every))
    whole = PairedComponents.fitted(graphs, WIDTH, "pca", variable_peaks=10**6)
    assert torch.equal(whole.atac.table, PairedComponents.fitted(graphs, WIDTH, "pca").atac.table)


@pytest.mark.parametrize("solver", LIMITS)
@pytest.mark.parametrize("spread", ["flat", "falling"])
def test_principal_axes_equal_those_of_the_dense_centred_matrix(monkeypatch, solver, spread):
    used = []
    for name, value in LIMITS[solver].items():
        monkeypatch.setattr(module, name, value)
    original = module.PCA
    monkeypatch.setattr(module, "PCA", lambda n, **o: used.append(o["svd_solver"]) or original(n, **o))
    rng = np.random.default_rng(1)
    if spread == "flat":  # few cells: random directions span all that they have
        dense, tolerance = rng.poisson(1.0, (12, 30)).astype(np.float64), 1e-9
    else:
        left, right = (np.linalg.qr(rng.normal(size=(n, 40)))[0] for n in (90, 70))
        dense, tolerance = left * 0.5 ** np.arange(40) @ right.T + rng.random(70), 1e-6
    found = principal_axes(sparse.csr_matrix(dense), 4, seed=2)
    expected = np.linalg.svd(dense - dense.mean(0), full_matrices=False)[2][:4].T
    up_to_sign(found, expected, atol=tolerance)
    assert used == [name for name in [solver] if name != "randomised"]
    again = principal_axes(sparse.csr_matrix(dense), 4, seed=2)
    assert np.array_equal(found, again)


@pytest.mark.parametrize("of_peaks", ["lsi", "pca"])
def test_cells_without_counts_are_missing_and_left_out_of_the_fit(simulated_dataset, of_peaks):
    graphs = training_cells(simulated_dataset)
    train = cells_of(graphs)
    no_rna, no_atac = train[:20], train[15:40]
    graphs.rna_rows, graphs.atac_rows = emptied(graphs.rna_rows, no_rna), emptied(graphs.atac_rows, no_atac)
    components = PairedComponents.fitted(graphs, WIDTH, of_peaks)
    every = np.arange(len(graphs.cells))
    rows = (graphs.rna_rows, graphs.atac_rows)
    has = np.stack([np.diff(one.indptr) > 0 for one in rows], 1)
    assert not has[no_rna, 0].any() and not has[no_atac, 1].any() and has.any(1).any()
    rna, atac, told = read(components, graphs, every)
    assert (told == has).all() and np.isfinite(rna).all() and np.isfinite(atac).all()
    for i, part in enumerate(("rna", "atac")):
        some = graphs.index_select(np.flatnonzero(has[train, i]))
        alone = getattr(PairedComponents.fitted(some, WIDTH, of_peaks), part)
        for name, value in getattr(components, part).state_dict().items():
            assert torch.equal(value, alone.state_dict()[name]), (part, name)


def test_where_cells_have_fewer_components_the_rest_is_zero_and_told(random_dataset):
    graphs = training_cells(random_dataset)
    rows, genes = graphs.rna_rows, variable_genes(graphs)
    log = plain_log(rows, counted(rows, cells_of(graphs)))[:, genes]
    rank = np.linalg.matrix_rank(log - log.mean(0))
    kind = kind_of("scmoanno")
    model = kind.model.from_graphs(graphs, kind.config(**{**TINY["default"], "width": 64}))
    components = model.components
    most = max(most_components(graphs))
    assert components.width == most < 64 and components.ranks[0] == min(rank, min(log.shape) - 1)
    for i, (part, name) in enumerate((("rna", "RNA"), ("atac", "ATAC"))):
        n = components.ranks[i]
        found = read(components, graphs, np.arange(len(graphs.cells)))[i]
        assert (found[:, n:] == 0).all() and (found[:, :n] != 0).any(0).all()
        assert not getattr(components, part).table[:, n:].any()
        assert any(note.startswith(f"{n} components of {name}, of 64 asked for") for note in model.notes)
    narrow = kind.model.from_graphs(graphs, kind.config(**{**TINY["default"], "width": 2, "gap": 1}))
    assert narrow.notes == [] and narrow.components.ranks == (2, 2)


def test_published_components_are_as_many_as_both_modalities_have_and_heads_divide(random_dataset):
    graphs, kind = training_cells(random_dataset), kind_of("scmoanno", "published")
    most = min(most_components(graphs))
    rows = (graphs.rna_rows, graphs.atac_rows)
    cells = min(len(counted(one, cells_of(graphs))) for one in rows)
    assert most == min(cells, len(variable_genes(graphs)), len(graphs.peaks)) - 1
    settings = {"heads": 2, "encoder_heads": 1, "second_heads": 4, "hidden": 4}
    model = kind.model.from_graphs(graphs, kind.config(**settings))
    assert model.components.width == most // 4 * 4 == model.gap  # of 2,048 asked for
    assert any("of 2,048 asked for" in note for note in model.notes)
    with pytest.raises(InputError, match=rf"at most {most} components .* heads need \(64\)") as told:
        kind.model.from_graphs(graphs, kind.config())
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("of_peaks", ["lsi", "pca"])
def test_only_training_cells_are_read(simulated_dataset, of_peaks):
    graphs = training_cells(simulated_dataset)
    fitted = PairedComponents.fitted(graphs, WIDTH, of_peaks, variable_peaks=100).state_dict()
    for splits, alike in ((["validation", "test"], True), (["train"], False)):
        other = PairedComponents.fitted(redrawn(graphs, splits), WIDTH, of_peaks, variable_peaks=100)
        for name, value in other.state_dict().items():
            if name.endswith("table"):
                assert torch.equal(value, fitted[name]) == alike, name


def test_a_batch_is_read_as_its_edges_say(simulated_dataset):
    """cell ← Σ value · loading over the edges of the graph."""
    graphs = MultiomeGraphs(simulated_dataset)
    components = PairedComponents.fitted(training_cells(simulated_dataset), WIDTH, "pca")
    batch = graphs.batch(range(7), cis=False)
    pair = components(batch)
    for node, part, found, values in (
        ("gene", components.rna, pair.rna, batch["gene"].expression),
        ("peak", components.atac, pair.atac, batch["peak"].accessibility),
    ):
        cell, total = batch[node].batch, torch.zeros(7)
        total.index_add_(0, cell, values.double())
        sums = torch.zeros(7, WIDTH)
        for node_cell, id_, value in zip(cell, batch[node].id, values, strict=True):
            sums[node_cell] += torch.log1p(1e4 * value.double() / total[node_cell]) * part.table[id_]
        torch.testing.assert_close(found, (sums - part.centre) / part.scale, rtol=0, atol=1e-10)
