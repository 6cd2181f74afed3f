"""How a matrix of cells × features lies on disk, and reading its rows from CSR or dense storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .damaged import told

Rows = Callable[[NDArray[np.int64]], sparse.csr_matrix]
Sample = tuple[NDArray[Any], NDArray[Any]]

_GAP: Final = 4096  # stored values that are cheaper to read over than to seek past
_DENSE: Final = 2**24  # values of dense storage held at a time
_SAMPLE: Final = 200  # cells looked at before anything is built


class OnDisk(Protocol):
    """A matrix of cells × features on disk.

    Attributes
    ----------
    path
        File or folder that holds it.
    place
        Place of the matrix in there, for messages.
    shape
        (cells, features).
    stored
        Number of stored values.
    """

    @property
    def path(self) -> Path: ...  # noqa: D102

    @property
    def place(self) -> str: ...  # noqa: D102

    @property
    def shape(self) -> tuple[int, int]: ...  # noqa: D102

    @property
    def stored(self) -> int: ...  # noqa: D102


class Storage(OnDisk, Protocol):
    """A matrix whose rows can be found, its values as they are stored; see `OnDisk`."""

    def opened(self) -> AbstractContextManager[Rows]:
        """Open the matrix; the function given returns any rows, in the order wanted."""

    def sample(self, rng: np.random.Generator) -> Iterator[Sample]:
        """Give columns and values of a random part of the matrix."""


@dataclass(frozen=True)
class RowStorage:
    """CSR or dense storage in HDF5: rows are found without reading the rest. See `Storage`."""

    path: Path
    place: str
    shape: tuple[int, int]
    stored: int

    @contextmanager
    def opened(self) -> Iterator[Rows]:
        """Open the file; what is damaged is told as bad input."""
        with told(self.path, self.place), h5py.File(self.path, "r") as file:
            node = file[self.place]
            yield lambda rows: read_rows(node, rows, self.shape[1])

    def sample(self, rng: np.random.Generator) -> Iterator[Sample]:
        """Give columns and values of random cells."""
        n_cells = self.shape[0]
        rows = np.sort(rng.choice(n_cells, size=min(_SAMPLE, n_cells), replace=False))
        if len(rows):
            with self.opened() as read:
                chunk = read(rows)
            yield chunk.indices, chunk.data


def read_rows(node: Any, rows: NDArray[np.int64], n_columns: int) -> sparse.csr_matrix:
    """Read rows of CSR or dense storage; neighbours in the file are read at once.

    Parameters
    ----------
    node
        Mapping with ``indptr``, ``indices`` and ``data``, or a two-dimensional HDF5 dataset.
    rows
        int64, at least one, in the order wanted.
    n_columns
        Number of columns.

    Returns
    -------
    csr_matrix
        Values and column indices as stored, unchecked.

    Raises
    ------
    ValueError
        Row pointers that no matrix has.
    """
    unique, inverse = np.unique(rows, return_inverse=True)
    read_sorted = _read_dense if isinstance(node, h5py.Dataset) else _read_csr
    block = read_sorted(node, unique, n_columns)
    return block if np.array_equal(inverse, np.arange(len(unique))) else block[inverse]


def check_row_pointers(node: Any, n_rows: int) -> None:
    """Refuse row pointers that do not span all stored values: some would be lost in silence.

    Raises
    ------
    ValueError
        They do not.
    """
    pointers = node["indptr"]
    if pointers.shape != (n_rows + 1,) or pointers[0] != 0 or pointers[-1] != len(node["data"]):
        raise ValueError("row pointers do not span the stored values")


def _native(values: NDArray[Any]) -> NDArray[Any]:
    """Give values a type that scipy.sparse takes: half precision and foreign byte orders are none."""
    if values.dtype == np.float16:
        return values.astype(np.float32)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _read_csr(node: Any, rows: NDArray[np.int64], n_columns: int) -> sparse.csr_matrix:
    stored, columns = node["data"], node["indices"]
    bounds = node["indptr"][rows[0] : rows[-1] + 2].astype(np.int64)
    start, stop = bounds[rows - rows[0]], bounds[rows - rows[0] + 1]
    lengths = stop - start
    if (lengths < 0).any() or start.min() < 0 or stop.max() > min(len(stored), len(columns)):
        raise ValueError("row pointers run backwards or past the data")
    cuts = np.flatnonzero(start[1:] - stop[:-1] > _GAP) + 1
    edges = np.concatenate([[0], cuts, [len(rows)]])
    data, indices = [], []
    for a, b in pairwise(edges.tolist()):  # a run of neighbouring rows, not a row
        piece = slice(int(start[a]), int(stop[b - 1]))
        keep = _within(start[a:b] - start[a], lengths[a:b], piece.stop - piece.start)
        data.append(_native(stored[piece][keep]))
        indices.append(_native(columns[piece][keep]))
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    values = np.concatenate(data)
    return sparse.csr_matrix((values, np.concatenate(indices), indptr), shape=(len(rows), n_columns))


def _within(start: NDArray[np.int64], lengths: NDArray[np.int64], total: int) -> Any:
    """Positions of the rows wanted inside a run, all of it where nothing lies between them."""
    if int(lengths.sum()) == total:
        return slice(None)
    before = np.cumsum(lengths) - lengths
    return np.repeat(start - before, lengths) + np.arange(int(lengths.sum()))


def _read_dense(node: Any, rows: NDArray[np.int64], n_columns: int) -> sparse.csr_matrix:
    most = max(1, _DENSE // max(1, n_columns))
    window = (rows - rows[0]) // most
    cuts = np.flatnonzero(np.diff(window)) + 1
    pieces = [
        sparse.csr_matrix(_native(node[piece[0] : piece[-1] + 1][piece - piece[0]]))
        for piece in np.split(rows, cuts)
    ]
    return sparse.csr_matrix(sparse.vstack(pieces, format="csr"))
