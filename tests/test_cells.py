"""The table of cells: who is kept, and types, donors and batches from obs or a labels file."""

from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scweave.generators.cells import cell_table
from scweave.graphs.errors import InputError


def modality(counts):
    counts = np.asarray(counts)
    return SimpleNamespace(empty=lambda rows, progress=False: counts[rows] == 0)


def experiment(n=6, obs=None, **counts):
    """Cells c0, c1 … whose rows lie backwards in the files."""
    counts = counts or {"rna": np.ones(n, int), "atac": np.ones(n, int)}
    barcodes = pd.Index([f"c{i}" for i in range(n)])
    rows = {name: np.arange(n)[::-1].copy() for name in counts}
    return SimpleNamespace(
        modalities={name: modality(np.asarray(values)[::-1]) for name, values in counts.items()},
        rows=rows,
        barcodes=barcodes,
        obs=pd.DataFrame(obs or {}, index=barcodes),
        report=[],
    )


def table(made, labels=None, donor=None, **options):
    notes = []
    cells, kept = cell_table(made, labels=labels, donor=donor, notes=notes, **options)
    assert cells.columns.tolist() == ["barcode", "cell_type", "donor", "batch"]
    assert kept.dtype == np.int64
    assert cells["barcode"].tolist() == [f"c{i}" for i in kept]
    return cells, kept.tolist(), notes


def write(path, text):
    path.write_text(text)
    return path


def test_columns_become_names_and_the_rest_is_none():
    made = experiment(3, {"kind": ["a", "b", "a"], "who": [1, 2, 2], "run": [True, False, True]})
    cells, kept, notes = table(made, "kind", "who", batch="run")
    assert cells["cell_type"].tolist() == ["a", "b", "a"]
    assert cells["donor"].tolist() == ["1", "2", "2"]
    assert cells["batch"].tolist() == ["True", "False", "True"]
    assert kept == [0, 1, 2]
    assert notes == [f"column {name!r} holds {kind} values: read as names" for name, kind in (("who", "int"), ("run", "bool"))]  # fmt: skip
    cells, _, notes = table(made)
    assert cells[["cell_type", "donor", "batch"]].isna().all(axis=None)
    assert notes == []


def test_cells_that_are_empty_in_a_modality_are_dropped():
    made = experiment(5, {"kind": list("abcde")}, rna=[1, 0, 2, 3, 4], atac=[1, 1, 1, 0, 1])
    cells, kept, notes = table(made, "kind")
    assert kept == [0, 2, 4]
    assert cells["cell_type"].tolist() == ["a", "c", "e"]
    assert notes == ["2 cells without counts in one modality dropped (c1, c3)"]


@pytest.mark.parametrize("name", ["rna", "atac"])
def test_of_one_modality_only_its_own_counts_matter(name):
    _, kept, notes = table(experiment(6, **{name: [1, 0, 0, 0, 0, 1]}))
    assert kept == [0, 5]
    assert notes == [f"4 cells without counts in {name.upper()} dropped (c1, c2, c3 …)"]
    with pytest.raises(InputError, match=rf"every cell \(2\) is empty in {name.upper()} \(2 in"):
        table(experiment(2, **{name: [0, 0]}))


def test_an_experiment_of_empty_cells_is_refused():
    with pytest.raises(
        InputError, match=r"every cell \(3\) is empty in one modality \(2 in RNA, 1 in ATAC\)"
    ):
        table(experiment(3, rna=[0, 0, 1], atac=[1, 1, 0]))


MISSING = [None, float("nan"), pd.NA, "", " ", "nan", "NaN", "NA", "None", "<NA>"]


@given(st.lists(st.sampled_from(["T cell", "B", "Unknown", *MISSING]), min_size=1, max_size=30))
def test_whatever_means_no_label_is_none_and_counted(values):
    values = [*values, "B"]
    made = experiment(len(values), {"kind": pd.Series(values, dtype=object).to_numpy()})
    for unlabelled in ((), ("Unknown",)):
        cells, _, notes = table(made, "kind", unlabelled=unlabelled)
        named = {"T cell", "B", "Unknown"} - set(unlabelled)
        expected = [value if isinstance(value, str) and value in named else None for value in values]
        assert cells["cell_type"].tolist() == expected
        told = f"{expected.count(None)} of {len(values)} cells have no value in 'kind'"
        assert sum(note.startswith(told) for note in notes) == (None in expected)


