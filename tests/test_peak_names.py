"""Peak names round-trip, and what does not parse is told by name."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scweave.generators.genomes.peak_names import parse_peak_names, peak_like, peak_table
from scweave.graphs.errors import InputError

CHROMOSOMES = st.sampled_from(
    ["chr1", "1", "X", "chrM", "GL000194.1", "chr1_KI270706v1_random", "chrUn_GL000220v1", "HLA-DRB1", "2L"]
)


@st.composite
def intervals(draw):
    start = draw(st.integers(0, 3_000_000_000))
    return (
        draw(CHROMOSOMES),
        start,
        start + draw(st.integers(1, 1_000_000)),
        draw(st.sampled_from([":-", "--", "__"])),
    )


@given(st.lists(intervals(), min_size=1, max_size=20))
def test_names_round_trip(peaks):
    names = [f"{chrom}{sep[0]}{start}{sep[1]}{end}" for chrom, start, end, sep in peaks]
    table = parse_peak_names(names)
    assert table["chrom"].tolist() == [peak[0] for peak in peaks]
    assert table["start"].tolist() == [peak[1] for peak in peaks]
    assert table["end"].tolist() == [peak[2] for peak in peaks]
    assert table["start"].dtype == table["end"].dtype == np.int64


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_any_text_parses_or_is_refused(names):
    try:
        table = parse_peak_names(names)
    except InputError as error:
        assert len(str(error).splitlines()) == 1  # culprits are quoted by repr
    else:
        assert (table["start"] < table["end"]).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chr1:10-20", ("chr1", 10, 20)),
        ("chr1-10-20", ("chr1", 10, 20)),
        ("chr1_10_20", ("chr1", 10, 20)),
        ("GL000194.1:10-20", ("GL000194.1", 10, 20)),
        ("chr1_KI270706v1_random_10_20", ("chr1_KI270706v1_random", 10, 20)),
        ("chr1_KI270706v1_random:10-20", ("chr1_KI270706v1_random", 10, 20)),
        ("HLA-A*01:01:01:10-20", ("HLA-A*01:01:01", 10, 20)),
    ],
)
def test_known_spellings(name, expected):
    assert tuple(parse_peak_names([name]).iloc[0]) == expected


def test_culprits_are_named_at_most_three():
    with pytest.raises(
        InputError, match=r"4 of 5 peak names do not parse \('a', 'b', 'c' …\)\. Write them as"
    ):
        parse_peak_names(["a", "b", "chr1:1-2", "c", "d"])


@pytest.mark.parametrize("name", ["chr1:1,000-2,000", "chr1_1,000_2,000", "chr1-1,000-2,000"])
def test_thousands_separators_are_refused(name):
    with pytest.raises(InputError, match=f"'{name}'.*Remove the commas"):
        parse_peak_names([name])


@pytest.mark.parametrize(
    "name", ["chr1:10-20\n", "chr1:٣-٤", "chr1:10", ":10-20", "chr1:-5-20", "chr1:10-20-"]
)
def test_near_misses_are_refused(name):
    with pytest.raises(InputError, match="do not parse"):
        parse_peak_names([name])


@pytest.mark.parametrize("name", ["chr1:20-10", "chr1:10-10"])
def test_empty_intervals_are_refused(name):
    with pytest.raises(InputError, match=f"1 of 2 peaks have start >= end \\('{name}'\\)"):
        parse_peak_names(["chr1:1-2", name])


def test_peak_like_tells_genes_from_peaks():
    assert peak_like(["chr1:1-2", "ACTB", "HLA-A", "7SK_1"]).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    "columns",
    [
        ("chrom", "chromStart", "chromEnd"),
        ("chrom", "start", "end"),
        ("chr", "start", "end"),
        ("seqnames", "start", "end"),
    ],
)
def test_columns_win_over_names(columns):
    var = pd.DataFrame(
        dict(zip(columns, (pd.Categorical(["chr2"]), ["5"], [9.0]), strict=True)), index=["chr1:1-2"]
    )
    table = peak_table(var, var.index)
    assert list(table.columns) == ["peak", "chrom", "start", "end"]
    assert tuple(table.iloc[0]) == ("chr1:1-2", "chr2", 5, 9)


def test_interval_column_wins_over_names():
    var = pd.DataFrame({"interval": ["chr2:5-9"]}, index=["peak1"])
    assert tuple(peak_table(var, var.index).iloc[0]) == ("peak1", "chr2", 5, 9)


def test_names_serve_without_columns():
    var = pd.DataFrame(index=["chr1:1-2", "chr1:5-9"])
    assert peak_table(var, var.index)["end"].tolist() == [2, 9]


@pytest.mark.parametrize("value", [np.nan, 1.5, -1, "x", np.inf, 1e300])
def test_bad_column_values_name_column_and_peak(value):
    var = pd.DataFrame({"chrom": "chr1", "start": [value], "end": [9]}, index=["p1"])
    with pytest.raises(InputError, match=r"column 'start' of var is no position for 1 of 1 peaks \('p1'\)"):
        peak_table(var, var.index)


@pytest.mark.parametrize("value", [None, "", "nan", "NA", "chrUnknown"])
def test_missing_chromosome_is_told(value):
    var = pd.DataFrame({"chrom": [value, "chr1"], "start": 1, "end": 9}, index=["p1", "p2"])
    with pytest.raises(InputError, match=r"column 'chrom' of var is empty for 1 of 2 peaks \('p1'\)"):
        peak_table(var, var.index)


@pytest.mark.parametrize("column", ["chrom", "chr", "seqnames"])
def test_a_chromosome_column_alone_wins_and_names_give_positions(column):
    var = pd.DataFrame(
        {column: pd.Categorical(["2", None, "chrUnknown", "GL000194.1"])},
        index=["chr1:1-2", "chr2:3-4", "chr5:5-9", "GL1_7_8"],
    )
    notes = []
    table = peak_table(var, var.index, notes=notes)
    assert table["chrom"].tolist() == ["2", "2", "chr5", "GL000194.1"]  # chr2 in the column's spelling
    assert table["start"].tolist() == [1, 3, 5, 7]
    assert notes == [
        f"{column} of 4 peaks taken from var, 3 of them elsewhere than their names say ('chr1:1-2', 'chr2:3-4',"
        " 'GL1_7_8')"
    ]


def test_chromosomes_that_are_numbers_lose_their_decimals():
    var = pd.DataFrame({"chrom": [1.0, np.nan], "start": 1, "end": 9}, index=["a", "chrX:1-9"])
    assert peak_table(var, var.index)["chrom"].tolist() == ["1", "chrX"]


def test_an_unknown_interval_is_read_from_the_name():
    var = pd.DataFrame({"interval": ["chr2:5-9", None]}, index=["peak1", "chr3:1-2"])
    assert peak_table(var, var.index)["chrom"].tolist() == ["chr2", "chr3"]


def test_columns_and_names_that_differ_are_counted_but_not_mended():
    var = pd.DataFrame(
        {"chrom": "chr1", "start": [11, 30], "end": [20, 40]}, index=["chr1:10-20", "chr1:30-40"]
    )
    notes = []
    assert peak_table(var, var.index, notes=notes)["start"].tolist() == [11, 30]
    assert notes == [
        "chrom, start, end of 2 peaks taken from var, 1 of them elsewhere than their names say ('chr1:10-20')"
    ]


def test_names_alone_need_no_note():
    notes = []
    peak_table(pd.DataFrame(index=range(1)), ["chr1:1-2"], notes=notes)
    assert notes == []


def test_duplicates_are_refused():
    with pytest.raises(InputError, match=r"1 of 2 peaks repeat the name of another \('chr1:1-2'\)"):
        peak_table(pd.DataFrame(index=range(2)), ["chr1:1-2"] * 2)
    with pytest.raises(InputError, match=r"1 of 2 peaks repeat the place of another \('chr1_1_2'\)"):
        peak_table(pd.DataFrame(index=range(2)), ["chr1:1-2", "chr1_1_2"])


def test_unaligned_tables_are_refused():
    with pytest.raises(InputError, match="1 peak names but 2 rows"):
        peak_table(pd.DataFrame(index=range(2)), ["chr1:1-2"])
