"""Recovery of known links: candidates, correlation and figures against plain oracles."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, roc_auc_score

from random_dataset import write_random_dataset
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.interpret.evidence.bootstrap import gene_draws, interval
from scweave.interpret.evidence.candidates import candidate_pairs
from scweave.interpret.evidence.comparison import Curve, early_precision, recovery
from scweave.interpret.evidence.correlation import correlation, linkpeaks, open_share
from scweave.interpret.evidence.judgement import Features, judge
from scweave.interpret.evidence.ranking import RECALLS, Ranking
from scweave.interpret.evidence.truth import gene_ids, read_truth
from scweave.interpret.figures.recovery import plot_recovery


@pytest.fixture
def graphs(random_dataset):
    return MultiomeGraphs(random_dataset)


def named(graphs, gene, peak):
    genes, peaks = graphs.genes.frame["gene"].to_numpy(), graphs.peaks.frame["peak"].to_numpy()
    return pd.DataFrame({"gene": genes[gene], "peak": peaks[peak]})


@pytest.fixture
def truth(graphs):
    pairs = candidate_pairs(graphs)
    return named(graphs, pairs.gene[::7], pairs.peak[::7])


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
    names = ("auprc", "early_precision", *(f"precision_at_recall_{r}" for r in RECALLS))
    halves = {"auroc": 0.5, "matched_auroc": 0.5}
    assert perfect["methods"]["map"] == dict.fromkeys((*names, *halves), 1.0)
    assert perfect["methods"]["random"] == pytest.approx(dict.fromkeys(names, chance) | halves)
    assert perfect["intervals"]["map"]["auprc"] == [1.0, 1.0]
    assert (perfect["judged"], perfect["true_pairs"], perfect["true_candidates"]) == (
        True,
        len(truth),
        len(truth),
    )
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
        assert found["methods"][name]["auroc"] == pytest.approx(roc_auc_score(true, score))
    best = max(
        ("distance", "correlation", "linkpeaks", "accessibility"), key=lambda m: found["methods"][m]["auprc"]
    )
    gap = found["methods"]["map"]["auprc"] - found["methods"][best]["auprc"]
    assert found["map_minus_best"]["baseline"] == best
    assert found["map_minus_best"]["auprc"] == pytest.approx(gap)
    low, high = found["map_minus_best"]["interval"]
    assert low < gap < high
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
        ("columns.csv", "hic", "no truth kind 'hic'. The kinds accepted are: links, crispr, bedpe, tf"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            read_truth(tmp_path / name, kind)
        assert "\n" not in str(caught.value)
    foreign = pd.DataFrame({"gene": ["x", "y"], "peak": ["p", "q"]})
    with pytest.raises(InputError, match=r"none of the 2 known pairs .*2 have an unknown gene \(truth: x, y"):
        recovery(truth.assign(score=1.0), foreign, graphs)
    with pytest.raises(InputError, match="link table names genes or peaks that the dataset has not"):
        recovery(foreign.assign(score=1.0), truth, graphs)


def scored(seed=0, n=400, genes=20, levels=25):
    """Pairs with many ties, a tenth of them true, which score higher."""
    rng = np.random.default_rng(seed)
    true = rng.random(n) < 0.1
    score = np.round(rng.random(n) * levels + true * levels / 3) / levels
    return true, score, rng.integers(0, genes, n)


def repeated(weights, *arrays):
    """Each pair as often as its weight says."""
    return [np.repeat(array, weights.astype(int)) for array in arrays]


def plain_precision(true, score, wanted=None):
    """Best pairs one by one, ties spread evenly: precision at as many true ones as wanted, or at n = true."""
    taken = hits = 0.0
    for value in np.unique(score)[::-1]:
        size, inside = (score == value).sum(), true[score == value].sum()
        if wanted is None and taken + size >= true.sum():
            return (hits + inside * (true.sum() - taken) / size) / true.sum()
        if wanted is not None and hits + inside >= wanted:
            return wanted / (taken + size * (wanted - hits) / inside)
        taken, hits = taken + size, hits + inside
    return None


@pytest.mark.parametrize("levels", [3, 25, 10**6])
def test_weighted_figures_equal_sklearn_and_repeated_pairs(levels):
    true, score, gene = scored(levels=levels)
    draws = gene_draws(20, 30, seed=1)
    found = Ranking.of(true, score, gene).figures(draws)
    for row, draw in enumerate(draws):
        weights = draw[gene]
        assert found["auprc"][row] == pytest.approx(
            average_precision_score(true, score, sample_weight=weights)
        )
        assert found["auroc"][row] == pytest.approx(roc_auc_score(true, score, sample_weight=weights))
        more, higher = repeated(weights, true, score)
        assert found["early_precision"][row] == pytest.approx(plain_precision(more, higher))
        assert found["early_precision"][row] == pytest.approx(early_precision(more, higher))
        for recall in RECALLS:
            wanted = np.ceil(recall * more.sum() - 1e-9)
            expected = plain_precision(more, higher, wanted)
            assert found[f"precision_at_recall_{recall}"][row] == pytest.approx(expected)


def test_matched_auroc_compares_within_bins_only():
    true, score, gene = scored(levels=8)
    bins = np.random.default_rng(3).integers(0, 6, len(true))
    draws = gene_draws(20, 5)
    found = Ranking.of(true, score, gene, bins).auroc(draws)
    for row, draw in enumerate(draws):
        won = compared = 0.0
        for i in np.flatnonzero(true):
            for j in np.flatnonzero(~true & (bins == bins[i])):
                weight = draw[gene[i]] * draw[gene[j]]
                won += weight * ((score[i] > score[j]) + 0.5 * (score[i] == score[j]))
                compared += weight
        assert found[row] == pytest.approx(won / compared)
    only = Ranking.of(true, score, gene, np.zeros_like(bins))
    np.testing.assert_allclose(only.auroc(draws), Ranking.of(true, score, gene).auroc(draws))


def test_what_matching_explains_is_taken_away():
    rng = np.random.default_rng(0)
    open_ = rng.random(20_000)
    true = rng.random(20_000) < 0.3 * open_
    features = Features(open_, None, rng.random(20_000) * 1e5)
    found = judge(true, rng.integers(0, 300, 20_000), {"map": open_ + 0.01 * rng.random(20_000)}, features)
    assert found["methods"]["map"]["auroc"] > 0.65
    assert found["methods"]["map"]["matched_auroc"] == pytest.approx(0.5, abs=0.03)
    assert found["matched_on"] == ["accessibility", "distance"]
    assert found["map_minus_best"] is None


def test_figures_mean_nothing_without_true_or_untrue_pairs():
    gene = np.array([0, 0, 1, 1])
    found = Ranking.of(np.array([1, 1, 0, 0], bool), np.arange(4.0), gene).figures(
        np.array([[0.0, 2], [2, 0]])
    )
    assert np.isnan(found["auprc"][0]) and found["auprc"][1] == 1
    assert np.isnan(found["auroc"]).all()
    assert interval(found["auroc"]) is None


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng, inside = np.random.default_rng(0), 0
    for seed in range(60):
        effect = np.repeat(rng.normal(0, 0.7, 60), 20)  # pairs of a gene are alike
        true = np.tile(np.arange(20) < 5, 60)
        score = 0.8 * true + effect * true + rng.normal(0, 1, 1200)
        draws = gene_draws(60, seed=seed)
        low, high = interval(Ranking.of(true, score, np.repeat(np.arange(60), 20)).auroc(draws))
        inside += low <= 0.6884 <= high  # Φ(0.8 / √(0.7² + 2)) of two normal scores
    assert 0.85 <= inside / 60 <= 1


def test_strata_are_counted_and_judged_where_there_is_enough():
    true, score, gene = scored(n=2000)
    distance = np.where(np.arange(2000) < 1500, 9_999.0, 260_000.0)
    distance[:50] = 10_000
    found = judge(true, gene, {"map": score}, Features(score, None, distance))["strata"]
    assert [(row["from"], row["to"], row["pairs"]) for row in found] == [
        (0, 10_000, 1450),
        (10_000, 50_000, 50),
        (50_000, 100_000, 0),
        (100_000, 250_000, 0),
        (250_000, None, 500),
    ]
    near = slice(50, 1500)
    assert found[0]["true"] == true[near].sum()
    assert found[0]["methods"]["map"]["auprc"] == pytest.approx(
        average_precision_score(true[near], score[near])
    )
    low, high = found[0]["intervals"]["map"]["auroc"]
    assert low < roc_auc_score(true[near], score[near]) < high
    assert "methods" not in found[1]


def test_below_thirty_true_pairs_only_coverage_is_told(graphs, truth):
    few = truth.head(29)
    found = recovery(truth.assign(score=1.0), few, graphs)
    assert not found["judged"]
    assert found["reason"] == "29 true pairs among the judged; figures need at least 30"
    assert found["coverage"]["in_candidates"] == 29
    assert "methods" not in found and "strata" not in found


def test_the_legend_tells_intervals_and_an_empty_picture_says_why():
    recall = np.linspace(1, 0, 50)
    curves = {"map": Curve(recall, recall * 0 + 0.2, 0.2, (0.1, 0.3)), "distance": Curve(recall, recall, 0.1)}
    legend = plot_recovery(Figure().subplots(), curves, chance=0.05).get_legend()
    assert [text.get_text() for text in legend.get_texts()][:2] == [
        "map (0.200, 0.100–0.300)",
        "distance (0.100)",
    ]
    assert legend.get_title().get_text() == "method (AUPRC, 95 % interval)"
    ax = plot_recovery(Figure().subplots(), {}, chance=0.0)
    assert [text.get_text() for text in ax.texts] == ["too few known links to judge"]
