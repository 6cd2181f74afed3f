"""Loops of a BEDPE file as prior edges, against a plain double loop; damaged files are told by line."""

import gzip

import numpy as np
import pandas as pd
import pytest
from anndata import read_h5ad
from hypothesis import given, settings
from hypothesis import strategies as st

from scweave.generators.genome import Genome
from scweave.generators.genomes.peak_names import peak_table
from scweave.generators.loops import loop_edges, read_loops
from scweave.graphs.errors import InputError

COLUMNS = ["chrom1", "start1", "end1", "chrom2", "start2", "end2"]
LINE = "chr1\t10\t20\tchr1\t500\t501"
CHROMOSOME = st.sampled_from(["chr1", "chr2"])
ANCHOR = st.tuples(CHROMOSOME, st.integers(0, 100), st.integers(1, 30)).map(
    lambda x: (x[0], x[1], x[1] + x[2])
)
LOOPS = st.lists(st.tuples(ANCHOR, ANCHOR).map(lambda pair: pair[0] + pair[1]), max_size=6)
GENES = st.lists(
    st.tuples(
        st.sampled_from(["chr1", "chr2", None]), st.integers(0, 130), st.sampled_from(["+", "-", None])
    ),
    max_size=6,
)
PEAKS = st.lists(ANCHOR, min_size=1, max_size=8)


def gene_table(rows):
    table = pd.DataFrame(rows, columns=["chrom", "tss", "strand"], dtype=object)
    return table.assign(tss=table["tss"].mask(table["chrom"].isna(), pd.NA).astype("Int64"))


def peaks_at(rows):
    table = pd.DataFrame(rows, columns=["chrom", "start", "end"])
    return table.astype({"chrom": object, "start": np.int64, "end": np.int64})


def loops_at(rows):
    return pd.DataFrame(rows, columns=COLUMNS)


def triples(edges):
    gene = np.repeat(np.arange(len(edges.indptr) - 1), np.diff(edges.indptr))
    return list(zip(gene.tolist(), edges.peak.tolist(), edges.distance.tolist(), strict=True))


