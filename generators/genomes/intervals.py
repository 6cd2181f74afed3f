"""Which intervals of two tables overlap."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyranges as pr
from numpy.typing import NDArray


def overlaps(first: pd.DataFrame, second: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find every pair of intervals that share at least one base.

    Intervals of one table may overlap each other.

    Parameters
    ----------
    first, second
        Columns ``chrom`` (None where unknown: such a row overlaps nothing), ``start`` and ``end``
        (0-based half-open, not empty, present wherever ``chrom`` is).

    Returns
    -------
    first, second
        int64, shape (pairs,) each: rows of the two tables, every pair once, in no particular order.
    """
    left, right = _ranges(first, "first"), _ranges(second, "second")
    if left.empty or right.empty:
        return _NO_ROWS, _NO_ROWS
    joined = pr.PyRanges(left, int64=True).join(pr.PyRanges(right, int64=True)).df
    if joined.empty:
        return _NO_ROWS, _NO_ROWS
    return joined["first"].to_numpy(dtype=np.int64), joined["second"].to_numpy(dtype=np.int64)


_NO_ROWS = np.zeros(0, dtype=np.int64)


def _ranges(table: pd.DataFrame, row: str) -> pd.DataFrame:
    known = np.flatnonzero(table["chrom"].notna().to_numpy())
    columns = {"Chromosome": table["chrom"].iloc[known].to_numpy(dtype=object).astype(str)}
    for name, column in (("Start", "start"), ("End", "end")):
        columns[name] = table[column].iloc[known].to_numpy(dtype=np.int64)
    return pd.DataFrame(columns | {row: known})
