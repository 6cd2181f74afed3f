"""Canonical correlation of two sets of features of the same cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def canonical_maps(
    left: Floats, right: Floats, *, width: int, ridge: float = 0.01, power: float = 1.0
) -> tuple[Floats, Floats]:
    """Return linear maps that make two views of the same cells alike.

    Parameters
    ----------
    left, right
        (cells, a) and (cells, b), centred features.
    width
        Most directions.
    ridge
        Added to each feature's variance, which is taken to be about one; keeps rare directions from counting
        as much.

    power
        Of its correlation, by which each direction is weighed.

    Returns
    -------
    Maps (a, w) and (b, w), w = min(a, b, width), by descending correlation.
    """
    roots = []
    white = []
    for side in (left, right):
        spread = side.T @ side / len(side)
        roots.append(np.linalg.cholesky(spread + ridge * np.eye(side.shape[1])))
        white.append(np.linalg.solve(roots[-1], side.T).T)
    turn, strength, other = np.linalg.svd(white[0].T @ white[1] / len(left), full_matrices=False)
    first, second = (
        np.linalg.solve(root.T, own[:, :width]) * strength[:width] ** power
        for root, own in zip(roots, (turn, other.T), strict=True)
    )
    return first, second
