"""The dataset folder: written beside its place and renamed, opened memory-mapped, verified by checksum."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .csr import CsrRows, CsrWriter
from .errors import InputError
from .schema import FOLD_TABLES, MANIFEST_KEYS, MODALITIES, SCHEMA_VERSION, SPLITS, TABLES
from .whole import new_folder, write_json

MANIFEST, CONFIG = "dataset.json", "config.json"
_SCRATCH = ".scratch"
_BLOCK = 1024  # cells checked at a time


class StoreWriter:
    """Write a dataset folder that appears whole or not at all.

    Use as a context manager: arrays and tables go to a temporary sibling of ``path``, which takes
    its place on success and is removed on any error.

    Parameters
    ----------
    path
        Folder to create; it must not exist.

    Raises
    ------
    InputError
        ``path`` exists or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._place = new_folder(self.path)

    def __enter__(self) -> StoreWriter:
        self._folder = self._place.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._place.__exit__(kind, error, trace)

    @property
    def scratch(self) -> Path:
        """Folder for what is needed while writing; it is removed with `finish`, or with all the rest."""
        folder = self._folder / _SCRATCH
        folder.mkdir(exist_ok=True)
        return folder

    def csr(self, name: str, n_columns: int) -> CsrWriter:
        """Begin a sparse matrix ``name``; close it before `finish`."""
        return CsrWriter(self._folder, name, n_columns)

    def array(self, name: str, values: npt.NDArray[Any]) -> None:
        """Write one whole array."""
        np.save(self._folder / f"{name}.npy", values, allow_pickle=False)

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Write one table as parquet."""
        frame.to_parquet(self._folder / f"{name}.parquet", index=False)

    def fold_table(self, fold: int, name: str, frame: pd.DataFrame) -> None:
        """Write what a fold has of its own in place of columns (of pairs: in place of the table)."""
        self.table(_of_fold(fold, name), frame)

    def config(self, content: Any) -> None:
        """Write ``config.json``: how the dataset was made."""
        write_json(self._folder / CONFIG, content)

    def rows(self, name: str, n_columns: int) -> CsrRows:
        """Read back a closed sparse matrix, for what is fitted on it."""
        return _rows(self._folder, name, n_columns)

    def finish(self, manifest: dict[str, Any]) -> str:
        """Write ``dataset.json`` with a checksum of every file behind all others; return the fingerprint."""
        shutil.rmtree(self._folder / _SCRATCH, ignore_errors=True)
        # The arguments of a build name places; the data do not depend on them.
        files = sorted(path for path in self._folder.iterdir() if path.name != CONFIG)
        with ThreadPoolExecutor(2) as pool:  # hashlib releases the interpreter lock
            sums = dict(zip((f.name for f in files), pool.map(checksum, files), strict=True))
        whole = {"schema_version": SCHEMA_VERSION, **manifest, "checksums": sums}
        write_json(self._folder / MANIFEST, whole)
        for path in (*files, self._folder / MANIFEST):
            with path.open("rb") as file:
                os.fsync(file.fileno())
        return _fingerprint(whole)


class Store:
    """An opened dataset folder.

    Parameters
    ----------
    path
        Folder that `StoreWriter` made.
    fold
        Read splits, pairs and fitted attributes as this fold has them; None reads the ordinary split.

    Raises
    ------
    InputError
        No dataset there, or one of another schema, or it has no such fold.
    """

    def __init__(self, path: Path, fold: int | None = None) -> None:
        self.path, self.fold = Path(path), fold
        self.manifest = read_manifest(self.path)
        if fold is not None and fold not in range(self.folds):
            there = f"folds 0 to {self.folds - 1}" if self.folds else "no folds"
            raise InputError(f"{path} has {there}, not fold {fold}. Choose another, or build with --folds K.")

    @property
    def folds(self) -> int:
        """Number of folds beside the ordinary split."""
        return int(self.manifest["folds"])

    @property
    def fingerprint(self) -> str:
        """A name made of the checksums: it changes whenever any file of the dataset does."""
        return _fingerprint(self.manifest)

    def array(self, name: str) -> npt.NDArray[Any]:
        """Open one array memory-mapped; its pages are shared by all processes until written to."""
        return _open_array(self.path / f"{name}.npy")

    def has_array(self, name: str) -> bool:
        """Whether the dataset has this array."""
        return (self.path / f"{name}.npy").exists()

    def rows(self, name: str, n_columns: int) -> CsrRows:
        """Open a sparse matrix memory-mapped."""
        return _rows(self.path, name, n_columns)

    def table(self, name: str) -> pd.DataFrame:
        """Read one table, as the fold has it."""
        if self.fold is None or name not in FOLD_TABLES:
            return self._read(name)
        own = self._read(_of_fold(self.fold, name))
        return own if name == "pairs" else self._read(name).assign(**{str(key): own[key] for key in own})

    def _read(self, name: str) -> pd.DataFrame:
        try:
            return pd.read_parquet(self.path / f"{name}.parquet")
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path}: table {name} cannot be read. Build the dataset anew.") from error


def read_manifest(path: Path) -> dict[str, Any]:
    """Read and check ``dataset.json``: foreign folders and other schema versions are refused by name."""
    file = path / MANIFEST
    if not file.is_file():
        raise InputError(f"{path} is not a scweave dataset (no {MANIFEST}). Make one with `scweave build`.")
    try:
        manifest: dict[str, Any] = json.loads(file.read_text())
        version = int(manifest["schema_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged ({error}). Build the dataset anew.") from error
    missing = [key for key in MANIFEST_KEYS if key not in manifest]
    if version == SCHEMA_VERSION and missing:
        raise InputError(f"{file} is damaged (it lacks {', '.join(missing)}). Build the dataset anew.")
    if version != SCHEMA_VERSION:
        advice = "Update scweave" if version > SCHEMA_VERSION else "Build the dataset anew"
        raise InputError(
            f"{path} has dataset schema {version}; this scweave reads schema {SCHEMA_VERSION}. {advice}."
        )
    return manifest


def checksum(path: Path) -> str:
    """Return the BLAKE2b digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def verify(path: Path) -> dict[str, int]:
    """Check schema, checksums and ranges of a dataset folder.

    Returns
    -------
    The numbers of files, cells, genes, peaks and pairs checked.

    Raises
    ------
    InputError
        Names the first thing that is wrong.
    """
    store = Store(path)
    sums = store.manifest["checksums"]
    there = {file.name for file in store.path.iterdir()} - {MANIFEST, CONFIG}
    if unknown := sorted((there | _expected(store)) - set(sums)):
        raise InputError(f"{path}: {', '.join(unknown[:3])} has no checksum. Build the dataset anew.")
    for name, expected in sums.items():
        file = store.path / name
        if not file.is_file():
            raise InputError(f"{path}: {name} is missing. Build the dataset anew.")
        if checksum(file) != expected:
            raise InputError(
                f"{path}: {name} has changed since it was built (checksum). Build the dataset anew."
            )
    sizes = {name: len(store.table(name)) for name in TABLES}
    for name, columns in (("rna", "genes"), ("atac", "peaks")):
        _check_rows(store, name, sizes["cells"], sizes[columns])
    _check_cis(store, sizes["genes"], sizes["peaks"])
    for fold in (None, *range(store.folds)):
        _check_pairs(Store(path, fold), sizes["cells"])
    return {"files": len(sums), **sizes}


