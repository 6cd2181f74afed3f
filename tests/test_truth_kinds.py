"""Kinds of truth: read from files as they are, placed on peaks, judged an element at a time."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.interpret.evidence.candidates import MapScores, candidate_pairs
from scweave.interpret.evidence.comparison import compare, recovery
from scweave.interpret.evidence.intervals import Intervals, overlaps
from scweave.interpret.evidence.loop_links import loop_elements
from scweave.interpret.evidence.names import gene_ids
from scweave.interpret.evidence.truth import locate, read_truth

COLUMNS = ["chrom1", "start1", "end1", "chrom2", "start2", "end2", "name", "kind"]


@pytest.fixture
def graphs(random_dataset):
    return MultiomeGraphs(random_dataset)


@pytest.fixture
def pairs(graphs):
    return candidate_pairs(graphs)


tables = st.lists(
    st.tuples(st.integers(-1, 2), st.integers(0, 60), st.integers(0, 25)), min_size=0, max_size=25
)


def intervals_of(rows):
    chrom, start, width = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    return Intervals(chrom, start, start + width)


@given(tables, tables)
def test_overlaps_equal_a_plain_loop(first, second):
    expected = [
        (i, j)
        for i, (chrom, start, width) in enumerate(first)
        for j, (other, begin, length) in enumerate(second)
        if chrom == other >= 0 and max(start, begin) < min(start + width, begin + length)
    ]
    rows = overlaps(intervals_of(first), intervals_of(second))
    assert list(zip(*(row.tolist() for row in rows), strict=True)) == expected


def coordinates(graphs, pairs, chosen):
    """Elements that are the peaks of some candidates, with the chromosome spelled otherwise."""
    peaks = graphs.peaks.frame.iloc[pairs.peak[chosen]]
    genes = graphs.genes.frame["gene"].to_numpy()[pairs.gene[chosen]]
    return pd.DataFrame(
        {
            "gene": genes,
            "chr": peaks["chrom"].str.replace("chr", "").to_numpy(),
            "start": peaks["start"].to_numpy(),
            "end": peaks["end"].to_numpy(),
        }
    )


def plain_members(graphs, pairs, table):
    """(gene, chrom, start, end) -> candidates, by a plain loop."""
    peaks, genes = graphs.peaks.frame, graphs.genes.frame["gene"].to_numpy()
    members = {}
    for row in table.itertuples():
        inside = {
            i
            for i, (g, p) in enumerate(zip(pairs.gene, pairs.peak, strict=True))
            if genes[g] == row.gene
            and peaks["chrom"][p] == "chr" + row.chr
            and peaks["start"][p] < row.end
            and peaks["end"][p] > row.start
        }
        if inside:
            members[row.gene, row.chr, row.start, row.end] = inside
    return members


def test_elements_without_a_label_mark_the_candidates_they_overlap(graphs, pairs):
    table = coordinates(graphs, pairs, np.arange(0, len(pairs), 9))
    known = locate(table, pairs, graphs)
    expected = set().union(*plain_members(graphs, pairs, table).values())
    assert set(np.flatnonzero(known.true)) == expected == set(known.true_candidates)
    assert len(known) == len(pairs)
    assert known.coverage["in_candidates"] == known.coverage["links"] == len(table.drop_duplicates())


def test_tested_elements_are_judged_once_by_their_best_peak(graphs, pairs):
    table = coordinates(graphs, pairs, np.arange(0, len(pairs), 3))
    table["end"] += 700  # some elements have several peaks
    table["label"] = np.where(np.arange(len(table)) % 3 == 0, "yes", "no")
    twice = pd.concat([table, table.assign(label="no"), table.head(4).assign(label="")])
    known, members = locate(twice, pairs, graphs), plain_members(graphs, pairs, table)
    score = np.random.default_rng(0).random(len(pairs))
    labels = {(r.gene, r.chr, r.start, r.end): r.label == "yes" for r in table.itertuples()}
    expected = sorted(
        (max(score[list(inside)]), score[list(inside)].mean(), labels[key]) for key, inside in members.items()
    )
    found = sorted(zip(known.best(score), known.mean(score), known.true, strict=True))
    np.testing.assert_allclose(np.array(found, float), np.array(expected, float))
    assert max(map(len, members.values())) > 1
    assert known.coverage["tested"] == known.coverage["tested_in_candidates"] == len(members) == len(known)
    assert known.coverage["links"] == sum(labels.values())
    comparison = compare(MapScores(pairs), known, graphs)
    nearest = [min(abs(pairs.distance[list(inside)])) for inside in members.values()]
    assert comparison.reason is None
    assert sorted(-comparison.scores["distance"]) == sorted(nearest)
    summary = comparison.summary()
    assert (summary["judged_pairs"], summary["candidates"]) == (len(members), len(pairs))


def test_listed_pairs_with_a_label_are_the_judged_ones(graphs, pairs):
    genes, peaks = graphs.genes.frame["gene"].to_numpy(), graphs.peaks.frame["peak"].to_numpy()
    table = pd.DataFrame({"gene": genes[pairs.gene[::2]], "peak": peaks[pairs.peak[::2]]})
    table["Significant"] = np.arange(len(table)) % 4 == 0
    known = locate(table, pairs, graphs)
    assert sorted(known.candidate) == list(range(0, len(pairs), 2))
    order = np.argsort(known.candidate)
    assert known.true[order].tolist() == table["Significant"].tolist()
    found = recovery(table.assign(score=table["Significant"] * 1.0), table, graphs)
    assert found["methods"]["map"]["auprc"] == 1
    assert found["judged_pairs"] == len(table)


def test_coverage_of_elements_says_what_became_of_each(graphs, pairs):
    table = coordinates(graphs, pairs, np.arange(40))
    far = graphs.peaks.frame.iloc[-1]
    gene = graphs.genes.frame["gene"][0]
    odd = pd.DataFrame(
        {
            "gene": ["nobody", gene, gene],
            "chr": ["1", "1", far["chrom"]],
            "start": [5, 900_000, far["start"]],
            "end": [90, 900_100, far["end"]],
        }
    )
    number = len(table.drop_duplicates())
    assert locate(pd.concat([table, odd]), pairs, graphs).coverage == {
        "links": number + 3,
        "in_candidates": number,
        "unknown_gene": 1,
        "unknown_peak": 1,
        "outside_window": 1,
    }


def loops(*rows):
    return pd.DataFrame([[*row, *[None] * (len(COLUMNS) - len(row))] for row in rows], columns=COLUMNS)


def element(row):
    return row.gene, row.chrom, row.start, row.end


def test_loops_find_their_gene_by_name_or_by_promoter(graphs):
    frame = graphs.genes.frame
    one = frame.index[frame["chrom"] == "chr2"][0]
    name, tss = frame["gene"][one], int(frame["tss"][one])
    away = ("chr2", 90_000, 90_500)
    at = ("chr2", max(tss - 5, 0), tss + 5)
    for table, expected in (
        (loops((*away, *at, f"<x_distal><{name}>", "peak-gene")), [(one, *away)]),
        (loops((*at, *away, f"<{name}><_intergenic>", "gene-peak")), [(one, *away)]),
        (loops((*away, *at, f"<{name}><x>")), [(one, *at)]),
        (loops((*at, *away, name)), [(one, *away)]),
        (loops((*away, *at, name)), [(one, *away)]),
        (loops((*away, *at, "<x_distal><unknown>", "peak-gene")), [(-1, *away)]),
        (loops((*away, "chr3", 95_000, 95_500)), [(-1, *away)]),
    ):
        found = [element(row) for row in loop_elements(table, graphs).itertuples()]
        assert found == expected
    near = {
        g
        for g in frame.index
        if frame["chrom"][g] == "chr2"
        and at[1] < int(frame["tss"][g]) + 1001
        and at[2] > int(frame["tss"][g]) - 1000
    }
    assert one in near
    for ends in ((at, away), (away, at)):
        found = {element(row) for row in loop_elements(loops((*ends[0], *ends[1])), graphs).itertuples()}
        assert found == {(g, *away) for g in near}


def test_bedpe_is_read_with_comments_a_header_and_unknown_anchors(tmp_path, graphs):
    peak = graphs.peaks.frame.iloc[3]
    gene = graphs.genes.frame.iloc[2]
    line = f"{peak.chrom}\t{peak.start}\t{peak.end}\t{gene.chrom}\t{gene.tss}\t{gene.tss + 1}\t<a><{gene.gene}>\t0.5\n"
    text = "#a comment\nchr1\tx1\tx2\tchr2\ty1\ty2\n" + line + ".\t-1\t-1\tchr1\t5\t9\n"
    with gzip.open(tmp_path / "a.bedpe.gz", "wt") as stream:
        stream.write(text)
    found = read_truth(tmp_path / "a.bedpe.gz", "bedpe")
    assert len(found) == 1
    known = locate(found, candidate_pairs(graphs), graphs)
    assert known.coverage["links"] == 1


def test_crispr_columns_become_labelled_elements(tmp_path, graphs, pairs):
    table = coordinates(graphs, pairs, np.arange(60))
    named = pd.DataFrame(
        {
            "chrom": "chr" + table["chr"],
            "chromStart": table["start"],
            "chromEnd": table["end"],
            "measuredGeneSymbol": ["alias", *table["gene"][1:]],
            "measuredGeneEnsemblId": "ENSG" + table["gene"].str[1:],
            "ValidConnection": ["TRUE"] * 58 + ["FALSE", "overlaps target gene exon"],
            "Regulated": ["TRUE", "FALSE"] * 30,
        }
    )
    named.to_csv(tmp_path / "t.tsv.gz", sep="\t", index=False)
    truth = read_truth(tmp_path / "t.tsv.gz", "crispr")
    assert (len(truth), int(truth["label"].sum())) == (58, 29)
    coverage = locate(truth, pairs, graphs).coverage
    number = len(table.head(58).drop_duplicates())
    assert (coverage["tested"], coverage["tested_in_candidates"]) == (number, number)
    assert coverage["unknown_gene"] == 0  # the id stands in for a symbol that is unknown


def test_categories_of_a_table_make_no_pairs(tmp_path, graphs, pairs):
    table = coordinates(graphs, pairs, np.arange(9)).assign(label=[True, False, True] * 3)
    expected = locate(table, pairs, graphs).coverage
    table.assign(chr=table["chr"].astype("category")).to_parquet(tmp_path / "t.parquet")
    assert locate(read_truth(tmp_path / "t.parquet"), pairs, graphs).coverage == expected


def test_versions_of_ensembl_ids_do_not_count(graphs):
    ids = graphs.genes.frame["gene_id"]
    names = pd.Series([f"{ids[3]}.12", ids[4], "RP11-34P13.7", f"{ids[5]}.x"])
    assert gene_ids(graphs, names).tolist() == [3, 4, -1, -1]


def test_a_table_with_a_byte_order_mark_and_two_labels_tells_the_stricter(tmp_path, graphs, pairs):
    table = coordinates(graphs, pairs, np.arange(9)).assign(
        overlaps_pchic=["yes"] * 6 + ["no"] * 3, pchic_significant=[True, False] * 3 + [None] * 3
    )
    table.to_csv(tmp_path / "s.csv.gz", index=False, encoding="utf-8-sig")
    truth = read_truth(tmp_path / "s.csv.gz")
    assert truth.columns[0] == "gene"
    coverage = locate(truth, pairs, graphs).coverage
    assert (coverage["links"], coverage["tested"]) == (3, 6)
    plain = truth.drop(columns="pchic_significant")
    assert locate(plain, pairs, graphs).coverage["links"] == 6


def test_bad_truth_is_refused_with_the_reason(tmp_path, graphs, pairs):
    table = coordinates(graphs, pairs, np.arange(5))
    for changed, message in (
        (table.assign(chr="chrZ"), "no chromosome in common .*chrZ; dataset: chr1"),
        (table.assign(gene="x"), r"none of the \d+ known pairs .*unknown gene \(truth: x"),
        (table.assign(start="a"), "column start holds 'a', no number"),
        (table.assign(end=table["start"]), "are empty or begin before 0"),
        (table.assign(label="perhaps"), "column label holds 'perhaps', neither yes nor no"),
        (table.drop(columns="end"), "no column peak; it has gene, chr, start"),
        (table.iloc[:0], "the truth has no links"),
        (
            table[["gene"]].assign(peak="p"),
            r"\d have an unknown peak \(truth: p",
        ),
    ):
        with pytest.raises(InputError, match=message) as caught:
            locate(changed, pairs, graphs)
        assert "\n" not in str(caught.value)
    (tmp_path / "a.bedpe").write_text("chr1\t1\t2\n")
    (tmp_path / "b.bedpe").write_text("chr1\t1\t2\tchr1\tx\t9\n")
    table.to_csv(tmp_path / "t.csv", index=False)
    for name, kind, message in (
        ("a.bedpe", "bedpe", "at least 6 tab-separated columns; found 3"),
        ("b.bedpe", "bedpe", "loop 1 has a position that is no number"),
        ("t.csv", "crispr", "no column chrom and .*kind crispr needs"),
        ("t.csv", "tf", "Read it with read_bed"),
    ):
        with pytest.raises(InputError, match=message):
            read_truth(tmp_path / name, kind)


@pytest.mark.parametrize(
    ("kind", "name", "links", "tested"),
    [
        ("crispr", "EPCrisprBenchmark_combined_data.training_K562.GRCh38.tsv.gz", 471, 10_356),
        ("links", "SCARlink_SuppTbl2.csv.gz", None, None),
        ("bedpe", "10x_e18brain_feature_linkage.bedpe.gz", None, None),
    ],
)
def test_real_files_are_read(shared_data, kind, name, links, tested):
    truth = read_truth(shared_data / "links" / name, kind)
    if kind == "crispr":
        assert (int(truth["label"].sum()), len(truth)) == (links, tested)
    elif kind == "links":
        assert "chr" in truth and truth["gene"].nunique() == 130
    else:
        assert set(truth["kind"]) == {"peak-gene", "gene-peak", "peak-peak"}
