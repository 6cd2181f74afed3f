"""Names as numbers: the codes of categories, and categories of codes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

Int64 = npt.NDArray[np.int64]


def codes_of(names: pd.Series[str]) -> Int64:
    """Return the place of each name among the categories, (rows,) int64; -1 where null."""
    codes: Int64 = np.asarray(names.cat.codes, np.int64)
    return codes


def categories_of(codes: npt.ArrayLike, names: Iterable[str]) -> pd.Categorical:
    """Return the names of codes, held in the narrowest integers; -1 is null."""
    index = names if isinstance(names, pd.Index) else pd.Index(list(names), dtype=object)
    narrow = np.int8 if len(index) < 2**7 else np.int16 if len(index) < 2**15 else np.int32
    return pd.Categorical.from_codes(np.asarray(codes, narrow), categories=index)  # type: ignore[arg-type]
