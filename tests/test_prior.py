"""Prior edges against a plain double loop."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scweave.generators.edges import edges_between, union
from scweave.generators.prior import prior_edges, window_edges
from scweave.graphs.errors import InputError

GENES = st.lists(
    st.tuples(
        st.sampled_from(["chr1", "chr2", None]), st.integers(0, 200), st.sampled_from(["+", "-", None])
    ),
    max_size=8,
)
PEAKS = st.lists(
    st.tuples(st.sampled_from(["chr1", "chr2", "chr3"]), st.integers(0, 200), st.integers(1, 40)), max_size=12
)

BODIES = st.lists(
    st.tuples(
        st.sampled_from(["chr1", "chr2", None]),
        st.integers(0, 200),
        st.sampled_from(["+", "-", None]),
        st.none() | st.integers(0, 200),
        st.integers(1, 90),
    ),
    max_size=8,
)


def gene_table(rows):
    table = pd.DataFrame(rows, columns=["chrom", "tss", "strand"], dtype=object)
    table["tss"] = table["tss"].mask(table["chrom"].isna(), pd.NA).astype("Int64")
    return table


def peak_table(rows):
    return pd.DataFrame(
        {
            "chrom": np.array([row[0] for row in rows], dtype=object),
            "start": np.array([row[1] for row in rows], dtype=np.int64),
            "end": np.array([row[1] + row[2] for row in rows], dtype=np.int64),
        }
    )


def body_table(rows):
    """Genes of (chrom, tss, strand, start, width), start None where the body is unknown."""
    table = gene_table([row[:3] for row in rows])
    for column, values in (
        ("start", [row[3] for row in rows]),
        ("end", [None if row[3] is None else row[3] + row[4] for row in rows]),
    ):
        table[column] = pd.array(values, dtype="Int64")
    return table


def triples(edges):
    gene = np.repeat(np.arange(len(edges.indptr) - 1), np.diff(edges.indptr))
    return list(zip(gene.tolist(), edges.peak.tolist(), edges.distance.tolist(), strict=True))


def around_bodies(genes, peaks, window):
    edges = []
    for g, (chrom, tss, strand, begin, width) in enumerate(genes):
        first, last = (tss, tss + 1) if begin is None else (begin, begin + width)
        for p, (where, start, size) in enumerate(peaks):
            if chrom == where and start < last + window and start + size > first - window:
                edges.append((g, p, (start + size // 2 - tss) * (-1 if strand == "-" else 1)))
    return edges


def by_loop(genes, peaks, window):
    edges = []
    for g, (chrom, tss, strand) in enumerate(genes):
        for p, (where, start, width) in enumerate(peaks):
            end = start + width
            if chrom == where and start < tss + window + 1 and end > tss - window:
                edges.append((g, p, ((start + end) // 2 - tss) * (-1 if strand == "-" else 1)))
    return edges


@settings(deadline=None)
@given(GENES, PEAKS, st.integers(0, 60))
def test_window_edges_equal_a_double_loop(genes, peaks, window):
    edges = window_edges(gene_table(genes), peak_table(peaks), window=window)
    assert triples(edges) == by_loop(genes, peaks, window)


@settings(deadline=None)
@given(BODIES, PEAKS, st.integers(0, 60))
def test_gene_bodies_equal_a_double_loop_and_fall_back_to_the_tss(genes, peaks, window):
    edges = window_edges(body_table(genes), peak_table(peaks), window=window, around="gene-body")
    assert triples(edges) == around_bodies(genes, [(c, s, w) for c, s, w in peaks], window)


@given(st.data())
def test_union_equals_the_union_of_sets(data):
    genes = gene_table([("chr1", 10 * i, "+-"[i % 2]) for i in range(4)])
    peaks = peak_table([("chr1", 7 * i, 5) for i in range(5)])
    pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=12)
    drawn = [np.array(data.draw(pairs), dtype=np.int64).reshape(-1, 2) for _ in range(2)]
    first, second = (edges_between(genes, peaks, edges[:, 0], edges[:, 1]) for edges in drawn)
    both = union(first, second, 4)
    assert triples(both) == sorted({*triples(first), *triples(second)})
    assert {(g, p) for g, p, _ in triples(both)} == {
        tuple(pair) for edges in drawn for pair in edges.tolist()
    }
    assert (both.indptr.dtype, both.peak.dtype, both.distance.dtype) == (np.int64, np.int32, np.int32)


def test_bounds_of_the_window():
    genes = gene_table([("chr1", 1000, "+")])
    peaks = peak_table([("chr1", 890, 10), ("chr1", 891, 10), ("chr1", 1100, 10), ("chr1", 1101, 10)])
    assert window_edges(genes, peaks, window=100).peak.tolist() == [1, 2]


def test_types_and_sign():
    genes = gene_table([("chr1", 500, "+"), ("chr1", 500, "-"), (None, 0, None)])
    edges = window_edges(genes, peak_table([("chr1", 100, 100)]), window=1000)
    assert edges.indptr.tolist() == [0, 1, 2, 2]
    assert edges.distance.tolist() == [-350, 350]
    assert (edges.indptr.dtype, edges.peak.dtype, edges.distance.dtype) == (np.int64, np.int32, np.int32)


def test_negative_window_is_refused():
    with pytest.raises(InputError, match=r"window around the TSS is -5 bp\. Pass a positive"):
        window_edges(gene_table([]), peak_table([]), window=-5)


def test_an_unknown_centre_is_refused():
    with pytest.raises(InputError, match=r"around 'gene'\. Pass one of tss, gene-body"):
        window_edges(gene_table([]), peak_table([]), around="gene")


@pytest.fixture
def loops(tmp_path):
    path = tmp_path / "loops.bedpe"
    path.write_text("chr1\t480\t520\tchr1\t5000\t5100\nchr1\t480\t520\tchr1\t600\t700\n")
    return path


GENE = [("chr1", 500, "+", 490, 400)]
THREE_PEAKS = [("chr1", 650, 10), ("chr1", 5050, 10), ("chr1", 9000, 10)]


@pytest.mark.parametrize(
    ("window", "with_loops", "around", "prior", "peaks"),
    [
        (200, False, "tss", {"kind": "window", "bp": 200, "around": "tss", "edges": 1, "loops": 0}, [0]),
        (200, True, "tss", {"kind": "window", "bp": 200, "around": "tss", "edges": 2, "loops": 1}, [0, 1]),
        (
            0,
            False,
            "gene-body",
            {"kind": "window", "bp": 0, "around": "gene-body", "edges": 1, "loops": 0},
            [0],
        ),
        ("none", True, "tss", {"kind": "loops", "edges": 2, "loops": 2}, [0, 1]),
        ("none", False, "tss", {"kind": "none", "edges": 0, "loops": 0}, []),
    ],
)
def test_the_prior_joins_window_and_loops_and_says_so(loops, window, with_loops, around, prior, peaks):
    found, edges = prior_edges(
        body_table(GENE),
        peak_table(THREE_PEAKS),
        window=window,
        around=around,
        loops=loops if with_loops else None,
        notes=(notes := []),
    )
    assert (found, edges.peak.tolist()) == (prior, peaks)
    assert (edges.indptr.tolist(), len(notes)) == ([0, len(peaks)], 1 + with_loops)
    assert notes[-1] == f"{len(peaks)} prior edges between peaks and {min(len(peaks), 1)} of 1 genes"


def test_the_chromosome_prior_has_no_edges_and_takes_no_loops(loops):
    genes, peaks = body_table(GENE), peak_table(THREE_PEAKS)
    assert prior_edges(genes, peaks, window="chromosome", notes=[]) == ({"kind": "chromosome"}, None)
    with pytest.raises(InputError, match=r"so loops\.bedpe adds nothing"):
        prior_edges(genes, peaks, window="chromosome", loops=loops, notes=[])
