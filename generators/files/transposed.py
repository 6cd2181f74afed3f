"""Rows of a matrix that is stored by columns, or in any order: transposed once, on disk."""

from __future__ import annotations

import errno
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ...graphs.errors import InputError
from .damaged import told
from .storage import OnDisk, Rows, Sample, read_rows

# Cells, features and values of some stored values.
Block = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]

BLOCK: Final = 2**20  # stored values read at a time
_BUCKET: Final = 2**22  # stored values sorted at a time


class Source(OnDisk, Protocol):
    """Stored values of a matrix in the order of its file; see `OnDisk`.

    Attributes
    ----------
    costly
        Whether reading it twice costs more than copying it to the disk.
    """

    @property
    def costly(self) -> bool: ...  # noqa: D102

    def blocks(self) -> Iterator[Block]:
        """Give all stored values, at most about `BLOCK` at a time."""

    def sample(self, rng: np.random.Generator) -> Iterator[Sample]:
        """Give columns and values of a part of the matrix that is found fast."""


class Transposed:
    """A `Storage` whose rows are made findable in a temporary folder when they are first wanted.

    Two passes over the stored values, block by block: the first counts the values of each cell, the
    second deals them to buckets of neighbouring cells, which are then sorted one by one. Memory is that
    of a block and a bucket; the folder goes when the object does.

    Parameters
    ----------
    source
        The stored values.
    scratch
        Folder for the temporary folder; the system's when None.
    progress
        Show a bar over the two passes.
    """

    def __init__(self, source: Source, scratch: Path | None = None, *, progress: bool = False) -> None:
        self.path, self.place = source.path, source.place
        self.shape, self.stored = source.shape, source.stored
        self._source, self._scratch, self._progress = source, scratch, progress
        self._parts: dict[str, _Column] | None = None

    def sample(self, rng: np.random.Generator) -> Iterator[Sample]:
        """Give columns and values of a part of the file, without transposing."""
        with told(self.path, self.place):
            yield from self._source.sample(rng)

    @contextmanager
    def opened(self) -> Iterator[Rows]:
        """Transpose if that is not done yet; what is damaged is told as bad input."""
        with told(self.path, self.place):
            if self._parts is None:
                self._parts = self._transpose()
            parts = self._parts
            # Mapped anew for each call, so that pages already read do not stay in memory.
            yield lambda rows: read_rows({k: v.mapped() for k, v in parts.items()}, rows, self.shape[1])

    def _transpose(self) -> dict[str, _Column]:
        folder = self._folder()
        remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        try:
            what = f"transposing {self.path.name}"
            with tqdm(total=2 * self.stored, desc=what, unit="value", disable=not self._progress) as bar:
                return _transpose(self._source, folder, bar)
        except BaseException as error:
            remove()
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise InputError(
                    f"no space left in {folder.parent} to transpose {self.place} of {self.path.name}"
                    f" ({self.stored:,} stored values, up to 40 bytes each). Free space, set TMPDIR to"
                    " another folder, or write the matrix as CSR."
                ) from error
            raise

    def _folder(self) -> Path:
        try:
            return Path(tempfile.mkdtemp(prefix="scweave-transposed-", dir=self._scratch))
        except OSError as error:
            raise InputError(
                f"cannot write to {self._scratch or 'a temporary folder'}: {error.strerror}. Choose another"
                " folder for temporary files."
            ) from error


@dataclass(frozen=True)
class _Column:
    """A vector in a file of its own."""

    path: Path
    dtype: np.dtype[Any]

    def write(self, file: BinaryIO, at: int, values: NDArray[Any]) -> None:
        file.seek(at * self.dtype.itemsize)
        file.write(values.astype(self.dtype, copy=False).tobytes())

    def read(self, start: int, stop: int) -> NDArray[Any]:
        offset = start * self.dtype.itemsize
        return np.fromfile(self.path, self.dtype, count=stop - start, offset=offset)

    def mapped(self) -> NDArray[Any]:
        empty = self.path.stat().st_size == 0  # which no system maps
        return np.empty(0, self.dtype) if empty else np.memmap(self.path, self.dtype, mode="r")


class _Spool:
    """A copy of the blocks of a costly source, for the second pass."""

    def __init__(self, source: Source, folder: Path) -> None:
        self._source, self._sizes = source, list[int]()
        types = (*map(_index_type, source.shape), np.dtype(np.float64))
        names = ("spool_cells", "spool_features", "spool_values")
        self._columns = [_Column(folder / name, kind) for name, kind in zip(names, types, strict=True)]

    def fill(self) -> Iterator[Block]:
        """Copy the blocks of the source while they pass."""
        at = 0
        for block in self._source.blocks():
            for column, values in zip(self._columns, block, strict=True):
                with column.path.open("ab") as file:
                    column.write(file, at, values)
            at += len(block[0])
            self._sizes.append(len(block[0]))
            yield block

    def blocks(self) -> Iterator[Block]:
        """Give the copied blocks again, then remove the copy."""
        at = 0
        for size in self._sizes:
            cells, features, values = (column.read(at, at + size) for column in self._columns)
            yield cells.astype(np.int64), features.astype(np.int64), values
            at += size
        for column in self._columns:
            column.path.unlink(missing_ok=True)


