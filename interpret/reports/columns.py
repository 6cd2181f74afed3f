"""Columns of numbers as text: the bytes of a typed array in base64, which a page decodes at once."""

from __future__ import annotations

import base64
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_UNSIGNED: Final = ("<u1", "<u2", "<u4")
Column = dict[str, str]


def whole_numbers(values: npt.ArrayLike) -> Column:
    """Encode whole numbers from 0 in as few bytes as the largest needs.

    Raises
    ------
    ValueError
        A number is negative or needs more than 32 bits.
    """
    array = np.asarray(values)
    if array.size and (array.min() < 0 or array.max() >= 2**32):
        raise ValueError(f"numbers from {array.min()} to {array.max()} do not fit 32 unsigned bits")
    highest = int(array.max()) if array.size else 0
    kind = next(name for name in _UNSIGNED if highest <= np.iinfo(name).max)
    return _encode(array.astype(kind))


def signed_numbers(values: npt.ArrayLike) -> Column:
    """Encode whole numbers of 32 bits with a sign."""
    return _encode(np.asarray(values).astype("<i4", casting="same_kind"))


def figures(values: npt.ArrayLike) -> Column:
    """Encode numbers in single precision; what is not finite becomes NaN."""
    array = np.asarray(values, np.float64)
    return _encode(np.where(np.isfinite(array), array, np.nan).astype("<f4"))


def shares(values: npt.ArrayLike) -> Column:
    """Encode shares from 0 to 1 as 65,535ths; what is unknown is 0."""
    array = np.nan_to_num(np.asarray(values, np.float64), nan=0.0, posinf=1.0, neginf=0.0)
    return _encode(np.rint(np.clip(array, 0.0, 1.0) * 65535).astype("<u2"))


def _encode(array: npt.NDArray[Any]) -> Column:
    told = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"type": array.dtype.str[1:], "bytes": told}
