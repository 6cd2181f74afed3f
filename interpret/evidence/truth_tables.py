"""Tables of known links: read from a file, and brought to the same columns."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from ...graphs.errors import InputError
from .intervals import require_intervals

TRUTH_KINDS: Final = ("links", "crispr", "bedpe", "tf")
_READERS: Final = {".parquet": "parquet", ".csv": ",", ".tsv": "\t", ".txt": "\t", ".bedpe": "\t"}
_SPELLINGS: Final = {
    "chrom": ("chrom", "chr", "chromosome"),
    "start": ("start", "chromstart"),
    "end": ("end", "chromend"),
}
# The first that a table has tells which of its pairs are true.
_LABELS: Final = ("label", "regulated", "significant", "pchic_significant", "overlaps_pchic")
_YES: Final = ("true", "yes", "1", "1.0", "t", "y")
_NO: Final = ("false", "no", "0", "0.0", "f", "n")
_CRISPR: Final = ("chrom", "chromStart", "chromEnd", "measuredGeneSymbol", "Regulated")
_ANCHORS: Final = ("chrom1", "start1", "end1", "chrom2", "start2", "end2")
_NAME, _KIND = 6, 12  # columns of a BEDPE file; 10x tells in the last which anchor is a gene
_LISTED: Final = 12  # columns named in a message


def read_truth(path: Path, kind: str | None = None) -> pd.DataFrame:
    """Read known links.

    Parameters
    ----------
    path
        Parquet, csv, tsv, txt or bedpe; any of the text files may be gzipped.
    kind
        ``links`` (where None): ``gene``, and ``peak`` or ``chrom, start, end``, and perhaps a column that
        tells which of the listed pairs are true. ``crispr``: columns of the ENCODE benchmark of
        perturbed enhancers. ``bedpe``: two anchors a line.

    Returns
    -------
    Of kind links as in the file. Of kind crispr ``gene, gene_id, chrom, start, end, label``, valid
    connections only. Of kind bedpe ``chrom1 … end2, name, kind`` (the last two may be null).

    Raises
    ------
    InputError
        Another kind, no such file, one that cannot be read, or one that lacks a column.
    """
    if kind is not None and kind not in TRUTH_KINDS:
        raise InputError(f"no truth kind {kind!r}. The kinds accepted are: {', '.join(TRUTH_KINDS)}.")
    if kind == "tf":
        raise InputError(f"{path}: a truth of kind tf has bound peaks, not links. Read it with read_bed.")
    path = Path(path)
    if kind == "bedpe":
        return _loops(_read(path, header=None), path)
    if kind == "crispr":
        return _crispr(_read(path), path)
    return require_links(_read(path), str(path))


def _read(path: Path, *, header: int | None = 0) -> pd.DataFrame:
    """Read a table by the suffix of its name."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = bool(suffixes) and suffixes[-1] == ".gz"
    suffix = "".join(suffixes[-2:-1] if zipped else suffixes[-1:])
    reader = _READERS.get(suffix)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {found}. Pass the table of known links.")
    if reader is None or (zipped and reader == "parquet"):
        raise InputError(
            f"{path}: a truth table ends in {', '.join(_READERS)} (text also in .gz); found "
            f"{''.join(suffixes[-2:]) or 'no suffix'!r}. Pass such a table, or --truth-kind tf with a BED file."
        )
    try:
        return pd.read_parquet(path) if reader == "parquet" else _read_text(path, reader, header)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file. Pass the table of true links.") from error
    except (OSError, EOFError, ValueError) as error:
        first = next(iter(str(error).splitlines()), "")
        raise InputError(f"{path}: cannot be read as a table ({first}). Pass an intact file.") from error


def _read_text(path: Path, separator: str, header: int | None) -> pd.DataFrame:
    if header is not None:
        return pd.read_csv(path, sep=separator, encoding="utf-8-sig", dtype=str)
    skip = _lines_before_data(path)
    return pd.read_csv(
        path,
        sep=separator,
        encoding="utf-8-sig",
        header=None,
        skiprows=skip,
        dtype=str,
        keep_default_na=False,
    )


