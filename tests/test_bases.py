"""Letters to codes and back, windows, and the other strand, against loops over strings."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scweave.graphs.bases import check_window, decode, encode, reverse_complement
from scweave.graphs.errors import InputError
from scweave.graphs.schema import BASES

LETTERS = "ACGTNacgtnRYKMryuU-*é"
SEQUENCES = st.lists(st.text(LETTERS, max_size=30), max_size=8)
CALLED = st.lists(st.text(BASES, min_size=9, max_size=9), max_size=8)


def called(letter):
    return letter.upper() if letter in "ACGTacgt" else "N"


def window(sequence, length, anchor):
    first = 0 if anchor == "start" else len(sequence) // 2 - length // 2
    return "".join(
        called(sequence[i]) if 0 <= i < len(sequence) else "N" for i in range(first, first + length)
    )


@given(SEQUENCES, st.integers(1, 40), st.sampled_from(["centre", "start"]))
def test_encode_equals_a_loop_over_letters(sequences, length, anchor):
    codes = encode(sequences, length, anchor)
    assert codes.dtype == np.uint8
    assert codes.shape == (len(sequences), length)
    assert decode(codes) == [window(sequence, length, anchor) for sequence in sequences]


def test_encode_keeps_the_middle_or_the_first_letters():
    assert decode(encode(["AACCGGTT"], 4)) == ["CCGG"]
    assert decode(encode(["AACCGGTT"], 4, "start")) == ["AACC"]
    assert decode(encode(["ACG"], 5)) == ["NACGN"]
    assert decode(encode(["ACG"], 5, "start")) == ["ACGNN"]


@given(CALLED)
def test_codes_are_positions_in_bases(sequences):
    codes = encode(sequences, 9)
    assert codes.tolist() == [[BASES.index(letter) for letter in sequence] for sequence in sequences]


@given(CALLED)
def test_reverse_complement_equals_a_loop_over_letters(sequences):
    other = dict(zip("ACGTN", "TGCAN", strict=True))
    expected = ["".join(other[letter] for letter in reversed(sequence)) for sequence in sequences]
    codes = encode(sequences, 9)
    found = reverse_complement(codes)
    assert found.dtype == np.uint8
    assert decode(found) == expected
    assert np.array_equal(reverse_complement(found), codes)


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 7)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_reverse_complement_of_tensors_is_that_of_arrays(shape, dtype):
    codes = np.random.default_rng(0).integers(0, 5, shape, dtype=np.uint8)
    found = reverse_complement(torch.from_numpy(codes).to(dtype))
    assert found.dtype == dtype
    assert np.array_equal(found.numpy(), reverse_complement(codes))


def test_a_window_that_is_none_is_refused():
    with pytest.raises(InputError, match=r"length of a sequence is 0\. Pass 1 or more"):
        encode(["ACGT"], 0)
    with pytest.raises(InputError, match=r"anchor of sequences is 'middle'\. Pass centre or start"):
        check_window(4, "middle")
