"""Splits and pairs: nothing leaks between splits, negatives are fair, the seed decides everything."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from scweave.generators.pairs import make_pairs, split_cells
from scweave.graphs.errors import InputError
from scweave.graphs.schema import SPLITS

SIZES = st.lists(st.integers(1, 60), min_size=2, max_size=6)
SEEDS = st.integers(0, 5)


def column(values):
    return pd.Series(list(values), dtype=object)


def types_of(sizes):
    rng = np.random.default_rng(len(sizes))
    return column(rng.permutation(np.repeat([f"type{i}" for i in range(len(sizes))], sizes)))


@given(SIZES, SEEDS)
def test_every_type_is_divided_by_its_size(sizes, seed):
    assume(sum(max(size - 1, 0) for size in sizes) >= 2)
    cell_type = types_of(sizes)
    split, report = split_cells(cell_type, seed=seed)
    for i, size in enumerate(sizes):
        of_type = split[(cell_type == f"type{i}").to_numpy()]
        train, validation, test = (int((of_type == name).sum()) for name in SPLITS)
        if size >= 3:
            assert validation == test == max(1, round(size / 10))
        else:
            assert (train, validation + test) == (1, size - 1)
        assert train >= 1
    small = sorted(f"type{i}" for i, size in enumerate(sizes) if size < 3)
    told = f"types with fewer cells than splits, training first: {', '.join(small)}"
    assert report == ([told] if small else [])


@given(st.lists(st.integers(3, 30), min_size=2, max_size=4), SEEDS, st.floats(0, 4))
def test_pairs_stay_inside_their_split_and_negatives_differ(sizes, seed, ratio):
    cell_type = types_of(sizes)
    split, _ = split_cells(cell_type, seed=seed)
    pairs = make_pairs(split, cell_type, ratio=ratio, seed=seed)
    rna, atac = pairs["rna"].to_numpy(), pairs["atac"].to_numpy()
    assert (split[rna] == pairs["split"]).all()
    assert (split[atac] == pairs["split"]).all()
    same = pairs[pairs["match"] == 1]
    assert (same["rna"] == same["atac"]).all()
    assert sorted(same["rna"]) == list(range(len(split)))
    other = pairs[pairs["match"] == 0]
    assert (cell_type[other["rna"]].to_numpy() != cell_type[other["atac"]].to_numpy()).all()
    assert set(same["kind"]) == {"positive"}
    assert set(other["kind"]) <= {"easy"}
    for name in SPLITS:
        assert (other["split"] == name).sum() == round(ratio * (split == name).sum())


@given(SEEDS, st.floats(0.1, 3))
def test_every_cell_takes_part_in_as_many_negatives(seed, ratio):
    cell_type = types_of([40, 10, 5])
    split, _ = split_cells(cell_type, seed=seed)
    other = make_pairs(split, cell_type, ratio=ratio, seed=seed).query("match == 0 and split == 'train'")
    counts = np.bincount(other["rna"], minlength=len(split))[split == "train"]
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("ratio", [0.5, 1.5])
def test_no_type_is_preferred_where_the_ratio_is_no_whole_number(ratio):
    cell_type = types_of([500, 500])
    split, _ = split_cells(cell_type)
    other = make_pairs(split, cell_type, ratio=ratio).query("match == 0 and split == 'train'")
    share = (cell_type[other["rna"]] == "type0").mean()
    assert abs(share - 0.5) < 0.1


def test_partners_are_drawn_uniformly_among_other_types():
    cell_type = column(["a"] * 4 + ["b"] * 8 + ["c"] * 8)
    split = np.full(20, "train", dtype=object)
    split[[1, 5, 2, 6]] = ["test", "test", "validation", "validation"]
    train = np.flatnonzero(split == "train")
    other = make_pairs(split, cell_type, ratio=2000, seed=3).query("match == 0 and split == 'train'")
    for cell in train:
        drawn = other.loc[other["rna"] == cell, "atac"]
        allowed = train[cell_type[train].to_numpy() != cell_type[cell]]
        assert stats.chisquare(drawn.value_counts().reindex(allowed).to_numpy()).pvalue > 1e-5


def test_the_seed_decides_and_another_differs():
    cell_type = types_of([40, 30])
    splits = [split_cells(cell_type, seed=seed)[0] for seed in (0, 0, 1)]
    assert (splits[0] == splits[1]).all()
    assert (splits[0] != splits[2]).any()
    tables = [make_pairs(splits[0], cell_type, seed=seed) for seed in (0, 0, 1)]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert not tables[0].equals(tables[2])


def test_unlabelled_cells_are_split_and_take_part_in_positives_only():
    cell_type = column(["a"] * 30 + ["b"] * 30 + [None] * 40)
    split, report = split_cells(cell_type)
    assert report == []
    assert np.unique(split[60:].astype(str), return_counts=True)[1].tolist() == [4, 32, 4]
    pairs = make_pairs(split, cell_type)
    assert (pairs.query("match == 1")["rna"] >= 60).sum() == 40
    assert (pairs.query("match == 0")[["rna", "atac"]] < 60).all(axis=None)


def test_without_labels_negatives_are_any_other_cell():
    cell_type = column([None] * 40)
    split, report = split_cells(cell_type)
    assert report == []
    other = make_pairs(split, cell_type, ratio=5).query("match == 0")
    assert (other["rna"] != other["atac"]).all()
    assert (split[other["rna"]] == split[other["atac"]]).all()
    assert set(other["kind"]) == {"random"}


def test_few_unlabelled_cells_have_a_name_in_the_report():
    report = split_cells(column(["a"] * 20 + [None, None]))[1]
    assert report == ["types with fewer cells than splits, training first: (unlabelled)"]


def test_of_two_donors_the_smaller_is_tested():
    donor = column(["big"] * 60 + ["small"] * 40)
    cell_type = column(["a", "b"] * 50)
    split, report = split_cells(cell_type, donor=donor)
    assert (split[60:] == "test").all()
    assert np.unique(split[:60].astype(str), return_counts=True)[1].tolist() == [54, 6]
    assert report == ["test donors: small; validation cells: of the other donor"]


@given(st.lists(st.integers(1, 50), min_size=3, max_size=8), SEEDS)
def test_three_donors_or_more_are_held_out_whole(sizes, seed):
    donor = column(np.repeat([f"donor{i}" for i in range(len(sizes))], sizes))
    split, _ = split_cells(column(["a", "b"] * sum(sizes))[: sum(sizes)], donor=donor, seed=seed)
    splits = pd.Series(split).groupby(donor.to_numpy()).unique()
    assert (splits.map(len) == 1).all()
    assert set(splits.map(lambda names: names[0])) == set(SPLITS)
    assert splits[f"donor{np.argmax(sizes)}"][0] == "train"
    if len(sizes) == 3:
        return
    held = [
        sum(size for i, size in enumerate(sizes) if splits[f"donor{i}"][0] == name) for name in SPLITS[1:]
    ]
    spare = (splits.map(lambda names: names[0]) == "train").sum() > 1
    assert not spare or all(cells >= 0.1 * sum(sizes) for cells in held)


def test_types_that_only_held_out_donors_have_are_told():
    donor = column(["d1"] * 60 + ["d2"] * 10)
    cell_type = column(["a", "b"] * 30 + ["c"] * 5 + ["a"] * 5)
    assert split_cells(cell_type, donor=donor)[1][-1] == "types without training cells: c"


@pytest.mark.parametrize(
    ("cell_type", "donor", "told"),
    [
        (["a", "b"], None, r"2 cells cannot be split into train, validation, test\. Pass at least 3"),
        (["a", "b", "c"], None, r"the validation split has no cells \(3 cells in all\).*Pass more cells"),
        (["a", "a", "b", "c"], None, r"the validation split has no cells"),
        (["a"] * 9, ["d"] * 9, r"one donor only \(d\): cannot split by donor\. Leave out --donor"),
        (["a"] * 9, ["d", None, "e"] * 3, r"3 of 9 cells have no donor\. Fill the column or leave out"),
        (["a", "b", "b"], ["d1", "d1", "d2"], r"the validation split has no cells"),
    ],
)
def test_what_cannot_be_split_is_told(cell_type, donor, told):
    with pytest.raises(InputError, match=told):
        split_cells(column(cell_type), donor=None if donor is None else column(donor))


@pytest.mark.parametrize(
    ("types", "told"),
    [
        (["a"] * 6, r"the train split has labelled cells of fewer than two types.*or leave out --labels"),
        (["a", "b", "a", "b", "a", None], r"the test split has labelled cells of fewer than two types"),
        (["a", "b", "a", "b", None, None], r"the test split has labelled cells of fewer than two types"),
    ],
)
def test_a_split_without_two_types_has_no_easy_negatives(types, told):
    split = np.array(["train", "train", "validation", "validation", "test", "test"], dtype=object)
    with pytest.raises(InputError, match=told):
        make_pairs(split, column(types))
    assert (make_pairs(split, column(types), ratio=0)["match"] == 1).all()


def test_a_single_unlabelled_cell_has_no_negatives():
    split = np.array(["train", "train", "validation", "test", "test"], dtype=object)
    with pytest.raises(InputError, match=r"the validation split has 1 cell only.*Pass more cells"):
        make_pairs(split, column([None] * 5))
