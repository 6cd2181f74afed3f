"""Columns of ``var`` as files write them: what counts as unknown, and positions of any type."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...graphs.errors import InputError
from ...graphs.messages import few

CHROM_COLUMNS: Final = ("chrom", "chr", "seqnames")
POSITION_COLUMNS: Final = (("chromStart", "chromEnd"), ("start", "end"))
_UNKNOWN: Final = r"(?i)(?:chr)?(?:unknown|nan|na|n/a|none|null|<na>)?|\."
_LARGEST: Final = 2**53  # float64, which missing values force on a column, is exact up to here


def texts(column: pd.Series[str]) -> pd.Series[str]:
    """Read a column of any type as text, under a fresh index; whole numbers lose their ``.0``."""
    read = pd.Series(column.to_numpy(dtype=object), dtype=object).astype(str)
    dtype = column.cat.categories.dtype if isinstance(column.dtype, pd.CategoricalDtype) else column.dtype
    numbers = pd.api.types.is_float_dtype(dtype)
    return read.str.replace(r"\.0$", "", regex=True) if numbers else read


def unknown(column: pd.Series[str]) -> NDArray[np.bool_]:
    """Tell which values say nothing: missing, '', '.', nan, NA, None, unknown or chrUnknown.

    Parameters
    ----------
    column
        Values of any type.

    Returns
    -------
    bool array, shape (values,)
    """
    words = texts(column).str.strip().str.fullmatch(_UNKNOWN).to_numpy(dtype=bool)
    return words | column.isna().to_numpy()


def positions(column: pd.Series[str], names: pd.Series[str], *, of: str) -> pd.Series[int]:
    """Read 0-based positions from numbers, whole floats or texts.

    Parameters
    ----------
    column
        Values of any type.
    names
        What the positions belong to, for the error.
    of
        ``genes`` or ``peaks``, for the error.

    Returns
    -------
    Series of Int64, shape (values,)
        Under a fresh index; missing where the column is :func:`unknown`.

    Raises
    ------
    InputError
        If a known value is no whole number, or negative.
    """
    known = ~unknown(column)
    values = pd.to_numeric(column.astype(object).where(known), errors="coerce").to_numpy(np.float64)
    refuse_positions(
        known & ~((values >= 0) & (values < _LARGEST) & (values == np.floor(values))), column, names, of
    )
    whole = np.where(known, values, 0).astype(np.int64)
    return pd.Series(pd.arrays.IntegerArray(whole, ~known))


def refuse_positions(
    wrong: NDArray[np.bool_], column: pd.Series[str], names: pd.Series[str], of: str
) -> None:
    """Raise an `InputError` if any position of a column is wrong."""
    if wrong.any():
        raise InputError(
            f"column '{column.name}' of var is no position for {wrong.sum():,} of {len(wrong):,} {of}"
            f" ({few(map(repr, names[wrong]))}). Give whole numbers, 0-based half-open."
        )
