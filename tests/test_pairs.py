"""Pairs: they stay inside their split, negatives are what they are called and fair, the seed decides everything."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scweave.generators.pairs import make_pairs, no_pairs
from scweave.generators.splits import split_cells
from scweave.graphs.errors import InputError
from scweave.graphs.schema import SPLITS

SEEDS = st.integers(0, 5)
NEGATIVES = ["easy", "hard", "both"]


def column(values):
    return pd.Series(list(values), dtype=object)


def types_of(sizes):
    rng = np.random.default_rng(len(sizes))
    return column(rng.permutation(np.repeat([f"type{i}" for i in range(len(sizes))], sizes)))


def check(pairs, split, cell_type, negatives, ratio):
    """Assert all that holds for any table of pairs, by a plain look at each pair."""
    types = [None if pd.isna(name) else name for name in cell_type]
    for rna, atac, match, kind, name in pairs.itertuples(index=False):
        assert split[rna] == split[atac] == name
        assert match == (kind == "positive")
        if kind == "positive":
            assert rna == atac
        elif kind == "easy":
            assert None not in (types[rna], types[atac])
            assert types[rna] != types[atac]
        else:
            assert kind == "hard"
            assert rna != atac
            assert types[rna] == types[atac] is not None
    for name in SPLITS:
        own = pairs[pairs["split"] == name]
        cells = np.flatnonzero(split == name)
        assert sorted(own.loc[own["match"] == 1, "rna"]) == cells.tolist()
        total = round(ratio * sum(types[cell] is not None for cell in cells))
        hard = {"easy": 0, "hard": total, "both": total // 2}[negatives]
        assert (own["kind"] == "hard").sum() == hard
        assert (own["kind"] == "easy").sum() == total - hard


@given(
    st.lists(st.integers(6, 30), min_size=2, max_size=4),
    st.integers(0, 10),
    st.sampled_from(NEGATIVES),
    SEEDS,
    st.sampled_from([0, 0.3, 1, 2.5]),
)
def test_pairs_are_what_they_are_called(sizes, unlabelled, negatives, seed, ratio):
    rng = np.random.default_rng(seed)
    cell_type = column(rng.permutation([*types_of(sizes), *[None] * unlabelled]))
    split = np.empty(len(cell_type), dtype=object)
    for name in cell_type.unique():  # every split has two cells of each type
        own = np.flatnonzero(cell_type.isna() if name is None else cell_type == name)
        split[own] = np.resize(SPLITS, len(own))
    pairs = make_pairs(split, cell_type, negatives=negatives, ratio=ratio, seed=seed)
    check(pairs, split, cell_type, negatives, ratio)
    assert [str(dtype) for dtype in pairs.dtypes[:3]] == ["int32", "int32", "int8"]


@pytest.mark.parametrize("negatives", NEGATIVES)
@given(seed=SEEDS, ratio=st.floats(0.1, 3))
def test_every_cell_takes_part_in_as_many_negatives(negatives, seed, ratio):
    cell_type = types_of([40, 10, 5])
    split = np.full(55, "train", dtype=object)
    pairs = make_pairs(split, cell_type, negatives=negatives, ratio=ratio, seed=seed)
    for kind in {"both": ("easy", "hard")}.get(negatives, (negatives,)):
        own = pairs[pairs["kind"] == kind]
        assert np.ptp(np.bincount(own["rna"], minlength=55)) <= 1
        if len(own) <= 55:
            assert not own[["rna", "atac"]].duplicated().any()


@pytest.mark.parametrize("ratio", [0.5, 1.5])
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_no_type_is_preferred_where_the_ratio_is_no_whole_number(negatives, ratio):
    cell_type = types_of([500, 500])
    other = make_pairs(np.full(1000, "train", dtype=object), cell_type, negatives=negatives, ratio=ratio)
    drawn = other[other["match"] == 0]
    assert abs((cell_type[drawn["rna"]] == "type0").mean() - 0.5) < 0.1
    assert abs((cell_type[drawn["atac"]] == "type0").mean() - 0.5) < 0.1


@pytest.mark.parametrize("negatives", ["easy", "hard"])
def test_partners_are_drawn_uniformly_among_those_allowed(negatives):
    cell_type = column(["a"] * 4 + ["b"] * 8 + ["c"] * 8)
    split = np.full(20, "train", dtype=object)
    split[[4, 5, 12, 13]] = "test"
    pairs = make_pairs(split, cell_type, negatives=negatives, ratio=2000, seed=3)
    other = pairs.query("match == 0 and split == 'train'")
    train = np.flatnonzero(split == "train")
    for cell in train:
        drawn = other.loc[other["rna"] == cell, "atac"]
        same = cell_type[train].to_numpy() == cell_type[cell]
        allowed = train[same & (train != cell)] if negatives == "hard" else train[~same]
        assert set(drawn) == set(allowed)
        assert stats.chisquare(drawn.value_counts().reindex(allowed).to_numpy()).pvalue > 1e-5


def test_hard_negatives_of_a_type_are_not_those_of_another():
    cell_type = types_of([30, 20, 10])
    hard = make_pairs(np.full(60, "train", dtype=object), cell_type, negatives="hard").query("kind == 'hard'")
    assert cell_type[hard["rna"]].value_counts().to_dict() == {"type0": 30, "type1": 20, "type2": 10}


def test_cells_alone_of_their_type_take_no_part_in_hard_negatives():
    cell_type = column(["a", "b", "c", "a", "d", None])
    pairs = make_pairs(np.full(6, "test", dtype=object), cell_type, negatives="hard", ratio=2)
    hard = pairs[pairs["kind"] == "hard"]
    assert len(hard) == 10
    assert sorted(set(zip(hard["rna"], hard["atac"], strict=True))) == [(0, 3), (3, 0)]
    both = make_pairs(np.full(6, "test", dtype=object), cell_type, negatives="both")["kind"].value_counts()
    assert both.to_dict() == {"positive": 6, "easy": 3, "hard": 2}


def test_the_seed_decides_and_another_differs():
    cell_type = types_of([40, 30])
    split, _ = split_cells(cell_type)
    for negatives in NEGATIVES:
        tables = [make_pairs(split, cell_type, negatives=negatives, seed=seed) for seed in (0, 0, 1)]
        pd.testing.assert_frame_equal(tables[0], tables[1])
        assert not tables[0].equals(tables[2])


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_what_holds_the_labels_does_not_matter(negatives):
    cell_type = types_of([12, 9, 6])
    cell_type[[0, 5]] = None
    split, _ = split_cells(cell_type)
    split[split == "test"] = "train"
    split[split == "validation"] = "train"
    want = make_pairs(split, cell_type, negatives=negatives)
    for other in (
        cell_type.astype(pd.CategoricalDtype(["type2", "unused", "type0", "type1"])),
        cell_type.astype("string"),
        cell_type.set_axis(range(50, 77)),
    ):
        pd.testing.assert_frame_equal(make_pairs(split, other, negatives=negatives), want)


def test_without_labels_negatives_are_any_other_cell():
    cell_type = column([None] * 40)
    split, _ = split_cells(cell_type)
    other = make_pairs(split, cell_type, ratio=5).query("match == 0")
    assert len(other) == 5 * 40
    assert (other["rna"] != other["atac"]).all()
    assert (split[other["rna"]] == split[other["atac"]]).all()
    assert set(other["kind"]) == {"random"}


@pytest.mark.parametrize("types", [["a"] * 3 + [None], [None] * 4, ["a", "b", "c", "d"]])
def test_positives_alone_need_no_types(types):
    for negatives in NEGATIVES:
        pairs = make_pairs(np.full(4, "test", dtype=object), column(types), negatives=negatives, ratio=0)
        assert pairs["rna"].tolist() == pairs["atac"].tolist() == [0, 1, 2, 3]
        assert set(pairs["kind"]) == {"positive"}
        assert set(pairs["split"]) == {"test"}


def test_an_experiment_of_one_modality_has_the_columns_of_pairs():
    nothing = no_pairs()
    some = make_pairs(np.full(4, "test", dtype=object), column("aabb"))
    assert len(nothing) == 0
    assert nothing.dtypes.to_dict() == some.dtypes.to_dict()


PARTS = np.array(["train", "train", "validation", "validation", "test", "test"], dtype=object)


@pytest.mark.parametrize(
    ("types", "negatives", "told"),
    [
        (["a"] * 5 + [None], "easy", r"^all 5 labelled cells are of one type, so there are no easy negatives\. Pass another --labels column, --negatives hard, or leave out --labels\.$"),
        (["a"] * 6, "both", r"all 6 labelled cells are of one type"),
        (["a", "b", "a", "b", "a", None], "easy", r"the test split has labelled cells of fewer than two types.*--negatives hard"),
        (["a", "b", "a", "b", None, None], "easy", r"the test split has labelled cells of fewer than two types"),
        (["a", "a", "a", "b", "b", "b"], "both", r"the train split has labelled cells of fewer than two types"),
        (["a", "a", "a", "b", "b", "b"], "hard", r"^the validation split has no two cells of one type \(2 labelled cells\), so it has no hard negatives\. Pass more cells, --negatives easy"),
        (["a", "b", "a", "b", "a", "b"], "both", r"the train split has no two cells of one type"),
        (["a", "a", "b", "b", None, "b"], "hard", r"the test split has no two cells of one type \(1 labelled cells\)"),
        ([None] * 6, "hard", r"--negatives hard needs labels, and no cell has one\. Pass --labels or --labels-file"),
        ([None] * 6, "both", r"--negatives both needs labels"),
        (list("ababab"), "medium", r"--negatives is medium\. Pass one of: easy, hard, both"),
    ],
)  # fmt: skip
def test_negatives_that_cannot_be_had_are_told(types, negatives, told):
    with pytest.raises(InputError, match=told) as caught:
        make_pairs(PARTS, column(types), negatives=negatives)
    assert "\n" not in str(caught.value)


def test_a_single_unlabelled_cell_has_no_negatives():
    with pytest.raises(InputError, match=r"the validation split has 1 cell only.*Pass more cells"):
        make_pairs(np.delete(PARTS, 2), column([None] * 5))


@pytest.mark.parametrize("name", ["snareseq_mouse_cortex", "bmmc_starterA"])
@pytest.mark.parametrize("by_donor", [False, True])
def test_real_cells_are_paired_in_the_numbers_of_their_types(shared_data, name, by_donor):
    data = ad.read_h5ad(shared_data / f"{name}_rna.h5ad", backed="r")
    obs = data.obs[["cell_type", "batch"]].astype(object)
    data.file.close()
    cell_type = obs["cell_type"]
    split, _ = split_cells(cell_type, donor=obs["batch"] if by_donor else None)
    pairs = make_pairs(split, cell_type, negatives="both", ratio=2)
    check(pairs, split, cell_type, "both", 2)
    types = cell_type.to_numpy()
    easy = pairs.query("kind == 'easy' and split == 'train'")
    train = pd.Series(types[split == "train"]).value_counts()
    assert pd.Series(types[easy["rna"]]).value_counts().reindex(train.index).eq(train).all()
    hard = pairs.query("kind == 'hard' and split == 'train'")
    paired = train[train > 1]
    drawn = pd.Series(types[hard["rna"]]).value_counts()
    assert set(drawn.index) == set(paired.index)
    spare = train.sum() - paired.sum()  # what cells alone of their type leave to the others
    assert (drawn - paired).between(0, spare).all()
