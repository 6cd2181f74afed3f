"""LinkSums: add up weights by key, for many more links than distinct keys."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_BUFFER = 1 << 22  # links held before they are merged


class LinkSums:
    """Sum and count weights by an int64 key.

    Pieces are buffered and merged when there are as many of them as distinct keys, so that the cost
    of sorting is spread: O(links · log links) in all, in memory of the distinct keys.

    Parameters
    ----------
    buffer
        Least number of links to hold before merging.
    """

    def __init__(self, *, buffer: int = _BUFFER) -> None:
        self.buffer = buffer
        self._keys: Int64 = np.zeros(0, np.int64)
        self._sums: Float64 = np.zeros(0)
        self._counts: Int64 = np.zeros(0, np.int64)
        self._pieces: list[tuple[Int64, Float64]] = []
        self._held = 0

    def add(self, keys: Int64, weights: npt.NDArray[np.floating]) -> None:
        """Add links; keys (n,) may repeat, weights (n,) are summed in float64."""
        self._pieces.append((keys, weights.astype(np.float64)))
        self._held += len(keys)
        if self._held >= max(self.buffer, len(self._keys)):
            self._merge()

    def totals(self) -> tuple[Int64, Float64, Int64]:
        """Return the distinct keys in ascending order, the sum of weights and the number of links of each."""
        self._merge()
        return self._keys, self._sums, self._counts

    def _merge(self) -> None:
        if not self._pieces:
            return
        keys = np.concatenate([self._keys, *(piece[0] for piece in self._pieces)])
        sums = np.concatenate([self._sums, *(piece[1] for piece in self._pieces)])
        counts = np.concatenate([self._counts, np.ones(self._held, np.int64)])
        self._pieces, self._held = [], 0
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        first = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if len(keys) else np.zeros(0, np.int64)
        self._keys = keys[first]
        if len(first):
            self._sums = np.add.reduceat(sums[order], first)
            self._counts = np.add.reduceat(counts[order], first)
