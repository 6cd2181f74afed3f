"""Metrics and baselines against sklearn and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import average_precision_score, roc_auc_score

from random_dataset import write_random_dataset
from scweave.graphs.csr import CsrRows
from scweave.graphs.dataset import MultiomeGraphs
from scweave.models.baselines import activity_scores, cca_scores, matching_baselines, peaks_near_tss
from scweave.models.metrics import (
    chance_retrieval,
    matching_metrics,
    mean_figures,
    mean_or_none,
    ranking_metrics,
    retrieval_metrics,
    row_pearson,
)


def test_ranking_of_weighted_scores_equals_the_ranking_of_items():
    rng = np.random.default_rng(0)
    score = rng.integers(0, 6, 400)
    truth = rng.random(400) < 0.2 + 0.1 * score
    positives, negatives = np.bincount(score[truth], minlength=6), np.bincount(score[~truth], minlength=6)
    ours = ranking_metrics(np.arange(6.0), positives, negatives)
    assert ours["auroc"] == pytest.approx(roc_auc_score(truth, score))
    assert ours["auprc"] == pytest.approx(average_precision_score(truth, score))
    assert ranking_metrics(np.arange(3.0), np.zeros(3), np.ones(3)) == {"auroc": None, "auprc": None}


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(0, 10_000))
def test_retrieval_equals_plain_counting(n, seed):
    scores = np.random.default_rng(seed).integers(0, 5, (n, n)).astype(float)
    ranks, closer = [], []
    for matrix in (scores, scores.T):
        for i in range(n):
            others = np.delete(matrix[i], i)
            above, tied = (others > matrix[i, i]).sum(), (others == matrix[i, i]).sum()
            ranks.append(1 + above + tied / 2)
            closer.append((above + tied / 2) / max(n - 1, 1))
    ours = retrieval_metrics(scores)
    assert ours["mrr"] == pytest.approx(np.mean(1 / np.array(ranks)))
    assert ours["foscttm"] == pytest.approx(np.mean(closer))
    assert ours["recall@1"] == pytest.approx(np.mean(np.array(ranks) <= 1))


def test_chance_is_what_random_scores_give():
    rng = np.random.default_rng(0)
    seen = [retrieval_metrics(rng.random((20, 20))) for _ in range(2000)]
    for name, value in chance_retrieval(20).items():
        assert np.mean([figures[name] for figures in seen]) == pytest.approx(value, rel=0.06)


def test_perfect_matching_and_retrieval():
    match = np.array([True, False, True])
    perfect = matching_metrics(match.astype(float), match, match)
    assert set(perfect.values()) == {1.0}
    assert retrieval_metrics(np.eye(30))["foscttm"] == 0


def test_row_pearson_equals_numpy_and_skips_constant_rows():
    rng = np.random.default_rng(0)
    a, b = rng.random((5, 9)), rng.random((5, 9))
    a[2] = 1
    ours = row_pearson(a, b)
    assert np.isnan(ours[2])
    for i in (0, 1, 3, 4):
        assert ours[i] == pytest.approx(np.corrcoef(a[i], b[i])[0, 1])
    assert mean_or_none(np.array([np.nan])) is None


def test_peaks_near_tss_equal_a_double_loop(random_dataset):
    graphs = MultiomeGraphs(random_dataset)
    ours = peaks_near_tss(graphs, reach=700).toarray()
    for p, (chrom, start) in enumerate(zip(graphs.peaks.chrom, graphs.peaks.start, strict=True)):
        for g, (other, tss) in enumerate(zip(graphs.genes.chrom, graphs.genes.tss, strict=True)):
            assert ours[p, g] == float(chrom == other and abs(int(start) - int(tss)) <= 700)


def test_activity_correlations_equal_numpy(random_dataset):
    graphs = MultiomeGraphs(random_dataset)
    cells = np.array([0, 1, 2, 7, 9])
    counts = graphs.rna_rows.matrix(cells).toarray()
    expression = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4)
    activity = np.log1p(graphs.atac_rows.matrix(cells).toarray() @ peaks_near_tss(graphs).toarray())
    scores = np.corrcoef(expression, activity)[:5, 5:]
    np.testing.assert_allclose(activity_scores(graphs, cells), scores, atol=1e-12)


def test_canonical_variates_find_partners_that_share_a_factor(tmp_path):
    graphs = MultiomeGraphs(
        write_random_dataset(tmp_path / "d", window=True, n_cells=400, n_genes=60, n_peaks=80)
    )
    rng = np.random.default_rng(0)
    factor = rng.gamma(2.0, 1.0, (400, 3))
    sides = [sparse.csr_matrix(rng.poisson(5 * factor @ rng.gamma(1.0, 1.0, (3, n)))) for n in (60, 80)]
    for name, counts in zip(("rna_rows", "atac_rows"), sides, strict=True):
        setattr(graphs, name, CsrRows(counts.indptr, counts.indices, counts.data, counts.shape[1]))
    held = np.flatnonzero(graphs.cells["split"] == "test")
    found = retrieval_metrics(cca_scores(graphs, held, seed=0, width=3))
    assert found["foscttm"] < 0.15
    shuffled = cca_scores(graphs, held, seed=0, width=3)[rng.permutation(len(held))]
    assert 0.4 < retrieval_metrics(shuffled)["foscttm"] < 0.6


def test_means_over_types_weigh_by_cells():
    each = [{"mrr": 0.5, "n": 2}, {"mrr": 0.2, "n": 8}]
    assert mean_figures(each, [2, 8]) == {"mrr": pytest.approx(0.26), "n": 10, "types": 2}


def test_matching_baselines_see_training_pairs_alone(simulated_dataset):
    graphs = MultiomeGraphs(simulated_dataset, view="pairs", split="test")
    rna, atac = graphs.pairs_of(range(len(graphs)))
    guesses = matching_baselines(graphs, rna, atac, rna == atac, seed=0)
    assert set(guesses) == {"majority", "depth", "gene_activity"}
    assert (guesses["majority"][0] == 0).all()
    assert all(len(score) == len(on) == len(rna) for score, on in guesses.values())
