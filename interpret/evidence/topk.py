"""The best k of two rankings: how much they share, and how much two random sets would."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import hypergeom

Float64 = npt.NDArray[np.float64]

_MOST, _SHARE = 10_000, 0.1


def top_k(n: int) -> int:
    """Size of the sets that are compared: min(10,000, 10 % of n), at least 1."""
    return max(1, min(_MOST, int(_SHARE * n)))


def jaccard(shared: Float64, k: int) -> Float64:
    """Jaccard index of two sets of k items that share so many: shared / (2 k - shared)."""
    return shared / (2 * k - shared)


def chance_jaccard(n: int, k: int) -> float:
    """Expected Jaccard index of two random sets of k among n items.

    The number they share is hypergeometric: Σ over i of P(i) · i / (2 k - i), where
    P(i) = C(k, i) · C(n - k, k - i) / C(n, k).
    """
    shared = np.arange(max(0, 2 * k - n), k + 1)
    return float(hypergeom.pmf(shared, n, k, k) @ jaccard(shared.astype(np.float64), k))
