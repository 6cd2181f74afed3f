"""What a file holds before it is known as RNA or ATAC: tables, kinds of features, and the matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...graphs.errors import InputError
from ..genomes.peak_names import peak_like
from .counts import Modality, Name
from .storage import Storage

KINDS: Final[dict[Name, frozenset[str]]] = {
    "rna": frozenset({"rna", "gex", "gene expression", "gene_expression", "gene", "genes", "scrna"}),
    "atac": frozenset({"atac", "peaks", "peak", "scatac", "chromatin accessibility"}),
}


@dataclass(frozen=True)
class Opening:
    """How files are opened: what the caller chose, and the lines told about them.

    Attributes
    ----------
    layer, feature_names, renamed, scratch, progress
        As `read` has them.
    report
        What was dropped, ignored or taken from elsewhere, a line each.
    """

    layer: str | None = None
    feature_names: Mapping[Name, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    scratch: Path | None = None
    progress: bool = False
    report: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Part:
    """Features of one kind in one file.

    Attributes
    ----------
    kind
        ``"rna"`` or ``"atac"``; None where the features do not tell.
    path
        File or folder.
    obs, var
        Tables of all cells and of these features.
    genome, layers
        As `Modality` has them.
    storage
        Opens the matrix that is this modality's, its layer chosen.
    columns
        int64: columns of the matrix that are these features; all when None.
    shared_obs
        Table of cells that belongs to no modality.
    """

    kind: Name | None
    path: Path
    obs: pd.DataFrame
    var: pd.DataFrame
    genome: str | None
    layers: tuple[str, ...]
    storage: Callable[[Name], Storage]
    columns: NDArray[np.int64] | None = None
    shared_obs: pd.DataFrame | None = None

    def modality(self, name: Name, opening: Opening) -> Modality:
        """Return it as the modality that it is, features named by the column that `opening` names."""
        var, column = self.var, opening.feature_names.get(name)
        if column in var:
            names = pd.Index(var[column].astype(str), dtype=object)
            if not names.equals(var.index):
                told = f"names of {name.upper()} features in {self.path.name} taken from var['{column}']"
                opening.report.append(told)
            var = var.set_axis(names)
        storage = self.storage(name)
        return Modality(
            name, self.path, self.obs.index, self.obs, var, self.genome, self.layers, storage, self.columns
        )


def rename(var: pd.DataFrame, path: Path, opening: Opening) -> pd.DataFrame:
    """Rename columns of `var` that are there and whose new name is not."""
    taken = {old: new for old, new in opening.renamed.items() if old in var and new not in var}
    opening.report.extend(
        f"column '{old}' of var in {path.name} read as '{new}'" for old, new in taken.items()
    )
    return var.rename(columns=taken)


def split_by_type(
    var: pd.DataFrame, path: Path, opening: Opening
) -> list[tuple[Name | None, NDArray[np.int64] | None]]:
    """Tell the kinds of features of a matrix by their declared types, else by their names.

    Parameters
    ----------
    var
        Feature table.
    path
        Its file, for messages.
    opening
        Features of other types are appended to its report, with their number.

    Returns
    -------
    list of (kind, columns)
        One kind, or RNA and ATAC; `columns` is None where they are all.

    Raises
    ------
    InputError
        Types are declared and none is of genes or peaks.
    """
    types = _types(var)
    if types is None:
        return [(_guess(var, opening.feature_names.get("atac")), None)]
    lower = types.str.lower()
    found = {name: np.flatnonzero(lower.isin(aliases)) for name, aliases in KINDS.items()}
    other = types[~lower.isin(frozenset.union(*KINDS.values()))].replace("", "no type").value_counts()
    told = ", ".join(f"{kind} ({n:,})" for kind, n in other.items())
    if other.sum() == len(types):
        raise InputError(
            f"no feature of {path.name} is a gene or a peak: its feature_types are {told}. Set them to"
            " 'Gene Expression' and 'Peaks', or pass another file."
        )
    if told:
        opening.report.append(f"{other.sum():,} of {len(types):,} features in {path.name} ignored: {told}")
    return [
        (name, None if len(columns) == len(types) else columns.astype(np.int64))
        for name, columns in found.items()
        if len(columns)
    ]


def _types(var: pd.DataFrame) -> pd.Series[str] | None:
    """Declared types as text, empty where missing; None where there are none at all."""
    if "feature_types" not in var:
        return None
    column = var["feature_types"].astype(object)
    types = column.where(column.notna(), "").astype(str).str.strip()
    return types if (types != "").any() else None


def _guess(var: pd.DataFrame, peak_column: str | None) -> Name | None:
    names = [var.index] + ([pd.Index(var[peak_column])] if peak_column in var else [])
    # Positions with thousands separators are refused later, by name: here they only tell what the features are.
    if len(var) and any(
        peak_like(texts.astype(str).str.replace(",", "").tolist()).mean() > 0.5 for texts in names
    ):
        return "atac"
    if "interval" in var or {"chromStart", "chromEnd"} <= set(var.columns):
        return None
    placed = {"start", "end"} <= set(var.columns)
    return None if placed and not {"gene_ids", "gene_name", "strand"} & set(var.columns) else "rna"
