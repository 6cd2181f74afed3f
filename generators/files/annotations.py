"""Labels, donors and batches of cells from a table beside the experiment: barcode, then values."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ...graphs.errors import InputError

_UNREADABLE: Final = (OSError, EOFError, UnicodeError, zlib.error, csv.Error)


def read_annotations(path: Path, barcodes: pd.Index, *, notes: list[str]) -> pd.DataFrame:
    """Read a table of cells and bring it into the order of the experiment.

    Fields are divided by commas where the name ends in ``.csv`` or ``.csv.gz``, else by tabs. The
    first column holds barcodes. The first row names the columns, unless it begins with a barcode of
    the experiment; without names, a single column of values is called ``label``, several are
    ``column2``, ``column3`` and so on. A header may lack the name of the barcode column.

    Parameters
    ----------
    path
        Table of text, plain or gzip.
    barcodes
        The experiment's cells.
    notes
        How many cells the table names is appended.

    Returns
    -------
    DataFrame of text, indexed like ``barcodes``; NaN for cells that the table does not name.

    Raises
    ------
    InputError
        The file is missing or damaged, has one column or two of one name, knows no cell, or gives a
        cell different values.
    """
    path = Path(path)
    first, body = _rows(path)
    table = _named(first, body, barcodes, path)
    known = table.index.isin(barcodes)
    if not known.any():
        raise InputError(
            f"no barcode in {path.name} is a cell of the experiment (file: {_first(table.index)}; experiment:"
            f" {_first(barcodes)}). Write the barcodes as the experiment does, suffixes included."
        )
    ours = _one_row_a_cell(table[known], path)
    of_none = f"; {(~known).sum():,} of its {len(table):,} rows are of no cell" if not known.all() else ""
    columns = ", ".join(map(str, table.columns))
    notes.append(f"{len(ours):,} of {len(barcodes):,} cells are named in {path.name} ({columns}){of_none}")
    return ours.reindex(barcodes)


def _rows(path: Path) -> tuple[list[str], pd.DataFrame]:
    """Read the first row and the others, every field as text."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"--labels-file {path} {what}. Pass a table of barcodes and labels (.tsv or .csv).")
    text = _text(path)
    comma = path.name.lower().removesuffix(".gz").endswith(".csv")
    separator = "," if comma else "\t"
    try:
        first = next(csv.reader([text.readline()], delimiter=separator, strict=True), [])
        body = pd.read_csv(text, sep=separator, header=None, dtype=str, na_filter=False)
    except pd.errors.EmptyDataError:
        body = pd.DataFrame(columns=range(len(first)), dtype=str)
    except (pd.errors.ParserError, csv.Error) as error:
        raise InputError(
            f"{path.name} cannot be read as a table: a row has more fields than the others, or a quote is not"
            " closed. Write every row with the same number of fields."
        ) from error
    if max(len(first), body.shape[1]) < 2:
        by = "commas" if comma else "tabs"
        raise InputError(
            f"{path.name} has one column only ({_first(pd.Index(first))}). Pass barcode and label, divided by {by}"
            " (.csv: commas, any other name: tabs)."
        )
    return first, body


def _text(path: Path) -> io.StringIO:
    try:
        raw = path.read_bytes()
        plain = gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw
        return io.StringIO(plain.decode("utf-8-sig"))
    except _UNREADABLE as error:
        raise InputError(
            f"{path.name} cannot be read ({type(error).__name__}). Pass a table as UTF-8 text, plain or gzip (.gz)."
        ) from error


def _named(first: list[str], body: pd.DataFrame, barcodes: pd.Index, path: Path) -> pd.DataFrame:
    """Name the columns and make the barcodes the index."""
    if first and first[0] in barcodes:
        body = pd.concat([pd.DataFrame([first]), body], ignore_index=True)
        names = ["label"] if len(first) == 2 else [f"column{i}" for i in range(2, len(first) + 1)]
    else:
        names = first if len(first) == body.shape[1] - 1 else first[1:]
    if len(names) != body.shape[1] - 1:
        raise InputError(
            f"{path.name} has {len(first)} fields in its first row and {body.shape[1]} in the next. Write every"
            " row with the same number of fields."
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path.name} has two columns named {twice!r}. Rename one of them.")
    table = body.set_index(0).rename_axis("barcode")
    table.columns = pd.Index(names, dtype=object)
    return table


def _one_row_a_cell(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    distinct = table[~table.reset_index().duplicated().to_numpy(dtype=np.bool_)]
    twice = distinct.index[distinct.index.duplicated()].unique()
    if len(twice):
        raise InputError(
            f"{path.name} gives {len(twice):,} cells different values in two rows ({_first(twice)}). Keep one row a"
            " cell."
        )
    return distinct


def _first(names: pd.Index) -> str:
    told = ", ".join(map(str, names[:3])) or "none"
    return f"{told} …" if len(names) > 3 else told
