"""The table of cells: which are kept, and their types, donors and batches as names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.errors import InputError
from .files.annotations import read_annotations
from .read import Experiment

_MISSING: Final = frozenset({"", "nan", "NaN", "NA", "None", "<NA>"})


def cell_table(
    experiment: Experiment,
    *,
    labels: str | None,
    donor: str | None,
    batch: str | None = None,
    labels_file: Path | None = None,
    unlabelled: Sequence[str] = (),
    cell_types: Sequence[str] = (),
    notes: list[str],
    progress: bool = False,
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Choose the cells and read their types, donors and batches.

    Parameters
    ----------
    experiment
        Cells and their ``obs``.
    labels, donor, batch
        Columns of the labels file or of ``obs``, the file's first; None where there is none. A labels
        file with a single column of values gives the labels if ``labels`` is None.
    labels_file
        Table of cells, see `read_annotations`.
    unlabelled
        Names that mean "no label", beside an empty field, nan, NA and None.
    cell_types
        Keep cells of these types only; all cells when empty.
    notes
        What was dropped, is missing or was turned into names is appended, a line each.
    progress
        Show a bar while empty cells are looked for.

    Returns
    -------
    cells
        ``barcode``, ``cell_type``, ``donor`` and ``batch`` (text, None where missing).
    kept
        int64, shape (cells,): which of the experiment's cells they are.

    Raises
    ------
    InputError
        Every cell is empty, a column is absent or empty, a type to keep is unknown, or the labels
        file cannot be used.
    """
    table, labels = _annotated(
        experiment, labels_file, {"labels": labels, "donor": donor, "batch": batch}, notes
    )
    for option, given in (("--cell-types", cell_types), ("--unlabelled", unlabelled)):
        if given and labels is None:
            raise InputError(f"{option} {','.join(given)} needs labels. Pass --labels or --labels-file.")
    kept = _filled(experiment, notes, progress)
    cell_type = _names(table.iloc[kept], labels, "--labels", notes, unlabelled)
    chosen = _chosen(cell_type, cell_types, notes)
    kept = kept[chosen]
    cells = pd.DataFrame({"barcode": experiment.barcodes[kept].astype(str)})
    cells["cell_type"] = cell_type[chosen]
    cells["donor"] = _names(table.iloc[kept], donor, "--donor", notes)
    cells["batch"] = _names(table.iloc[kept], batch, "--batch", notes)
    return cells, kept


def _annotated(
    experiment: Experiment, path: Path | None, columns: dict[str, str | None], notes: list[str]
) -> tuple[pd.DataFrame, str | None]:
    """Join obs with the labels file; tell which column holds the labels."""
    obs = experiment.obs
    if path is None:
        _check_columns(columns, obs, None, "")
        return obs, columns["labels"]
    name = Path(path).name
    own = read_annotations(path, experiment.barcodes, notes=notes)
    if columns["labels"] is None and len(own.columns) == 1 and own.columns[0] not in columns.values():
        columns = columns | {"labels": str(own.columns[0])}
    _check_columns(columns, obs, own, name)
    used = own.columns[own.columns.isin([column for column in columns.values() if column is not None])]
    _tell_use(used, own, columns["labels"], name, notes)
    both = used[used.isin(obs.columns)]
    if len(both):
        notes.append(f"in obs and in {name}: {_listed(both)}; the file's values are used")
    return pd.concat([own, obs[obs.columns.difference(own.columns, sort=False)]], axis=1), columns["labels"]


def _tell_use(used: pd.Index, own: pd.DataFrame, labels: str | None, file: str, notes: list[str]) -> None:
    if not len(used):
        raise InputError(
            f"none of the columns of {file} is used ({_listed(own.columns)}). Pass --labels with the name of one."
        )
    if labels is None:
        notes.append(f"{file} gives no labels: pass --labels with one of its columns for that")


