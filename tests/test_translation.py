"""Translation baselines and their figures against sklearn and dense numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score, roc_auc_score

from scweave.graphs.dataset import MultiomeGraphs
from scweave.models import translators
from scweave.models.lsi import reduce
from scweave.models.translation import TranslationTally, _keys
from scweave.models.translators import Translation, fit_translators


@pytest.fixture(scope="module")
def graphs(simulated_dataset):
    return MultiomeGraphs(simulated_dataset)


def cells_of(graphs, split):
    return np.flatnonzero(graphs.cells["split"] == split)


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=50))
def test_keys_keep_the_order_of_scores(values):
    scores = np.array(values, np.float32)
    assert (np.diff(_keys(np.sort(scores))) >= 0).all()
    whole = np.arange(0, 4097, dtype=np.float32)
    assert (np.diff(_keys(whole)) > 0).all()


@pytest.mark.parametrize("step", [1, 7, 40])
def test_figures_gathered_in_batches_equal_those_of_the_whole(step):
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.5, (40, 25)).astype(np.float32)
    counts[:, 3] = 0
    log = (np.log1p(counts) + rng.normal(0, 0.5, counts.shape)).astype(np.float32)
    log[:, 4] = 0.7
    score = np.round(rng.random(counts.shape) + (counts > 0) * 0.3, 2).astype(np.float32)
    tally = TranslationTally(25)
    for begin in range(0, 40, step):
        rows = slice(begin, begin + step)
        tally.add(Translation(score[rows], score[rows] > 0.6, log[rows]), counts[rows])
    found, truth, on = tally.figures(), np.log1p(counts), counts > 0
    assert found["auroc"] == pytest.approx(roc_auc_score(on.ravel(), score.ravel()), abs=1e-3)
    assert found["auprc"] == pytest.approx(average_precision_score(on.ravel(), score.ravel()), abs=1e-3)
    assert found["mae"] == pytest.approx(((score > 0.6) != on).mean())
    assert found["rmse"] == pytest.approx(np.sqrt(found["mae"]))
    assert found["log_mae"] == pytest.approx(np.abs(log - truth).mean(), rel=1e-5)
    assert found["log_rmse"] == pytest.approx(np.sqrt(((log - truth) ** 2).mean()), rel=1e-5)
    cells = [np.corrcoef(log[i], truth[i])[0, 1] for i in range(40)]
    genes = [np.corrcoef(log[:, g], truth[:, g])[0, 1] for g in range(25) if g not in (3, 4)]
    assert found["pearson"] == pytest.approx(np.mean(cells), rel=1e-5)
    assert found["gene_pearson"] == pytest.approx(np.mean(genes), rel=1e-4)


def test_a_method_without_counts_has_no_errors_of_counts():
    tally = TranslationTally(3)
    score = np.array([[1, 2, 3]], np.float32)
    tally.add(Translation(score, score > 1, None), np.array([[0, 1, 2]], np.float32))
    found = tally.figures()
    assert (found["log_mae"], found["log_rmse"], found["auroc"]) == (None, None, 1.0)


@pytest.mark.parametrize("kind", ["tf-idf", "log"])
def test_a_reduction_projects_weighted_counts_onto_training_components(graphs, kind):
    train = cells_of(graphs, "train")
    reduction = reduce(graphs.atac_rows, train, kind, width=5)
    dense = graphs.atac_rows.matrix(np.arange(len(graphs))).toarray()
    share = dense / np.maximum(dense.sum(1, keepdims=True), 1) * 1e4
    idf = len(train) / np.maximum((dense[train] > 0).sum(0), 1) if kind == "tf-idf" else 1
    weighted = np.log1p(share * idf)
    np.testing.assert_allclose(
        reduction.of(np.arange(len(graphs))), weighted @ reduction.components, rtol=1e-4, atol=1e-5
    )
    _, exact, _ = np.linalg.svd(weighted[train])
    captured = np.linalg.norm(weighted[train] @ reduction.components, axis=0)
    np.testing.assert_allclose(np.sort(captured)[::-1][:2], exact[:2], rtol=0.01)
    np.testing.assert_allclose(reduction.components.T @ reduction.components, np.eye(5), atol=1e-6)


def test_means_are_those_of_training_cells(graphs):
    methods, train = fit_translators(graphs), cells_of(graphs, "train")
    dense = graphs.rna_rows.matrix(train).toarray()
    held = cells_of(graphs, "test")
    overall = methods["gene_mean"].predict(held)
    np.testing.assert_allclose(overall.score, np.tile((dense > 0).mean(0), (len(held), 1)), rtol=1e-5)
    np.testing.assert_allclose(overall.log[0], np.log1p(dense).mean(0), rtol=1e-5)
    typed = methods["type_mean"].predict(held)
    for row, cell in enumerate(held):
        own = graphs.cell_type_codes[train] == graphs.cell_type_codes[cell]
        own = own if own.any() else np.ones(len(train), dtype=bool)
        np.testing.assert_allclose(typed.score[row], (dense[own] > 0).mean(0), rtol=1e-5)


def test_ridge_equals_sklearn(graphs, monkeypatch):
    monkeypatch.setattr(translators, "_ALPHAS", (10.0,))
    monkeypatch.setattr(translators, "_CHUNK", 50)
    ridge, train, held = fit_translators(graphs)["ridge"], cells_of(graphs, "train"), cells_of(graphs, "test")
    z = ridge.lsi.of(train)
    mean, scale = z.mean(0), z.std(0)
    counts = graphs.rna_rows.matrix(train).toarray()
    theirs = Ridge(alpha=10.0).fit((z - mean) / scale, np.log1p(counts))
    expected = theirs.predict((ridge.lsi.of(held) - mean) / scale)
    np.testing.assert_allclose(ridge.predict(held).log, expected, atol=1e-4)


def test_neighbours_are_the_nearest_training_cells_by_angle(graphs):
    knn = fit_translators(graphs, neighbours=5)["knn"]
    train, held = cells_of(graphs, "train"), cells_of(graphs, "test")
    z, w = (knn.lsi.of(cells)[:, 1:] for cells in (train, held))
    angle = (w / np.linalg.norm(w, axis=1)[:, None]) @ (z / np.linalg.norm(z, axis=1)[:, None]).T
    counts = graphs.rna_rows.matrix(train).toarray()
    found = knn.predict(held)
    for row in range(len(held)):
        near = np.argsort(-angle[row])[:5]
        np.testing.assert_allclose(found.score[row], (counts[near] > 0).mean(0), atol=1e-6)
        np.testing.assert_allclose(found.log[row], np.log1p(counts[near]).mean(0), atol=1e-5)
