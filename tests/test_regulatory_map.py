"""RegulatoryMap: read, of, filter, top_links and difference equal plain loops over rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.interpret.links.lookup import check_names, gene_names
from scweave.interpret.links.type_links import cells_by_type, type_links
from scweave.interpret.maps import RegulatoryMap
from small_map import plain, small_map, write_folder
from test_attention import make_model

TABLES = ("genes", "peaks", "openness", "expression", "sites")


@pytest.fixture(scope="module")
def found(random_dataset):
    return small_map(random_dataset)


@pytest.fixture
def folder(found, tmp_path):
    return write_folder(found, tmp_path / "map")


def same(first, second):
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_of_a_model_is_its_table_of_cell_types(random_dataset):
    graphs = MultiomeGraphs(random_dataset)
    model = make_model(graphs)
    found = RegulatoryMap.of(model, graphs, progress=False)
    pieces = type_links(model, graphs, progress=False)
    table = pd.concat([frame for piece in pieces for frame in piece.frames(graphs)], ignore_index=True)
    assert len(found) == len(table) > 100
    assert list(found.links) == list(table)
    for name in table:
        kept = found.links[name]
        values = kept.astype(object) if isinstance(kept.dtype, pd.CategoricalDtype) else kept
        expected = table[name] if values.dtype == table[name].dtype else table[name].astype(values.dtype)
        assert values.equals(expected), name
    assert found.cells.to_dict() == {name: len(cells) for name, cells in cells_by_type(graphs)}
    assert found.links["gene"].cat.categories.tolist() == graphs.genes.frame["gene"].tolist()
    assert found.links["peak"].cat.categories.tolist() == graphs.peaks.frame["peak"].tolist()
    assert found.links["cell_type"].cat.categories.tolist() == found.cell_types == ["A", "B", "unlabelled"]
    assert found.openness.shape == (len(graphs.peaks), 3)
    assert found.expression.shape == (len(graphs.genes), 3)
    assert found.sites is None and found.exons is None
    assert repr(found) == f"RegulatoryMap({len(found):,} links, 3 cell types, 30 genes, 90 peaks)"


def test_a_model_without_links_makes_an_empty_map(random_dataset):
    graphs = MultiomeGraphs(random_dataset)[[3]]  # a cell without counts
    found = RegulatoryMap.of(make_model(graphs), graphs, progress=False)
    assert len(found) == 0
    assert len(found.filter(top=3, genes="g1", max_qvalue=0.1)) == 0
    assert found.top_links().empty


def test_a_written_map_reads_back_equal(found, folder):
    read = RegulatoryMap.read(folder)
    same(read.links, found.links)
    pd.testing.assert_series_equal(read.cells, found.cells)
    for name in TABLES:
        same(getattr(read, name), getattr(found, name))
    assert read.exons is None


@pytest.mark.parametrize("cell_types", [None, "B", ["unlabelled", "A"]])
@pytest.mark.parametrize("genes", [None, "g3", ["g20", "g4", "g4"]])
def test_reading_some_equals_filtering_all(found, folder, genes, cell_types):
    read = RegulatoryMap.read(folder, genes=genes, cell_types=cell_types)
    filtered = found.filter(genes=genes, cell_types=cell_types)
    same(read.links, filtered.links)
    pd.testing.assert_series_equal(read.cells, filtered.cells)
    for name in TABLES:
        same(getattr(read, name), getattr(filtered, name))


@pytest.mark.parametrize("rows", [13, 60])
@pytest.mark.parametrize(
    "where", [{}, {"cell_types": "B"}, {"genes": ["g3", "g20"], "cell_types": ["A", "B"]}]
)
def test_row_groups_change_nothing(found, folder, rows, where):
    for name in ("links", "sites"):
        table = pq.read_table(folder / f"{name}.parquet")
        for column in ("tf", "peak", "strand"):
            if column in table.column_names:
                text = table[column].cast("string")
                table = table.set_column(table.column_names.index(column), column, text)
        pq.write_table(table.replace_schema_metadata(), folder / f"{name}.parquet", row_group_size=rows)
    read, filtered = RegulatoryMap.read(folder, **where), found.filter(**where)
    same(read.links, filtered.links)
    assert plain(read.sites) == plain(found.sites)
    assert {str(read.sites[name].dtype) for name in ("peak", "tf", "strand")} == {"category"}


def test_links_in_another_order_are_sorted(found, folder):
    frame = pd.read_parquet(folder / "links.parquet").sample(frac=1, random_state=0)
    frame.to_parquet(folder / "links.parquet", index=False)
    links = RegulatoryMap.read(folder).links
    ranked = [(found.cell_types.index(row["cell_type"]), -row["score"]) for row in plain(links)]
    assert ranked == sorted(ranked)
    assert len(links) == len(found)


def test_optional_tables_may_be_missing(found, folder):
    for name in ("openness", "expression", "sites"):
        (folder / f"{name}.parquet").unlink()
    pd.DataFrame(
        {"gene": ["g1", "other"], "chrom": ["chr1", "chr2"], "start": [1, 2], "end": [5, 6]}
    ).to_parquet(folder / "exons.parquet")
    read = RegulatoryMap.read(folder)
    assert read.openness is None and read.expression is None and read.sites is None
    assert read.exons["gene"].tolist() == ["g1", "other"]
    assert read.filter(cell_types="A").openness is None


def damage(folder, name, change):
    table = change(pd.read_parquet(folder / name))
    table.to_parquet(folder / name, index=False)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: f.joinpath("links.parquet").unlink(),
            r"has no links.parquet\. Pass the map of a crossrec run",
        ),
        (
            lambda f: f.joinpath("links.parquet").rename(f / "markers.parquet"),
            r"is the map of an annotator, which tells peaks, not links\. Pass",
        ),
        (
            lambda f: f.joinpath("genes.parquet").unlink(),
            r"has no genes.parquet: it is an older map\. Map again",
        ),
        (lambda f: f.joinpath("types.parquet").unlink(), r"has no types.parquet: it is an older map"),
        (
            lambda f: f.joinpath("peaks.parquet").write_bytes(b"PAR1"),
            r"peaks.parquet cannot be read as parquet",
        ),
        (
            lambda f: damage(f, "links.parquet", lambda t: t.drop(columns="score")),
            r"links.parquet is no table of a map: it has no column score",
        ),
        (
            lambda f: damage(f, "genes.parquet", lambda t: t[1:]),
            r"links.parquet: gene 'g0' is in no other table",
        ),
        (lambda f: damage(f, "types.parquet", lambda t: t[1:]), r"cell_type 'A' is in no other table"),
        (lambda f: damage(f, "genes.parquet", lambda t: t.assign(gene="g1")), r"names 'g1' twice"),
        (lambda f: damage(f, "links.parquet", lambda t: t.assign(gene=None)), r"column gene has gaps"),
        (
            lambda f: damage(f, "sites.parquet", lambda t: t.assign(peak="no")),
            r"sites.parquet: peak 'no' is in no",
        ),
        (
            lambda f: damage(f, "openness.parquet", lambda t: t[1:]),
            r"openness.parquet has 89 rows, and there are 90 peaks",
        ),
        (
            lambda f: damage(f, "expression.parquet", lambda t: t.drop(columns="B")),
            r"expression.parquet is no table of a map: it has no column B",
        ),
    ],
)
def test_what_is_no_map_is_refused_in_one_line(folder, spoil, message):
    spoil(folder)
    with pytest.raises(InputError, match=message) as error:
        RegulatoryMap.read(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"there is no folder .*nowhere\. Pass one that `scweave map` wrote"):
        RegulatoryMap.read(tmp_path / "nowhere")


def query(rows, where):
    """The rows that a plain reading of the conditions keeps."""
    kept = [
        row
        for row in rows
        if all(where[key] is None or row[column] in where[key] for key, column in
               (("genes", "gene"), ("peaks", "peak"), ("cell_types", "cell_type")))
        and (where["chrom"] is None or row["chrom"] == where["chrom"])
        and (where["min_score"] is None or row["score"] >= where["min_score"])
        and (where["max_qvalue"] is None or (row["qvalue"] is not None and row["qvalue"] <= where["max_qvalue"]))
        and (where["min_cells"] is None or (row["n_cells"] is not None and row["n_cells"] >= where["min_cells"]))
        and (where["max_distance"] is None
             or (row["distance"] is not None and abs(row["distance"]) <= where["max_distance"]))
    ]  # fmt: skip
    if where["top"] is None:
        return kept
    taken, best = {}, []
    for row in kept:  # sorted by score in each type
        key = row["gene"], row["cell_type"]
        taken[key] = taken.get(key, 0) + 1
        if taken[key] <= where["top"]:
            best.append(row)
    return best


def some(names):
    return st.none() | st.lists(st.sampled_from(names), max_size=12)


@settings(max_examples=80)
@given(data=st.data())
def test_filter_equals_a_plain_query(found, data):
    where = {
        "genes": data.draw(some(found.genes["gene"].tolist())),
        "peaks": data.draw(some(found.peaks["peak"].tolist())),
        "cell_types": data.draw(some(found.cell_types)),
        "chrom": data.draw(st.none() | st.sampled_from(["chr1", "chr2", "chr3"])),
        "min_score": data.draw(st.none() | st.integers(0, 41).map(lambda n: n / 64)),
        "max_qvalue": data.draw(st.none() | st.floats(0, 1)),
        "min_cells": data.draw(st.none() | st.integers(0, 8)),
        "max_distance": data.draw(st.none() | st.integers(0, 9000)),
        "top": data.draw(st.none() | st.integers(1, 5)),
    }
    kept = found.filter(**where)
    expected = query(plain(found.links), where)
    assert plain(kept.links) == expected
    types = found.cell_types if where["cell_types"] is None else where["cell_types"]
    assert kept.cell_types == [name for name in found.cell_types if name in types]
    assert kept.links["cell_type"].cat.categories.tolist() == kept.cell_types
    assert list(kept.openness) == list(kept.expression) == kept.cell_types
    assert len(kept.genes) == len(found.genes)
    assert kept.links.index.equals(pd.RangeIndex(len(expected)))


def test_filters_follow_each_other(found):
    both = found.filter(cell_types=["A", "B"]).filter(max_distance=5000)
    same(both.links, found.filter(cell_types=["A", "B"], max_distance=5000).links)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"genes": "G12"}, r"the map has no gene 'G12'\. Near it: g12, "),
        ({"genes": ["g1", "Sox2"]}, r"the map has no gene 'Sox2'\. There are g0, g1, g2 …"),
        ({"cell_types": "a"}, r"the map has no cell type 'a'\. Near it: A\."),
        ({"cell_types": ["A", "microglia"]}, r"no cell type 'microglia'\. There are A, B, unlabelled\."),
        ({"peaks": "chr1:1-2"}, r"no peak 'chr1:1-2'\. Near it: chr"),
        ({"chrom": "1"}, r"no chromosome '1'\. There are chr1, chr2, chr3"),
        ({"top": 0}, r"top is 0\. Pass 1 or more"),
    ],
)
def test_unknown_names_are_refused_with_near_ones(found, where, message):
    with pytest.raises(InputError, match=message):
        found.filter(**where)


@pytest.mark.parametrize(
    ("column", "limit"), [("qvalue", "max_qvalue"), ("n_cells", "min_cells"), ("distance", "max_distance")]
)
def test_limits_on_what_nobody_knows_are_refused(found, column, limit):
    unknown = replace(found, links=found.links.assign(**{column: pd.array([pd.NA] * len(found), "Int64")}))
    with pytest.raises(InputError, match=f"{limit}: the {column} of no link of this map is known"):
        unknown.filter(**{limit: 1})


def test_genes_are_found_by_a_symbol_of_their_own():
    genes = pd.DataFrame({"gene": ["E1", "E2", "E3", "E4"], "symbol": ["Gad1", "Sst", "Sst", None]})
    assert gene_names(["Gad1", "E1", "E3"], genes) == ["E1", "E3"]
    with pytest.raises(InputError, match="no gene 'Sst'"):  # two genes have it
        gene_names("Sst", genes)
    with pytest.raises(InputError, match=r"no gene 'gad1'\. Near it: Gad1"):
        gene_names("gad1", genes)
    with pytest.raises(InputError, match=r"no gene 'x'\. It has none\."):
        check_names("x", [], "gene")


@pytest.mark.parametrize("where", [{}, {"gene": "g3"}, {"cell_type": "B"}, {"gene": "g3", "cell_type": "A"}])
@pytest.mark.parametrize("n", [1, 7, 10_000])
def test_top_links_are_the_first_of_all_sorted(found, where, n):
    rows = [row for row in plain(found.links) if all(row[name] == wanted for name, wanted in where.items())]
    rows.sort(key=lambda row: -row["score"])  # stable
    assert plain(found.top_links(**where, n=n)) == rows[:n]


def test_top_links_of_a_peak(found):
    peak = found.links["peak"].iloc[0]
    assert set(found.top_links(peak=peak, n=50)["peak"]) == {peak}
    with pytest.raises(InputError, match="n is 0"):
        found.top_links(n=0)
    with pytest.raises(InputError, match="no peak 'x'"):
        found.top_links(peak="x")


def expected_difference(first, second):
    """(gene, peak) -> scores and effects of two lists of rows, by plain dicts."""
    sides = [{(row["gene"], row["peak"]): row for row in rows} for rows in (first, second)]
    return {
        key: [
            (side[key]["score"] if key in side else 0.0, side[key]["effect"] if key in side else 0.0)
            for side in sides
        ]
        for key in sides[0].keys() | sides[1].keys()
    }


def check_difference(table, first, second):
    expected = expected_difference(first, second)
    places = {(row["gene"], row["peak"]): row for row in [*first, *second]}
    rows = plain(table)
    assert len(rows) == len(expected) == len({(row["gene"], row["peak"]) for row in rows})
    sizes = [abs(row["difference"]) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    for row in rows:
        (a, e), (b, f) = expected[row["gene"], row["peak"]]
        assert (row["first"], row["second"], row["difference"]) == (a, b, a - b)
        assert row["effect_difference"] == (None if e is None or f is None else e - f)
        place = places[row["gene"], row["peak"]]
        assert all(row[name] == place[name] for name in ("chrom", "start", "end", "tss", "distance"))


def of_type(found, name):
    return [row for row in plain(found.links) if row["cell_type"] == name]


def test_difference_of_two_types_equals_plain_dicts(found):
    check_difference(found.difference("A", "B"), of_type(found, "A"), of_type(found, "B"))
    same_type = found.difference("A", "A")
    assert (same_type["difference"] == 0).all() and len(same_type) == len(of_type(found, "A"))


def test_difference_of_conditions_compares_what_both_know(random_dataset, found):
    other = small_map(random_dataset, seed=1)
    genes, peaks = other.genes.iloc[4:].sample(frac=1, random_state=1), other.peaks.iloc[::-1]
    known = other.filter(genes=genes["gene"].tolist())
    links = known.links.assign(
        gene=known.links["gene"].cat.set_categories(genes["gene"]),
        peak=known.links["peak"].cat.set_categories(peaks["peak"]),
    )
    other = replace(known, links=links, genes=genes, peaks=peaks)
    first = [row for row in of_type(found, "A") if row["gene"] in set(genes["gene"])]
    check_difference(found.difference("A", "unlabelled", other), first, of_type(other, "unlabelled"))


def test_effects_that_one_side_does_not_know_have_no_difference(found):
    unknown = replace(found, links=found.links.assign(effect=np.nan))
    assert found.difference("A", "B", unknown)["effect_difference"].isna().all()


def test_differences_of_what_is_not_there_are_refused(found):
    with pytest.raises(InputError, match="no cell type 'C'"):
        found.difference("A", "C")
    apart = replace(found, peaks=found.peaks.assign(peak="other" + found.peaks["peak"]))
    with pytest.raises(InputError, match="the two maps have no peak in common"):
        found.difference("A", "B", apart)


def test_a_parquet_file_of_links_has_the_columns_of_a_map(found, tmp_path):
    path = tmp_path / "links.parquet"
    assert found.to_parquet(path) == len(found)
    assert pq.read_schema(path).field("gene").type == "string"
    assert plain(pd.read_parquet(path)) == plain(found.links)


def test_peak_scores_are_sums_over_a_peaks_links(random_dataset):
    found = small_map(random_dataset)
    table = found.peak_scores()
    assert list(table.index) == found.peaks["peak"].tolist()
    assert list(table.columns) == list(found.cells.index)
    for name in table.columns:
        own = found.links[found.links["cell_type"] == name]
        for peak in table.index[::7]:
            assert table.loc[peak, name] == pytest.approx(own.loc[own["peak"] == peak, "score"].sum())