def by_loop(loops, genes, peaks, reach):
    found = set()
    for chrom1, start1, end1, chrom2, start2, end2 in loops:
        if chrom1 != chrom2:
            continue
        for (a, b), (c, d) in (((start1, end1), (start2, end2)), ((start2, end2), (start1, end1))):
            for g, (gene_chrom, tss, strand) in enumerate(genes):
                for p, (peak_chrom, start, end) in enumerate(peaks):
                    near = gene_chrom == chrom1 and a - reach <= tss < b + reach
                    if near and peak_chrom == chrom1 and start < d and end > c:
                        found.add((g, p, ((start + end) // 2 - tss) * (-1 if strand == "-" else 1)))
    return sorted(found)


@settings(deadline=None, max_examples=60)
@given(LOOPS, GENES, PEAKS, st.integers(0, 20))
def test_loop_edges_equal_a_double_loop(loops, genes, peaks, reach):
    expected = by_loop(loops, genes, peaks, reach)
    try:
        edges = loop_edges(loops_at(loops), gene_table(genes), peaks_at(peaks), reach=reach, notes=[])
    except InputError:
        assert not expected
    else:
        assert triples(edges) == expected
        assert (edges.indptr.dtype, edges.peak.dtype, edges.distance.dtype) == (np.int64, np.int32, np.int32)


@pytest.mark.parametrize(("tss", "inside"), [(98, False), (99, True), (120, True), (121, False)])
def test_bounds_of_the_reach(tss, inside):
    genes, peaks = gene_table([("chr1", tss, "+")]), peaks_at([("chr1", 500, 600)])
    loops = loops_at([("chr1", 109, 111, "chr1", 550, 560)])
    if inside:
        assert triples(loop_edges(loops, genes, peaks, reach=10, notes=[])) == [(0, 0, 550 - tss)]
    else:
        with pytest.raises(InputError, match="none of 1 loops"):
            loop_edges(loops, genes, peaks, reach=10, notes=[])


def test_notes_count_loops_edges_and_pairs_of_chromosomes():
    genes, peaks, notes = gene_table([("1", 505, "-")]), peaks_at([("1", 0, 15), ("1", 15, 30)]), []
    loops = loops_at(
        [
            ("chr1", 10, 20, "chr1", 500, 510),
            ("chr1", 500, 510, "chr1", 10, 12),
            ("chr1", 10, 20, "chr2", 500, 510),
            ("chr1", 9_000, 9_010, "chr1", 500, 510),
        ]
    )
    edges = loop_edges(loops, genes, peaks, notes=notes)
    assert triples(edges) == [(0, 0, 498), (0, 1, 483)]
    assert notes == [
        "1 of 4 loops join two chromosomes: left out",
        "2 of 4 loops join a TSS with a peak: 2 edges",
    ]


def test_loops_of_another_genome_are_refused_with_both_lists_of_chromosomes():
    loops = loops_at([("Chr01", 10, 20, "Chr01", 500, 501)])
    with pytest.raises(
        InputError, match=r"none of 1 loops joins .* \(chromosomes of the loops: Chr01; of the peaks: 7, 8\)"
    ):
        loop_edges(loops, gene_table([("7", 500, "+")]), peaks_at([("7", 10, 20), ("8", 10, 20)]), notes=[])


def test_negative_reach_is_refused():
    with pytest.raises(InputError, match="is -1 bp"):
        loop_edges(loops_at([]), gene_table([]), peaks_at([]), reach=-1, notes=[])


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_comments_header_blank_lines_and_more_columns_are_passed_over(tmp_path, zipped, newline):
    lines = [
        "#chr1\tx1",
        "track name=loops",
        "chrom1\tstart1\tend1\tchrom2\tstart2\tend2\tscore",
        "",
        f"{LINE}\tname\t0.5\t.",
        "# in between",
        LINE.replace("chr1", "GL000194.1"),
        "",
    ]
    data = newline.join(lines).encode()
    path = tmp_path / "loops.bedpe"
    path.write_bytes(gzip.compress(data) if zipped else data)
    notes = []
    table = read_loops(path, notes=notes)
    assert table.to_numpy().tolist() == [
        ["chr1", 10, 20, "chr1", 500, 501],
        ["GL000194.1", 10, 20, "GL000194.1", 500, 501],
    ]
    assert list(table.columns) == COLUMNS
    assert (table[["start1", "end1", "start2", "end2"]].dtypes == np.int64).all()
    assert notes == []


def test_unknown_anchors_are_left_out_and_counted(tmp_path):
    path = tmp_path / "l.bedpe"
    path.write_text(
        "\n".join([LINE, "chr1\t1\t2\t.\t-1\t-1", "chr1\t-1\t5\tchr1\t5\t6", "chr1\t.\t.\tchr1\t5\t6"])
    )
    notes = []
    assert len(read_loops(path, notes=notes)) == 1
    assert notes == ["3 of 4 loops of l.bedpe have an unknown anchor: left out"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "l.bedpe has no loops"),
        ("# only\n\n", "l.bedpe has no loops"),
        ("chr1\t-1\t-1\tchr1\t5\t6", "l.bedpe has no loop with two known anchors"),
        (
            f"#\n{LINE}\nchr1 1 2 chr1 5 6",
            "1 of 2 loops have fewer than 6 tab-separated columns \\(line 3: 'chr1 1",
        ),
        (
            f"{LINE}\nchr1\t1\t2\tchr1\t5",
            "fewer than 6 tab-separated columns \\(line 2: 'chr1 1 2 chr1 5'\\)",
        ),
        (f"{LINE}\n\nchr1\t1\tx\tchr1\t5\t6", "1 of 2 loops have no whole number as end1 \\(line 3: "),
        (f"{LINE}\nchr1\t1\t2\tchr1\t5\t6.5", "no whole number as end2 \\(line 2: "),
        (f"{LINE}\nchr1\t1\t2\tchr1\t-5\t6", "no whole number as start2 \\(line 2: "),
        (f"a\tb\tc\td\te\tf\nchr1\ta\tb\tchr1\tc\td\n{LINE}", "no whole number as start1 \\(line 2: "),
        (f"{LINE}\nchr1\t3\t3\tchr1\t5\t6", "1 of 2 loops have start1 >= end1 \\(line 2: "),
        (f"{LINE}\nchr1\t1\t3\tchr1\t7\t6", "1 of 2 loops have start2 >= end2 \\(line 2: "),
    ],
)
def test_bad_lines_are_told_by_number(tmp_path, text, message):
    path = tmp_path / "l.bedpe"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_loops(path, notes=[])
    assert len(str(caught.value).splitlines()) == 1


def test_damaged_and_missing_files_are_told(tmp_path):
    whole = gzip.compress(
        "\n".join(f"chr1\t{i}\t{i + 7}\tchr1\t{i * i}\t{i * i + 1}" for i in range(500)).encode()
    )
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    for name, data in (("cut", whole[:-40]), ("damaged", bytes(damaged)), ("binary", b"\xff\xfe\x00\x81")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=f"{name} cannot be read as text"):
            read_loops(tmp_path / name, notes=[])
    for missing in (tmp_path / "none.bedpe", tmp_path):
        with pytest.raises(InputError, match="do not exist"):
            read_loops(missing, notes=[])


def test_linked_features_of_a_mouse_brain_give_edges_to_the_cortex(shared_data):
    peaks_of = read_h5ad(shared_data / "snareseq_mouse_cortex_atac.h5ad", backed="r").var
    peaks = peak_table(peaks_of, peaks_of.index.tolist())
    names = read_h5ad(shared_data / "snareseq_mouse_cortex_rna.h5ad", backed="r").var_names
    genes, _ = Genome(shared_data / "genome" / "mm10_gencode_genes.gtf.gz").place_genes(names)
    notes = []
    loops = read_loops(shared_data / "links" / "10x_e18brain_feature_linkage.bedpe.gz", notes=notes)
    assert len(loops) == 25_581
    edges = loop_edges(loops, genes, peaks, notes=notes)
    assert (len(notes), len(edges.peak) > 300) == (1, True)
    assert notes[0].endswith(f"of 25,581 loops join a TSS with a peak: {len(edges.peak):,} edges")
    for gene, peak, _ in triples(edges)[::50]:
        place, near = genes.iloc[gene], peaks.iloc[peak]
        here = loops[loops["chrom1"] == place["chrom"]]
        for tss_side, peak_side in (("1", "2"), ("2", "1")):
            at_tss = (here[f"start{tss_side}"] - 1_000 <= place["tss"]) & (
                place["tss"] < here[f"end{tss_side}"] + 1_000
            )
            at_peak = (here[f"start{peak_side}"] < near["end"]) & (here[f"end{peak_side}"] > near["start"])
            if (at_tss & at_peak).any():
                break
        else:
            raise AssertionError(f"no loop joins {place['symbol']} and {near['peak']}")
