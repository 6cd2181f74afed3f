"""Predictions of any model for any cells, streamed into an AnnData file."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.whole import new_file
from .checkpoint import LoadedModel
from .devices import device_of
from .predictors import (
    CONFIDENCE,
    EXPRESSION,
    LABEL,
    MATCH_CHANCE,
    NOVELTY,
    Predictor,
    describe,
    predictor_of,
)

_NUMBER: Final = np.dtype("<f4")  # of the file
_OF_CELLS: Final = (MATCH_CHANCE, CONFIDENCE, NOVELTY)  # columns of numbers
Place = tuple[int, np.dtype[Any]]  # byte of the file, and type
_OBS, _VAR = ("cell_type", "donor", "batch"), ("gene_id", "chrom", "tss", "strand")


def write_predictions(
    loaded: LoadedModel,
    graphs: MultiomeGraphs,
    out: Path,
    *,
    notes: Sequence[str] = (),
    batch_size: int | None = None,
    novel_below: float | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Predict all cells of a dataset into an AnnData file, a batch at a time.

    Memory does not grow with the number of cells beyond their names. A cell's predictions do not depend on
    the others of its batch.

    Parameters
    ----------
    loaded
        Trained model.
    graphs
        Cells with the model's genes and peaks.
    out
        File to write; it appears whole or not at all.
    notes
        How the cells were read, kept in ``uns``.
    batch_size
        Cells at a time; by default what suits the model.
    novel_below
        See `predictor_of`.
    progress
        Show a bar over the cells.

    Returns
    -------
    ``out``, ``cells``, ``genes``, and ``predicted``: name of each part -> what it is; of an annotator also ``labels``:
    type -> cells told to be of it.

    Raises
    ------
    InputError
        No cells, the model predicts nothing from what was measured, or the file cannot be written or does not
        fit the disk.
    """
    size = loaded.model.at_once if batch_size is None else batch_size
    if size < 1:
        raise InputError(f"--batch-size {size}: must be positive.")
    n_cells = len(graphs.cells)
    if not n_cells:
        raise InputError(f"{graphs.root} has no cells to predict. Pass a dataset or files with cells.")
    predictor = predictor_of(loaded.model, graphs.modalities, novel_below=novel_below)
    names = list(getattr(predictor, "labels", ()))
    words = predictor.outputs()
    _check_room(out, n_cells * len(loaded.genes) * 4 * (EXPRESSION in words))
    labels = np.zeros(len(names), np.int64)
    bar = tqdm(total=n_cells, desc="predicting", unit="cell", disable=not progress)
    with new_file(out) as partial, bar:
        for begin, found in _predictions(predictor, loaded.model, graphs, size):
            if begin == 0:
                places = _reserve(partial, _frame(loaded, graphs, words, names, notes), found)
            _write_rows(partial, places, begin, found)
            if LABEL in found:
                labels += np.bincount(found[LABEL].cpu().numpy(), minlength=len(labels))
            bar.update(len(next(iter(found.values()))))
    summary = {"out": str(out), "cells": n_cells, "genes": len(loaded.genes), "predicted": words}
    if LABEL in words:
        summary["labels"] = {name: int(n) for name, n in zip(names, labels, strict=True)}
    return summary


@torch.no_grad()
def _predictions(
    predictor: Predictor, model: Any, graphs: MultiomeGraphs, size: int
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Predict batches of cells in their order; tell where each begins."""
    device = device_of(model)
    for begin in range(0, len(graphs.cells), size):
        cells = np.arange(begin, min(begin + size, len(graphs.cells)))
        yield begin, predictor.predict(graphs.batch_of_pairs(cells, cells, cis=False).to(device))


@contextmanager
def _told_shortly() -> Iterator[None]:
    """Turn what HDF5 says of a disk that is full, in many lines and as various errors, into one."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = re.search(r"error message = '([^']*)'", str(error))
        raise OSError(errno.EIO, reason[1] if reason else str(error).split("\n")[0]) from error


def _check_room(out: Path, size: int) -> None:
    """Refuse a file that the disk has no room for, before hours of work."""
    free = shutil.disk_usage(out.parent).free
    if size > free:
        raise InputError(
            f"cannot write {out}: it takes {size / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free."
            " Free space or write elsewhere."
        )


def _reserve(path: Path, frame: ad.AnnData, first: dict[str, Tensor]) -> dict[str, Place]:
    """Write all but the large arrays, and make room for these as AnnData stores them.

    Parameters
    ----------
    path
        File to write.
    frame
        What is known of the cells.
    first
        Predictions of the first cells.

    Returns
    -------
    Where the rows of each prediction begin, one after the other, and how they are stored.
    """
    columns = {name: f"obs/{name}" for name in _OF_CELLS}
    fixed = {EXPRESSION: EXPRESSION, LABEL: f"obs/{LABEL}/codes", **columns}
    found = {}
    with _told_shortly():
        frame.write_h5ad(path, convert_strings_to_categoricals=False)
        with h5py.File(path, "r+") as file:
            for name, values in first.items():
                place = fixed.get(name, f"obsm/{name}")
                if place not in file:
                    shape = (frame.n_obs, *values.shape[1:])
                    array = file.create_dataset(place, shape, _NUMBER, fill_time="never")
                    array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
                    array[-1:] = 0  # an array gets its place when it is first written to
                found[name] = (int(file[place].id.get_offset()), file[place].dtype)
    return found


def _write_rows(path: Path, places: dict[str, Place], begin: int, found: dict[str, Tensor]) -> None:
    """Write the predictions of a batch into their rows.

    Past HDF5, whose buffers crash the process when the disk fills up.
    """
    with path.open("r+b") as file:
        for name, values in found.items():
            start, dtype = places[name]
            rows = np.ascontiguousarray(values.cpu().numpy(), dtype)
            file.seek(start + begin * (rows.nbytes // len(rows)))
            file.write(rows.data)


def _frame(
    loaded: LoadedModel,
    graphs: MultiomeGraphs,
    words: dict[str, str],
    labels: Sequence[str],
    notes: Sequence[str],
) -> ad.AnnData:
    """Return all of the file but its large arrays."""
    cells, genes, manifest = graphs.cells, loaded.genes, loaded.manifest
    obs = pd.DataFrame(index=pd.Index(cells["barcode"].astype(str), name="barcode"))
    for name in (name for name in _OBS if name in cells and cells[name].notna().any()):
        obs[name] = pd.Categorical(cells[name])
    if LABEL in words:  # filled with the other predictions, like the numbers
        obs[LABEL] = pd.Categorical.from_codes([0] * len(obs), pd.Index(labels))
    for name in (name for name in _OF_CELLS if name in words):
        obs[name] = np.full(len(obs), np.nan, _NUMBER)
    var = genes[[name for name in _VAR if name in genes]].set_axis(pd.Index(genes["gene"], name="gene"))
    var = var.assign(**{str(name): pd.Categorical(var[name]) for name in var.select_dtypes(object)})
    about = describe(manifest, words)
    if notes:
        about["notes"] = list(notes)
    if LABEL in words:
        return ad.AnnData(obs=obs, uns={"scweave": about})
    return ad.AnnData(obs=obs, var=var, uns={"scweave": about})
