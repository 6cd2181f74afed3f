"""Prior edges against a plain double loop."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scweave.generators.prior import window_edges
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
    gene = np.repeat(np.arange(len(genes)), np.diff(edges.indptr))
    found = list(zip(gene.tolist(), edges.peak.tolist(), edges.distance.tolist(), strict=True))
    assert found == by_loop(genes, peaks, window)


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
