"""Matched bins, null peaks and the significance of links, against plain loops and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from scweave.interpret.evidence.nulls import NullPeaks, adjusted, link_significance, matched_bins


def features(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random(n).round(2), rng.random(n).round(2), rng.random(n).round(2)


@given(st.integers(1, 400), st.integers(1, 50), st.integers(1, 3), st.integers(0, 5))
def test_bins_are_even_and_large_enough(n, least, number, seed):
    given_features = [values if i < number else None for i, values in enumerate(features(n, seed))]
    sizes = np.bincount(matched_bins(*given_features, least=least, seed=seed))
    assert sizes.sum() == n
    assert len(sizes) <= max(n // least, 1)
    assert sizes.max() - sizes.min() <= number
    assert sizes.min() >= min(least, n) - number


def test_bins_are_quantiles_within_quantiles():
    accessibility, gc, _ = (np.random.default_rng(2).random(3600) for _ in range(3))
    bins = matched_bins(accessibility, gc[::-1].copy(), None, least=100)
    side = 6
    for high in range(1, side):
        assert accessibility[bins // side == high].min() >= accessibility[bins // side == high - 1].max()
    for first in range(side):
        for second in range(1, side):
            upper, lower = (bins == first * side + second), (bins == first * side + second - 1)
            assert gc[::-1][upper].min() >= gc[::-1][lower].max()


def test_ties_are_divided_at_random_and_repeatably():
    flat = np.zeros(1000)
    bins = matched_bins(flat, None, None, least=500)
    assert abs(np.corrcoef(bins, np.arange(1000))[0, 1]) < 0.2  # no stretch of the genome
    assert np.array_equal(bins, matched_bins(flat, None, None, least=500))
    assert not np.array_equal(bins, matched_bins(flat, None, None, least=500, seed=1))


@pytest.fixture
def nulls():
    accessibility, gc, _ = features(900)
    return NullPeaks.draw(accessibility, gc, np.arange(900) // 300, draws=50)


def test_null_peaks_lie_elsewhere_are_alike_and_are_drawn_once(nulls):
    chrom = np.arange(900) // 300
    for code, table in nulls.members.items():
        for kind, row in enumerate(table):
            drawn = row[row >= 0]
            assert len(np.unique(drawn)) == len(drawn)
            assert (chrom[drawn] != code).all()
            assert (nulls.bins[drawn] == kind).all()
            assert len(drawn) == min(50, ((nulls.bins == kind) & (chrom != code)).sum())


def plain_significance(gene, peak, queries, keys, gene_chrom, nulls):
    z, p = [], []
    for g, k in zip(gene, peak, strict=True):
        if gene_chrom[g] not in nulls.members:
            z.append(np.nan)
            p.append(1.0)
            continue
        drawn = [x for x in nulls.members[gene_chrom[g]][nulls.bins[k]] if x >= 0]
        scores = np.array([queries[g] @ keys[x] for x in drawn])
        own = queries[g] @ keys[k]
        z.append((own - scores.mean()) / scores.std(ddof=1))
        p.append((sum(score >= own for score in scores) + 1) / (len(drawn) + 1))
    return np.array(z), np.array(p)


def some_links(seed=0):
    rng = np.random.default_rng(seed)
    gene, peak = rng.integers(0, 40, 500), rng.integers(0, 900, 500)
    return gene, peak, rng.normal(size=(40, 5)), rng.normal(size=(900, 5)), rng.integers(-1, 3, 40)


@pytest.mark.parametrize("block", [1 << 22, 300])
def test_significance_equals_a_loop_over_links(nulls, block, monkeypatch):
    monkeypatch.setattr("scweave.interpret.evidence.nulls._BLOCK", block)
    links = some_links()
    found = link_significance(*links, nulls)
    z, p = plain_significance(*links, nulls)
    np.testing.assert_allclose(found.zscore, z, rtol=1e-9)
    np.testing.assert_allclose(found.pvalue, p)
    np.testing.assert_allclose(found.qvalue, false_discovery_control(p))


def test_no_pvalue_is_zero_and_a_flat_null_has_no_zscore(nulls):
    gene, peak, queries, keys, chrom = some_links()
    strong = link_significance(gene, peak, 0 * queries, keys, chrom, nulls)
    assert (strong.pvalue == 1).all()
    assert np.isnan(strong.zscore).all()
    keys[0], queries[:] = 1e6, 1.0
    best = link_significance(np.array([3]), np.array([0]), queries, keys, np.zeros(40, np.int64), nulls)
    assert 0 < best.pvalue[0] <= 1 / 30


def test_pvalues_are_uniform_where_nothing_is_to_be_found(nulls):
    rng = np.random.default_rng(5)
    gene, peak = np.repeat(np.arange(400), 5), rng.integers(0, 900, 2000)
    found = link_significance(
        gene, peak, rng.normal(size=(400, 8)), rng.normal(size=(900, 8)), rng.integers(0, 3, 400), nulls
    )
    for level in (0.1, 0.25, 0.5):
        assert abs((found.pvalue <= level).mean() - level) < 0.04
    assert (found.qvalue < 0.1).mean() < 0.01


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=60), st.integers(0, 40))
def test_adjusted_equals_scipy_with_tests_that_were_not_kept(pvalues, more):
    given_p = np.array(pvalues)
    whole = false_discovery_control(np.concatenate([given_p, np.ones(more)]))[: len(given_p)]
    np.testing.assert_allclose(adjusted(given_p, len(given_p) + more), whole, rtol=1e-12)
