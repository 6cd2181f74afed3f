"""Splits and folds: cells of every type in proportion, donors whole, each cell tested once, the seed decides."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scweave.generators.splits import fold_splits, split_cells
from scweave.graphs.errors import InputError
from scweave.graphs.schema import SPLITS

SIZES = st.lists(st.integers(1, 60), min_size=2, max_size=6)
SEEDS = st.integers(0, 5)


def column(values):
    return pd.Series(list(values), dtype=object)


def types_of(sizes):
    rng = np.random.default_rng(len(sizes))
    return column(rng.permutation(np.repeat([f"type{i}" for i in range(len(sizes))], sizes)))


def donors_of(sizes):
    return column(np.repeat([f"donor{i}" for i in range(len(sizes))], sizes))


def counts(split):
    return [int((split == name).sum()) for name in SPLITS]


def splits_of_donors(split, donor):
    return {name: set(split[(donor == name).to_numpy()]) for name in donor.unique()}


# One split


@given(SIZES, SEEDS)
def test_every_type_is_divided_by_its_size(sizes, seed):
    assume(sum(max(size - 1, 0) for size in sizes) >= 2)
    cell_type = types_of(sizes)
    split, report = split_cells(cell_type, seed=seed)
    for i, size in enumerate(sizes):
        train, validation, test = counts(split[(cell_type == f"type{i}").to_numpy()])
        if size >= 3:
            assert validation == test == max(1, round(size / 10))
        else:
            assert (train, validation + test) == (1, size - 1)
        assert train >= 1
    small = sorted(f"type{i}" for i, size in enumerate(sizes) if size < 3)
    told = f"types with fewer cells than splits, training first: {', '.join(small)}"
    assert report == ([told] if small else [])


def test_cells_of_small_types_are_held_out_in_turn():
    cell_type = column(["big"] * 20 + ["b", "a", "c", "d"] * 2)
    split, _ = split_cells(cell_type, seed=2)
    held = {name: set(split[(cell_type == name).to_numpy()]) - {"train"} for name in "abcd"}
    assert held == {"a": {"test"}, "b": {"validation"}, "c": {"test"}, "d": {"validation"}}


def test_the_seed_decides_and_another_differs():
    cell_type, donor = types_of([40, 30]), donors_of([10] * 7)
    for given_donor in (None, donor):
        splits = [split_cells(cell_type, donor=given_donor, seed=seed)[0] for seed in (0, 0, 1)]
        assert (splits[0] == splits[1]).all()
        assert (splits[0] != splits[2]).any()
        folds = [fold_splits(cell_type, donor=given_donor, folds=3, seed=seed) for seed in (0, 0, 1)]
        same, other = ([(folds[0][k][0] == folds[i][k][0]).all() for k in range(3)] for i in (1, 2))
        assert all(same)
        assert not all(other)


@given(SIZES, SEEDS)
def test_what_holds_the_names_does_not_matter(sizes, seed):
    assume(sum(sizes) >= 6 and sum(max(size - 1, 0) for size in sizes) >= 2)
    cell_type = types_of(sizes)
    cell_type.iloc[0] = None
    order = [f"type{i}" for i in range(len(sizes))][::-1]
    held = [
        cell_type.astype(pd.CategoricalDtype(["unused", *order])),
        cell_type.astype("string"),
        cell_type.set_axis(range(9, 9 + len(cell_type))),
    ]
    donor = donors_of([len(cell_type) - 2, 2])
    for other in held:
        for by in (None, donor):
            want, report = split_cells(cell_type, donor=by, seed=seed)
            got, told = split_cells(
                other, donor=None if by is None else by.astype("category").set_axis(other.index), seed=seed
            )
            assert (got == want).all()
            assert told == report


def test_unlabelled_cells_are_split_as_a_type_of_their_own():
    split, report = split_cells(column(["a"] * 30 + ["b"] * 30 + [None] * 40))
    assert report == []
    assert counts(split[60:]) == [32, 4, 4]
    split, report = split_cells(column([None] * 40))
    assert report == []
    assert counts(split) == [32, 4, 4]


def test_few_unlabelled_cells_have_a_name_in_the_report():
    report = split_cells(column(["a"] * 20 + [None, None]))[1]
    assert report == ["types with fewer cells than splits, training first: (unlabelled)"]


def test_of_two_donors_the_smaller_is_tested():
    donor = column(["big"] * 60 + ["small"] * 40)
    split, report = split_cells(column(["a", "b"] * 50), donor=donor)
    assert (split[60:] == "test").all()
    assert counts(split[:60]) == [54, 6, 0]
    assert report == ["test donors: small; validation cells: of the other donor"]


@given(st.lists(st.integers(1, 50), min_size=3, max_size=8), SEEDS)
def test_three_donors_or_more_are_held_out_whole(sizes, seed):
    donor = donors_of(sizes)
    split, _ = split_cells(column(["a", "b"] * sum(sizes))[: sum(sizes)], donor=donor, seed=seed)
    splits = splits_of_donors(split, donor)
    assert all(len(names) == 1 for names in splits.values())
    assert set().union(*splits.values()) == set(SPLITS)
    assert splits[f"donor{np.argmax(sizes)}"] == {"train"}
    spare = sum(names == {"train"} for names in splits.values()) > 1
    assert not spare or min(counts(split)[1:]) >= 0.1 * sum(sizes)


@pytest.mark.parametrize("size", [3, 7, 10])
def test_no_more_donors_are_held_out_than_it_takes(size):
    split, _ = split_cells(types_of([10 * size]), donor=donors_of([size] * 10))
    assert counts(split) == [8 * size, size, size]


@given(st.lists(st.integers(2, 50), min_size=2, max_size=6), SEEDS, st.data())
def test_named_donors_are_the_test_and_others_validate(sizes, seed, data):
    donor = donors_of(sizes)
    named = data.draw(
        st.lists(st.sampled_from(sorted(set(donor))), unique=True, min_size=1, max_size=len(sizes) - 1)
    )
    split, report = split_cells(types_of([len(donor)]), donor=donor, test_donors=named, seed=seed)
    assert set(donor[split == "test"]) == set(named)
    assert report[0].startswith(f"test donors: {', '.join(sorted(named))}; validation ")
    splits = splits_of_donors(split, donor)
    rest = {name: size for name, size in donor.value_counts().items() if name not in named}
    assert all(len(splits[name]) == 1 for name in splits if len(rest) > 1 or name in named)
    if len(rest) > 1:
        assert max(rest[name] for name in rest if splits[name] == {"train"}) == max(rest.values())
    else:
        assert counts(split)[1] == max(1, round(0.1 * sum(rest.values())))


def test_a_donor_named_twice_is_one():
    donor = donors_of([5, 5, 5])
    want = split_cells(types_of([15]), donor=donor, test_donors=["donor1"])
    got = split_cells(types_of([15]), donor=donor, test_donors=["donor1", "donor1"])
    assert (got[0] == want[0]).all()
    assert got[1] == want[1]


def test_types_that_only_held_out_donors_have_are_told():
    donor = column(["d1"] * 60 + ["d2"] * 10)
    cell_type = column(["a", "b"] * 30 + ["c"] * 5 + ["a"] * 5)
    assert split_cells(cell_type, donor=donor)[1][-1] == "types without training cells: c"


@pytest.mark.parametrize(
    ("cell_type", "donor", "test_donors", "told"),
    [
        (["a", "b"], None, (), r"2 cells cannot be split into train, validation, test\. Pass at least 3"),
        (["a", "b", "c"], None, (), r"the validation split has no cells \(3 cells in all\).*Pass more cells"),
        (["a", "a", "b", "c"], None, (), r"the validation split has no cells"),
        (["a"] * 9, ["d"] * 9, (), r"one donor only \(d\): cannot split by donor\. Leave out --donor"),
        (["a"] * 9, ["d", None, "e"] * 3, (), r"3 of 9 cells have no donor\. Fill the column or leave out"),
        (["a", "b", "b"], ["d1", "d1", "d2"], (), r"the validation split has no cells"),
        (["a"] * 9, None, ["d", "e"], r"--test-donors d,e needs donors\. Pass --donor COLUMN"),
        (["a"] * 9, ["d", "d", "e"] * 3, ["d", "x"], r"--test-donors x: no such donor\. The donors are: d \(6\), e \(3\)\."),
        (["a"] * 9, ["d", "d", "e"] * 3, ["e", "d"], r"--test-donors names every donor.*: d \(6\), e \(3\)\. Name fewer"),
    ],
)  # fmt: skip
def test_what_cannot_be_split_is_told(cell_type, donor, test_donors, told):
    donor = None if donor is None else column(donor)
    with pytest.raises(InputError, match=told) as caught:
        split_cells(column(cell_type), donor=donor, test_donors=test_donors)
    assert "\n" not in str(caught.value)


# Folds


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(2, 6), SEEDS)
def test_folds_test_every_cell_once_and_every_type_in_proportion(sizes, folds, seed):
    assume(max(sizes) >= 4 and sum(sizes) >= folds)
    cell_type = types_of(sizes)
    made = fold_splits(cell_type, folds=folds, seed=seed)
    tested = np.array([split == "test" for split, _ in made])
    assert (tested.sum(axis=0) == 1).all()
    assert np.ptp(tested.sum(axis=1)) <= 1
    for i, size in enumerate(sizes):
        own = (cell_type == f"type{i}").to_numpy()
        assert np.ptp(tested[:, own].sum(axis=1)) <= 1
        for split, _ in made:
            train, validation, test = counts(split[own])
            assert validation == max(0, min(max(1, round(size / 10)), size - test - 1))
            assert train >= 1 or test == size == 1


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(2, 6))
def test_types_too_small_for_every_part_are_told_once(sizes, folds):
    assume(max(sizes) >= 4 and sum(sizes) >= folds)
    cell_type = types_of(sizes)
    made = fold_splits(cell_type, folds=folds)
    absent = {
        name
        for split, _ in made
        for name in cell_type.unique()
        if min(counts(split[(cell_type == name).to_numpy()])) == 0
    }
    few = ", ".join(sorted(absent))
    told = f"types with too few cells for every part of {folds} folds, spread over them: {few}"
    assert made[0][1] == ([told] if absent else [])
    assert all(report == [] for _, report in made[1:])


def test_small_types_do_not_pile_up_in_one_fold():
    cell_type = column(["big"] * 20 + [f"rare{i:02}" for i in range(20)])
    for split, _ in fold_splits(cell_type, folds=5):
        assert (split[20:] == "test").sum() == 4


@given(st.lists(st.integers(4, 50), min_size=2, max_size=10), st.integers(2, 10), SEEDS)
def test_folds_by_donor_test_whole_donors_once(sizes, folds, seed):
    folds = min(folds, len(sizes))
    donor, total = donors_of(sizes), sum(sizes)
    made = fold_splits(column([None] * total), donor=donor, folds=folds, seed=seed)
    tested = np.array([split == "test" for split, _ in made])
    assert (tested.sum(axis=0) == 1).all()
    # no fold could hand over a donor and thereby even out the two: what "greedy" promises
    assert np.ptp(tested.sum(axis=1)) <= max(sizes)
    for split, report in made:
        splits = splits_of_donors(split, donor)
        others = [name for name in splits if splits[name] != {"test"}]
        whole = len(others) > 1
        assert all(len(splits[name]) == 1 for name in splits if whole or splits[name] == {"test"})
        assert min(counts(split)) >= 1
        if not whole:
            assert counts(split)[1] == max(1, round(0.1 * (donor == others[0]).sum()))
        assert len(report) == 1
        assert report[0].startswith("test donors: donor")
    assert len({report[0].split(";")[0] for _, report in made}) == folds


def test_equal_donors_are_dealt_evenly():
    donor = donors_of([10] * 12)
    for split, report in fold_splits(types_of([120]), donor=donor, folds=4):
        assert counts(split) == [70, 20, 30]
        assert report[0].count("donor") == 3 + 2 + 2


def test_the_largest_donors_are_dealt_first():
    donor = donors_of([4, 5, 6, 7, 8, 9])
    assert [counts(split)[2] for split, _ in fold_splits(types_of([39]), donor=donor, folds=3)] == [13] * 3


def test_the_seed_deals_equal_donors():
    cell_type, donor = types_of([80]), donors_of([10] * 8)
    tested = {
        tuple(report[0].split(";")[0] for _, report in fold_splits(cell_type, donor=donor, folds=4, seed=i))
        for i in range(5)
    }
    assert len(tested) > 1


def test_types_that_no_training_donor_has_are_told_with_their_fold():
    donor = donors_of([30, 20, 10])
    cell_type = column(["a"] * 50 + ["b"] * 10)
    untold = {"types without training cells: b"}
    for split, report in fold_splits(cell_type, donor=donor, folds=3):
        assert (set(report[1:]) == untold) == (not (split[50:] == "train").any())


@pytest.mark.parametrize(
    ("cell_type", "donor", "folds", "told"),
    [
        (["a"] * 9, None, 1, r"--folds is 1 for 9 cells\. Pass 2 or more"),
        (["a"] * 9, None, 10, r"--folds is 10 for 9 cells\. .*at most the number of cells"),
        (["a", "b"] * 2, None, 2, r"the validation split of fold 0 has no cells \(4 cells in all\)"),
        (["a"] * 9, ["d", "e", "f"] * 3, 4, r"3 donors cannot be dealt to 4 folds\. Pass --folds 3 or fewer"),
        (["a"] * 9, ["d"] * 9, 2, r"one donor only \(d\)"),
        (["a"] * 9, ["d", None, "e"] * 3, 2, r"3 of 9 cells have no donor"),
        (["a", "b"], ["d", "e"], 2, r"the validation split of fold 0 has no cells"),
    ],
)
def test_what_cannot_be_folded_is_told(cell_type, donor, folds, told):
    donor = None if donor is None else column(donor)
    with pytest.raises(InputError, match=told) as caught:
        fold_splits(column(cell_type), donor=donor, folds=folds)
    assert "\n" not in str(caught.value)


# Real labels


@pytest.fixture(params=["snareseq_mouse_cortex", "bmmc_starterA"])
def real(request, shared_data):
    data = ad.read_h5ad(shared_data / f"{request.param}_rna.h5ad", backed="r")
    obs = data.obs[["cell_type", "batch"]].astype(object)
    data.file.close()
    return obs["cell_type"], obs["batch"]


def test_real_types_are_divided_by_their_size(real):
    cell_type, _ = real
    split, _ = split_cells(cell_type)
    table = pd.crosstab(cell_type, split)[list(SPLITS)]
    large = table[table.sum(axis=1) >= 3]
    assert len(large) >= 19
    expected = np.maximum(1, np.round(0.1 * large.sum(axis=1)))
    assert (large["test"] == expected).all()
    assert (large["validation"] == expected).all()


def test_real_donors_stay_whole_or_lend_their_cells_to_validation(real):
    cell_type, donor = real
    named = sorted(donor.unique())[:-1]
    for test_donors in ((), named[:1], named):
        split, _ = split_cells(cell_type, donor=donor, test_donors=test_donors)
        splits = splits_of_donors(split, donor)
        divided = [name for name in splits if len(splits[name]) > 1]
        rest = donor[split != "test"].nunique()
        assert (len(divided), rest == 1) in ((0, False), (1, True))
        if test_donors:
            assert {name for name in splits if splits[name] == {"test"}} == set(test_donors)


def test_real_types_and_donors_are_folded(real):
    cell_type, donor = real
    folds = min(5, donor.nunique())
    for by in (None, donor):
        made = fold_splits(cell_type, donor=by, folds=folds)
        tested = np.array([split == "test" for split, _ in made])
        assert (tested.sum(axis=0) == 1).all()
        assert all(min(counts(split)) > 0 for split, _ in made)
        if by is None:
            shares = [pd.crosstab(cell_type, own).to_numpy()[:, 1] for own in tested]
            assert np.ptp(shares, axis=0).max() <= 1
        else:
            assert all(
                len(splits_of_donors(own, donor)[name]) == 1 for own in tested for name in donor.unique()
            )
