"""Marker peaks against scanpy, and what each type may take."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from dense_hitanno import rows_of
from scweave.graphs.errors import InputError
from scweave.models.annotation import marker_peaks as module
from scweave.models.annotation.marker_peaks import (
    TypeStatistics,
    allocate,
    fit_marker_peaks,
    published_size,
    type_statistics,
)


def random_counts(seed=0, n_cells=60, n_peaks=40, types=(0.5, 0.3, 0.15, 0.05)):
    """Counts whose peaks favour types, some peaks never open, and a type each cell; one cell is empty."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.repeat(np.arange(len(types)), np.ceil(np.array(types) * n_cells).astype(int)))
    favour = rng.random((len(types), n_peaks)) * 0.8
    counts = rng.poisson(1.5, (len(codes), n_peaks)) * (rng.random((len(codes), n_peaks)) < favour[codes])
    counts[:, :3] = 0
    counts[5] = 0
    return counts, codes


def plain_tf_idf(counts):
    tf = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return np.log(1 + 1e4 * tf * len(counts) / np.maximum(counts.sum(0), 1))


def scanpy_scores(values, codes):
    """(types, peaks) t of each type against the rest, in the order of peaks."""
    data = ad.AnnData(np.zeros_like(values), layers={"tf_idf": sparse.csr_matrix(values)})
    data.var_names = [str(i) for i in range(values.shape[1])]
    data.obs_names = [str(i) for i in range(len(values))]
    data.obs["kind"] = [f"t{code}" for code in codes]
    data.obs["kind"] = data.obs["kind"].astype("category")
    sc.tl.rank_genes_groups(data, "kind", method="t-test", layer="tf_idf", use_raw=False)
    found = data.uns["rank_genes_groups"]
    scores = np.zeros((codes.max() + 1, values.shape[1]))
    for code in range(len(scores)):
        scores[code, found["names"][f"t{code}"].astype(int)] = found["scores"][f"t{code}"]
    return scores


@pytest.mark.parametrize("nonzeros", [1, 50, 1 << 21])
def test_scores_are_those_of_scanpy(nonzeros, monkeypatch):
    monkeypatch.setattr(module, "_NONZEROS", nonzeros)
    counts, codes = random_counts()
    statistics = type_statistics(rows_of(counts), np.arange(len(codes)), codes, 4)
    ours = np.stack([statistics.scores(code)[0] for code in range(4)])
    theirs = scanpy_scores(plain_tf_idf(counts), codes)  # scanpy gives scores in float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12)
    assert not ours[:, :3].any()


def test_only_the_cells_given_are_read():
    counts, codes = random_counts()
    train = np.flatnonzero(np.arange(len(codes)) % 3)
    some = type_statistics(rows_of(counts), train, codes[train], 4)
    alone = type_statistics(rows_of(counts[train]), np.arange(len(train)), codes[train], 4)
    np.testing.assert_allclose(some.sums, alone.sums)
    np.testing.assert_allclose(some.squares, alone.squares)


@pytest.mark.parametrize(("n_types", "n_peaks", "size"), [(9, 10**6, 2000), (9, 900, 100), (15, 10**6, 1549)])
def test_the_published_rule(n_types, n_peaks, size):
    assert published_size(n_types, n_peaks) == size


@pytest.mark.parametrize("codes", [[0, 0, 0, 1], [0, 1]])
def test_types_with_one_cell_are_ranked_by_difference_of_means(codes):
    codes = np.array(codes)
    counts = np.eye(len(codes), 6, dtype=int) + 1
    counts[codes == 1, 4] = 9
    found = fit_marker_peaks(rows_of(counts), np.arange(len(codes)), codes, 2)
    assert found.by_difference == (0, 1)  # the rest of type 0 is a single cell too
    values = plain_tf_idf(counts)
    difference = values[codes == 1].mean(0) - values[codes == 0].mean(0)
    assert found.peaks[found.ptr[1]] == difference.argmax() == 4
    np.testing.assert_allclose(found.scores[found.ptr[1]], difference.max())


def test_the_number_of_peaks_may_be_chosen_and_is_never_more_than_there_are():
    counts, codes = random_counts()
    rows, cells = rows_of(counts), np.arange(len(codes))
    assert np.diff(fit_marker_peaks(rows, cells, codes, 4, per_type=3).ptr).tolist() == [3] * 4
    assert np.diff(fit_marker_peaks(rows, cells, codes, 4, per_type=99).ptr).tolist() == [10] * 4
    assert np.diff(fit_marker_peaks(rows, cells, codes, 4).ptr).tolist() == [10] * 4


def test_fewer_peaks_than_types_is_an_error():
    with pytest.raises(InputError, match="2 peaks for 3 cell types"):
        fit_marker_peaks(rows_of(np.ones((6, 2), int)), np.arange(6), np.arange(6) % 3, 3)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(0, 30), st.data())
def test_allocation(seed, n_types, n_peaks, data):
    rng = np.random.default_rng(seed)
    n_cells = rng.integers(1, 6, n_types)
    sums = rng.integers(0, 4, (n_types, n_peaks)).astype(float)  # many ties
    statistics = TypeStatistics(n_cells, sums, sums**2)
    sizes = np.array(data.draw(st.lists(st.integers(0, 12), min_size=n_types, max_size=n_types)))
    found = allocate(statistics, sizes)
    assert len(set(found.peaks.tolist())) == len(found.peaks)  # no peak for two types
    blocks = [slice(*found.ptr[i : i + 2]) for i in range(n_types)]
    free = set(range(n_peaks))
    for code in sorted(range(n_types), key=lambda c: (n_cells[c], c)):  # rare first
        scores, by_difference = statistics.scores(code)
        expected = sorted(free, key=lambda p: (-scores[p], p))[: sizes[code]]
        assert found.peaks[blocks[code]].tolist() == expected
        np.testing.assert_array_equal(found.scores[blocks[code]], scores[expected])
        assert (code in found.by_difference) == by_difference
        free -= set(expected)
