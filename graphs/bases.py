"""DNA letters as stored codes: 0 A, 1 C, 2 G, 3 T, 4 anything else; windows cut from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, get_args, overload

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .errors import InputError
from .schema import BASES

if TYPE_CHECKING:
    from torch import Tensor

Anchor = Literal["centre", "start"]
N: Final = BASES.index("N")


def encode(sequences: Sequence[str], length: int, anchor: Anchor = "centre") -> NDArray[np.uint8]:
    """Codes of `length` letters of each sequence, N where a sequence has none.

    Parameters
    ----------
    sequences
        DNA in upper or lower case; every letter but A, C, G and T becomes N.
    length
        Letters kept of each sequence.
    anchor
        ``centre`` keeps the middle letters, ``start`` the first.

    Returns
    -------
    uint8 array, shape (sequences, length)

    Raises
    ------
    InputError
        If `length` is below 1 or `anchor` is neither of the two.
    """
    check_window(length, anchor)
    sizes = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    codes = encode_bytes("".join(sequences).encode("ascii", errors="replace"))
    begin = np.cumsum(sizes) - sizes
    return windows(codes, begin + window_offset(sizes, length, anchor), begin, begin + sizes, length)


def decode(codes: NDArray[np.uint8]) -> list[str]:
    """Letters of codes of shape (sequences, length), a string a sequence."""
    count, length = codes.shape
    text = _LETTERS[codes].tobytes().decode("ascii")
    return [text[i * length : (i + 1) * length] for i in range(count)]


@overload
def reverse_complement(codes: NDArray[np.uint8]) -> NDArray[np.uint8]: ...
@overload
def reverse_complement(codes: Tensor) -> Tensor: ...
def reverse_complement(codes: NDArray[np.uint8] | Tensor) -> NDArray[np.uint8] | Tensor:
    """Codes of the other strand, read in its own direction.

    Parameters
    ----------
    codes
        Array or tensor of any integer type, shape (..., length); N stays N.

    Returns
    -------
    array or tensor
        As given in shape, type and device.
    """
    if isinstance(codes, np.ndarray):
        turned = codes[..., ::-1]
        return np.where(turned < N, 3 - turned, turned)
    flipped = codes.flip(-1)
    return (3 - flipped).where(flipped < N, flipped)


def check_window(length: int, anchor: str) -> None:
    """Refuse a length below 1 and an unknown anchor.

    Raises
    ------
    InputError
        If either is so.
    """
    if length < 1:
        raise InputError(f"the length of a sequence is {length}. Pass 1 or more bases.")
    if anchor not in get_args(Anchor):
        raise InputError(f"the anchor of sequences is {anchor!r}. Pass {' or '.join(get_args(Anchor))}.")


def window_offset(sizes: NDArray[np.int64], length: int, anchor: Anchor) -> NDArray[np.int64]:
    """Where windows of `length` begin, counted from the first letter of sequences of these sizes."""
    return np.zeros_like(sizes) if anchor == "start" else sizes // 2 - length // 2


def encode_bytes(letters: bytes) -> NDArray[np.uint8]:
    """Codes of ASCII letters, line ends left out, shape (letters,)."""
    return np.frombuffer(letters.translate(_CODES, b"\r\n"), dtype=np.uint8)


def windows(
    codes: NDArray[np.uint8],
    first: NDArray[np.int64],
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
    length: int,
) -> NDArray[np.uint8]:
    """Cut windows out of codes that lie one after the other.

    Parameters
    ----------
    codes
        Shape (letters,).
    first
        Where in `codes` each window begins, shape (windows,); may lie outside.
    begin, end
        Half-open range of `codes` that a window may show; N elsewhere.
    length
        Codes a window.

    Returns
    -------
    uint8 array, shape (windows, length)
    """
    margin = np.full(length, N, dtype=np.uint8)
    padded = np.concatenate([margin, codes, margin])
    out: NDArray[np.uint8] = sliding_window_view(padded, length)[
        (first + length).clip(0, len(codes) + length)
    ]
    rows = np.flatnonzero((first < begin) | (first + length > end))
    low, high = (begin - first)[rows, None], (end - first)[rows, None]
    column = np.arange(length)
    part = out[rows]
    part[(column < low) | (column >= high)] = N
    out[rows] = part
    return out


def _code_table() -> bytes:
    table = bytearray([N] * 256)
    for code, base in enumerate(BASES):
        table[ord(base)] = table[ord(base.lower())] = code
    return bytes(table)


_CODES: Final = _code_table()
_LETTERS: Final = np.frombuffer(BASES.encode(), dtype=np.uint8)
