"""Where a peak lies: read from its name, or from the columns of ``var`` when they say it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.errors import InputError

# Only ":" may follow a chromosome name that itself holds ":" (HLA contigs do).
_PATTERN: Final = (
    r"\A(?:(?P<chrom_a>[^\s,]+):(?P<start_a>[0-9]{1,18})-(?P<end_a>[0-9]{1,18})"
    r"|(?P<chrom_b>[^\s,:]+)-(?P<start_b>[0-9]{1,18})-(?P<end_b>[0-9]{1,18})"
    r"|(?P<chrom_c>[^\s,:]+)_(?P<start_c>[0-9]{1,18})_(?P<end_c>[0-9]{1,18}))\Z"
)
_COLUMNS: Final = (
    ("chrom", "chromStart", "chromEnd"),
    ("chrom", "start", "end"),
    ("chr", "start", "end"),
    ("seqnames", "start", "end"),
)


def parse_peak_names(names: Sequence[str]) -> pd.DataFrame:
    """Read chromosome, start and end from peak names.

    Understood are ``chr1:10-20``, ``chr1-10-20`` and ``chr1_10_20``; the chromosome itself may
    hold any of the separators (``chr1_KI270706v1_random_10_20``, ``GL000194.1:10-20``).

    Parameters
    ----------
    names
        Peak names, taken as 0-based half-open intervals.

    Returns
    -------
    DataFrame
        ``chrom`` (str), ``start`` and ``end`` (int64), one row a name, in the order given.

    Raises
    ------
    InputError
        If names do not parse (thousands separators are refused) or an interval is empty.
    """
    texts = pd.Series(list(names), dtype=object).astype(str)
    found = _extract(texts)
    wrong = found["chrom"].isna().to_numpy()
    if wrong.any():
        hint = " Remove the commas." if texts[wrong].str.contains(",", regex=False).any() else ""
        raise InputError(
            f"{wrong.sum():,} of {len(texts):,} peak names do not parse ({_examples(texts, wrong)})."
            f" Write them as chr1:10-20, chr1-10-20 or chr1_10_20, or give var the columns"
            f" chrom, start and end.{hint}"
        )
    table = found.astype({"start": np.int64, "end": np.int64})
    _check_intervals(table, texts)
    return table


def peak_like(names: Sequence[str]) -> NDArray[np.bool_]:
    """Tell which names read as ``chrom:start-end`` or one of its variants.

    Parameters
    ----------
    names
        Any feature names.

    Returns
    -------
    bool array, shape (names,)
    """
    return pd.Series(list(names), dtype=object).astype(str).str.match(_PATTERN).to_numpy(dtype=bool)


def peak_table(var: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Coordinates of every peak of an ATAC matrix.

    Columns of ``var`` win over the names: chrom/chromStart/chromEnd, chrom/start/end,
    chr/start/end, seqnames/start/end, or ``interval``.

    Parameters
    ----------
    var
        Feature table of the ATAC matrix, aligned with `names`.
    names
        Peak names.

    Returns
    -------
    DataFrame
        ``peak`` (the name as given), ``chrom`` (str), ``start`` and ``end`` (int64, 0-based
        half-open), one row a peak, in the order given.

    Raises
    ------
    InputError
        If coordinates are missing, not whole numbers, empty, or given twice.
    """
    texts = pd.Series(list(names), dtype=object).astype(str)
    if len(var) != len(texts):
        raise InputError(f"{len(texts):,} peak names but {len(var):,} rows of var. Pass aligned tables.")
    columns = next((triple for triple in _COLUMNS if set(triple) <= set(var.columns)), None)
    if columns is not None:
        table = _from_columns(var, columns, texts)
    elif "interval" in var.columns:
        table = parse_peak_names(var["interval"].astype(object).tolist())
    else:
        table = parse_peak_names(texts.tolist())
    table.insert(0, "peak", texts)
    _check_duplicates(table)
    return table


def _extract(texts: pd.Series[str]) -> pd.DataFrame:
    groups = texts.str.extract(_PATTERN)
    columns = {}
    for field in ("chrom", "start", "end"):
        a, b, c = (groups[f"{field}_{form}"].to_numpy(dtype=object) for form in "abc")
        columns[field] = np.where(pd.notna(a), a, np.where(pd.notna(b), b, c))
    return pd.DataFrame(columns)


def _from_columns(var: pd.DataFrame, columns: tuple[str, str, str], texts: pd.Series[str]) -> pd.DataFrame:
    chrom = var[columns[0]].astype(object).reset_index(drop=True)
    missing = (chrom.isna() | (chrom.astype(str) == "")).to_numpy()
    if missing.any():
        raise InputError(
            f"column '{columns[0]}' of var is empty for {missing.sum():,} of {len(var):,} peaks"
            f" ({_examples(texts, missing)}). Fill it, or remove it so that the names are used."
        )
    table = pd.DataFrame({"chrom": chrom.astype(str)})
    for field, column in zip(("start", "end"), columns[1:], strict=True):
        table[field] = _whole_numbers(var[column], column, texts)
    _check_intervals(table, texts)
    return table


def _whole_numbers(column: pd.Series[int], name: str, texts: pd.Series[str]) -> NDArray[np.int64]:
    # A detour over float64 would round coordinates above 2**53; real ones are far below.
    values = pd.to_numeric(column.astype(object), errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(values) | (values != np.floor(values)) | (values < 0)
    if wrong.any():
        raise InputError(
            f"column '{name}' of var is no position for {wrong.sum():,} of {len(values):,} peaks"
            f" ({_examples(texts, wrong)}). Give whole numbers, 0-based half-open."
        )
    return values.astype(np.int64)


def _check_intervals(table: pd.DataFrame, texts: pd.Series[str]) -> None:
    wrong = (table["start"] >= table["end"]).to_numpy()
    if wrong.any():
        raise InputError(
            f"{wrong.sum():,} of {len(table):,} peaks have start >= end ({_examples(texts, wrong)})."
            " Peaks are 0-based half-open intervals: correct or remove these."
        )


def _check_duplicates(table: pd.DataFrame) -> None:
    for columns, what in ((["peak"], "name"), (["chrom", "start", "end"], "place")):
        twice = table.duplicated(columns).to_numpy()
        if twice.any():
            raise InputError(
                f"{twice.sum():,} of {len(table):,} peaks repeat the {what} of another"
                f" ({_examples(table['peak'], twice)}). Keep one of each."
            )


def _examples(texts: pd.Series[str], wrong: NDArray[np.bool_]) -> str:
    culprits = texts[wrong]
    return ", ".join(repr(text) for text in culprits[:3]) + (" …" if len(culprits) > 3 else "")
