"""Figures of annotation against sklearn and plain loops."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from scweave.graphs.errors import InputError
from scweave.models.annotation.metrics import annotation_metrics, calibration_error, reliability

SCALARS = [
    "accuracy", "balanced_accuracy", "macro_f1", "kappa", "jaccard_micro", "jaccard_weighted", "rare_recall", "ece",
    "novelty_auroc", "confidence_auroc", "n", "n_unknown",
]  # fmt: skip


def random_cells(n, k, seed, *, unknown=0.0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, max(k - 1, 1), n)
    codes[rng.random(n) < unknown] = -1
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), np.maximum(codes, 0)] += 1.0
    weight = np.exp(logits)
    return weight / weight.sum(1, keepdims=True), codes


def names(k):
    return [f"type {i}" for i in range(k)]


def none_if_nan(value):
    return None if np.isnan(value) else pytest.approx(value)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 200), st.integers(2, 7), st.integers(0, 10_000))
def test_figures_equal_sklearn(n, k, seed):
    p, truth = random_cells(n, k, seed)
    ours = annotation_metrics(p, truth, names(k))
    told = p.argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of types that were told and that no cell has
        assert ours["accuracy"] == pytest.approx(oracle.accuracy_score(truth, told))
        assert ours["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(truth, told))
        assert ours["macro_f1"] == pytest.approx(oracle.f1_score(truth, told, average="macro"))
        assert ours["kappa"] == none_if_nan(oracle.cohen_kappa_score(truth, told))
        for average in ("micro", "weighted"):
            expected = oracle.jaccard_score(truth, told, average=average)
            assert ours[f"jaccard_{average}"] == pytest.approx(expected)
        each = oracle.precision_recall_fscore_support(truth, told, labels=range(k), zero_division=np.nan)
    for row, name in enumerate(names(k)):
        own = ours["per_type"][name]
        assert own["precision"] == none_if_nan(each[0][row])
        assert own["recall"] == none_if_nan(each[1][row])
        assert own["f1"] == none_if_nan(each[2][row])
        assert own["n"] == each[3][row]
    shares = each[3] / n
    rare = (shares > 0) & (shares < 0.02)
    assert ours["rare_types"] == [name for name, is_rare in zip(names(k), rare, strict=True) if is_rare]
    assert ours["rare_recall"] == none_if_nan(np.mean(each[1][rare]) if rare.any() else np.nan)
    counts = oracle.confusion_matrix(truth, told, labels=range(k))
    assert ours["confusion"] == {"types": names(k), "counts": counts.tolist()}
    assert list(ours) == [*SCALARS, "per_type", "rare_types", "confusion"]
    assert json.loads(json.dumps(ours, allow_nan=False)) == ours


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 80), st.integers(0, 10_000))
def test_unknown_types_count_for_novelty_alone(n, seed):
    p, codes = random_cells(n, 4, seed, unknown=0.3)
    novelty = np.random.default_rng(seed).integers(0, 6, n) / 5
    ours = annotation_metrics(p, codes, names(4), novelty=novelty)
    known = codes >= 0
    assert (ours["n"], ours["n_unknown"]) == (known.sum(), (~known).sum())
    if known.any() and not known.all():
        assert ours["novelty_auroc"] == pytest.approx(oracle.roc_auc_score(~known, novelty))
    else:
        assert ours["novelty_auroc"] is None
    alone = annotation_metrics(p[known], codes[known], names(4))
    left_out = {"novelty_auroc", "n_unknown"}
    assert {a: b for a, b in ours.items() if a not in left_out} == {
        a: b for a, b in alone.items() if a not in left_out
    }
    right = p[known].argmax(1) == codes[known]
    if right.any() and not right.all():
        expected = oracle.roc_auc_score(right, p[known].max(1))
        assert ours["confidence_auroc"] == pytest.approx(expected)
    else:
        assert ours["confidence_auroc"] is None


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.one_of(st.floats(0, 1), st.sampled_from([0.2, 0.4, 1 / 15])), st.booleans()), min_size=1
    ),
    st.integers(1, 20),
)
def test_calibration_error_equals_a_loop_over_bins(cells, bins):
    sure, right = np.array([c for c, _ in cells]), np.array([r for _, r in cells])
    table = reliability(sure, right, bins)
    expected, seen = 0.0, 0
    edges = np.linspace(0, 1, bins + 1)
    for b in range(bins):
        inside = (sure > edges[b]) & (sure <= edges[b + 1]) | ((b == 0) & (sure == 0))
        assert table["cells"][b] == inside.sum()
        seen += inside.sum()
        if inside.any():
            expected += inside.mean() * abs(sure[inside].mean() - right[inside].mean())
            assert table["accuracy"][b] == pytest.approx(right[inside].mean())
        else:
            assert np.isnan(table["confidence"][b])
    assert seen == len(sure)
    assert calibration_error(table) == pytest.approx(expected)
    assert list(table) == ["low", "high", "cells", "confidence", "accuracy"]


def test_confidence_just_above_one_by_rounding_stays_in_the_last_bin():
    table = reliability(np.array([np.nextafter(np.float32(1), np.float32(2))]), np.array([True]))
    assert table["cells"].tolist() == [0] * 14 + [1]


def test_given_confidence_replaces_the_largest_probability():
    p, codes = random_cells(200, 4, 0)
    ours = annotation_metrics(p, codes, names(4), confidence=np.full(200, 0.5))
    assert ours["ece"] == pytest.approx(abs(0.5 - ours["accuracy"]))
    assert ours["confidence_auroc"] == 0.5


def test_perfect_and_all_wrong():
    codes = np.array([0, 1, 2, 1])
    perfect = annotation_metrics(np.eye(3)[codes], codes, names(3))
    assert {perfect[name] for name in SCALARS[:6]} == {1.0}
    assert perfect["ece"] == 0
    wrong = annotation_metrics(np.eye(3)[(codes + 1) % 3], codes, names(3))
    assert {wrong[name] for name in ("accuracy", "balanced_accuracy", "macro_f1", "jaccard_micro")} == {0.0}
    assert wrong["ece"] == 1 and wrong["confidence_auroc"] is None and wrong["kappa"] < 0


def test_one_cell_and_one_type():
    one = annotation_metrics(np.array([[0.9, 0.1]]), np.array([0]), ["A", "B"])
    assert (one["accuracy"], one["macro_f1"], one["n"]) == (1.0, 1.0, 1)
    assert one["kappa"] is None  # agreement by chance is certain
    assert one["per_type"]["B"] == {"precision": None, "recall": None, "f1": None, "n": 0}
    missed = annotation_metrics(np.array([[0.9, 0.1]]), np.array([1]), ["A", "B"])
    assert missed["per_type"]["B"] == {"precision": None, "recall": 0.0, "f1": 0.0, "n": 1}
    assert missed["per_type"]["A"] == {"precision": 0.0, "recall": None, "f1": 0.0, "n": 0}
    assert missed["balanced_accuracy"] == 0 and missed["kappa"] == 0


@pytest.mark.parametrize("n", [0, 3])
def test_without_cells_of_known_types_nothing_is_defined(n):
    p, _ = random_cells(n, 3, 0)
    ours = annotation_metrics(p, np.full(n, -1), names(3), novelty=np.ones(n))
    assert {ours[name] for name in SCALARS[:-2]} == {None}
    assert (ours["n"], ours["n_unknown"]) == (0, n)
    assert np.sum(ours["confusion"]["counts"]) == 0


def test_truth_named_in_another_order_and_with_other_categories_gives_the_same_figures():
    p, codes = random_cells(300, 4, 3)
    vocabulary = names(4)
    truth = np.array(vocabulary)[codes]
    # A query's own categories: another order, one that no cell has, one that the model never saw.
    categories = ["type 3", "never seen", "type 1", "type 0", "type 2", "unused"]
    own = np.array([categories.index(name) for name in truth])
    own[:5] = 1
    place = np.array([vocabulary.index(name) if name in vocabulary else -1 for name in categories])
    expected = codes.copy()
    expected[:5] = -1
    ours = annotation_metrics(p, place[own], vocabulary)
    assert ours == annotation_metrics(p, expected, vocabulary)
    assert ours["accuracy"] == np.mean(
        [vocabulary[i] == name for i, name in zip(p[5:].argmax(1), truth[5:], strict=True)]
    )
    shuffled = annotation_metrics(
        p[:, [2, 0, 3, 1]], np.array([1, 3, 0, 2, -1])[expected], [vocabulary[i] for i in (2, 0, 3, 1)]
    )
    for name in SCALARS:
        assert shuffled[name] == pytest.approx(ours[name]), name
    assert shuffled["per_type"] == ours["per_type"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p, c: (p[:, :2], c), r"probabilities are 5 x 2 for 5 cells and 3 cell types"),
        (lambda p, c: (p[:4], c), r"probabilities are 4 x 3 for 5 cells"),
        (lambda p, c: (p, c + 1), r"codes of cell types run from 1 to 3 for 3 types"),
        (lambda p, c: (p, c - 2), r"codes of cell types run from -2 to 0"),
        (
            lambda p, c: (np.where(np.arange(5)[:, None] == 1, np.nan, p), c),
            r"1 of 5 cells have probabilities",
        ),
    ],
)
def test_bad_input_is_told(change, told):
    p, _ = random_cells(5, 3, 0)
    with pytest.raises(InputError, match=told) as caught:
        annotation_metrics(*change(p, np.array([0, 1, 2, 1, 0])), names(3))
    assert "\n" not in str(caught.value)
