"""What the folders are that a report is made of, and their files read with care."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd
import pyarrow.parquet as pq

from ...graphs.errors import InputError

Kind = Literal["run", "map", "peaks", "study"]
CONFIG, METRICS, MODEL, STUDY = "config.json", "metrics.json", "model.json", "study.json"
LINKS: Final = "links.parquet"
PEAK_TABLES: Final = (
    "predicted_markers.parquet",
    "markers.parquet",
    "pairs.parquet",
)  # what an annotator's map has, and no other folder
_ACCEPTED: Final = "a run (of `scweave train`), a map (of `scweave map`) or a study (of `scweave study`)"


@dataclass(frozen=True)
class Source:
    """A folder to report on.

    Attributes
    ----------
    folder
        Where it lies.
    kind
        ``run`` (one, or of all folds), ``map`` (peak-gene links), ``peaks`` (an annotator's map) or ``study``.
    config
        Content of its ``config.json``.
    """

    folder: Path
    kind: Kind
    config: dict[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    def json(self, name: str) -> dict[str, Any]:
        """Return the content of a JSON file; nothing where there is no such file."""
        return read_json(self.folder / name) if (self.folder / name).is_file() else {}

    def frame(self, name: str) -> pd.DataFrame | None:
        """Return a parquet or CSV table; None where there is no such file."""
        return read_table(self.folder / name) if (self.folder / name).is_file() else None


def find_source(folder: Path) -> Source:
    """Tell what a folder is.

    Raises
    ------
    InputError
        It is not there, nothing that a report can be made of, or its files are damaged.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "not there"
        raise InputError(f"{folder} is {found}. Pass the folder of {_ACCEPTED}.")
    kind = _kind(folder)
    if kind is None:
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:4]) or "nothing"
        raise InputError(f"{folder} is no run, map or study (it holds {names}). Pass {_ACCEPTED}.")
    return Source(folder, kind, read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {})


def _kind(folder: Path) -> Kind | None:
    here = {path.name for path in folder.iterdir()}
    if LINKS in here:
        return "map"
    if here & set(PEAK_TABLES) and CONFIG in here:
        return "peaks"
    if STUDY in here:
        return "study"
    if METRICS in here or {CONFIG, MODEL} <= here:
        return "run"
    return None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    InputError
        It cannot be read, or is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Make it again.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no whole JSON file ({_first_line(error)}). Make it again.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, not an object. Make it again.")
    return content


def read_table(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a parquet or CSV file.

    Raises
    ------
    InputError
        It cannot be read, or lacks a column.
    """
    try:
        frame = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError, UnicodeDecodeError) as error:  # pyarrow's errors are ValueErrors, too
        raise InputError(f"{path} is no whole table ({_first_line(error)}). Make it again.") from error
    missing = [name for name in columns or [] if name not in frame]
    if missing:
        raise InputError(f"{path} has no column {', '.join(missing)}. Make it again with this version.")
    return frame


def count_rows(path: Path) -> int:
    """Return how many rows a parquet file has, without reading them.

    Raises
    ------
    InputError
        It cannot be read.
    """
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no whole table ({_first_line(error)}). Make it again.") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
