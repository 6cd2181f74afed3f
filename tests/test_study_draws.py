"""Draws of a study: smaller shares inside larger ones, shuffled labels that truly change, even orders."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scweave.models.studies.draws import evenly_ordered, nested_shares, shuffled

CODES = hnp.arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 4))
WITH_UNKNOWN = hnp.arrays(np.int64, st.integers(1, 60), elements=st.integers(-1, 4))
SEEDS = st.integers(0, 2**32 - 1)


@given(WITH_UNKNOWN, st.lists(st.floats(0.001, 1), min_size=1, max_size=4), SEEDS)
def test_shares_are_nested_and_hold_their_part_of_every_type(codes, shares, seed):
    shares = sorted(shares)
    masks = nested_shares(codes, shares, np.random.default_rng(seed))
    for smaller, larger in pairwise(masks):
        assert not (smaller & ~larger).any()
    for share, mask in zip(shares, masks, strict=True):
        assert not mask[codes < 0].any()
        for code in np.unique(codes[codes >= 0]):
            own = codes == code
            assert mask[own].sum() == max(1, round(share * own.sum()))
    whole = nested_shares(codes, [1.0], np.random.default_rng(seed))[0]
    assert (whole == (codes >= 0)).all()


@given(WITH_UNKNOWN, st.floats(0.1, 0.9), SEEDS)
def test_a_share_is_the_same_whatever_others_are_drawn_beside(codes, share, seed):
    alone = nested_shares(codes, [share], np.random.default_rng(seed))[0]
    beside = nested_shares(codes, [0.05, share, 1.0], np.random.default_rng(seed))[1]
    assert (alone == beside).all()


def test_another_seed_draws_other_cells():
    codes = np.repeat([0, 1], 50)
    masks = [nested_shares(codes, [0.5], np.random.default_rng(seed))[0] for seed in (1, 1, 2)]
    assert (masks[0] == masks[1]).all()
    assert (masks[0] != masks[2]).any()


@given(CODES, SEEDS)
def test_shuffled_labels_keep_their_numbers_and_change_where_they_can(codes, seed):
    new = shuffled(codes, np.random.default_rng(seed))
    assert (np.bincount(new, minlength=5) == np.bincount(codes, minlength=5)).all()
    largest = np.bincount(codes).max()
    # A type of more than half of the cells must stay with some: only the others' labels can be given away.
    assert (new != codes).sum() == min(len(codes), 2 * (len(codes) - largest))


def test_labels_are_shuffled_among_all_types():
    codes = np.repeat(np.arange(4), 500)
    new = shuffled(codes, np.random.default_rng(0))
    given = np.bincount(codes * 4 + new, minlength=16).reshape(4, 4)
    assert (given.diagonal() == 0).all()
    others = given[~np.eye(4, dtype=bool)]
    assert others.min() > 120  # 167 of each other type on average
    again, other = (shuffled(codes, np.random.default_rng(seed)) for seed in (0, 1))
    assert (again == new).all()
    assert (other != new).any()


@given(WITH_UNKNOWN, SEEDS)
def test_every_beginning_of_an_even_order_holds_types_in_proportion(codes, seed):
    order = evenly_ordered(codes, np.random.default_rng(seed))
    assert (np.sort(order) == np.arange(len(codes))).all()
    for code in np.unique(codes):
        held = np.cumsum(codes[order] == code)
        expected = np.arange(1, len(codes) + 1) * (codes == code).mean()
        # A type is never ahead or behind by more than a cell for each type.
        assert (np.abs(held - expected) <= len(np.unique(codes))).all()
