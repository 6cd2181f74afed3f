"""Where a peak lies: read from its name, or from the columns of ``var`` when they say it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...graphs.chromosomes import harmonise
from ...graphs.errors import InputError
from ...graphs.messages import few
from .columns import CHROM_COLUMNS, positions, refuse_positions, texts, unknown

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
    given = pd.Series(list(names), dtype=object).astype(str)
    found = _extract(given)
    wrong = found["chrom"].isna().to_numpy()
    if wrong.any():
        hint = " Remove the commas." if given[wrong].str.contains(",", regex=False).any() else ""
        raise InputError(
            f"{wrong.sum():,} of {len(given):,} peak names do not parse ({_examples(given, wrong)})."
            f" Write them as chr1:10-20, chr1-10-20 or chr1_10_20, or give var the columns"
            f" chrom, start and end.{hint}"
        )
    table = found.astype({"start": np.int64, "end": np.int64})
    _check_intervals(table, given)
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


def peak_table(var: pd.DataFrame, names: Sequence[str], *, notes: list[str] | None = None) -> pd.DataFrame:
    """Coordinates of every peak of an ATAC matrix.

    Columns of ``var`` win over the names: chrom/chromStart/chromEnd, chrom/start/end,
    chr/start/end, seqnames/start/end, or ``interval``. A chromosome column alone gives the
    chromosome, the names the positions. Where a column leaves the chromosome or the interval
    unknown (missing, ``chrUnknown``), the name says it. Whether positions are 0-based is not guessed.

    Parameters
    ----------
    var
        Feature table of the ATAC matrix, aligned with `names`.
    names
        Peak names.
    notes
        Which columns were taken, and how many peaks they place elsewhere than their names do, is
        appended.

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
    given = pd.Series(list(names), dtype=object).astype(str)
    if len(var) != len(given):
        raise InputError(f"{len(given):,} peak names but {len(var):,} rows of var. Pass aligned tables.")
    columns, table = _read_table(var, given)
    if notes is not None and columns:
        notes.append(_choice(columns, table, given))
    table.insert(0, "peak", given)
    _check_duplicates(table)
    return table


def _read_table(var: pd.DataFrame, given: pd.Series[str]) -> tuple[tuple[str, ...], pd.DataFrame]:
    """Tell which columns place the peaks, and where."""
    columns = next((triple for triple in _COLUMNS if set(triple) <= set(var.columns)), None)
    if columns is not None:
        return columns, _from_columns(var, columns, given)
    if "interval" in var.columns:
        told = ~unknown(var["interval"])
        return ("interval",), parse_peak_names(texts(var["interval"]).where(told, given).tolist())
    table = parse_peak_names(given.tolist())
    alone = next((name for name in CHROM_COLUMNS if name in var.columns), None)
    if alone is None:
        return (), table
    table["chrom"] = _chromosomes(var[alone], given)
    return (alone,), table


def _choice(columns: tuple[str, ...], table: pd.DataFrame, given: pd.Series[str]) -> str:
    named = _extract(given)
    other = (named["chrom"].notna() & (named["chrom"] != table["chrom"])).to_numpy()
    for field in ("start", "end"):
        value = pd.to_numeric(named[field]).to_numpy(np.float64)
        other |= ~np.isnan(value) & (value != table[field].to_numpy())
    but = f", {other.sum():,} of them elsewhere than their names say ({_examples(given, other)})"
    return f"{', '.join(columns)} of {len(given):,} peaks taken from var{but if other.any() else ''}"


def _extract(given: pd.Series[str]) -> pd.DataFrame:
    groups = given.str.extract(_PATTERN)
    columns = {}
    for field in ("chrom", "start", "end"):
        a, b, c = (groups[f"{field}_{form}"].to_numpy(dtype=object) for form in "abc")
        columns[field] = np.where(pd.notna(a), a, np.where(pd.notna(b), b, c))
    return pd.DataFrame(columns)


def _from_columns(var: pd.DataFrame, columns: tuple[str, str, str], given: pd.Series[str]) -> pd.DataFrame:
    table = pd.DataFrame({"chrom": _chromosomes(var[columns[0]], given)})
    for field, column in zip(("start", "end"), columns[1:], strict=True):
        values = positions(var[column], given, of="peaks")
        refuse_positions(values.isna().to_numpy(), var[column], given, "peaks")
        table[field] = values.to_numpy(np.int64)
    _check_intervals(table, given)
    return table


def _chromosomes(column: pd.Series[str], given: pd.Series[str]) -> pd.Series[str]:
    """Read the column; where it says nothing, take the name's chromosome in the column's spelling."""
    chrom, missing = texts(column), unknown(column)
    if not missing.any():
        return chrom
    named = _extract(given[missing])["chrom"]
    if (nameless := named.isna().to_numpy()).any():
        raise InputError(
            f"column '{column.name}' of var is empty for {missing.sum():,} of {len(given):,} peaks"
            f" ({_examples(given[missing], nameless)}), and their names do not say it."
            " Fill it, or name the peaks like chr1:10-20."
        )
    spelled = harmonise(list(named.unique()), list(chrom[~missing].unique()))
    filled = pd.Series([spelled[name] or name for name in named], index=chrom.index[missing])
    return filled.reindex(chrom.index).where(missing, chrom)


def _check_intervals(table: pd.DataFrame, given: pd.Series[str]) -> None:
    wrong = (table["start"] >= table["end"]).to_numpy()
    if wrong.any():
        raise InputError(
            f"{wrong.sum():,} of {len(table):,} peaks have start >= end ({_examples(given, wrong)})."
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


def _examples(given: pd.Series[str], wrong: NDArray[np.bool_]) -> str:
    return few(map(repr, given[wrong]))
