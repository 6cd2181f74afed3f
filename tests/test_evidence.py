"""Recovery of known links: candidates, correlation and figures against plain oracles."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from random_dataset import write_random_dataset
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.interpret.evidence.candidates import candidate_pairs
from scweave.interpret.evidence.comparison import early_precision, recovery
from scweave.interpret.evidence.correlation import correlation, linkpeaks, open_share
from scweave.interpret.evidence.truth import gene_ids, read_truth


@pytest.fixture
def graphs(random_dataset):
    return MultiomeGraphs(random_dataset)


def named(graphs, gene, peak):
    genes, peaks = graphs.genes.frame["gene"].to_numpy(), graphs.peaks.frame["peak"].to_numpy()
    return pd.DataFrame({"gene": genes[gene], "peak": peaks[peak]})


@pytest.fixture
def truth(graphs):
    pairs = candidate_pairs(graphs)
    return named(graphs, pairs.gene[::11], pairs.peak[::11])


@pytest.mark.parametrize("window", [0, 500, 2_000, 50_000])
def test_candidates_equal_a_plain_loop(chromosome_dataset, window):
    graphs = MultiomeGraphs(chromosome_dataset)
    expected = []
    for g, gene in graphs.genes.frame.iterrows():
        for p, peak in graphs.peaks.frame.iterrows():
            if (
                gene.chrom == peak.chrom
                and peak.start < gene.tss + window + 1
                and peak.end > gene.tss - window
            ):
                centre = (peak.start + peak.end) // 2
                expected.append((g, p, (centre - gene.tss) * (-1 if gene.strand == "-" else 1)))
    found = candidate_pairs(graphs, window=window)
    assert list(zip(found.gene, found.peak, found.distance, strict=True)) == expected
    assert found.window == window


def test_the_stored_window_is_taken_unless_another_is_asked_for(graphs, chromosome_dataset):
    stored = candidate_pairs(graphs)
    assert (stored.window, len(stored)) == (3000, len(graphs.cis.peak))
    assert candidate_pairs(graphs, window=100).window == 100
    assert candidate_pairs(MultiomeGraphs(chromosome_dataset)).window == 250_000


def test_no_candidates_is_an_error(chromosome_dataset):
    graphs = MultiomeGraphs(chromosome_dataset)
    graphs.genes.tensors["tss"] = graphs.genes.tss + 10**8
    with pytest.raises(
        InputError,
        match=r"no peak lies within 10 bp of any TSS of .*Build it with a GTF and a wider --window",
    ):
        candidate_pairs(graphs, window=10)


def test_find_gives_positions_of_pairs(graphs):
    pairs = candidate_pairs(graphs)
    assert pairs.find(pairs.gene[::3], pairs.peak[::3]).tolist() == list(range(len(pairs)))[::3]
    assert pairs.find(np.array([0, len(graphs.genes) - 1]), np.array([10**4, 0])).tolist() == [-1, -1]


@pytest.mark.parametrize("chunk", [7, 2048])
@pytest.mark.parametrize("split", [None, "train"])
def test_correlation_equals_numpy(random_dataset, chunk, split):
    graphs = MultiomeGraphs(random_dataset, split=split)
    pairs = candidate_pairs(graphs)
    cells = graphs.pairs_of(range(len(graphs)))[0]
    counts, open_ = graphs.rna_rows.matrix(cells).toarray(), graphs.atac_rows.matrix(cells).toarray() > 0
    depth = np.maximum(counts.sum(1, keepdims=True), 1).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        dense = np.corrcoef(np.log1p(1e4 * counts / depth).T, open_.T.astype(float))
    expected = np.nan_to_num(dense[: counts.shape[1], counts.shape[1] :])[pairs.gene, pairs.peak]
    found = correlation(graphs, pairs, chunk=chunk)
    assert np.abs(expected).max() > 0.2
    np.testing.assert_allclose(found, expected, atol=1e-10)
    np.testing.assert_allclose(open_share(graphs, chunk=chunk), open_.mean(0))


def test_correlation_cuts_blocks_of_genes(random_dataset, monkeypatch):
    graphs = MultiomeGraphs(random_dataset)
    pairs = candidate_pairs(graphs)
    whole = correlation(graphs, pairs)
    monkeypatch.setattr("scweave.interpret.evidence.correlation._GENES", 4)
    np.testing.assert_allclose(correlation(graphs, pairs), whole, atol=1e-12)


def plain_linkpeaks(graphs, pairs, backgrounds, *, gc):
    """LinkPeaks a pair at a time, from a dense matrix of all correlations."""
    cells = graphs.pairs_of(range(len(graphs)))[0]
    counts, open_ = graphs.rna_rows.matrix(cells).toarray(), graphs.atac_rows.matrix(cells).toarray() > 0
    x = np.log1p(1e4 * counts / np.maximum(counts.sum(1, keepdims=True), 1).astype(float))
    x, y = x - x.mean(0), open_ - open_.mean(0)
    r = np.nan_to_num(x.T @ y / np.outer(np.linalg.norm(x, axis=0), np.linalg.norm(y, axis=0)))
    peaks, side = np.arange(y.shape[1]), 2 if gc else 4
    content = [np.isin(s, [1, 2]).sum() / max((s < 4).sum(), 1) for s in graphs.store.array("sequences")]
    bins = [
        box
        for alike in split_by(peaks, open_.mean(0), side)
        for box in (split_by(alike, np.array(content), side) if gc else [alike])
    ]
    order = np.random.default_rng(0).permutation(len(peaks))
    chrom, own = graphs.peaks.chrom.numpy(), graphs.genes.chrom.numpy()
    z = []
    for gene, peak in zip(pairs.gene, pairs.peak, strict=True):
        box = next(box for box in bins if peak in box)
        drawn = [p for p in order if p in box and chrom[p] != own[gene]][:backgrounds]
        z.append((r[gene, peak] - r[gene, drawn].mean()) / r[gene, drawn].std(ddof=1))
    return np.array(z)


def split_by(peaks, values, number):
    ranked = peaks[np.argsort(values[peaks], kind="stable")]
    return [ranked[np.arange(len(ranked)) * number // len(ranked) == i] for i in range(number)]


@pytest.mark.parametrize(("chunk", "genes", "sums"), [(7, 4, 300), (2048, 64, 1 << 25)])
@pytest.mark.parametrize("gc", [True, False])
def test_linkpeaks_equals_a_plain_loop(random_dataset, monkeypatch, chunk, genes, sums, gc):
    graphs = MultiomeGraphs(random_dataset)
    if not gc:
        del graphs.peaks.tensors["sequence"]
    pairs = candidate_pairs(graphs)
    for name, value in (("_BACKGROUNDS", 10), ("_BINS", 4), ("_GENES", genes), ("_SUMS", sums)):
        monkeypatch.setattr(f"scweave.interpret.evidence.correlation.{name}", value)
    found = linkpeaks(graphs, pairs, chunk=chunk)
    np.testing.assert_allclose(found, plain_linkpeaks(graphs, pairs, 10, gc=gc), atol=1e-8)
    np.testing.assert_allclose(found, linkpeaks(graphs, pairs, correlation(graphs, pairs)), atol=1e-8)
    assert np.abs(found - linkpeaks(graphs, pairs, seed=1)).max() > 0.1


def test_linkpeaks_is_zero_where_nothing_varies_or_no_other_chromosome_is_there(random_dataset):
    graphs = MultiomeGraphs(random_dataset)[[3]]  # a cell without counts
    pairs = candidate_pairs(graphs)
    assert not linkpeaks(graphs, pairs).any()
    graphs = MultiomeGraphs(random_dataset)
    graphs.peaks.tensors["chrom"] = graphs.peaks.chrom * 0
    graphs.genes.tensors["chrom"] = graphs.genes.chrom * 0
    assert not linkpeaks(graphs, pairs).any()


def test_linkpeaks_never_holds_genes_times_peaks(tmp_path, monkeypatch):
    path = write_random_dataset(tmp_path / "wide", window=False, n_genes=800, n_peaks=20_000)
    graphs = MultiomeGraphs(path)
    pairs = candidate_pairs(graphs, window=20)
    monkeypatch.setattr("scweave.interpret.evidence.correlation._SUMS", 1 << 20)
    tracemalloc.start()
    linkpeaks(graphs, pairs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * 8 * len(graphs.genes) * len(graphs.peaks)


def test_a_perfect_map_recovers_all_and_an_empty_one_nothing(graphs, truth):
    perfect = recovery(truth.assign(score=1.0), truth, graphs)
    chance = len(truth) / len(candidate_pairs(graphs))
    assert perfect["methods"]["map"] == {"auprc": 1.0, "auroc": 1.0, "early_precision": 1.0}
    assert perfect["methods"]["random"] == {
        "auprc": pytest.approx(chance),
        "auroc": 0.5,
        "early_precision": pytest.approx(chance),
    }
    assert perfect["true_candidates"] == len(truth)
    empty = recovery(truth.assign(score=1.0).iloc[:0], truth, graphs)
    assert empty["methods"]["map"]["auprc"] == pytest.approx(chance)
    assert empty["methods"]["map"]["early_precision"] == pytest.approx(chance)
    assert set(empty["methods"]) == {
        "map", "map_mean", "distance", "correlation", "linkpeaks", "accessibility", "random"
    }  # fmt: skip


def test_methods_equal_plain_scores_on_the_same_candidates(graphs, truth):
    rng = np.random.default_rng(0)
    pairs = candidate_pairs(graphs)
    links = pd.concat(
        [
            named(graphs, pairs.gene[keep], pairs.peak[keep]).assign(
                score=rng.random(len(keep)), cell_type=name
            )
            for name, keep in (("A", np.arange(0, len(pairs), 2)), ("B", np.arange(0, len(pairs), 3)))
        ]
    )
    table = named(graphs, pairs.gene, pairs.peak)
    true = pd.MultiIndex.from_frame(table).isin(pd.MultiIndex.from_frame(truth))
    scored = (
        links.groupby(["gene", "peak"])["score"].agg(["max", "sum"]).reindex(pd.MultiIndex.from_frame(table))
    )
    found = recovery(links, truth, graphs)
    expected = {
        "map": scored["max"].fillna(0),
        "map_mean": scored["sum"].fillna(0) / 2,
        "distance": -np.abs(pairs.distance),
        "accessibility": open_share(graphs)[pairs.peak],
    }
    for name, score in expected.items():
        assert found["methods"][name]["auprc"] == pytest.approx(average_precision_score(true, score))
    assert found["candidates"] == len(pairs)
    assert found["map_links"] == {"total": len(links), "outside_candidates": 0}


def test_coverage_says_what_became_of_every_true_link(graphs, truth):
    far = named(graphs, np.array([0]), np.array([len(graphs.peaks) - 1]))
    strange = pd.DataFrame({"gene": ["nobody", truth["gene"][0]], "peak": [truth["peak"][0], "chr9:1-2"]})
    links = truth.assign(score=1.0)
    found = recovery(links, pd.concat([truth, truth.head(3), far, strange]), graphs)
    assert found["coverage"] == {
        "links": len(truth) + 3,
        "in_candidates": len(truth),
        "unknown_gene": 1,
        "unknown_peak": 1,
        "outside_window": 1,
    }
    assert (
        recovery(pd.concat([links, far.assign(score=1.0)]), truth, graphs)["map_links"]["outside_candidates"]
        == 1
    )


def test_genes_are_found_by_name_then_by_id_and_never_guessed(graphs):
    frame = graphs.genes.frame
    frame.loc[[4, 5], "symbol"] = "twice"
    frame.loc[6, "symbol"] = "once"
    names = pd.Series(["g3", "ENSG7", "once", "twice", "nobody"])
    assert gene_ids(graphs, names).tolist() == [3, 7, 6, -1, -1]


def test_early_precision_splits_ties():
    true = np.array([1, 1, 0, 0, 0, 0], bool)
    assert early_precision(true, np.array([5.0, 4, 3, 2, 1, 0])) == 1
    assert early_precision(true, np.array([1.0, 0, 9, 0, 0, 0])) == pytest.approx(0.5)
    assert early_precision(true, np.zeros(6)) == pytest.approx(1 / 3)


def test_truth_is_read_from_parquet_csv_and_tsv(tmp_path, truth):
    truth.to_parquet(tmp_path / "t.parquet")
    truth.to_csv(tmp_path / "t.csv", index=False)
    truth.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    for name in ("t.parquet", "t.csv", "t.tsv"):
        pd.testing.assert_frame_equal(read_truth(tmp_path / name), truth)


def test_bad_truth_is_refused_with_the_reason(tmp_path, graphs, truth):
    truth.rename(columns={"peak": "enhancer"}).to_csv(tmp_path / "columns.csv", index=False)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "x.bed").write_text("chr1\t1\t2\n")
    for name, kind, message in (
        ("columns.csv", None, "no column peak; it has gene, enhancer. .* needs the columns gene, peak"),
        ("broken.parquet", "links", "cannot be read as a table"),
        ("empty.csv", "links", "cannot be read as a table"),
        ("x.bed", "links", "ends in .parquet, .csv.*found '.bed'"),
        ("nowhere.csv", "links", "no such file"),
        ("columns.csv", "crispr", "no truth kind 'crispr'. The kinds accepted are: links"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            read_truth(tmp_path / name, kind)
        assert "\n" not in str(caught.value)
    foreign = pd.DataFrame({"gene": ["x", "y"], "peak": ["p", "q"]})
    with pytest.raises(InputError, match=r"none of the 2 true links .*2 have an unknown gene \(truth: x, y"):
        recovery(truth.assign(score=1.0), foreign, graphs)
    with pytest.raises(InputError, match="link table names genes or peaks that the dataset has not"):
        recovery(foreign.assign(score=1.0), truth, graphs)
