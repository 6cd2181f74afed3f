"""Tables of a map: link tables with names as categories, and those that a map folder holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...graphs.errors import InputError
from .categories import categories_of
from .nodes import GENE_COLUMNS, PEAK_COLUMNS
from .table import COLUMNS

LINKS, TYPES, GENES, PEAKS = "links.parquet", "types.parquet", "genes.parquet", "peaks.parquet"
OPENNESS, EXPRESSION = "openness.parquet", "expression.parquet"
EXONS, SITES = "exons.parquet", "sites.parquet"
EXON_COLUMNS: Final = ("gene", "chrom", "start", "end")
SITE_COLUMNS: Final = ("peak", "tf", "start", "end", "strand", "score", "pvalue")
PARTS: Final = {EXONS: EXON_COLUMNS, SITES: SITE_COLUMNS}

_NAMES: Final = ("gene", "peak", "chrom", "cell_type", "cell", "tf", "strand")
_WHOLE: Final = ("tss", "distance", "n_cells")  # that may be unknown


def frame_of(table: pa.Table, categories: Mapping[str, Iterable[str]]) -> pd.DataFrame:
    """Turn an Arrow table into a frame whose names are categories.

    Parameters
    ----------
    table
        Its name columns are strings, or dictionaries of them.
    categories
        Column -> all names there are, in their order; other names of a table become the categories they are.

    Returns
    -------
    The same columns; tss, distance and n_cells are Int64.

    Raises
    ------
    InputError
        A name is not among the categories.
    """
    columns = {name: table.column(name) for name in table.column_names}
    del table  # each column is let go as soon as it is turned
    found = {name: _column(name, columns.pop(name), categories.get(name)) for name in list(columns)}
    return pd.DataFrame(found, copy=False)


def in_order(links: pd.DataFrame) -> pd.DataFrame:
    """Sort links by cell type, then descending score, unless they are so already."""
    kind, score = links["cell_type"].cat.codes.to_numpy(), links["score"].to_numpy()
    later, same = kind[1:] > kind[:-1], kind[1:] == kind[:-1]
    if (later | (same & (score[1:] <= score[:-1]))).all():
        return links
    return links.iloc[np.lexsort((-score, kind))].reset_index(drop=True)


def read_links(
    folder: Path,
    categories: Mapping[str, Iterable[str]],
    *,
    genes: Sequence[str] | None = None,
    cell_types: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Read the links of a map folder, only those of some genes and cell types.

    Raises
    ------
    InputError
        The file is damaged, or names genes, peaks or cell types that the other tables do not.
    """
    wanted = {"gene": genes, "cell_type": cell_types}
    chosen = {column: names for column, names in wanted.items() if names is not None}
    return in_order(read_parts(folder / LINKS, COLUMNS, categories, chosen))


def read_nodes(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series[int]]:
    """Read the genes, the peaks, and the number of cells of each type.

    Raises
    ------
    InputError
        The folder holds no map of links between peaks and genes, or an old or damaged one.
    """
    _check_folder(folder)
    genes = _read(folder / GENES, GENE_COLUMNS).to_pandas()
    peaks = _read(folder / PEAKS, PEAK_COLUMNS).to_pandas()
    types = _read(folder / TYPES, ("cell_type", "cells")).to_pandas()
    for file, names in ((GENES, genes["gene"]), (PEAKS, peaks["peak"]), (TYPES, types["cell_type"])):
        if not names.is_unique:
            raise InputError(
                f"{folder / file} names {names[names.duplicated()].iloc[0]!r} twice. Map again with `scweave map`."
            )
    whole = {name: genes[name].astype("Int64") for name in ("start", "end", "tss")}
    cells = types.set_index("cell_type")["cells"].astype(np.int64)
    return genes.assign(**whole), peaks, cells


def read_values(path: Path, names: pd.Series[str], cell_types: Sequence[str]) -> pd.DataFrame | None:
    """Read a table of a row a gene or peak and a column a cell type; None where there is none.

    Raises
    ------
    InputError
        The file is damaged, or of other genes, peaks or cell types.
    """
    if not path.exists():
        return None
    values: pd.DataFrame = _read(path, cell_types).to_pandas()
    if len(values) != len(names):
        raise InputError(
            f"{path} has {len(values):,} rows, and there are {len(names):,} {names.name}s. Map again with `scweave map`."
        )
    return values.set_axis(pd.Index(names), axis=0)


