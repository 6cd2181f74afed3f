"""Differences between groups of cells: against plain loops, scipy, and where nothing differs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse, stats

from random_dataset import write_random_dataset
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.interpret import differences
from scweave.interpret.differences import cells_where, difference, permuted_pvalues
from scweave.interpret.links.edge_links import EdgeLinks
from scweave.interpret.links.type_links import type_links
from scweave.models.crossrec_cis import CisConfig, CisCrossRec
from test_attention import dense_links, make_model


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    path = write_random_dataset(tmp_path_factory.mktemp("difference") / "dataset", window=True, n_cells=60)
    return MultiomeGraphs(path)


@pytest.fixture(scope="module")
def cis(graphs):
    torch.manual_seed(0)
    model = CisCrossRec.from_graphs(graphs, CisConfig(sequence=False, components=5, programmes=4))
    with torch.no_grad():
        model.expression.attention.query.normal_()
    return model.eval()


def halves(graphs):
    return np.arange(0, len(graphs), 2), np.arange(1, len(graphs), 2)


def test_scores_of_cells_equal_means_over_dense_attention(graphs):
    model, (first, second) = make_model(graphs), halves(graphs)
    table = difference(model, graphs, first, second, permutations=3)
    dense, genes, peaks = dense_links(model, graphs), graphs.genes.frame["gene"], graphs.peaks.frame["peak"]
    rows = graphs.pairs_of(np.arange(len(graphs)))[0]
    expected: dict[tuple[str, str], list[float]] = {}
    for (cell, gene, peak), weight in dense.items():
        place = int(np.flatnonzero(rows == cell)[0])
        sums = expected.setdefault((genes[gene], peaks[peak]), [0.0, 0.0])
        sums[place % 2] += weight / (len(first) if place % 2 == 0 else len(second))
    assert len(table) == len(expected)
    for row in table.iloc[::7].itertuples():
        np.testing.assert_allclose([row.first, row.second], expected[row.gene, row.peak], rtol=1e-6)
    np.testing.assert_allclose(table["difference"], table["first"] - table["second"])
    assert table["pvalue"].is_monotonic_increasing
    assert all(own["difference"].abs().is_monotonic_decreasing for _, own in table.groupby("pvalue"))


def test_scores_of_edges_are_those_of_a_map_of_both_groups(graphs, cis):
    first, second = halves(graphs)
    table = difference(cis, graphs, first, second, permutations=3).set_index(["gene", "peak"])
    edges = EdgeLinks.of(cis, graphs)
    edges.compare(graphs, [graphs.pairs_of(cells)[1] for cells in (first, second)])
    names = [graphs.genes.frame["gene"][edges.gene], graphs.peaks.frame["peak"][edges.peak]]
    index = pd.MultiIndex.from_arrays(names)
    for place, name in enumerate(("first", "second")):
        expected = pd.Series(edges.scores(place), index)[table.index]
        np.testing.assert_allclose(table[name], expected, rtol=1e-9)
    assert table.groupby("peak")["pvalue"].nunique().max() == 1  # links of a peak share it
    assert len(table) > 100


def mean_difference(added, cells):
    return np.subtract(*(added / cells[:, None]))


@pytest.mark.parametrize("sums", [1 << 24, 64])
def test_pvalues_agree_with_scipy_permutations(sums, monkeypatch):
    monkeypatch.setattr(differences, "_SUMS", sums)
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], [14, 18])
    values = rng.poisson(0.7, (32, 6)) + groups[:, None] * np.array([0, 0, 0, 1, 2, 0])
    dealt = differences._Dealt(sparse.csr_matrix(values.astype(float)), np.ones(32))
    ours = permuted_pvalues(dealt, groups, np.zeros(32, np.int64), mean_difference, 4000, 1)
    for feature, p in enumerate(ours):
        a, b = values[groups == 0, feature], values[groups == 1, feature]
        theirs = stats.permutation_test(
            (a, b), lambda x, y, axis: np.abs(x.mean(axis) - y.mean(axis)), vectorized=True,
            n_resamples=4000, alternative="greater", rng=np.random.default_rng(2), axis=0,
        ).pvalue  # fmt: skip
        assert abs(p - theirs) < 0.04
    assert ours.min() >= 1 / 4001


def test_labels_are_dealt_out_within_strata():
    rng = np.random.default_rng(3)
    strata, groups = rng.integers(0, 4, 50), rng.integers(0, 2, 50)
    dealt = differences._deal(groups, strata, 20, rng)
    for stratum in range(4):
        own = strata == stratum
        assert (dealt[own].sum(0) == groups[own].sum()).all()
    assert len(np.unique(dealt, axis=1).T) > 10


def test_what_differs_between_strata_is_no_difference_within_them(graphs, cis, monkeypatch):
    first, second = halves(graphs)
    frame = graphs.cells.assign(batch=None)
    rows = graphs.pairs_of(np.arange(len(graphs)))[0]
    frame.loc[rows[first], "batch"], frame.loc[rows[second], "batch"] = "a", "b"
    monkeypatch.setattr(graphs, "cells", frame)
    table = difference(cis, graphs, first, second, within="batch", permutations=20)
    assert (table["pvalue"] == 1).all()


def test_random_groups_do_not_differ_and_a_planted_peak_does(graphs, cis):
    first, second = halves(graphs)
    table = difference(cis, graphs, first, second, permutations=200)
    assert (table["pvalue"] <= 0.05).mean() < 0.15
    peaks = pd.Series(EdgeLinks.of(cis, graphs).peak).value_counts()
    matrix = graphs.atac_rows.matrix(graphs.pairs_of(np.arange(len(graphs)))[1])
    opened = np.asarray((matrix > 0).todense())
    planted = int(peaks.index[np.argmin(np.abs(opened[:, peaks.index].mean(0) - 0.5))])
    has = np.flatnonzero(opened[:, planted])
    rest = np.setdiff1d(np.arange(len(graphs)), has)
    found = difference(cis, graphs, has, rest, permutations=200)
    own = found[found["peak"] == graphs.peaks.frame["peak"][planted]]
    assert len(own)
    assert np.allclose(own["pvalue"], 1 / 201)


def test_cells_change_places_with_those_of_like_depth():
    depth = np.random.default_rng(5).permutation(200)
    strata = np.repeat([0, 1], [80, 120])
    found = differences.alike_in_depth(strata, depth)
    assert sorted(np.unique(found, return_counts=True)[1]) == [20, 30, 30, 30, 30, 30, 30]
    for run in np.unique(found):
        own = found == run
        assert len(np.unique(strata[own])) == 1
        beside = strata == strata[own][0]
        assert ((depth[beside] >= depth[own].min()) & (depth[beside] <= depth[own].max())).sum() == own.sum()


@pytest.mark.parametrize("shallow", [0, 1])
@pytest.mark.parametrize("common", [0.005, 0.1])
def test_a_shallow_group_does_not_differ_by_its_depth(shallow, common):
    rng = np.random.default_rng(4)
    groups = np.repeat([0, 1], [300, 600])
    chance = np.where(groups == shallow, 0.4, 1.0)[:, None] * np.append(
        np.full(1000, common), np.full(1000, 0.2)
    )
    opened = sparse.csr_matrix((rng.random((900, 2000)) < chance).astype(float))
    depth = np.diff(opened.indptr).astype(np.int64)
    sums = differences._Dealt(opened, depth / depth.mean())
    strata = differences.alike_in_depth(np.zeros(900, np.int64), depth)
    found = differences.openness_pvalues(sums, groups, strata, 300, 0)[:1000]
    assert (found <= 0.05).mean() < 0.06
    assert (found <= 0.01).mean() < 0.015


def test_seeds_repeat(graphs, cis):
    first, second = halves(graphs)
    one, two, other = (
        difference(cis, graphs, first, second, permutations=30, seed=seed) for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(one, two)
    assert not one["pvalue"].equals(other["pvalue"])


def test_cells_are_chosen_by_their_columns(graphs):
    found = cells_where(graphs, cell_type="A", split="train")
    rows = graphs.cells.iloc[graphs.pairs_of(found)[0]]
    assert set(rows["cell_type"]) == {"A"}
    assert set(rows["split"]) == {"train"}
    with pytest.raises(InputError, match="no column 'donr'; there are barcode"):
        cells_where(graphs, donr="x")
    with pytest.raises(InputError, match="no cell has cell_type 'C' among those asked for; there are A"):
        cells_where(graphs, cell_type="C")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": np.zeros(0, np.int64)}, "a group has no cells"),
        ({"second": np.arange(3)}, "2 cells are in both groups"),
        ({"permutations": 0}, "0 permutations"),
        ({"within": "mood"}, "no 'mood' to compare within"),
    ],
)
def test_bad_groups_are_refused(graphs, cis, change, message):
    asked = {"first": np.arange(0, 4, 2), "second": np.arange(1, 5, 2), "permutations": 2, **change}
    with pytest.raises(InputError, match=message):
        difference(cis, graphs, asked.pop("first"), asked.pop("second"), **asked)


def test_a_map_of_two_types_has_the_same_scores(graphs, cis):
    labelled = cells_where(graphs, cell_type="A"), cells_where(graphs, cell_type="B")
    table = difference(cis, graphs, *labelled, permutations=2).set_index(["gene", "peak"])
    both = graphs[np.concatenate(labelled)]
    for piece, name in zip(type_links(cis, both, progress=False), ("first", "second"), strict=True):
        (frame,) = piece.frames(graphs)
        own = frame.set_index(["gene", "peak"])["score"]
        np.testing.assert_allclose(table.loc[own.index, name], own, rtol=1e-9)