def _transpose(source: Source, folder: Path, bar: tqdm[Any]) -> dict[str, _Column]:
    spool = _Spool(source, folder) if source.costly else None
    counts, dtype = _count(source, _watched(spool.fill() if spool else source.blocks(), bar))
    indptr = np.concatenate([[0], np.cumsum(counts)])
    kinds = {"cells": _index_type(source.shape[0]), "indices": _index_type(source.shape[1]), "data": dtype}
    columns = {name: _Column(folder / name, kind) for name, kind in kinds.items()}
    buckets, first = np.unique(indptr[:-1] // _BUCKET, return_index=True)
    edges = indptr[np.append(first, len(indptr) - 1)]
    of_cell = np.repeat(np.arange(len(buckets)), np.diff(np.append(first, len(indptr) - 1)))
    _deal(_watched((spool or source).blocks(), bar), columns, of_cell, edges)
    _sort(columns, edges)
    columns["cells"].path.unlink()
    rows = _Column(folder / "indptr", np.dtype(np.int64))
    indptr.astype(np.int64).tofile(rows.path)
    return {"indptr": rows, "indices": columns["indices"], "data": columns["data"]}


def _watched(blocks: Iterator[Block], bar: tqdm[Any]) -> Iterator[Block]:
    for block in blocks:
        yield block
        bar.update(len(block[0]))


def _index_type(n: int) -> np.dtype[Any]:
    return np.min_scalar_type(max(n - 1, 0))


def _count(source: Source, blocks: Iterator[Block]) -> tuple[NDArray[np.int64], np.dtype[Any]]:
    """Count the values of each cell and find the narrowest type that holds all values."""
    counts = np.zeros(source.shape[0], np.int64)
    dtype = np.dtype(np.uint8)
    for cells, features, values in blocks:
        for at, n, what in zip((cells, features), source.shape, ("cell", "feature"), strict=True):
            if at.size and not 0 <= at.min() <= at.max() < n:
                raise ValueError(f"{what} indices exceed the number of {what}s, {n:,}")
        counts += np.bincount(cells, minlength=len(counts))
        dtype = np.promote_types(dtype, _narrowest(values))
    if (found := int(counts.sum())) != source.stored:
        raise ValueError(f"{found:,} values found, {source.stored:,} announced")
    return counts, dtype


def _narrowest(values: NDArray[Any]) -> np.dtype[Any]:
    """Return the narrowest unsigned type of counts; what is no count keeps its type, to be told later."""
    if values.size == 0 or values.dtype.kind == "b":
        return np.dtype(np.uint8)
    highest = values.max()
    if not (values.min() >= 0 and highest < 2**32):
        return values.dtype
    whole = values.dtype.kind != "f" or bool((values == np.rint(values)).all())
    return np.min_scalar_type(int(highest)) if whole else values.dtype


def _deal(
    blocks: Iterator[Block],
    columns: dict[str, _Column],
    of_cell: NDArray[np.int64],
    edges: NDArray[np.int64],
) -> None:
    """Write each value into the place of its bucket of neighbouring cells."""
    cursor = edges[:-1].copy()
    files = [(column, column.path.open("wb")) for column in columns.values()]
    try:
        for block in blocks:
            bucket = of_cell[block[0]]
            order = np.argsort(bucket, kind="stable")
            sizes = np.bincount(bucket, minlength=len(cursor))
            ends = np.cumsum(sizes)
            for (column, file), part in zip(files, block, strict=True):
                ordered = part[order]
                for k in np.flatnonzero(sizes):  # a bucket, not a cell
                    column.write(file, int(cursor[k]), ordered[ends[k] - sizes[k] : ends[k]])
            cursor += sizes
    finally:
        for _, file in files:
            file.close()


def _sort(columns: dict[str, _Column], edges: NDArray[np.int64]) -> None:
    """Order the values of each bucket by cell, keeping their order within a cell."""
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        cells = columns["cells"].read(start, stop)
        if (cells[1:] >= cells[:-1]).all():
            continue
        order = np.argsort(cells, kind="stable")
        for column in (columns["indices"], columns["data"]):
            values = column.read(start, stop)[order]
            with column.path.open("r+b") as file:
                column.write(file, start, values)
