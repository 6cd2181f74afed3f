"""Motif enrichment and the peaks it starts from: against scipy and scanpy, and on planted motifs."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse, stats

from scweave.generators.simulate import SimulatedFiles
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.interpret.evidence.correlation import open_share
from scweave.interpret.evidence.nulls import matched_bins
from scweave.interpret.motifs.enrichment import (
    COLUMNS,
    enrichment,
    hit_matrix,
    matched_background,
    odds_ratios,
    one_sided,
)
from scweave.interpret.motifs.marker_peaks import marker_peaks, peaks_by_type, top_peaks
from scweave.interpret.motifs.read import read_motifs
from scweave.interpret.motifs.scan import scan_peaks

SIDES = st.integers(0, 40)


def some_peaks(n: int, rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(
        {"peak": [f"p{i}" for i in range(n)], "accessibility": rng.random(n), "gc": rng.random(n)}
    )


def table_of(graphs: MultiomeGraphs) -> pd.DataFrame:
    return graphs.peaks.frame[["peak", "gc"]].assign(accessibility=open_share(graphs))


@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=5), st.integers(40, 60), st.integers(40, 60))
def test_p_values_and_odds_ratios_are_fishers(hits: list[tuple[int, int]], n: int, m: int) -> None:
    own, other = np.array(hits, np.int64).T
    p, odds = one_sided(own, n, other, m), odds_ratios(own, n, other, m)
    for a, b, value, ratio in zip(own, other, p, odds, strict=True):
        with np.errstate(invalid="ignore"):
            expected = stats.fisher_exact(np.array([[a, n - a], [b, m - b]]), alternative="greater")
        assert value == pytest.approx(expected.pvalue, abs=1e-12)
        assert ratio == pytest.approx(expected.statistic, nan_ok=True)


@given(st.integers(0, 1000), st.integers(0, 60), st.integers(1, 80))
def test_a_background_is_matched_and_drawn_without_replacement(seed: int, n: int, least: int) -> None:
    rng = np.random.default_rng(seed)
    bins = matched_bins(rng.random(120), rng.random(120), None, least=least)
    own = np.sort(rng.choice(120, n, replace=False))
    other = matched_background(own, bins, seed=seed)
    assert len(np.unique(other)) == len(other)
    assert not np.isin(other, own).any()
    wanted, all_of_bin = (np.bincount(bins[rows], minlength=bins.max() + 1) for rows in (own, np.arange(120)))
    assert (
        np.bincount(bins[other], minlength=bins.max() + 1) == np.minimum(wanted, all_of_bin - wanted)
    ).all()


def test_hits_are_counted_once_a_peak() -> None:
    sites = pd.DataFrame({"peak": ["b", "b", "a", "gone", "c"], "tf": ["Y", "Y", "X", "X", "Y"]})
    hits, names = hit_matrix(sites, pd.Series(["a", "b", "c", "d"]))
    assert names == ["X", "Y"]
    assert hits.toarray().tolist() == [[1, 0], [0, 1], [0, 1], [0, 0]]
    empty, names = hit_matrix(sites[:0], pd.Series(["a"]))
    assert (empty.shape, names) == ((1, 0), [])


def test_the_table_says_what_was_counted() -> None:
    rng = np.random.default_rng(0)
    peaks = some_peaks(400, rng)
    peaks.loc[:9, "gc"] = np.nan
    has = {tf: rng.random(400) < share for tf, share in (("A", 0.3), ("B", 0.1))}
    sites = pd.concat([pd.DataFrame({"peak": peaks["peak"][own], "tf": tf}) for tf, own in has.items()])
    sites["tf"] = pd.Categorical(sites["tf"], categories=["A", "B", "never"])
    chosen = {"one": [f"p{i}" for i in range(80)], "two": ["p50", "p50", "p99", "elsewhere"]}
    found = enrichment(sites, chosen, peaks)
    assert tuple(found) == COLUMNS
    assert found.groupby("cell_type", sort=False).size().to_dict() == {"one": 3, "two": 3}
    one = found[found["cell_type"] == "one"].set_index("tf")
    assert (one["n_foreground"] == 70).all()  # ten have no DNA
    assert (one["n_background"] == 70).all()
    assert one.loc["A", "foreground"] == pytest.approx(has["A"][10:80].mean())
    assert one.loc["never", "pvalue"] == 1
    assert np.isnan(one.loc["never", "odds_ratio"])
    assert (found[found["cell_type"] == "two"]["n_foreground"] == 2).all()
    assert found["qvalue"].to_numpy() == pytest.approx(stats.false_discovery_control(found["pvalue"]))
    for _, own in found.groupby("cell_type"):
        assert own["pvalue"].is_monotonic_increasing
    assert found.equals(enrichment(sites, chosen, peaks))


def test_no_cell_types_and_no_peaks() -> None:
    peaks = some_peaks(20, np.random.default_rng(1))
    sites = pd.DataFrame({"peak": ["p1"], "tf": ["A"]})
    assert enrichment(sites, {}, peaks).empty
    found = enrichment(sites, {"none": []}, peaks)
    assert found["pvalue"].tolist() == [1]
    assert found["n_background"].tolist() == [0]
    assert enrichment(sites, {"none": ["p1"]}, peaks[:0])["n_foreground"].tolist() == [0]


def test_a_motif_that_follows_gc_is_not_enriched_in_gc_rich_peaks() -> None:
    """Against all other peaks it would be."""
    rng = np.random.default_rng(2)
    peaks = some_peaks(4000, rng)
    hit = rng.random(4000) < 0.6 * peaks["gc"].to_numpy()
    chosen = rng.choice(4000, 400, replace=False, p=peaks["gc"] ** 2 / (peaks["gc"] ** 2).sum())
    sites = pd.DataFrame({"peak": peaks["peak"][hit], "tf": "GC"})
    found = enrichment(sites, {"type": peaks["peak"][chosen].tolist()}, peaks)
    assert found["pvalue"].item() > 0.01
    rest = np.setdiff1d(np.arange(4000), chosen)
    own, other = np.array([hit[chosen].sum()]), np.array([hit[rest].sum()])
    assert one_sided(own, 400, other, len(rest)).item() < 1e-4


def test_planted_motifs_are_enriched_where_their_factors_are_active(
    simulated: SimulatedFiles, simulated_dataset: Path
) -> None:
    graphs = MultiomeGraphs(simulated_dataset)
    sites = scan_peaks(graphs, read_motifs(simulated.meme))
    activity = pd.read_parquet(simulated.activities).set_index(["cell_type", "tf"])["activity"]
    markers = marker_peaks(graphs, graphs.cells["cell_type"], n=100)
    found = enrichment(sites, peaks_by_type(markers), table_of(graphs))
    strong = found[found["qvalue"] < 0.05]
    assert len(strong) >= 4
    assert (activity.loc[pd.MultiIndex.from_frame(strong[["cell_type", "tf"]])] > 0.5).all()
    rng = np.random.default_rng(0)
    anywhere = {"any": rng.choice(graphs.peaks.frame["peak"], 100, replace=False).tolist()}
    assert enrichment(sites, anywhere, table_of(graphs))["qvalue"].min() > 0.05


def test_marker_peaks_are_those_of_scanpy(random_dataset: Path) -> None:
    graphs = MultiomeGraphs(random_dataset)
    labels = pd.Series(np.random.default_rng(3).choice(["a", "b", "c"], len(graphs)), dtype=object)
    labels[:3] = None
    found = marker_peaks(graphs, labels, n=7)
    known = np.flatnonzero(labels.notna())
    counts = sparse.csr_matrix(graphs.atac_rows.matrix(known)).astype(np.float64)
    idf = len(known) / np.maximum(np.asarray(counts.sum(0)).ravel(), 1)
    values = sparse.diags(1 / np.maximum(np.asarray(counts.sum(1)).ravel(), 1)) @ counts @ sparse.diags(idf)
    values = sparse.csr_matrix(values)
    values.data = np.log1p(1e4 * values.data)
    names = graphs.peaks.frame["peak"].astype(str).tolist()
    data = ad.AnnData(
        values.tocsr(), obs=pd.DataFrame({"type": labels[known].to_numpy(object)}, index=known.astype(str))
    )
    data.obs["type"] = data.obs["type"].astype("category")
    data.var_names = names
    data.uns["log1p"] = {}
    sc.tl.rank_genes_groups(data, "type", method="t-test")
    for name, own in found.groupby("cell_type"):
        told = sc.get.rank_genes_groups_df(data, name).set_index("names")
        assert own["score"].to_numpy() == pytest.approx(
            told["scores"].nlargest(len(own)).to_numpy(), rel=1e-4
        )
        assert 2 * own["pvalue"].to_numpy() == pytest.approx(
            told.loc[own["peak"], "pvals"].to_numpy(), rel=1e-6
        )
    assert found.groupby("cell_type").size().le(7).all()
    sure = marker_peaks(graphs, labels, max_qvalue=0.5)
    assert (sure["qvalue"] <= 0.5).all()


def test_types_without_a_test_have_no_markers(random_dataset: Path) -> None:
    graphs = MultiomeGraphs(random_dataset)
    rest = len(graphs) - 1
    assert "single" not in set(marker_peaks(graphs, ["single"] + ["rest"] * rest)["cell_type"])
    for labels in ([None] * (rest + 1), ["all"] * (rest + 1)):
        found = marker_peaks(graphs, labels)
        assert found.empty
        assert list(found) == ["cell_type", "peak", "score", "pvalue", "qvalue"]
        assert peaks_by_type(found) == {}


def test_labels_that_do_not_fit_are_refused(random_dataset: Path) -> None:
    graphs = MultiomeGraphs(random_dataset)
    with pytest.raises(InputError, match=rf"2 labels for {len(graphs)} cells"):
        marker_peaks(graphs, ["a", "b"])
    with pytest.raises(InputError, match="finding marker peaks needs ATAC"):
        marker_peaks(graphs.only("rna"), ["a"] * len(graphs))


def test_top_peaks_have_the_highest_sums() -> None:
    links = pd.DataFrame(
        {
            "cell_type": pd.Categorical(["x", "x", "x", "x", "y"], categories=["y", "x", "unseen"]),
            "peak": pd.Categorical(["a", "b", "a", "c", "c"]),
            "score": [1.0, 1.5, 1.0, 0.1, 2.0],
        }
    )
    assert top_peaks(links, n=2) == {"x": ["a", "b"], "y": ["c"]}
