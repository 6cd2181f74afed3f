"""Metrics and baselines against sklearn and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from scweave.graphs.dataset import MultiomeGraphs
from scweave.models.baselines import activity_retrieval, expressed_share, matching_baselines, peaks_near_tss
from scweave.models.metrics import (
    chance_retrieval,
    matching_metrics,
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


def test_expressed_share_uses_training_cells_alone(random_dataset):
    graphs = MultiomeGraphs(random_dataset)
    share = expressed_share(graphs)
    train = np.flatnonzero(graphs.cells["split"] == "train")
    dense = graphs.rna_rows.matrix(train).toarray() > 0
    np.testing.assert_allclose(share.overall, dense.mean(0))
    for code in range(len(graphs.cell_types)):
        own = graphs.cell_type_codes[train] == code
        np.testing.assert_allclose(share.by_type[code], dense[own].mean(0))
    np.testing.assert_allclose(share.by_type[-1], share.overall)


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
    assert activity_retrieval(graphs, cells) == pytest.approx(retrieval_metrics(scores))


def test_matching_baselines_see_training_pairs_alone(simulated_dataset):
    graphs = MultiomeGraphs(simulated_dataset, view="pairs", split="test")
    rna, atac = graphs.pairs_of(range(len(graphs)))
    figures = matching_baselines(graphs, rna, atac, rna == atac, seed=0)
    assert figures["majority"]["auroc"] == 0.5
    assert all(0 <= figures[name]["accuracy"] <= 1 for name in figures)