def _expected(store: Store) -> set[str]:
    """Files that a dataset of this manifest cannot lack."""
    arrays = [f"{name}_{part}.npy" for name in MODALITIES for part in ("indptr", "indices", "values")]
    if store.manifest["prior"]["kind"] != "chromosome":
        arrays += [f"cis_{part}.npy" for part in ("indptr", "peak", "distance")]
    folds = [_of_fold(fold, name) for fold in range(store.folds) for name in FOLD_TABLES]
    return {*arrays, *(f"{name}.parquet" for name in (*TABLES, *folds))}


def _fingerprint(manifest: dict[str, Any]) -> str:
    sums = repr(sorted(manifest["checksums"].items()))
    return hashlib.blake2b(sums.encode(), digest_size=8).hexdigest()


def _of_fold(fold: int, name: str) -> str:
    return f"fold{fold}_{name}"


def _check_rows(store: Store, name: str, n_cells: int, n_columns: int) -> None:
    rows = store.rows(name, n_columns)
    good = (
        rows.n_rows == n_cells
        and rows.indptr[0] == 0
        and rows.indptr[-1] == len(rows.indices) == len(rows.values)
        and bool((np.diff(rows.indptr) >= 0).all())
        and all(_block_in_order(rows, begin) for begin in range(0, n_cells, _BLOCK))
    )
    if not good:
        raise InputError(f"{store.path}: the {name} matrix is inconsistent. Build the dataset anew.")


def _block_in_order(rows: CsrRows, begin: int) -> bool:
    """Whether a block of rows has its columns ascending and in range."""
    indptr = rows.indptr[begin : begin + _BLOCK + 1]
    columns = rows.indices[indptr[0] : indptr[-1]].astype(np.int64)
    owner = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    keys = owner * rows.n_columns + columns
    return bool((columns < rows.n_columns).all() and (np.diff(keys) > 0).all())


def _check_cis(store: Store, n_genes: int, n_peaks: int) -> None:
    chromosomes = set(store.manifest["chromosomes"])
    for name in ("genes", "peaks"):
        if not set(store.table(name)["chrom"].dropna()) <= chromosomes:
            raise InputError(f"{store.path}: {name} lie on unknown chromosomes. Build the dataset anew.")
    if store.manifest["prior"]["kind"] == "chromosome":
        return
    indptr, peak, distance = (store.array(f"cis_{part}") for part in ("indptr", "peak", "distance"))
    spans = len(indptr) == n_genes + 1 and indptr[0] == 0 and indptr[-1] == len(peak) == len(distance)
    if (
        not spans
        or (np.diff(indptr) < 0).any()
        or (len(peak) and not 0 <= peak.min() <= peak.max() < n_peaks)
    ):
        raise InputError(f"{store.path}: the prior edges are inconsistent. Build the dataset anew.")


def _check_pairs(store: Store, n_cells: int) -> None:
    pairs, split = store.table("pairs"), store.table("cells")["split"].to_numpy()
    rna, atac = pairs["rna"].to_numpy(), pairs["atac"].to_numpy()
    inside = bool(((rna >= 0) & (rna < n_cells) & (atac >= 0) & (atac < n_cells)).all())
    if not inside or not set(pairs["split"]) <= set(SPLITS):
        raise InputError(f"{store.path}: pairs point outside the cells. Build the dataset anew.")
    if not ((split[rna] == pairs["split"]) & (split[atac] == pairs["split"])).all():
        raise InputError(f"{store.path}: a pair joins cells of different splits. Build the dataset anew.")


def _open_array(path: Path) -> npt.NDArray[Any]:
    # Copy-on-write: torch wants writable memory, and nothing may ever change the file.
    try:
        return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is missing or damaged. Build the dataset anew.") from error


def _rows(folder: Path, name: str, n_columns: int) -> CsrRows:
    indptr, indices, values = (
        _open_array(folder / f"{name}_{part}.npy") for part in ("indptr", "indices", "values")
    )
    return CsrRows(indptr, indices, values, n_columns)
