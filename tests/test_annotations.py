"""Labels beside the experiment: which tables are read, and what is told of those that are not."""

import csv
import gzip

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scweave.generators.files.annotations import read_annotations
from scweave.graphs.errors import InputError

CELLS = pd.Index(["c0", "c1", "c2"])


def read(path, text, barcodes=CELLS):
    notes = []
    if isinstance(text, str):
        text = text.encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    table = read_annotations(path, barcodes, notes=notes)
    assert table.index.equals(barcodes)
    return table.astype(object).where(table.notna(), None).to_dict("list"), notes


def test_a_table_comes_in_the_order_of_the_experiment(tmp_path):
    table, notes = read(tmp_path / "l.tsv", "cell\tkind\tdonor\nc2\tT cell\td1\nc0\tB, naive\td2\nx\tq\td9\n")
    assert table == {"kind": ["B, naive", None, "T cell"], "donor": ["d2", None, "d1"]}
    assert notes == ["2 of 3 cells are named in l.tsv (kind, donor); 1 of its 3 rows are of no cell"]


@pytest.mark.parametrize("name", ["l.csv", "l.CSV", "l.csv.gz", "l.tsv", "l.txt", "l.tsv.gz", "labels"])
def test_the_name_tells_what_divides_the_fields(tmp_path, name):
    separator = "," if "csv" in name.lower() else "\t"
    table, notes = read(
        tmp_path / name, f"cell{separator}kind\nc0{separator}a\nc1{separator}b\nc2{separator}a"
    )
    assert table == {"kind": ["a", "b", "a"]}
    assert notes == [f"3 of 3 cells are named in {name} (kind)"]


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("c0\ta\nc1\tb\n", {"label": ["a", "b", None]}),
        ("c1\ta\td\tx\n", {"column2": [None, "a", None], "column3": [None, "d", None], "column4": [None, "x", None]}),
        ("\tkind\nc0\ta\n", {"kind": ["a", None, None]}),
        ("kind\tdonor\nc0\ta\td\n", {"kind": ["a", None, None], "donor": ["d", None, None]}),
        ("kind\nc0\ta\nc1\tb\n", {"kind": ["a", "b", None]}),
        ('"x"\t"kind"\r\n"c0"\t"a\tb"\r\n', {"kind": ["a\tb", None, None]}),
        ("\ufeffc0\ta\n", {"label": ["a", None, None]}),
        ("barcode\tkind\nc0\ta\n\nc1\tb\n", {"kind": ["a", "b", None]}),
        ("cell\tkind\tdonor\nc0\ta\td\nc1\tb\n", {"kind": ["a", "b", None], "donor": ["d", "", None]}),
        ("c0\ta\nc0\ta\n", {"label": ["a", None, None]}),
        ("x\ta\nc0\tb\nx\tc\n", {"a": ["b", None, None]}),
    ],
    ids=[
        "no header", "no header, many", "as pandas writes", "as R writes", "as R writes one column", "quotes",
        "byte order mark", "blank line", "short row", "twice the same", "strangers twice",
    ],
)  # fmt: skip
def test_tables_as_programs_write_them(tmp_path, text, table):
    assert read(tmp_path / "l.tsv", text)[0] == table


def test_fields_stay_text(tmp_path):
    table, _ = read(tmp_path / "l.tsv", "cell\tkind\tn\nc0\tNA\t01\nc1\tnan\t1.0\nc2\tNone\tTrue\n")
    assert table == {"kind": ["NA", "nan", "None"], "n": ["01", "1.0", "True"]}


def test_barcodes_that_look_like_numbers_are_text(tmp_path):
    assert read(tmp_path / "l.tsv", "007\ta\n7\tb\n", pd.Index(["7", "007"]))[0] == {"label": ["b", "a"]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("c0\nc1\nc2\nc3\n", r"l\.tsv has one column only \(c0\)\. .* divided by tabs \(\.csv: commas"),
        ("c0,a\nc1,b\n", r"l\.tsv has one column only \(c0, a\)|l\.tsv has one column only \(c0,a\)"),
        ("", r"l\.tsv has one column only \(none\)"),
        ("cell\tkind\n", r"no barcode in l\.tsv is a cell of the experiment \(file: none; experiment: c0, c1, c2\)"),
        (
            "cell\tkind\nc0-1\ta\nc1-1\tb\nc2-1\tb\nc3-1\tb\n",
            r"\(file: c0-1, c1-1, c2-1 …; experiment: c0, c1, c2\)\. Write the barcodes as",
        ),
        ("c0\ta\nc1\tb\nc0\tb\n", r"l\.tsv gives 1 cells different values in two rows \(c0\)\. Keep one row a cell"),
        ("cell\tk\tk\nc0\ta\tb\n", r"l\.tsv has two columns named 'k'\. Rename"),
        ("cell\nc0\ta\tb\n", r"l\.tsv has 1 fields in its first row and 3 in the next"),
        ("cell\ta\tb\nc0\ta\nc1\tb\n", r"l\.tsv has 3 fields in its first row and 2 in the next"),
        ("cell\ta\nc0\ta\nc1\tb\tc\n", r"l\.tsv cannot be read as a table: a row has more fields"),
        ('cell\ta\nc0\t"a\nc1\tb\n', r"l\.tsv cannot be read as a table: .* or a quote is not closed"),
        (b"cell\tkind\nc0\t\xff\xfe\n", r"l\.tsv cannot be read \(UnicodeDecodeError\)\. Pass a table as UTF-8"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_cells_is_told(tmp_path, text, told):
    with pytest.raises(InputError, match=told) as caught:
        read(tmp_path / "l.tsv", text)
    assert "\n" not in str(caught.value)


def test_files_that_are_missing_or_damaged_are_told(tmp_path):
    with pytest.raises(InputError, match=r"--labels-file .*l\.tsv does not exist"):
        read_annotations(tmp_path / "l.tsv", CELLS, notes=[])
    with pytest.raises(InputError, match=r"--labels-file .* is a folder"):
        read_annotations(tmp_path, CELLS, notes=[])
    whole = gzip.compress(b"c0\ta\n" * 1000)
    for content in (b"c0\ta\n", whole[:-9], whole[:20] + b"x" * 20):
        (tmp_path / "l.tsv.gz").write_bytes(content)
        with pytest.raises(InputError, match=r"l\.tsv\.gz cannot be read \(\w+\)"):
            read_annotations(tmp_path / "l.tsv.gz", CELLS, notes=[])


LABEL = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8)


@given(
    st.lists(LABEL, min_size=1, max_size=20), st.sampled_from([",", "\t"]), st.randoms(use_true_random=False)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_label_survives(tmp_path, labels, separator, random):
    cells = pd.Index([f"cell {i}" for i in range(len(labels))])
    order = random.sample(range(len(labels)), len(labels))
    path = tmp_path / ("l.csv" if separator == "," else "l.tsv")
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = [("barcode", "kind"), *((cells[i], labels[i]) for i in order)]
        csv.writer(file, delimiter=separator, quoting=csv.QUOTE_ALL).writerows(rows)
    assert read_annotations(path, cells, notes=[])["kind"].tolist() == labels