def _lines_before_data(path: Path) -> int:
    """Count comments, track lines and a header: lines up to the first with a whole number as start."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as text:
        for number, line in enumerate(text):
            fields = line.split("\t")
            if not line.startswith("#") and len(fields) > 2 and fields[1].strip().lstrip("-").isdigit():
                return number
    return 0


def _crispr(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    _require(frame, _CRISPR, f"{path}", "crispr")
    # Where a connection is not valid, the benchmark says why in place of true.
    valid = (
        frame["ValidConnection"].astype(str).str.lower().isin(_YES) if "ValidConnection" in frame else True
    )
    table = frame[valid] if isinstance(valid, pd.Series) else frame
    known = (
        table["measuredGeneEnsemblId"] if "measuredGeneEnsemblId" in table else table["measuredGeneSymbol"]
    )
    return standard_links(
        pd.DataFrame(
            {
                "gene": table["measuredGeneSymbol"],
                "gene_id": known,
                "chrom": table["chrom"],
                "start": table["chromStart"],
                "end": table["chromEnd"],
                "label": table["Regulated"],
            }
        ).reset_index(drop=True),
        str(path),
    )


def _loops(fields: pd.DataFrame, path: Path) -> pd.DataFrame:
    if fields.shape[1] < len(_ANCHORS):
        raise InputError(
            f"{path}: a BEDPE file has at least 6 tab-separated columns; found {fields.shape[1]}. Correct the file."
        )
    loops = fields[list(range(len(_ANCHORS)))].set_axis(list(_ANCHORS), axis=1)
    loops["name"] = fields.get(_NAME)
    loops["kind"] = fields.get(_KIND)
    known = ~loops[list(_ANCHORS)].isin([".", "", "-1"]).any(axis=1)
    loops = loops[known].reset_index(drop=True)
    positions = [name for name in _ANCHORS if not name.startswith("chrom")]
    numbers = loops[positions].apply(pd.to_numeric, errors="coerce")
    if numbers.isna().any(axis=None):
        row = int(np.flatnonzero(numbers.isna().any(axis=1))[0])
        raise InputError(
            f"{path}: loop {row + 1} has a position that is no number ({' '.join(loops[positions].iloc[row].astype(str))}). "
            "BEDPE has chrom, start and end of both anchors: correct the file."
        )
    loops[positions] = numbers.astype(np.int64)
    for side in "12":
        anchor = loops[[f"chrom{side}", f"start{side}", f"end{side}"]]
        require_intervals(anchor.set_axis(["chrom", "start", "end"], axis=1), str(path))
    return loops


def require_links(frame: pd.DataFrame, name: str = "the truth") -> pd.DataFrame:
    """Refuse a table without ``gene``, or without ``peak`` or the coordinates of one."""
    coordinates = all(_spelled(frame, wanted) is not None for wanted in _SPELLINGS)
    missing = [column for column in ("gene", "peak") if column not in frame]
    if missing == ["peak"] and coordinates:
        missing = []
    if missing:
        raise InputError(
            f"{name} has no column {' and no column '.join(missing)}; it has {_columns(frame)}. "
            "A truth of kind links needs the columns gene, peak (or gene, chrom, start, end)."
        )
    return frame


def standard_links(frame: pd.DataFrame, name: str = "the truth") -> pd.DataFrame:
    """Return ``gene`` (str), ``peak`` (str) or ``chrom, start, end``, and where the table has them ``gene_id`` and ``label``.

    Pairs without a label were not tested: they are left out.
    """
    require_links(frame, name)
    table = pd.DataFrame(
        {column: frame[column].astype(str) for column in ("gene", "gene_id") if column in frame}
    )
    if "peak" in frame:
        table["peak"] = frame["peak"].astype(str)
    else:
        for wanted in _SPELLINGS:
            table[wanted] = frame[_spelled(frame, wanted)].astype(object)  # categories may hold more names
        table = _whole(table, name)
    label = next(
        (frame[column] for known in _LABELS for column in frame if str(column).lower() == known), None
    )
    if label is None:
        return table
    table["label"] = _yes(label, name)
    table = table[table["label"].notna()]
    return table.assign(label=table["label"].astype(bool))


def _whole(table: pd.DataFrame, name: str) -> pd.DataFrame:
    for column in ("start", "end"):
        numbers = pd.to_numeric(table[column], errors="coerce")
        if numbers.isna().any():
            found = table[column][numbers.isna()].iloc[0]
            raise InputError(f"{name}: column {column} holds {found!r}, no number. Correct the file.")
        table[column] = numbers.astype(np.int64)
    require_intervals(table, name)
    return table


def _yes(values: pd.Series[Any], name: str) -> pd.Series[Any]:
    """Read yes and no in their spellings as booleans, null where nothing is told."""
    if values.dtype == bool:
        return values
    text = values.astype("string").str.strip().str.lower()
    result = text.map(dict.fromkeys(_YES, True) | dict.fromkeys(_NO, False)).astype("boolean")
    strange = result.isna() & text.notna() & ~text.isin(["", ".", "nan", "na"])
    if strange.any():
        raise InputError(
            f"{name}: column {values.name} holds {str(values[strange].iloc[0])!r}, neither yes nor no. "
            "Use true and false, yes and no, or 1 and 0."
        )
    return result


def _spelled(frame: pd.DataFrame, wanted: str) -> str | None:
    """Return the table's own name of a column, None where it has none."""
    columns = {str(column).lower(): str(column) for column in frame}
    return next((columns[known] for known in _SPELLINGS[wanted] if known in columns), None)


def _require(frame: pd.DataFrame, columns: tuple[str, ...], name: str, kind: str) -> None:
    missing = [column for column in columns if column not in frame]
    if missing:
        raise InputError(
            f"{name} has no column {' and no column '.join(missing)}; it has {_columns(frame)}. "
            f"A truth of kind {kind} needs the columns {', '.join(columns)}."
        )


def _columns(frame: pd.DataFrame) -> str:
    names = [str(column) for column in frame]
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
