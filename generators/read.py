"""One checked RNA/ATAC experiment from an h5mu, or from two h5ad files in any order."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from numpy.typing import NDArray

from ..graphs.errors import InputError
from .counts import DAMAGED, Modality, Name, check_matrix, first_line, listed, refuse_damaged
from .peak_names import peak_like

__all__ = ["Experiment", "Modality", "read"]

_ALIASES: Final[dict[Name, frozenset[str]]] = {
    "rna": frozenset({"rna", "gex", "gene expression", "gene_expression", "genes", "scrna"}),
    "atac": frozenset({"atac", "peaks", "peak", "scatac", "chromatin accessibility"}),
}
_SAME_GENOME: Final = {"grch38": "hg38", "grch37": "hg19", "grcm38": "mm10", "grcm39": "mm39"}
_SAMPLE: Final = 200  # cells looked at before anything is built


@dataclass(frozen=True)
class Experiment:
    """Both modalities of the same cells, in the order of the RNA file.

    Attributes
    ----------
    rna, atac
        The two matrices.
    rows_rna, rows_atac
        int64, shape (cells,): row of each shared cell in its file.
    barcodes
        Shared cells.
    obs
        Columns of both modalities for the shared cells; the RNA file's where both have one.
    report
        What was dropped or chosen, a line each.
    """

    rna: Modality
    atac: Modality
    rows_rna: NDArray[np.int64]
    rows_atac: NDArray[np.int64]
    barcodes: pd.Index
    obs: pd.DataFrame
    report: list[str]


def read(inputs: Sequence[Path], *, layer: str | None = None) -> Experiment:
    """Read a paired experiment and refuse what is not one.

    Barcodes are matched by name. A seeded sample of cells of both matrices is checked to be
    counts; the rest is checked while it streams.

    Parameters
    ----------
    inputs
        One .h5mu with an RNA and an ATAC modality, or two .h5ad files in any order.
    layer
        Layer that holds the counts of both modalities (default: X); ``rna:NAME`` or ``atac:NAME``
        names it for one modality only.

    Returns
    -------
    Experiment

    Raises
    ------
    InputError
        If a file is missing, damaged or foreign, the modalities cannot be told apart, barcodes or
        gene names are repeated, no barcode is shared, genomes differ, or values are not counts.
    """
    paths = [Path(path) for path in inputs]
    kinds = [_kind(path) for path in paths]
    if kinds == ["h5mu"]:
        rna, atac, shared_obs = _read_h5mu(paths[0], layer)
    elif kinds == ["h5ad", "h5ad"]:
        rna, atac = _read_pair(paths, layer)
        shared_obs = None
    else:
        given = (
            ", ".join(f"{path.name} ({kind})" for path, kind in zip(paths, kinds, strict=True)) or "nothing"
        )
        raise InputError(f"input is {given}. Pass one .h5mu, or the .h5ad of RNA and the .h5ad of ATAC.")
    report = _check_gene_names(rna)
    for modality in (rna, atac):
        _check_barcodes(modality)
    _check_genomes(rna, atac)
    for modality in (rna, atac):
        _check_sample(modality)
    return _match(rna, atac, shared_obs, report)


def _kind(path: Path) -> str:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"input {path} {what}. Pass the path of a .h5mu or .h5ad file.")
    try:
        with h5py.File(path, "r") as file:
            if "mod" in file:
                return "h5mu"
            if "obs" in file and "var" in file:
                return "h5ad"
            found = ", ".join(list(file)[:5]) or "nothing"
    except DAMAGED as error:
        raise InputError(
            f"{path.name} cannot be opened as HDF5 ({first_line(error)}). It is truncated or no .h5ad/.h5mu:"
            " copy it again, or convert it with anndata."
        ) from error
    raise InputError(
        f"{path.name} is HDF5 but no AnnData: it has {found}, not X, obs and var. Pass a .h5ad or .h5mu."
    )


def _read_pair(paths: Sequence[Path], layer: str | None) -> tuple[Modality, Modality]:
    with h5py.File(paths[0], "r") as first, h5py.File(paths[1], "r") as second:
        vars_ = [_table(file, "var", path) for file, path in zip((first, second), paths, strict=True)]
    guesses = [_guess(var) for var in vars_]
    for at, path in enumerate(paths):
        if guesses[at] == "both":
            raise InputError(
                f"{path.name} holds genes and peaks in one matrix. Split it by var['feature_types']."
            )
    known = {guess for guess in guesses if guess}
    if len(known) == 2:
        at = guesses.index("rna")
    elif len(known) == 1 and None in guesses:
        at = guesses.index("rna") if "rna" in known else guesses.index(None)
    else:
        told = "; ".join(
            f"{path.name}: {guess or 'unclear'}, features {', '.join(map(str, var.index[:2]))}"
            for path, guess, var in zip(paths, guesses, vars_, strict=True)
        )
        raise InputError(
            f"cannot tell which file is RNA and which is ATAC ({told}). Pass one of each; name peaks"
            " chrom:start-end, or set var['feature_types'] to 'Gene Expression' and 'Peaks'."
        )
    return _read_modality(paths[at], "rna", "", layer), _read_modality(paths[1 - at], "atac", "", layer)


def _guess(var: pd.DataFrame) -> Literal["rna", "atac", "both"] | None:
    """Tell what the features are, by their declared type, else by their names."""
    if "feature_types" in var:
        types = set(var["feature_types"].dropna().astype(str).str.lower())
        found = [name for name, aliases in _ALIASES.items() if types & aliases]
        if found:
            return "both" if len(found) == 2 else found[0]
    if len(var) and peak_like(var.index.tolist()).mean() > 0.5:
        return "atac"
    if "interval" in var or {"chromStart", "chromEnd"} <= set(var.columns):
        return None
    placed = {"start", "end"} <= set(var.columns)
    return None if placed and not {"gene_ids", "gene_name", "strand"} & set(var.columns) else "rna"


def _read_h5mu(path: Path, layer: str | None) -> tuple[Modality, Modality, pd.DataFrame | None]:
    with h5py.File(path, "r") as file:
        available = list(file["mod"])
        obs = _table(file, "obs", path) if "obs" in file else None
    found: dict[str, str] = {}
    for name, aliases in _ALIASES.items():
        matching = [key for key in available if key.lower() in aliases]
        if len(matching) != 1:
            raise InputError(
                f"{path.name} has {len(matching)} modalities that are {name.upper()} (it has:"
                f" {listed(available)}). Name them 'rna' and 'atac'."
            )
        found[name] = matching[0]
    rna = _read_modality(path, "rna", f"mod/{found['rna']}/", layer)
    return rna, _read_modality(path, "atac", f"mod/{found['atac']}/", layer), obs


def _read_modality(path: Path, name: Name, prefix: str, layer: str | None) -> Modality:
    with h5py.File(path, "r") as file:
        root = file[prefix] if prefix else file
        layers = tuple(root.get("layers", {}))
        matrix = prefix + _choose(path, name, layer, layers)
        obs, var = _table(root, "obs", path), _table(root, "var", path)
        check_matrix(file, matrix, path, (len(obs), len(var)))
        genome = _genome(root) or _genome(file)
    return Modality(name, path, obs.index, obs, var, genome, matrix, layers)


def _choose(path: Path, name: Name, layer: str | None, layers: tuple[str, ...]) -> str:
    if layer is None:
        return "X"
    only, _, named = layer.partition(":")
    if layer not in layers and named and only in _ALIASES:
        if only != name:
            return "X"
        layer = named
    if layer not in layers:
        other = "atac" if name == "rna" else "rna"
        raise InputError(
            f"{path.name} has no layer '{layer}' for {name.upper()} (layers here: {listed(layers)})."
            f" Pass one of these, or --layer {other}:{layer} if only the other modality has it."
        )
    return f"layers/{layer}"


def _table(root: Any, key: str, path: Path) -> pd.DataFrame:
    """Read obs or var with names as text and without unused categories."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old encodings are read; others end below
            table = read_elem(root[key])
        table.index = pd.Index(table.index.astype(str), dtype=object)
    except DAMAGED as error:
        refuse_damaged(path, key, error)
    return _without_unused(table)


