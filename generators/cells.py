"""The table of cells: which are kept, their types and donors as names, and the split of each."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.errors import InputError
from .pairs import split_cells
from .read import Experiment

_MISSING = ("", "nan", "NaN", "NA", "None", "<NA>")


def cell_table(
    experiment: Experiment, *, labels: str | None, donor: str | None, seed: int, notes: list[str]
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Drop empty cells, read types and donors, and split.

    Parameters
    ----------
    experiment
        Cells and their ``obs``.
    labels, donor
        Columns of ``obs``; None leaves cells unlabelled, or splits them regardless of donors.
    seed
        Decides the split.
    notes
        What was dropped or turned into names is appended, a line each.

    Returns
    -------
    cells
        ``barcode``, ``cell_type`` and ``donor`` (None where missing), ``split``.
    kept
        int64, shape (cells,): which of the experiment's cells they are.

    Raises
    ------
    InputError
        Every cell is empty, a column is absent or empty, there is one cell type only, or the cells
        cannot be split.
    """
    kept = _filled(experiment, notes)
    obs = experiment.obs.iloc[kept]
    cells = pd.DataFrame({"barcode": experiment.barcodes[kept].astype(str)})
    cells["cell_type"] = _names(obs, labels, "--labels", notes)
    cells["donor"] = _names(obs, donor, "--donor", notes)
    types = cells["cell_type"].dropna().unique()
    if labels is not None and len(types) < 2:
        raise InputError(
            f"column {labels!r} has one cell type only ({types[0]}). Choose another column or leave out --labels."
        )
    donors = None if donor is None else cells["donor"]
    cells["split"], report = split_cells(cells["cell_type"], donor=donors, seed=seed)
    notes.extend(report)
    return cells, kept


def _filled(experiment: Experiment, notes: list[str]) -> NDArray[np.int64]:
    """Rows of the cells that have counts in both modalities."""
    rna = experiment.rna.nonzeros(experiment.rows_rna)
    atac = experiment.atac.nonzeros(experiment.rows_atac)
    empty = (rna == 0) | (atac == 0)
    if empty.all():
        raise InputError(
            f"every cell ({len(empty):,}) is empty in one modality ({(rna == 0).sum():,} in RNA,"
            f" {(atac == 0).sum():,} in ATAC). Pass raw counts of both."
        )
    if empty.any():
        first = ", ".join(experiment.barcodes[empty][:3])
        notes.append(f"{empty.sum():,} cells without counts in one modality dropped ({first} …)")
    return np.flatnonzero(~empty)


def _names(obs: pd.DataFrame, column: str | None, option: str, notes: list[str]) -> NDArray[np.object_]:
    """Return a column as names, None where missing; numbers and booleans become names."""
    if column is None:
        return np.full(len(obs), None, dtype=object)
    if column not in obs:
        there = ", ".join(map(str, obs.columns)) or "none"
        raise InputError(f"no column {column!r} in obs for {option}. The columns are: {there}.")
    codes, values = pd.factorize(obs[column].astype(object))  # a missing value has code -1
    names = np.array([*map(_name, values), None], dtype=object)
    names[np.isin(names.astype(str), _MISSING)] = None
    named: NDArray[np.object_] = names[codes]
    missing = int(pd.isna(named).sum())
    if missing == len(named):
        raise InputError(f"column {column!r} ({option}) is empty for all {missing:,} cells. Choose another.")
    if missing:
        notes.append(f"{missing:,} of {len(named):,} cells have no value in {column!r}")
    kinds = {type(value).__name__ for value in values if not isinstance(value, str)}
    if kinds:
        notes.append(f"column {column!r} holds {', '.join(sorted(kinds))} values: read as names")
    return named


def _name(value: object) -> str:
    """Name a label; whole numbers that a missing neighbour made floats lose their '.0'."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