def test_cells_named_as_unlabelled_are_told_apart():
    made = experiment(6, {"kind": ["a", "Unknown", None, "doublet", "Unknown", "b"]})
    cells, _, notes = table(made, "kind", unlabelled=["Unknown", "doublet", "Unkown"])
    assert cells["cell_type"].tolist() == ["a", None, None, None, None, "b"]
    assert notes == [
        "4 of 6 cells have no value in 'kind' (2 'Unknown', 1 'doublet')",
        "no cell has the name Unkown (--unlabelled) in 'kind'",
    ]


def test_donors_are_not_unlabelled():
    made = experiment(2, {"kind": ["Unknown", "a"], "who": ["Unknown", "d"]})
    cells, _, _ = table(made, "kind", "who", unlabelled=["Unknown"])
    assert cells["donor"].tolist() == ["Unknown", "d"]


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, 1],
        [1.0, 2.0, 1.0],
        pd.Categorical([1, 2, 1], [2, 1, 3]),
        pd.array([1, 2, 1], dtype="Int8"),
        pd.Categorical(["1", "2", "1"]),
        pd.array(["1", "2", "1"], dtype="string"),
    ],
)
def test_a_label_has_one_name_whatever_holds_it(values):
    assert table(experiment(3, {"kind": values}), "kind")[0]["cell_type"].tolist() == ["1", "2", "1"]


def test_numbers_beside_a_missing_one_keep_their_names():
    cells, _, _ = table(experiment(3, {"kind": [1, np.nan, 0.5]}), "kind")
    assert cells["cell_type"].tolist() == ["1", None, "0.5"]


def test_one_type_is_no_error_here():
    assert set(table(experiment(3, {"kind": ["a"] * 3}), "kind")[0]["cell_type"]) == {"a"}


def test_only_the_wanted_types_are_kept():
    made = experiment(6, {"kind": ["a", "b", None, "c", "a", "b"], "who": ["x", None, "y", "y", "y", "x"]})
    cells, kept, notes = table(made, "kind", "who", cell_types=["a", "c"])
    assert kept == [0, 3, 4]
    assert cells["cell_type"].tolist() == ["a", "c", "a"]
    assert cells["donor"].tolist() == ["x", "y", "y"]
    assert notes == ["1 of 6 cells have no value in 'kind'", "3 of 6 cells are outside --cell-types: dropped"]


def test_rows_of_kept_cells_are_those_of_the_experiment():
    made = experiment(4, {"kind": list("abab")}, rna=[0, 1, 1, 1], atac=[1, 1, 1, 1])
    assert table(made, "kind", cell_types=["b"])[1] == [1, 3]


LABELLED = {"kind": ["a", "b", "a", "c"], "who": ["d", "d", "e", None]}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"labels": "leiden"}, r"^no column 'leiden' in obs for --labels\. The columns are: kind, who\.$"),
        ({"donor": "x"}, r"no column 'x' in obs for --donor"),
        ({"batch": "x"}, r"no column 'x' in obs for --batch"),
        ({"labels": "kind", "unlabelled": ["a", "b", "c"]}, r"'kind' \(--labels\) is empty for all 4 cells"),
        (
            {"labels": "kind", "cell_types": ["a", "z", "y"]},
            r"^--cell-types z, y: no cell has such a label\. The types are: a \(2\), b \(1\), c \(1\)\.$",
        ),
        (
            {"labels": "kind", "cell_types": ["c"], "unlabelled": ["c"]},
            r"--cell-types c: .* The types are: a \(2\), b \(1\)\.",
        ),
        ({"labels": "kind", "donor": "who", "cell_types": ["c"]}, r"'who' \(--donor\) is empty for all 1 cells"),
        ({"cell_types": ["a"]}, r"--cell-types a needs labels\. Pass --labels or --labels-file"),
        ({"unlabelled": ["a", "b"]}, r"--unlabelled a,b needs labels"),
    ],
)  # fmt: skip
def test_options_that_fit_no_cell_are_told(options, told):
    with pytest.raises(InputError, match=told) as caught:
        table(experiment(4, LABELLED), **options)
    assert "\n" not in str(caught.value)


