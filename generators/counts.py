"""Counts of one modality on disk: streamed from CSR, CSC or dense storage, and checked to be counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from ..graphs.errors import InputError

Name = Literal["rna", "atac"]

_GAP: Final = 4096  # stored values that are cheaper to read over than to seek past
_DENSE: Final = 2**24  # values of dense storage held at a time
# What h5py and anndata raise on damaged or foreign content.
DAMAGED: Final = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    RuntimeError,
    AttributeError,
    NotImplementedError,
)


@dataclass(frozen=True)
class Modality:
    """One matrix of counts on disk, with its two tables in memory.

    Attributes
    ----------
    name
        ``"rna"`` or ``"atac"``.
    path
        File that holds it.
    barcodes
        Cells, in the order of the file.
    obs, var
        Tables of cells and features; the index of `var` are the feature names.
    genome
        ``uns["genome"]`` as the file gives it, or None.
    matrix
        Place of the counts inside the file, such as ``X`` or ``mod/rna/layers/counts``.
    layers
        Layers that the file has for this modality.
    """

    name: Name
    path: Path
    barcodes: pd.Index
    obs: pd.DataFrame
    var: pd.DataFrame
    genome: str | None
    matrix: str = "X"
    layers: tuple[str, ...] = ()

    def chunks(self, rows: NDArray[np.int64], *, size: int = 2048) -> Iterator[sparse.csr_matrix]:
        """Stream the counts of the wanted cells, each chunk checked to be counts.

        CSR and dense storage are read piece by piece; CSC storage is loaded whole once a call,
        as its rows cannot be found otherwise. Rows in the order of the file are read
        fastest.

        Parameters
        ----------
        rows
            int64, rows of the file in the order wanted.
        size
            Cells a chunk.

        Yields
        ------
        csr_matrix
            int32 counts, shape (up to `size`, features), int32 indices sorted within rows, no
            stored zeros.

        Raises
        ------
        InputError
            On negative, missing or fractional values, and on damaged storage.
        """
        rows = np.asarray(rows, dtype=np.int64)
        shape = (len(self.barcodes), len(self.var))
        with self._opened() as node:
            whole = _load_csc(node) if _encoding(node) == "csc_matrix" else None
            for first in range(0, len(rows), size):
                wanted = rows[first : first + size]
                yield self._counts(_read_rows(node, wanted, shape) if whole is None else whole[wanted])

    def nonzeros(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of stored values of each wanted cell, int64; CSR storage reads no counts for it."""
        with self._opened() as node:
            if _encoding(node) == "csr_matrix":
                lengths: NDArray[np.int64] = np.diff(node["indptr"][:].astype(np.int64))
                return lengths[rows]
        return np.concatenate([np.diff(chunk.indptr) for chunk in self.chunks(rows)]).astype(np.int64)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """Give the matrix in its open file; what is damaged is told as bad input."""
        try:
            with h5py.File(self.path, "r") as file:
                yield file[self.matrix]
        except InputError:
            raise
        except DAMAGED as error:
            refuse_damaged(self.path, self.matrix, error)

    def _counts(self, chunk: sparse.csr_matrix) -> sparse.csr_matrix:
        if chunk.indices.size and not 0 <= chunk.indices.min() <= chunk.indices.max() < len(self.var):
            raise ValueError("column indices exceed the number of features")
        chunk.sum_duplicates()
        problem = _not_counts(chunk.data)
        if problem:
            raise InputError(
                f"values of {self.matrix} in {self.path.name} are not counts: {problem} Pass raw counts,"
                f" or name the layer that holds them with --layer (layers here: {listed(self.layers)})."
            )
        chunk.eliminate_zeros()
        return sparse.csr_matrix(
            (chunk.data.astype(np.int32), chunk.indices.astype(np.int32), chunk.indptr), shape=chunk.shape
        )


def check_matrix(file: Any, matrix: str, path: Path, expected: tuple[int, int]) -> None:
    """Refuse a matrix that is absent, of an unknown storage, or of another shape than its tables."""
    if matrix not in file:
        layers = listed(file.get(matrix.removesuffix("X") + "layers", ()))
        raise InputError(
            f"{path.name} has no matrix {matrix} (layers here: {layers}). Name the layer with the counts"
            " with --layer, or write the counts into X."
        )
    node = file[matrix]
    encoding = _encoding(node)
    if encoding not in ("csr_matrix", "csc_matrix", "array"):
        raise InputError(
            f"{matrix} in {path.name} is stored as {encoding!r}, not as a CSR, CSC or dense matrix. Write the"
            " file again with a current anndata."
        )
    try:
        shape = tuple(int(n) for n in (node.shape if encoding == "array" else node.attrs["shape"]))
    except DAMAGED as error:
        refuse_damaged(path, matrix, error)
    if shape != expected:
        raise InputError(
            f"{matrix} in {path.name} has shape {shape}, but obs and var say {expected}. The file is damaged:"
            " write it again."
        )


