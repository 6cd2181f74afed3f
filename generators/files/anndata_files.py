"""Opening .h5ad and .h5mu files: their tables in memory, their matrices left on disk."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem

from ...graphs.errors import InputError
from .counts import Name
from .csc import CscSource
from .damaged import DAMAGED, first_line, listed, told
from .hdf5 import need_filters
from .parts import KINDS, Opening, Part, rename, split_by_type
from .storage import RowStorage, Storage, check_row_pointers
from .transposed import Transposed


def read_h5ad(path: Path, opening: Opening) -> list[Part]:
    """Open an .h5ad of genes, of peaks, or of both.

    Parameters
    ----------
    path
        The file.
    opening
        What was chosen; what is ignored or renamed is appended to its report.

    Raises
    ------
    InputError
        The file is damaged, compressed by a filter that is missing, or lacks the layer.
    """
    with h5py.File(path, "r") as file:
        whole = _whole(file, path, "", opening)
    return _split(whole, opening)


def read_h5mu(path: Path, opening: Opening) -> list[Part]:
    """Open the RNA and the ATAC of an .h5mu, or its only modality; see `read_h5ad`."""
    with h5py.File(path, "r") as file:
        there = list(file["mod"])
        obs = read_table(file, "obs", path) if "obs" in file else None
        found = _known(there, path)
        parts = {kind: _whole(file, path, f"mod/{key}/", opening) for kind, key in found.items()}
    if ignored := sorted(set(there) - set(found.values())):
        opening.report.append(f"modalities of {path.name} ignored: {listed(ignored)}")
    if None in parts:  # the only one, and its name does not tell
        return [replace(part, shared_obs=obs) for part in _split(parts[None], opening)]
    return [replace(part, kind=kind, shared_obs=obs) for kind, part in parts.items()]


def _known(there: list[str], path: Path) -> dict[Name | None, str]:
    """Find which modality is RNA and which ATAC; None stands for the only one, of unknown kind."""
    matching = {kind: [key for key in there if key.lower() in names] for kind, names in KINDS.items()}
    if len(there) == 1:
        return {next((kind for kind, keys in matching.items() if keys), None): there[0]}
    for kind, keys in matching.items():
        if len(keys) != 1:
            raise InputError(
                f"{path.name} has {len(keys)} modalities that are {kind.upper()} (it has: {listed(there)})."
                " Name them 'rna' and 'atac', or write one modality alone as .h5ad and pass that."
            )
    return {kind: keys[0] for kind, keys in matching.items()}


def _whole(file: Any, path: Path, prefix: str, opening: Opening) -> Part:
    """One AnnData in the file, all its features, of no kind yet."""
    root = file[prefix] if prefix else file
    with told(path, f"{prefix}layers"):
        layers = tuple(root.get("layers", {}))
    obs, var = read_table(root, "obs", path), rename(read_table(root, "var", path), path, opening)
    open_place = cache(partial(_open_matrix, path, (len(obs), len(var)), opening))

    def storage(name: Name) -> Storage:
        return open_place(prefix + _choose(path, name, opening.layer, layers))

    return Part(None, path, obs, var, _genome(root) or _genome(file), layers, storage)


def _split(part: Part, opening: Opening) -> list[Part]:
    return [
        replace(
            part,
            kind=kind,
            columns=columns,
            var=part.var if columns is None else without_unused(part.var.iloc[columns]),
        )
        for kind, columns in split_by_type(part.var, part.path, opening)
    ]


def _choose(path: Path, name: Name, layer: str | None, layers: tuple[str, ...]) -> str:
    if layer is None:
        return "X"
    only, _, named = layer.partition(":")
    if layer not in layers and named and only in KINDS:
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


def _open_matrix(path: Path, shape: tuple[int, int], opening: Opening, place: str) -> Storage:
    """Describe a matrix; refuse one that is absent, of unknown storage, or of another shape than its tables."""
    with told(path, place), h5py.File(path, "r") as file:
        if place not in file:
            layers = listed(file.get(place.removesuffix("X") + "layers", ()))
            raise InputError(
                f"{path.name} has no matrix {place} (layers here: {layers}). Name the layer with the counts"
                " with --layer, or write the counts into X."
            )
        node = file[place]
        encoding = _encoding(node)
        if encoding not in ("csr_matrix", "csc_matrix", "array"):
            raise InputError(
                f"{place} in {path.name} is stored as {encoding!r}, not as a CSR, CSC or dense matrix. Write"
                " the file again with a current anndata."
            )
        need_filters(node, path)
        found = tuple(int(n) for n in (node.shape if encoding == "array" else node.attrs["shape"]))
        if found != shape:
            raise InputError(
                f"{place} in {path.name} has shape {found}, but obs and var say {shape}. The file is damaged:"
                " write it again."
            )
        stored = int(node.size if encoding == "array" else len(node["data"]))
        if encoding == "csr_matrix":
            check_row_pointers(node, shape[0])
    if encoding == "csc_matrix":
        return Transposed(CscSource(path, place, shape, stored), opening.scratch, progress=opening.progress)
    return RowStorage(path, place, shape, stored)


def _encoding(node: Any) -> str:
    if isinstance(node, h5py.Dataset):
        return "array" if node.dtype.kind in "iufb" else str(node.dtype)
    return str(node.attrs.get("encoding-type", "group without encoding-type"))


def read_table(root: Any, key: str, path: Path) -> pd.DataFrame:
    """Read obs or var with names as text and without unused categories.

    Parameters
    ----------
    root
        Open group that has it.
    key
        ``"obs"`` or ``"var"``.
    path
        The file, for messages.

    Raises
    ------
    InputError
        The table is damaged, or compressed by a filter that is missing.
    """
    if isinstance(root[key], h5py.Dataset):
        raise InputError(
            f"{key} in {path.name} is stored as anndata wrote it before 0.7. Read the file with a current anndata"
            " and write it again."
        )
    with told(path, key), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old encodings are read; others end as damaged
        need_filters(root[key], path)
        try:
            table = read_elem(root[key])
        except Exception as error:  # anndata keeps the error for an unknown encoding to itself
            if isinstance(error, DAMAGED):
                raise
            raise InputError(
                f"{key} in {path.name} cannot be read by this anndata ({first_line(error)}). Update anndata, or"
                " write the file again with the one you have."
            ) from error
        table.index = pd.Index(table.index.astype(str), dtype=object)
        return without_unused(table)


def without_unused(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table without categories that no row has."""
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