def _without_unused(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(
        **{
            str(name): column.cat.remove_unused_categories()
            for name, column in table.items()
            if isinstance(column.dtype, pd.CategoricalDtype)
        }
    )


def _genome(root: Any) -> str | None:
    node = root.get("uns/genome")
    if not isinstance(node, h5py.Dataset) or node.shape not in ((), (1,)):
        return None
    value = np.ravel(node[()])[0]
    return value.decode() if isinstance(value, bytes) else str(value)


def _check_sample(modality: Modality) -> None:
    n_cells = len(modality.barcodes)
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(n_cells, size=min(_SAMPLE, n_cells), replace=False))
    for _ in modality.chunks(rows, size=_SAMPLE):
        pass


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


def _check_genomes(rna: Modality, atac: Modality) -> None:
    if rna.genome is None or atac.genome is None:
        return
    builds = {_SAME_GENOME.get(name.lower(), name.lower()) for name in (rna.genome, atac.genome)}
    if len(builds) > 1:
        raise InputError(
            f"uns['genome'] is {rna.genome} in {rna.path.name} (RNA) but {atac.genome} in {atac.path.name}"
            " (ATAC). Pass files of one build, or correct the entry."
        )


def _match(rna: Modality, atac: Modality, shared_obs: pd.DataFrame | None, report: list[str]) -> Experiment:
    found = atac.barcodes.get_indexer(rna.barcodes)
    rows_rna = np.flatnonzero(found >= 0).astype(np.int64)
    rows_atac = found[rows_rna].astype(np.int64)
    if len(rows_rna) == 0:
        raise InputError(
            f"no barcode is in both modalities (RNA: {', '.join(rna.barcodes[:2])} …; ATAC:"
            f" {', '.join(atac.barcodes[:2])} …). Rename the cells so that a cell has one name in both."
        )
    for modality in (rna, atac):
        extra = len(modality.barcodes) - len(rows_rna)
        if extra:
            total = len(modality.barcodes)
            report.append(f"{extra:,} of {total:,} {modality.name.upper()} cells have no partner: dropped")
    barcodes = rna.barcodes[rows_rna]
    obs = _merge(rna.obs.iloc[rows_rna], atac.obs.iloc[rows_atac], "the ATAC file's", report)
    if shared_obs is not None:
        prefixed = shared_obs.columns.str.match(r".+:")  # copies that mudata makes of a modality's columns
        obs = _merge(obs, shared_obs.loc[:, ~prefixed].reindex(barcodes), "the h5mu's", report)
    return Experiment(rna, atac, rows_rna, rows_atac, barcodes, _without_unused(obs), report)


def _merge(ours: pd.DataFrame, theirs: pd.DataFrame, whose: str, report: list[str]) -> pd.DataFrame:
    for name in ours.columns.intersection(theirs.columns):
        a, b = ours[name].to_numpy(dtype=object), theirs[name].to_numpy(dtype=object)
        differs = ~((a == b) | (pd.isna(a) & pd.isna(b)))
        if differs.any():
            report.append(
                f"obs column '{name}' differs from {whose} in {differs.sum():,} of {len(a):,} cells:"
                " the first is kept"
            )
    return pd.concat([ours, theirs[theirs.columns.difference(ours.columns, sort=False)]], axis=1)
