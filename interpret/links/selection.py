"""Which links of a table meet conditions, for all links at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...graphs.errors import InputError
from .categories import codes_of

Mask = npt.NDArray[np.bool_]


def named(links: pd.DataFrame, **names: Sequence[str] | None) -> Mask:
    """Mark the links whose columns have one of some names; a column of None may have any.

    Parameters
    ----------
    links
        Link table with names as categories.
    names
        Column -> names.
    """
    keep = np.ones(len(links), bool)
    for column, wanted in names.items():
        if wanted is not None:
            chosen = np.append(
                links[column].cat.categories.isin(list(wanted)), False
            )  # the last is for nulls
            keep &= chosen[codes_of(links[column])]
    return keep


def within(
    links: pd.DataFrame,
    *,
    min_score: float | None = None,
    max_qvalue: float | None = None,
    min_cells: int | None = None,
    max_distance: int | None = None,
) -> Mask:
    """Mark the links within limits; what is not known of a link is within none.

    Raises
    ------
    InputError
        A limit is set on what is known of no link.
    """
    keep = np.ones(len(links), bool)
    if min_score is not None:
        keep &= _values(links, "score") >= min_score
    if max_qvalue is not None:
        keep &= _values(links, "qvalue", "max_qvalue") <= max_qvalue
    if min_cells is not None:
        keep &= _values(links, "n_cells", "min_cells") >= min_cells
    if max_distance is not None:
        keep &= np.abs(_values(links, "distance", "max_distance")) <= max_distance
    return keep


def strongest(links: pd.DataFrame, n: int) -> Mask:
    """Mark the n links of each gene and cell type that come first in a sorted table.

    Raises
    ------
    InputError
        n is below 1.
    """
    check_number(n, "top")
    n_genes = len(links["gene"].cat.categories)
    key = codes_of(links["cell_type"]) * n_genes + codes_of(links["gene"])
    order = np.argsort(key, kind="stable")
    first = np.flatnonzero(np.diff(key[order], prepend=-1))
    rank = np.arange(len(key)) - np.repeat(first, np.diff(first, append=len(key)))
    keep = np.zeros(len(key), bool)
    keep[order[rank < n]] = True
    return keep


def check_number(n: int, what: str) -> None:
    """Refuse a number of links below 1."""
    if n < 1:
        raise InputError(f"{what} is {n}. Pass 1 or more links.")


def _values(links: pd.DataFrame, column: str, limit: str = "") -> npt.NDArray[np.float64]:
    """Return a column as numbers, nan where not known."""
    values = links[column].to_numpy(np.float64, na_value=np.nan)
    if limit and len(values) and np.isnan(values).all():
        raise InputError(f"{limit}: the {column} of no link of this map is known. Leave the limit out.")
    return values