def _check_columns(
    columns: dict[str, str | None], obs: pd.DataFrame, own: pd.DataFrame | None, file: str
) -> None:
    for option, column in columns.items():
        if column is None or column in obs or (own is not None and column in own):
            continue
        if own is None:
            raise InputError(
                f"no column {column!r} in obs for --{option}. The columns are: {_listed(obs.columns)}."
            )
        raise InputError(
            f"no column {column!r} in {file} or obs for --{option}. The columns are: {_listed(own.columns)}"
            f" ({file}); {_listed(obs.columns)} (obs)."
        )


def _filled(experiment: Experiment, notes: list[str], progress: bool) -> NDArray[np.int64]:
    """Rows of the cells that have counts in every modality there is."""
    empty = {
        name.upper(): modality.empty(experiment.rows[name], progress=progress)
        for name, modality in experiment.modalities.items()
    }
    drop = np.any(list(empty.values()), axis=0)
    what = "in one modality" if len(empty) > 1 else f"in {next(iter(empty))}"
    if drop.all():
        told = ", ".join(f"{cells.sum():,} in {name}" for name, cells in empty.items())
        raise InputError(f"every cell ({len(drop):,}) is empty {what} ({told}). Pass raw counts.")
    if drop.any():
        first = _listed(experiment.barcodes[drop], 3)
        notes.append(f"{drop.sum():,} cells without counts {what} dropped ({first})")
    return np.flatnonzero(~drop).astype(np.int64)


def _chosen(cell_type: NDArray[np.object_], wanted: Sequence[str], notes: list[str]) -> NDArray[np.bool_]:
    """Tell which cells are of the wanted types."""
    if not wanted:
        return np.ones(len(cell_type), dtype=np.bool_)
    there = pd.Series(cell_type, dtype=object).value_counts().sort_index()
    unknown = [name for name in wanted if name not in there.index]
    if unknown:
        types = ", ".join(f"{name} ({count:,})" for name, count in there.items())
        raise InputError(
            f"--cell-types {', '.join(unknown)}: no cell has such a label. The types are: {types}."
        )
    chosen = pd.Series(cell_type, dtype=object).isin(list(wanted)).to_numpy()
    notes.append(f"{(~chosen).sum():,} of {len(chosen):,} cells are outside --cell-types: dropped")
    return chosen


def _names(
    table: pd.DataFrame, column: str | None, option: str, notes: list[str], unlabelled: Sequence[str] = ()
) -> NDArray[np.object_]:
    """Return a column as names, None where missing; numbers and booleans become names."""
    if column is None:
        return np.full(len(table), None, dtype=object)
    codes, values = pd.factorize(table[column].astype(object))  # a missing value has code -1
    names = np.array([*map(_name, values), None], dtype=object)
    missing = [name is None or name in unlabelled or name.strip() in _MISSING for name in names]
    named: NDArray[np.object_] = names[codes]
    named[np.array(missing)[codes]] = None
    _tell_missing(named, names[codes], column, option, notes, unlabelled)
    kinds = {type(value).__name__ for value in values if not isinstance(value, str)}
    if kinds:
        notes.append(f"column {column!r} holds {', '.join(sorted(kinds))} values: read as names")
    return named


def _tell_missing(
    named: NDArray[np.object_],
    found: NDArray[np.object_],
    column: str,
    option: str,
    notes: list[str],
    unlabelled: Sequence[str],
) -> None:
    missing = int(pd.isna(named).sum())
    if missing == len(named):
        raise InputError(f"column {column!r} ({option}) is empty for all {missing:,} cells. Choose another.")
    counts = [(name, int((found == name).sum())) for name in unlabelled]
    told = ", ".join(f"{count:,} {name!r}" for name, count in counts if count)
    if missing:
        notes.append(
            f"{missing:,} of {len(named):,} cells have no value in {column!r}{told and f' ({told})'}"
        )
    absent = ", ".join(name for name, count in counts if not count)
    if absent:
        notes.append(f"no cell has the name {absent} (--unlabelled) in {column!r}")


def _name(value: object) -> str:
    """Name a label; whole numbers that a missing neighbour made floats lose their '.0'."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _listed(names: pd.Index, most: int = 40) -> str:
    told = ", ".join(map(str, names[:most])) or "none"
    return f"{told} …" if len(names) > most else told
