"""Which labels a study takes away and which it shuffles, decided by a generator of random numbers alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Int64 = NDArray[np.int64]


def nested_shares(codes: Int64, shares: Sequence[float], rng: np.random.Generator) -> list[Bools]:
    """Draw a share of the cells of each type, at least one; smaller shares lie inside larger ones.

    Parameters
    ----------
    codes
        (cells,) type of each cell; cells of a negative code are never drawn.
    shares
        Of the cells, from 0 to 1.
    rng
        Decides the order in which each type's cells are taken.

    Returns
    -------
    A mask (cells,) for each share. Of a type of n cells ``round(share · n)`` are drawn.
    """
    known = codes >= 0
    drawn = pd.Series(rng.random(len(codes)))
    place = drawn.groupby(codes).rank(method="first").to_numpy() - 1
    size = np.bincount(codes[known], minlength=codes.max(initial=0) + 1)
    return [known & (place < np.maximum(np.round(share * size), 1)[codes]) for share in shares]


def evenly_ordered(codes: Int64, rng: np.random.Generator) -> Int64:
    """Order cells so that every beginning holds types in the proportions of the whole.

    Parameters
    ----------
    codes
        (cells,) type of each cell; −1 is a type, too.
    rng
        Decides the order within types.
    """
    drawn = pd.Series(rng.random(len(codes)))
    place = drawn.groupby(codes).rank(method="first") - drawn  # spreads each type's cells evenly, at random
    size = np.bincount(codes + 1)[codes + 1]
    order: Int64 = np.argsort(place.to_numpy() / size, kind="stable")
    return order


def shuffled(codes: Int64, rng: np.random.Generator) -> Int64:
    """Permute labels at random, so that as many cells as possible get another type than they had.

    All do unless one type has more than half of the cells; then twice the cells of the other types do.

    Parameters
    ----------
    codes
        (cells,) types.
    rng
        Decides the permutation.

    Returns
    -------
    (cells,) types, each as often as before.
    """
    new = rng.permutation(codes)
    for code in np.unique(codes):
        stuck = np.flatnonzero((codes == code) & (new == code))
        # A cell that neither is of the type nor was given it: exchanging the two leaves both with another type.
        others = rng.permutation(np.flatnonzero((codes != code) & (new != code)))[: len(stuck)]
        new[stuck[: len(others)]], new[others] = new[others], code
    return new
