"""One checked experiment, RNA and ATAC of the same cells or one of them, from the files of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.chromosomes import build_name
from ..graphs.errors import InputError
from ..graphs.store import MANIFEST
from .files.anndata_files import read_h5ad, read_h5mu, without_unused
from .files.counts import Modality, Name
from .files.damaged import DAMAGED, first_line, listed
from .files.parts import Opening, Part
from .files.tenx import read_tenx_folder, read_tenx_h5, refuse_old_h5

__all__ = ["Experiment", "Modality", "read"]

_READERS: Final = {
    "h5ad": read_h5ad,
    "h5mu": read_h5mu,
    "10x .h5": read_tenx_h5,
    "10x folder": read_tenx_folder,
}
_PASS: Final = (
    "Pass one .h5mu, one .h5ad for each modality, or a 10x .h5 or folder; a modality may also come alone."
)


@dataclass(frozen=True)
class Experiment:
    """RNA and ATAC of the same cells, or one of them; cells in the order of the RNA file.

    Attributes
    ----------
    modalities
        The matrices there are, ``"rna"`` before ``"atac"``.
    rows
        int64, shape (cells,) for each modality: row of each shared cell in its file.
    barcodes
        Shared cells.
    obs
        Columns of all modalities for the shared cells; the RNA file's where both have one.
    report
        What was dropped or chosen, a line each.
    """

    modalities: dict[Name, Modality]
    rows: dict[Name, NDArray[np.int64]]
    barcodes: pd.Index
    obs: pd.DataFrame
    report: list[str]

    @property
    def genome(self) -> str | None:
        """The first genome that a file names, or None."""
        return next((m.genome for m in self.modalities.values() if m.genome is not None), None)


def read(
    inputs: Sequence[Path],
    *,
    layer: str | None = None,
    feature_names: Mapping[Name, str] | None = None,
    renamed: Mapping[str, str] | None = None,
    only: Sequence[str] = (),
    scratch: Path | None = None,
    progress: bool = False,
) -> Experiment:
    """Read an experiment and refuse what is not one.

    Barcodes are matched by name. A seeded sample of each matrix is checked to be counts; the rest is
    checked while it streams.

    Parameters
    ----------
    inputs
        Files or folders in any order: .h5ad of RNA, of ATAC or of both, .h5mu, 10x .h5, or a 10x
        folder of matrix.mtx, features.tsv and barcodes.tsv. Together at most one RNA and one ATAC.
    layer
        Layer that holds the counts of both modalities (default: X); ``rna:NAME`` or ``atac:NAME``
        names it for one modality only.
    feature_names
        Column of ``var`` that holds the names of features instead of its index, for each modality;
        where there is no such column the index stays.
    renamed
        New names of columns of ``var``, used where the old one is there and the new one is not.
    only
        Modalities to read, ``rna`` or ``atac``, and leave the other alone; all that are there when empty.
    scratch
        Folder for temporary files of matrices that must be transposed; the system's when None.
    progress
        Show a bar while a matrix is transposed.

    Returns
    -------
    Experiment

    Raises
    ------
    InputError
        If an input is missing, damaged or foreign, the modalities cannot be told apart, barcodes or
        gene names are repeated, no barcode is shared, genomes differ, or values are not counts.
    """
    if not inputs:
        raise InputError(f"input is nothing. {_PASS}")
    opening = Opening(layer, feature_names or {}, renamed or {}, scratch, progress)
    paths = [Path(path) for path in inputs]
    kinds = [_kind(path) for path in paths]
    parts = [part for path, kind in zip(paths, kinds, strict=True) for part in _READERS[kind](path, opening)]
    for part in parts:
        _check_size(part)
    assigned = _assign(parts)
    there = [name.upper() for name in assigned]
    if only and not set(only) & set(assigned):
        raise InputError(
            f"the input has {' and '.join(there)}, and {' and '.join(only).upper()} is asked for. {_PASS}"
        )
    modalities = {
        name: part.modality(name, opening) for name, part in assigned.items() if not only or name in only
    }
    opening.report.extend(f"{name} is there and not read" for name in there if name.lower() not in modalities)
    if "rna" in modalities:
        opening.report.extend(_check_gene_names(modalities["rna"]))
    for modality in modalities.values():
        _check_barcodes(modality)
    _check_genomes(list(modalities.values()))
    for modality in modalities.values():
        modality.check_sample(np.random.default_rng(0))
    return _match(modalities, parts, opening.report)


def _kind(path: str | Path) -> str:
    """Tell what an input is by its content."""
    path = Path(path)
    if path.is_dir():
        if (path / MANIFEST).is_file():
            raise InputError(f"{path} is a scweave dataset, built already. Train on it, or pass its sources.")
        return "10x folder"
    if not path.is_file():
        raise InputError(f"input {path} does not exist. {_PASS}")
    if path.name.endswith((".mtx", ".mtx.gz")):
        raise InputError(f"{path.name} is a matrix without names. Pass its folder: {path.parent}")
    try:
        with h5py.File(path, "r") as file:
            return _kind_of_hdf5(file, path)
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(
            f"{path.name} cannot be opened as HDF5 ({first_line(error)}). It is truncated or no .h5ad/.h5mu:"
            " copy it again, or convert it with anndata."
        ) from error


def _kind_of_hdf5(file: h5py.File, path: Path) -> str:
    if "mod" in file:
        return "h5mu"
    if "obs" in file and "var" in file:
        return "h5ad"
    if {"matrix/barcodes", "matrix/features", "matrix/indptr"} <= _inside(file, "matrix"):
        return "10x .h5"
    old = [key for key in file if {f"{key}/genes", f"{key}/barcodes"} <= _inside(file, key)]
    if old:
        refuse_old_h5(path, old)
    found = ", ".join(list(file)[:5]) or "nothing"
    raise InputError(
        f"{path.name} is HDF5 but no AnnData: it has {found}, not X, obs and var, nor a 10x matrix. {_PASS}"
    )


def _inside(file: h5py.File, key: str) -> set[str]:
    return {f"{key}/{name}" for name in file[key]} if isinstance(file.get(key), h5py.Group) else set()


def _check_size(part: Part) -> None:
    for table, what in ((part.obs, "cells"), (part.var, "features")):
        if not len(table.index):
            raise InputError(
                f"{part.path.name} has no {what} ({what}: 0). Pass the file before it was filtered."
            )


def _assign(parts: list[Part]) -> dict[Name, Part]:
    """Tell which part is RNA and which ATAC; an unclear one is what the other is not."""
    kinds = [part.kind for part in parts]
    if len(parts) == 2 and None in kinds and len(set(kinds)) == 2:
        known = next(kind for kind in kinds if kind)
        kinds = [kind or ("atac" if known == "rna" else "rna") for kind in kinds]
    if None in kinds or len(set(kinds)) < len(kinds):
        _refuse_kinds(parts)
    found = {kind: part for kind, part in zip(kinds, parts, strict=True) if kind}
    names: tuple[Name, ...] = ("rna", "atac")
    return {name: found[name] for name in names if name in found}


def _refuse_kinds(parts: list[Part]) -> NoReturn:
    kinds = [part.kind or "unclear" for part in parts]
    told = "; ".join(
        f"{part.path.name}: {kind}, features {', '.join(map(str, part.var.index[:2]))}"
        for part, kind in zip(parts, kinds, strict=True)
    )
    numbers = listed(
        f"{kinds.count(kind)} look like {kind.upper()}" for kind in ("rna", "atac") if kinds.count(kind) > 1
    )
    what = f"too many matrices, {numbers}" if numbers != "none" else "names and types of features do not tell"
    raise InputError(
        f"cannot tell which file is RNA and which is ATAC: {what} ({told}). Pass one of each; name peaks"
        " chrom:start-end, or set var['feature_types'] to 'Gene Expression' and 'Peaks'."
    )


def _check_barcodes(modality: Modality) -> None:
    twice = modality.barcodes.duplicated()
    if twice.any():
        names = ", ".join(modality.barcodes[twice].unique()[:3])
        raise InputError(
            f"{twice.sum():,} of {len(twice):,} {modality.name.upper()} barcodes in {modality.path.name}"
            f" repeat another ({names}). Make them unique, for example with the sample's name as prefix."
        )


def _check_gene_names(rna: Modality) -> list[str]:
    twice = rna.var.index.duplicated()
    if not twice.any():
        return []
    names = ", ".join(rna.var.index[twice].unique()[:3])
    told = f"{twice.sum():,} of {len(twice):,} gene names in {rna.path.name} repeat another ({names})"
    if "gene_ids" in rna.var and rna.var["gene_ids"].is_unique and rna.var["gene_ids"].notna().all():
        return [f"{told}; var['gene_ids'] tells them apart"]
    raise InputError(f"{told}. Make them unique, or give var a column gene_ids with one id a gene.")


def _check_genomes(modalities: list[Modality]) -> None:
    known = [modality for modality in modalities if modality.genome is not None]
    builds = {build_name(str(m.genome)) for m in known}
    if len(builds) > 1:
        rna, atac = known
        raise InputError(
            f"uns['genome'] is {rna.genome} in {rna.path.name} (RNA) but {atac.genome} in {atac.path.name}"
            " (ATAC). Pass files of one build, or correct the entry."
        )


def _match(modalities: dict[Name, Modality], parts: list[Part], report: list[str]) -> Experiment:
    rows = _shared_rows(list(modalities.values()), report)
    tables = [m.obs.iloc[at] for m, at in zip(modalities.values(), rows, strict=True)]
    obs, barcodes = tables[0], tables[0].index
    for table in tables[1:]:
        obs = _merge(obs, table, "the ATAC file's", report)
    shared = {part.path: part.shared_obs for part in parts if part.shared_obs is not None}
    for table in shared.values():
        prefixed = table.columns.astype(str).str.match(
            r".+:"
        )  # copies that mudata makes of a modality's columns
        obs = _merge(obs, table.loc[:, ~prefixed].reindex(barcodes), "the h5mu's", report)
    return Experiment(
        modalities, dict(zip(modalities, rows, strict=True)), barcodes, without_unused(obs), report
    )


def _shared_rows(modalities: list[Modality], report: list[str]) -> list[NDArray[np.int64]]:
    if len(modalities) == 1:
        return [np.arange(len(modalities[0].barcodes), dtype=np.int64)]
    rna, atac = modalities
    found = atac.barcodes.get_indexer(rna.barcodes)
    rows = np.flatnonzero(found >= 0).astype(np.int64)
    if len(rows) == 0:
        raise InputError(
            f"no barcode is in both modalities (RNA: {', '.join(rna.barcodes[:2])} …; ATAC:"
            f" {', '.join(atac.barcodes[:2])} …). Rename the cells so that a cell has one name in both."
        )
    for modality in (rna, atac):
        extra, total = len(modality.barcodes) - len(rows), len(modality.barcodes)
        if extra:
            report.append(f"{extra:,} of {total:,} {modality.name.upper()} cells have no partner: dropped")
    return [rows, found[rows].astype(np.int64)]


def _merge(ours: pd.DataFrame, theirs: pd.DataFrame, whose: str, report: list[str]) -> pd.DataFrame:
    for name in ours.columns.intersection(theirs.columns):
        a, b = ours[name].to_numpy(dtype=object), theirs[name].to_numpy(dtype=object)
        differs = pd.isna(a) != pd.isna(b)
        known = ~(pd.isna(a) | pd.isna(b))  # comparing pandas' NA gives neither true nor false
        differs[known] = a[known] != b[known]
        if differs.any():
            report.append(
                f"obs column '{name}' differs from {whose} in {differs.sum():,} of {len(a):,} cells:"
                " the first is kept"
            )
    return pd.concat([ours, theirs[theirs.columns.difference(ours.columns, sort=False)]], axis=1)
