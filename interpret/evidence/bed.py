"""Peaks of a ChIP-seq experiment, read from BED."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ...graphs.errors import InputError
from .intervals import require_intervals

_SCORE, _SIGNAL = 4, 6  # columns of BED, and of ENCODE's narrowPeak and broadPeak
_WIDE: Final = (9, 10)  # columns of broadPeak and narrowPeak


def read_bed(path: Path) -> pd.DataFrame:
    """Read the peaks of a ChIP-seq experiment, plain or gzipped.

    Parameters
    ----------
    path
        BED with a score in its fifth column (1 where it has fewer), or ENCODE's narrowPeak or broadPeak, whose
        seventh column is the signal.

    Returns
    -------
    ``chrom, start, end`` (0-based half-open) and ``score``, a row a peak, in the order of the file.

    Raises
    ------
    InputError
        No such file, one that is damaged or empty, or a line that is no interval.
    """
    path = Path(path)
    rows = [line.split("\t") for line in _lines(path)]
    width = min(map(len, rows))
    if width < 3:
        raise InputError(
            f"{path}: a BED file has at least 3 tab-separated columns; found {width}. Correct the file."
        )
    fields = pd.DataFrame([row[:10] for row in rows])
    _refuse_pairs(fields, path)
    column = _SIGNAL if width in _WIDE else _SCORE if width > _SCORE else None
    sites = pd.DataFrame(
        {
            "chrom": fields[0],
            "start": _numbers(fields[1], path, "start").astype(np.int64),
            "end": _numbers(fields[2], path, "end").astype(np.int64),
            "score": 1.0 if column is None else _numbers(fields[column], path, "score").astype(np.float64),
        }
    )
    require_intervals(sites, str(path))
    return sites


def _refuse_pairs(fields: pd.DataFrame, path: Path) -> None:
    """A BEDPE reads as a BED whose names are chromosomes and whose scores are positions."""
    if fields.shape[1] < 6 or not fields[3].isin(set(fields[0])).all():
        return
    places = fields[[4, 5]].apply(pd.to_numeric, errors="coerce")
    if places.notna().all(axis=None):
        raise InputError(f"{path} has two anchors a line, as a BEDPE file has. Pass --truth-kind bedpe.")


def _lines(path: Path) -> list[str]:
    try:
        with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rt", encoding="utf-8-sig") as text:
            lines = [line.rstrip("\r\n") for line in text]
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file. Pass the BED file of bound peaks.") from error
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}). Pass an intact BED file.") from error
    lines = [line for line in lines if line.strip() and not line.startswith(("#", "track", "browser"))]
    if not lines:
        raise InputError(f"{path}: there are no peaks in it. Pass a BED file with at least one line.")
    return lines


def _numbers(values: pd.Series[str], path: Path, name: str) -> pd.Series[float]:
    found = pd.to_numeric(values, errors="coerce")
    if found.isna().any():
        row = int(np.flatnonzero(found.isna())[0])
        raise InputError(
            f"{path}: peak {row + 1} has {values.iloc[row]!r} as {name}, no number. Correct the file."
        )
    return found
