"""Matrices in MatrixMarket text, features × cells, parsed block after block."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from ...graphs.errors import InputError
from .damaged import told
from .storage import Sample
from .transposed import Block

_BYTES: Final = 2**20  # of text parsed at a time; pyarrow reads up to 32 such blocks ahead
_FIELDS: Final = ("integer", "real", "pattern")


@contextmanager
def open_plain(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading bytes, decompressed if its content is gzip, whatever its name."""
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not zipped:
            yield raw
            return
        with gzip.open(raw, "rb") as stream:
            yield cast(BinaryIO, stream)


@dataclass(frozen=True)
class MtxSource:
    """A MatrixMarket file of features × cells; see `Source`. Its values may come in any order.

    Attributes
    ----------
    path
        Folder that holds the file.
    place
        Name of the file.
    shape
        (cells, features).
    stored
        Number of stored values.
    pattern
        Whether the file holds no values, so that each is one.
    """

    path: Path
    place: str
    shape: tuple[int, int]
    stored: int
    pattern: bool
    costly: ClassVar[bool] = True

    def blocks(self) -> Iterator[Block]:
        """Give all stored values in the order of the file."""
        if self.stored == 0:
            return
        with open_plain(self.path / self.place) as stream:
            _read_head(stream, self.place)
            for batch in _parse(stream, 2 if self.pattern else 3):
                features, cells = (np.asarray(column) - 1 for column in batch.columns[:2])
                yield cells, features, _values(batch, self.pattern)

    def sample(self, rng: np.random.Generator) -> Iterator[Sample]:
        """Give features and values of the first block; any other would need the text before it."""
        for _, features, values in self.blocks():
            yield features, values
            return


def read_head(path: Path, name: str) -> MtxSource:
    """Read the first lines of a MatrixMarket file.

    Parameters
    ----------
    path
        Folder.
    name
        File in it, gzip or not.

    Raises
    ------
    InputError
        It is no MatrixMarket file of coordinates, or is damaged.
    """
    with told(path, name), open_plain(path / name) as stream:
        field, n_features, n_cells, stored = _read_head(stream, name)
    return MtxSource(path, name, (n_cells, n_features), stored, field == "pattern")


def _read_head(stream: BinaryIO, name: str) -> tuple[str, int, int, int]:
    banner = stream.readline(1024).decode("latin-1").split()
    words = [word.lower() for word in banner]
    wanted = words[:3] == ["%%matrixmarket", "matrix", "coordinate"] and words[4:] == ["general"]
    if not wanted or words[3] not in _FIELDS:
        raise InputError(
            f"{name} begins with '{' '.join(banner)[:80]}', not with '%%MatrixMarket matrix coordinate"
            " integer|real|pattern general'. Write it with scipy.io.mmwrite, as features × cells."
        )
    line = stream.readline()
    while line.startswith(b"%") or line.isspace():
        line = stream.readline()
    numbers = [int(word) for word in line.split()]
    if len(numbers) != 3 or min(numbers) < 0:
        raise ValueError("the line of sizes has not three numbers")
    return words[3], *(numbers[0], numbers[1], numbers[2])


def _parse(stream: BinaryIO, n_columns: int) -> Any:
    """Stream the lines as batches; numbers are separated by one space or tab."""
    peek = cast(Any, stream).peek(256)[:256].split(b"\n")[0]
    kinds = {"feature": pa.int64(), "cell": pa.int64(), "value": pa.float64()}
    names = list(kinds)[:n_columns]
    return csv.open_csv(
        pa.PythonFile(stream, mode="r"),
        read_options=csv.ReadOptions(column_names=names, block_size=_BYTES, use_threads=False),
        parse_options=csv.ParseOptions(delimiter="\t" if b"\t" in peek else " ", quote_char=False),
        convert_options=csv.ConvertOptions(
            column_types={name: kinds[name] for name in names}, null_values=[], strings_can_be_null=False
        ),
    )


def _values(batch: Any, pattern: bool) -> NDArray[Any]:
    return np.ones(batch.num_rows, np.uint8) if pattern else np.asarray(batch.columns[2])
