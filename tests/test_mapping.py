"""A query's features in those of a reference: against double loops, with shares told and too little refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scweave.generators.mapping import FeatureMap, map_genes, map_peaks
from scweave.graphs.errors import InputError

PEAKS = st.lists(
    st.tuples(st.sampled_from(["1", "2", "3"]), st.integers(0, 60), st.integers(1, 40)), max_size=12
)
NAMES = st.sampled_from(["A", "B", "C", "D", "ENSG00000000001", "ENSG00000000002.3", "x"])
IDS = st.sampled_from(
    ["ENSG00000000001", "ENSG00000000001.9", "ENSG00000000002", "ENSG00000000003", "nan", ""]
)


def peaks_at(rows, prefix=""):
    places = [(f"{prefix}{chrom}", start, start + width) for chrom, start, width in rows]
    table = pd.DataFrame(places, columns=["chrom", "start", "end"])
    table = table.astype({"chrom": object, "start": np.int64, "end": np.int64})
    table.insert(0, "peak", [f"{chrom}:{start}-{end}" for chrom, start, end in places])
    return table


def genes_of(rows):
    return pd.DataFrame(rows, columns=["gene", "gene_id", "symbol"], dtype=object)


def most_shared(query, reference):
    columns = []
    for chrom, start, width in query:
        best = (0, -1)
        for row, (other, begin, size) in enumerate(reference):
            shared = min(start + width, begin + size) - max(start, begin)
            if chrom == other and shared > best[0]:
                best = (shared, row)
        columns.append(best[1])
    return columns


def genes_by_loop(names, ids, reference):
    def versionless(name):
        return name.split(".")[0] if name.startswith("ENSG") else name

    found = []
    for i, name in enumerate(names):
        wanted = ([versionless(ids[i])] if ids else []) + [versionless(name)]
        hits = [
            (r, True)
            for w in wanted
            for r, row in enumerate(reference)
            if versionless(row[1]) == w not in ("nan", "")
        ]
        hits += [(r, False) for column in (0, 2) for r, row in enumerate(reference) if row[column] == name]
        found.append(hits[0] if hits else (-1, False))
    columns = []
    for i, (row, _) in enumerate(found):
        rivals = [j for j, (other, by_id) in enumerate(found) if other == row and by_id]
        rivals = rivals or [j for j, (other, _) in enumerate(found) if other == row]
        columns.append(row if rivals[0] == i else -1)
    return columns, sum(row >= 0 for row, _ in found) - sum(column >= 0 for column in columns)


@settings(deadline=None)
@given(PEAKS, PEAKS)
def test_peaks_go_where_they_share_most_bases(query, reference):
    mapped = map_peaks(peaks_at(query), peaks_at(reference, prefix="chr"))
    expected = most_shared(query, reference)
    assert mapped.columns.tolist() == expected
    assert mapped.columns.dtype == np.int64
    hit = {column for column in expected if column >= 0}
    assert (mapped.mapped, mapped.covered) == (sum(column >= 0 for column in expected), len(hit))
    assert (mapped.n_reference, mapped.what, mapped.doubled) == (len(reference), "peaks", 0)


def test_ties_of_peaks_go_to_the_first_and_neighbours_are_not_mapped():
    reference = peaks_at([("1", 0, 10), ("1", 20, 10), ("1", 0, 10), ("1", 40, 10)])
    query = peaks_at([("1", 5, 20), ("1", 30, 10), ("1", 49, 5), ("1", 50, 5)])
    assert map_peaks(query, reference).columns.tolist() == [0, -1, 3, -1]


@given(
    st.lists(st.tuples(NAMES, IDS), max_size=8),
    st.booleans(),
    st.lists(st.tuples(NAMES, IDS, NAMES), max_size=6, unique_by=lambda row: row[0]),
)
def test_genes_go_by_id_then_by_name_and_none_is_taken_twice(query, with_ids, reference):
    names, ids = [name for name, _ in query], [own for _, own in query] if with_ids else None
    mapped = map_genes(names, ids, genes_of(reference))
    assert (mapped.columns.tolist(), mapped.doubled) == genes_by_loop(names, ids, reference)
    assert mapped.mapped == mapped.covered


def test_a_gene_found_by_id_wins_over_an_earlier_one_of_that_name():
    reference = genes_of([("ACTB", "ENSG00000075624", "ACTB"), ("GAPDH", "ENSG00000111640", "GAPDH")])
    mapped = map_genes(["ACTB", "renamed", "GAPDH"], ["", "ENSG00000075624.17", ""], reference)
    assert mapped.columns.tolist() == [-1, 0, 1]
    assert str(mapped) == (
        "2 of 3 (66.7%) genes of the query mapped onto 2 of 2 (100.0%) genes of the reference;"
        " 1 more left out as second copies"
    )


def test_ids_serve_as_names_and_symbols_after_names():
    reference = genes_of([("A-1", "ENSG00000000001", "A"), ("A", "ENSG00000000002", "B")])
    assert map_genes(["ENSG00000000002.4", "B", "A"], None, reference).columns.tolist() == [1, -1, -1]
    assert map_genes(["B", "A-1"], None, reference).columns.tolist() == [1, 0]


def test_the_note_of_peaks_has_both_shares():
    query = peaks_at([("1", 0, 10), ("1", 5, 5), ("2", 0, 5)])
    mapped = map_peaks(query, peaks_at([("1", 0, 10), *[("1", 100 * i, 10) for i in range(1, 8)]]))
    assert (
        str(mapped) == "2 of 3 (66.7%) peaks of the query mapped onto 1 of 8 (12.5%) peaks of the reference"
    )


def test_too_little_is_refused_with_names_of_both_sides():
    names = [f"Gene{i}" for i in range(5)]
    mapped = map_genes(names, None, genes_of([(f"GENE{i}", f"g{i}", f"GENE{i}") for i in range(4)]))
    mapped.require(0.0)
    with pytest.raises(InputError) as caught:
        mapped.require(0.3)
    assert str(caught.value) == (
        "the query has 0 of 4 (0.0%) genes of the reference, fewer than --min-placed 0.3 (only in the query:"
        " Gene0, Gene1, Gene2 …; only in the reference: GENE0, GENE1, GENE2 …). Is this the same genome and"
        " annotation? Pass a query that is, or lower --min-placed."
    )


def test_the_share_asked_for_is_of_the_reference():
    mapped = FeatureMap(np.array([0, 0, 0, 1]), 4, "peaks")
    mapped.require(0.5)
    with pytest.raises(InputError, match=r"2 of 4 \(50\.0%\) peaks .* 0\.51"):
        mapped.require(0.51)


def test_peaks_of_another_genome_map_nowhere():
    mapped = map_peaks(peaks_at([("Chr01", 0, 10)]), peaks_at([("7", 0, 10)]))
    assert (mapped.mapped, mapped.unmapped, mapped.uncovered) == (0, ("Chr01:0-10",), ("7:0-10",))
