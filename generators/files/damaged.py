"""Content that its library cannot read, told as bad input."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ...graphs.errors import InputError

# What h5py, anndata, gzip and pyarrow raise on damaged or foreign content.
DAMAGED: Final = (
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    RuntimeError,
    AttributeError,
    NotImplementedError,
    zlib.error,
)


@contextmanager
def told(path: Path, place: str) -> Iterator[None]:
    """Turn what reading damaged content raises into an `InputError`.

    Parameters
    ----------
    path
        File or folder being read.
    place
        What is read inside it.
    """
    try:
        yield
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(
            f"{place} in {path.name} cannot be read ({first_line(error)}). The file is truncated or damaged:"
            " copy it again, or write it again."
        ) from error


def listed(names: Iterable[object]) -> str:
    """Join names for a message."""
    return ", ".join(map(str, names)) or "none"


def first_line(error: Exception) -> str:
    """Return the first line of an error, or its kind where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