def _encoding(node: Any) -> str:
    if isinstance(node, h5py.Dataset):
        return "array" if node.dtype.kind in "iufb" else str(node.dtype)
    return str(node.attrs.get("encoding-type", "group without encoding-type"))


def _read_rows(node: Any, rows: NDArray[np.int64], shape: tuple[int, int]) -> sparse.csr_matrix:
    """Rows of CSR or dense storage in the order given; neighbours in the file are read at once."""
    unique, inverse = np.unique(rows, return_inverse=True)
    read_sorted = _read_dense if isinstance(node, h5py.Dataset) else _read_csr
    block = read_sorted(node, unique, shape[1])
    return block if np.array_equal(inverse, np.arange(len(unique))) else block[inverse]


def _read_csr(node: Any, rows: NDArray[np.int64], n_columns: int) -> sparse.csr_matrix:
    bounds = node["indptr"][rows[0] : rows[-1] + 2].astype(np.int64)
    start, stop = bounds[rows - rows[0]], bounds[rows - rows[0] + 1]
    lengths = stop - start
    if (lengths < 0).any() or stop.max(initial=0) > len(node["data"]):
        raise ValueError("row pointers run backwards or past the data")
    cuts = np.flatnonzero(start[1:] - stop[:-1] > _GAP) + 1
    edges = np.concatenate([[0], cuts, [len(rows)]])
    stored, columns = node["data"], node["indices"]
    data, indices = [], []
    for a, b in pairwise(edges.tolist()):  # a run of neighbouring rows, not a row
        piece = slice(int(start[a]), int(stop[b - 1]))
        keep = _within(start[a:b] - start[a], lengths[a:b], piece.stop - piece.start)
        data.append(stored[piece][keep])
        indices.append(columns[piece][keep])
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
        sparse.csr_matrix(node[piece[0] : piece[-1] + 1][piece - piece[0]]) for piece in np.split(rows, cuts)
    ]
    return sparse.csr_matrix(sparse.vstack(pieces, format="csr"))


def _load_csc(node: Any) -> sparse.csr_matrix:
    parts = (node["data"][:], node["indices"][:], node["indptr"][:])
    return sparse.csc_matrix(parts, shape=tuple(node.attrs["shape"])).tocsr()


def _not_counts(values: NDArray[Any]) -> str | None:
    """Measure what keeps values from being counts; None if nothing does."""
    if values.size == 0 or values.dtype.kind == "b":
        return None
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return f"{(~np.isfinite(values)).sum():,} of {values.size:,} values are NaN or infinite."
    if (negative := values < 0).any():
        examples = _some(values[negative])
        return f"{_share(negative, values)} are negative (for example {examples}). This looks scaled."
    if values.dtype.kind == "f" and (fractional := values != np.rint(values)).any():
        highest = float(values.max())
        looks = "log-normalised" if highest < 25 else "normalised"
        return (
            f"{_share(fractional, values)} are not integers (for example {_some(values[fractional])}),"
            f" maximum {highest:.3g}. This looks {looks}."
        )
    if values.max() > np.iinfo(np.int32).max:
        return f"the maximum is {float(values.max()):.3g}, more than an int32 holds."
    return None


def _share(wrong: NDArray[np.bool_], values: NDArray[Any]) -> str:
    percent = 100 * float(wrong.mean())
    return (
        f"{percent:.0f} % of the non-zeros"
        if percent >= 1
        else f"{wrong.sum():,} of {values.size:,} non-zeros"
    )


def _some(values: NDArray[Any]) -> str:
    return ", ".join(f"{float(value):.3g}" for value in np.unique(values[:1000])[:2])


def refuse_damaged(path: Path, place: str, error: Exception) -> NoReturn:
    """Tell what h5py or anndata could not read as bad input."""
    raise InputError(
        f"{place} in {path.name} cannot be read ({first_line(error)}). The file is truncated, not written by"
        " anndata, or compressed by a filter that h5py lacks: copy it again, or write it with gzip."
    ) from error


def listed(names: Iterable[object]) -> str:
    """Join names for a message."""
    return ", ".join(map(str, names)) or "none"


def first_line(error: Exception) -> str:
    """Return the first line of an error, or its kind where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
