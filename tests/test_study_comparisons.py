"""Comparisons of a study: the paired t-test as written out by hand, and who is compared with whom."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scweave.models.studies.comparisons import (
    against_methods,
    between_settings,
    compared,
    comparison_table,
    spread,
)

COLUMNS = ["setting", "repeat", "method", "metric", "value"]


def by_hand(ours, theirs):
    """Two-sided p of a paired t-test: t = mean / (sd / √n) under n − 1 degrees of freedom."""
    difference = np.asarray(ours) - np.asarray(theirs)
    t = difference.mean() / (difference.std(ddof=1) / np.sqrt(len(difference)))
    return 2 * stats.t.sf(abs(t), len(difference) - 1)


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=2, max_size=8).filter(
        lambda pairs: len({a - b for a, b in pairs}) > 1
    )
)
def test_p_is_that_of_a_paired_t_test(pairs):
    ours, theirs = np.array(pairs, float).T / 1000
    found = compared(ours, theirs)
    assert found["p"] == pytest.approx(by_hand(ours, theirs), rel=1e-6)
    assert found["p"] == pytest.approx(stats.ttest_rel(ours, theirs).pvalue, rel=1e-9)
    assert found["difference"]["mean"] == pytest.approx((ours - theirs).mean())
    assert found["difference"]["sd"] == pytest.approx((ours - theirs).std(ddof=1))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [([0.5], [0.4]), ([0.5, 0.6, 0.7], [0.4, 0.5, 0.6]), ([0.5, 0.5], [0.5, 0.5]), ([1, 1], [0, 0])],
)
def test_there_is_no_p_without_repeats_or_spread(ours, theirs):
    found = compared(np.array(ours, float), np.array(theirs, float))
    assert found["p"] is None
    assert found["difference"]["mean"] == pytest.approx(np.mean(ours) - np.mean(theirs))


def test_a_single_value_has_no_sd():
    assert spread(np.array([0.25])) == {"mean": 0.25, "sd": None}
    assert spread(np.array([0.0, 1.0])) == {"mean": 0.5, "sd": pytest.approx(np.sqrt(0.5))}


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    rows = [
        (setting, repeat, method, metric, rng.random())
        for setting in ("0.5", "1")
        for repeat in range(3)
        for method in ("model", "svm", "knn")
        for metric in ("accuracy", "macro_f1", "n")
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def values(table, **chosen):
    own = table[np.logical_and.reduce([table[key] == value for key, value in chosen.items()])]
    return own.sort_values("repeat")["value"].to_numpy()


def test_the_model_is_compared_with_every_method_in_order(table):
    own = table[table["setting"] == "1"]
    found = against_methods(own, "model", ("accuracy", "macro_f1"))
    assert list(found) == ["svm", "knn"]
    for method, metrics in found.items():
        assert list(metrics) == ["accuracy", "macro_f1"]
        for metric, told in metrics.items():
            pair = (values(own, method=m, metric=metric) for m in ("model", method))
            assert told["p"] == pytest.approx(by_hand(*pair))


def test_repeats_that_one_method_lacks_are_left_out(table):
    own = table[table["setting"] == "1"]
    short = own[~((own["method"] == "svm") & (own["repeat"] == 1))]
    found = against_methods(short, "model", ("accuracy",))["svm"]["accuracy"]
    ours = values(own, method="model", metric="accuracy")[[0, 2]]
    assert found["p"] == pytest.approx(by_hand(ours, values(short, method="svm", metric="accuracy")))
    assert "model" not in against_methods(short, "mlp", ("accuracy",))


def test_settings_are_compared_two_by_two(table):
    (found,) = between_settings(table, "model", ("macro_f1",), ["0.5", "1"])
    ours, theirs = (values(table, method="model", metric="macro_f1", setting=s) for s in ("1", "0.5"))
    assert (found["setting"], found["other"]) == ("1", "0.5")
    assert found["difference"]["mean"] == pytest.approx(ours.mean() - theirs.mean())
    assert found["p"] == pytest.approx(by_hand(ours, theirs))
    written = comparison_table(
        "fractions", [{**found, "task": "annotation", "method": "model", "against": "model at 0.5"}]
    )
    assert list(written) == [
        "study",
        "setting",
        "task",
        "method",
        "against",
        "metric",
        "mean_difference",
        "sd_difference",
        "p",
    ]
    assert written["p"].item() == found["p"]