def test_obs_without_columns_is_told():
    with pytest.raises(InputError, match=r"The columns are: none\."):
        table(experiment(2), "kind")


def test_a_labels_file_with_one_column_gives_the_labels(tmp_path):
    file = write(tmp_path / "l.tsv", "c3\tz\nc0\tx\nc1\ty\n")
    cells, _, notes = table(experiment(4, LABELLED), labels_file=file)
    assert cells["cell_type"].tolist() == ["x", "y", None, "z"]
    assert notes == [
        "3 of 4 cells are named in l.tsv (label)",
        "1 of 4 cells have no value in 'label'",
    ]


def test_columns_of_the_labels_file_win_over_obs(tmp_path):
    file = write(tmp_path / "l.tsv", "barcode\tkind\tsite\n" + "".join(f"c{i}\tk{i}\ts\n" for i in range(4)))
    cells, _, notes = table(experiment(4, LABELLED), "kind", "who", batch="site", labels_file=file)
    assert cells["cell_type"].tolist() == ["k0", "k1", "k2", "k3"]
    assert cells["donor"].tolist() == ["d", "d", "e", None]
    assert cells["batch"].tolist() == ["s"] * 4
    assert notes[1] == "in obs and in l.tsv: kind; the file's values are used"


def test_a_donor_of_the_labels_file_is_no_label(tmp_path):
    file = write(tmp_path / "l.csv", "barcode,donor\nc0,a\nc1,b\n")
    cells, _, notes = table(experiment(2), donor="donor", labels_file=file)
    assert cells["donor"].tolist() == ["a", "b"]
    assert cells["cell_type"].isna().all()
    assert "l.csv gives no labels: pass --labels with one of its columns for that" in notes


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"labels": "type"},
            r"^no column 'type' in l\.csv or obs for --labels\. The columns are: x, y \(l\.csv\); kind, who \(obs\)\.$",
        ),
        ({}, r"none of the columns of l\.csv is used \(x, y\)\. Pass --labels"),
        ({"labels": "kind"}, r"none of the columns of l\.csv is used"),
    ],
)
def test_a_labels_file_that_says_nothing_is_told(tmp_path, options, told):
    file = write(tmp_path / "l.csv", "barcode,x,y\nc0,1,2\nc1,1,3\n")
    with pytest.raises(InputError, match=told):
        table(experiment(4, LABELLED), **options, labels_file=file)


def test_real_labels_are_read_from_a_file_as_from_obs(shared_data, tmp_path):
    data = ad.read_h5ad(shared_data / "snareseq_mouse_cortex_rna.h5ad", backed="r")
    obs, n = data.obs.copy(), data.n_obs
    data.file.close()
    ones = {"m": modality(np.ones(n, int))}
    made = SimpleNamespace(modalities=ones, rows={"m": np.arange(n)}, barcodes=obs.index, obs=obs, report=[])
    notes = []
    want, _ = cell_table(made, labels="cell_type", donor="batch", notes=notes)
    assert notes == []
    assert (want["cell_type"].nunique(), want["donor"].nunique()) == (23, 12)
    file = tmp_path / "labels.csv.gz"
    obs.sample(frac=1, random_state=0)[["cell_type", "batch"]].to_csv(file)
    made.obs = pd.DataFrame(index=obs.index)
    got, _ = cell_table(made, labels="cell_type", donor="batch", labels_file=file, notes=notes)
    pd.testing.assert_frame_equal(got, want)
    assert notes == ["10,309 of 10,309 cells are named in labels.csv.gz (cell_type, batch)"]
