"""Stored values of a CSC matrix in HDF5, block after block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from .storage import Sample
from .transposed import BLOCK, Block

_PIECES: Final = 16  # random pieces looked at before anything is built
_PIECE: Final = 2**14  # stored values of each


@dataclass(frozen=True)
class CscSource:
    """A CSC matrix of cells × features; see `Source`."""

    path: Path
    place: str
    shape: tuple[int, int]
    stored: int
    costly: ClassVar[bool] = False

    def blocks(self) -> Iterator[Block]:
        """Give all stored values in the order of the file."""
        with h5py.File(self.path, "r") as file:
            node = file[self.place]
            ends = self._column_ends(node)
            for start in range(0, self.stored, BLOCK):
                yield _piece(node, ends, start, min(start + BLOCK, self.stored))

    def sample(self, rng: np.random.Generator) -> Iterator[Sample]:
        """Give features and values of random pieces of the file."""
        last = max(self.stored - _PIECE, 0)
        starts = np.unique(rng.integers(0, last, size=_PIECES, endpoint=True))
        with h5py.File(self.path, "r") as file:
            node = file[self.place]
            ends = self._column_ends(node)
            for start in starts.tolist():
                _, features, values = _piece(node, ends, start, min(start + _PIECE, self.stored))
                yield features, values

    def _column_ends(self, node: Any) -> NDArray[np.int64]:
        ends: NDArray[np.int64] = node["indptr"][:].astype(np.int64)
        whole = len(ends) == self.shape[1] + 1 and ends[0] == 0 and ends[-1] == self.stored
        if not whole or (np.diff(ends) < 0).any() or len(node["indices"]) != self.stored:
            raise ValueError("column pointers run backwards or past the data")
        return ends


def _piece(node: Any, ends: NDArray[np.int64], start: int, stop: int) -> Block:
    first = int(np.searchsorted(ends, start, side="right")) - 1
    last = int(np.searchsorted(ends, stop, side="left"))
    bounds = np.clip(ends[first : last + 1], start, stop)
    features = np.repeat(np.arange(first, last, dtype=np.int64), bounds[1:] - bounds[:-1])
    return node["indices"][start:stop].astype(np.int64), features, node["data"][start:stop]