def read_parts(
    path: Path,
    columns: Sequence[str],
    categories: Mapping[str, Iterable[str]],
    chosen: Mapping[str, Sequence[str]] | None = None,
) -> pd.DataFrame:
    """Read links, exons of genes, or sites of TFs in peaks, one row group after the other.

    Parameters
    ----------
    path
        Parquet file.
    columns
        Columns to read.
    categories
        As in `frame_of`.
    chosen
        Column -> names; rows with other names are left out, and row groups without these names not read.

    Raises
    ------
    InputError
        The file is damaged, or names genes, peaks or cell types that the other tables do not.
    """
    known = {name: pd.Index(list(names), dtype=object) for name, names in categories.items()}
    try:
        return _joined([frame_of(table, known) for table in _row_groups(path, columns, chosen or {})])
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error
    finally:
        pa.default_memory_pool().release_unused()


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}. Pass one that `scweave map` wrote.")
    if not (folder / LINKS).is_file():
        annotator = any((folder / name).is_file() for name in ("markers.parquet", "pairs.parquet"))
        found = "is the map of an annotator, which tells peaks, not links" if annotator else f"has no {LINKS}"
        raise InputError(f"{folder} {found}. Pass the map of a crossrec run, made with `scweave map`.")
    _refuse_foreign(folder / LINKS, COLUMNS)
    for name in (GENES, PEAKS, TYPES):
        if not (folder / name).is_file():
            raise InputError(f"{folder} has no {name}: it is an older map. Map again with `scweave map`.")


def _refuse_foreign(path: Path, columns: Iterable[str]) -> None:
    """Refuse a file that lacks columns."""
    try:
        there = pq.read_schema(path).names
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path) from error
    if missing := [name for name in columns if name not in there]:
        raise InputError(
            f"{path} is no table of a map: it has no column {missing[0]}. Pass one of `scweave map`."
        )


def _read(path: Path, columns: Iterable[str]) -> pa.Table:
    """Read some columns of a file."""
    _refuse_foreign(path, columns)
    try:
        return pq.read_table(path, columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path) from error


def _row_groups(
    path: Path, columns: Sequence[str], chosen: Mapping[str, Sequence[str]]
) -> Iterator[pa.Table]:
    """Yield the chosen rows of each row group, names as dictionaries; one empty table where there are none."""
    _refuse_foreign(path, columns)
    names = [name for name in columns if name in _NAMES]
    try:
        with pq.ParquetFile(path, read_dictionary=names) as file:
            groups = [i for i in range(file.num_row_groups) if _may_hold(file, i, chosen)]
            for group in groups:
                table = file.read_row_group(group, columns=list(columns))
                for column, wanted in chosen.items():
                    table = table.filter(pc.is_in(table[column], pa.array(wanted, pa.string())))
                yield table
            if not groups:
                yield file.schema_arrow.empty_table().select(list(columns))
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path) from error


def _may_hold(file: pq.ParquetFile, group: int, chosen: Mapping[str, Sequence[str]]) -> bool:
    """Whether a row group has any of the chosen names, as far as its statistics say."""
    for column, wanted in chosen.items():
        place = file.schema_arrow.names.index(column)
        told = file.metadata.row_group(group).column(place).statistics
        if told is not None and told.has_min_max and not any(told.min <= name <= told.max for name in wanted):
            return False
    return True


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Put frames behind each other; a column of the pieces goes when the whole one is there."""
    if len(frames) == 1:
        return frames[0]
    joined: dict[str, pd.Series[Any]] = {}
    for name in list(frames[0].columns):
        column = pd.concat([frame.pop(name) for frame in frames], ignore_index=True)
        joined[name] = column.astype("category") if name in _NAMES else column  # categories may have differed
        pa.default_memory_pool().release_unused()  # what the pieces were read into
    return pd.DataFrame(joined, copy=False)


def _damaged(path: Path) -> InputError:
    return InputError(f"{path} cannot be read as parquet. Map again with `scweave map`.")


def _column(name: str, column: pa.ChunkedArray, categories: Iterable[str] | None) -> Any:
    if name in _NAMES:
        return _category(name, column, categories)
    if name in _WHOLE:
        return pd.arrays.IntegerArray(
            column.fill_null(0).to_numpy().astype(np.int64, copy=False), column.is_null().to_numpy()
        )
    return column.to_numpy()


def _category(name: str, column: pa.ChunkedArray, categories: Iterable[str] | None) -> pd.Categorical:
    """Turn strings into codes of categories, nulls into -1."""
    told = column.combine_chunks()
    if not pa.types.is_dictionary(told.type):
        told = told.cast(pa.string()).dictionary_encode()
    if categories is not None and told.null_count:
        raise InputError(f"column {name} has gaps. Map again with `scweave map`.")
    values = pd.Index(told.dictionary.to_pylist(), dtype=object)
    wanted: pd.Index[Any] = values if categories is None else pd.Index(list(categories), dtype=object)
    place = np.append(wanted.get_indexer(values), -1)  # the last is for nulls
    codes: npt.NDArray[np.int64] = told.indices.fill_null(len(values)).to_numpy()
    used = np.bincount(codes, minlength=len(place))[:-1] > 0
    if (unknown := used & (place[:-1] < 0)).any():
        raise InputError(f"{name} {values[unknown][0]!r} is in no other table. Map again with `scweave map`.")
    return categories_of(place[codes], wanted)
