"""Clusters of an embedding against types, and rare types apart; against sklearn and counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from scweave.models.annotation import clusters as module
from scweave.models.annotation.clusters import cluster_metrics
from scweave.models.annotation.metrics import annotation_metrics, rare_types


def blobs(sizes, seed=0):
    """Cells of clusters far from each other, and the cluster of each."""
    rng = np.random.default_rng(seed)
    which = np.repeat(np.arange(len(sizes)), sizes)
    return 1000.0 * np.eye(len(sizes))[which] + rng.normal(size=(len(which), len(sizes))), which


def test_figures_by_hand():
    """Clusters of 4 and 6 cells: 3 of a and 1 of b, 1 of a and 5 of b."""
    embedding, _ = blobs([4, 6])
    codes = np.array([0, 0, 0, 1, 0, 1, 1, 1, 1, 1])
    found = cluster_metrics(embedding, codes)
    assert found["purity"] == pytest.approx((3 + 5) / 10)

    def entropy(*counts):
        shares = np.array(counts) / sum(counts)
        return -(shares * np.log(shares)).sum()

    mutual = entropy(4, 6) + entropy(4, 6) - entropy(3, 1, 1, 5)
    assert found["nmi"] == pytest.approx(mutual / entropy(4, 6))
    together = 3 + 10  # pairs of cells that share cluster and type, of 6 + 15 in clusters, as in types, of 45
    by_chance = 21 * 21 / 45
    assert found["ari"] == pytest.approx((together - by_chance) / (21 - by_chance))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(2, 12), min_size=2, max_size=4), st.integers(0, 1000))
def test_figures_equal_sklearn_where_clusters_are_plain(sizes, seed):
    embedding, which = blobs(sizes, seed)
    codes = np.random.default_rng(seed).integers(0, len(sizes), len(which))
    codes[: len(sizes)] = np.arange(len(sizes))  # as many types as clusters
    found = cluster_metrics(embedding, 3 * codes, seed=seed)  # numbers of types that no cell has between
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(codes, which))
    assert found["ari"] == pytest.approx(adjusted_rand_score(codes, which))
    commonest = sum(np.bincount(codes[which == k]).max() for k in range(len(sizes)))
    assert found["purity"] == pytest.approx(commonest / len(codes))


def test_perfect_clusters():
    embedding, which = blobs([5, 9, 3])
    assert cluster_metrics(embedding, which) == {"nmi": 1.0, "ari": 1.0, "purity": 1.0}


def test_embeddings_that_part_nothing():
    codes = np.array([0, 1, 1, 2, 1, 1])
    for embedding in (np.ones((6, 3)), np.zeros((6, 1))):
        found = cluster_metrics(embedding, codes)
        assert found == {"nmi": pytest.approx(0), "ari": pytest.approx(0), "purity": pytest.approx(4 / 6)}
    two = np.ones((6, 3))
    two[3] = 2  # fewer places than types
    assert cluster_metrics(two, codes)["purity"] == pytest.approx(5 / 6)
    near = 1 + np.arange(6)[:, None] * 1e-16 * np.ones(3)
    assert 4 / 6 <= cluster_metrics(near, codes)["purity"] <= 1
    near = np.float32(1) + np.arange(6, dtype=np.float32)[:, None] * np.float32(1.2e-7)
    assert 4 / 6 <= cluster_metrics(near, codes)["purity"] <= 1


@pytest.mark.parametrize("codes", [[], [1], [2, 2, 2]])
def test_fewer_than_two_types_have_no_figures(codes):
    embedding = np.zeros((len(codes), 2))
    none = {"nmi": None, "ari": None, "purity": None}
    assert cluster_metrics(embedding, np.array(codes, np.int64)) == none


def test_of_many_cells_some_of_each_type_are_clustered(monkeypatch):
    embedding, which = blobs([300, 40, 5])
    monkeypatch.setattr(module, "_MOST", 60)
    sizes, original = [], module.KMeans

    class Counted(original):
        def fit_predict(self, some):
            sizes.append(len(some))
            return super().fit_predict(some)

    monkeypatch.setattr(module, "KMeans", Counted)
    assert cluster_metrics(embedding, which)["ari"] == 1.0
    assert 60 <= sizes[0] <= 63
    assert cluster_metrics(embedding, which) == cluster_metrics(embedding, which)


def told(codes, predicted, n_types):
    names = [f"t{i}" for i in range(n_types)]
    return annotation_metrics(np.eye(n_types)[predicted], np.array(codes), names)


def test_recall_of_rare_types():
    """Of 300 cells 5 are rare (1.7 %) and 6 not (2 %)."""
    codes = np.repeat([0, 1, 2, 3], [285, 4, 5, 6])
    predicted = codes.copy()
    predicted[285:287] = 0  # half of the rare 1
    predicted[289] = 0  # a fifth of the rare 2
    predicted[294:] = 0  # none of 3
    found = told(codes, predicted, 5)
    assert found["rare_types"] == ["t1", "t2"]
    assert found["rare_recall"] == pytest.approx((2 / 4 + 4 / 5) / 2)
    unknown = np.where(codes == 0, -1, codes)  # types outside of the vocabulary are no judged cells
    assert told(unknown, predicted, 5)["rare_types"] == []
    assert told(unknown, predicted, 5)["rare_recall"] is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=6))
def test_rare_types_are_those_of_less_than_two_percent_that_there_are(sizes):
    names = [f"t{i}" for i in range(len(sizes))]
    expected = [name for name, n in zip(names, sizes, strict=True) if n > 0 and 50 * n < sum(sizes)]
    assert rare_types(np.array(sizes), names) == expected


def test_rare_types_may_be_those_of_a_whole_dataset():
    codes = np.array([0, 0, 1, 1, 2])
    found = annotation_metrics(np.eye(3)[[0, 0, 1, 0, 2]], codes, ["a", "b", "c"], rare=["b", "d"])
    assert found["rare_types"] == ["b"]
    assert found["rare_recall"] == 0.5
