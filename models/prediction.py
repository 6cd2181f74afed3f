"""Predictions of a recommender for any cells: embeddings, matches and expression, streamed into an AnnData file."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Protocol

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import Batch
from tqdm.auto import tqdm

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.schema import ATAC, MODALITIES, RNA
from ..graphs.whole import new_file
from .checkpoint import LoadedModel
from .crossrec import CrossRec
from .crossrec_cis import CisCrossRec
from .devices import device_of
from .layers.profiles import Profiles
from .recommender import AnyRecommender

EXPRESSION: Final = "X"
EMBEDDING, RNA_EMBEDDING, ATAC_EMBEDDING = "X_scweave", "X_scweave_rna", "X_scweave_atac"
MATCH_CHANCE: Final = "scweave_match"
_BATCH: Final = {"default": 128, "published": 32}  # cells; the published keys are wide
_NUMBER: Final = np.dtype("<f4")  # of the file
_OBS, _VAR = ("cell_type", "donor", "batch"), ("gene_id", "chrom", "tss", "strand")
_MATCH_WORDS = "chance that RNA and ATAC profile are of one cell, beside negatives like those of training"


class Predictor(Protocol):
    """A trained recommender in front of cells that have certain modalities."""

    def outputs(self) -> dict[str, str]:
        """Name what can be predicted for such cells, and say in words what it is."""

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Predict all `outputs` for a batch of cells, (cells, …) each."""


@dataclass(frozen=True)
class CisPredictor:
    """The corrected mode: each modality is encoded alone, and expression follows from ATAC."""

    model: CisCrossRec
    modalities: tuple[str, ...]

    def outputs(self) -> dict[str, str]:
        """Name what follows from the modalities there are; what was switched off in training is left out."""
        both = set(MODALITIES) <= set(self.modalities)
        names = " and ".join(name.upper() for name in self.modalities)
        words = {EMBEDDING: f"mean of the unit encodings of {names}, of unit length"}
        if RNA in self.modalities:
            words[RNA_EMBEDDING] = "unit encoding of the RNA profile"
        if ATAC in self.modalities:
            words[ATAC_EMBEDDING] = "unit encoding of the ATAC profile"
            if self.model.config.alpha > 0:
                words[EXPRESSION] = "expected ln(1 + count), predicted from the ATAC profile alone"
        if both and self.model.config.classifier:
            words[MATCH_CHANCE] = _MATCH_WORDS
        return words

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Predict all `outputs`."""
        model, wanted = self.model, self.outputs()
        rna = Profiles.genes(batch) if RNA in self.modalities else None
        atac = Profiles.peaks(batch) if ATAC in self.modalities else None
        found = {EMBEDDING: model.embed(rna, atac)}
        if rna is not None:
            found[RNA_EMBEDDING] = model.encode(model.rna, rna)
        if atac is not None:
            found[ATAC_EMBEDDING] = model.encode(model.atac, atac)
        if atac is not None and EXPRESSION in wanted:
            found[EXPRESSION] = model.translate(atac)[1]
        if MATCH_CHANCE in wanted:
            found[MATCH_CHANCE] = model.match(batch).sigmoid()
        return found


@dataclass(frozen=True)
class PublishedPredictor:
    """The published function: embedding and match need both modalities at once, expression needs ATAC."""

    model: CrossRec
    modalities: tuple[str, ...]

    def outputs(self) -> dict[str, str]:
        """Name what follows from the modalities there are; what was switched off in training is left out."""
        words = {}
        if set(MODALITIES) <= set(self.modalities):
            words[EMBEDDING] = "pooled genes beside pooled peaks of the joint graph"
            words[MATCH_CHANCE] = _MATCH_WORDS
        if ATAC in self.modalities and self.model.config.alpha > 0:
            above = self.model.config.on_above
            words[EXPRESSION] = (
                f"number of open peaks linked to the gene, which is on above {above}; no count"
            )
        return words

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Predict all `outputs`."""
        wanted, found = self.outputs(), {}
        if EMBEDDING in wanted:
            made = self.model(batch)
            found[EMBEDDING] = made.integration
            found[MATCH_CHANCE] = made.logits.softmax(1)[:, 1]
        if EXPRESSION in wanted:
            found[EXPRESSION] = self.model.translate(batch)
        return found


def predictor_of(model: AnyRecommender, modalities: tuple[str, ...]) -> Predictor:
    """Choose the predictor of a model's mode.

    Raises
    ------
    InputError
        The model predicts nothing for cells with these modalities alone.
    """
    predictor: Predictor = (
        CisPredictor(model, modalities)
        if isinstance(model, CisCrossRec)
        else PublishedPredictor(model, modalities)
    )
    if not predictor.outputs():
        raise InputError(
            f"this model ({model.mode} mode) predicts nothing from {' and '.join(modalities).upper()} alone."
            " Pass both modalities of the query, or train with --mode default."
        )
    return predictor


def write_predictions(
    loaded: LoadedModel,
    graphs: MultiomeGraphs,
    out: Path,
    *,
    batch_size: int | None = None,
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
    batch_size
        Cells at a time; by default what suits the mode.
    progress
        Show a bar over the cells.

    Returns
    -------
    ``out``, ``cells``, ``genes``, and ``predicted``: name of each part -> what it is.

    Raises
    ------
    InputError
        No cells, the model predicts nothing from what was measured, or the file cannot be written or does not
        fit the disk.
    """
    size = _BATCH[loaded.model.mode] if batch_size is None else batch_size
    if size < 1:
        raise InputError(f"--batch-size {size}: must be positive.")
    n_cells = len(graphs.cells)
    if not n_cells:
        raise InputError(f"{graphs.root} has no cells to predict. Pass a dataset or files with cells.")
    predictor = predictor_of(loaded.model, graphs.modalities)
    words = predictor.outputs()
    _check_room(out, n_cells * len(loaded.genes) * 4 * (EXPRESSION in words))
    bar = tqdm(total=n_cells, desc="predicting", unit="cell", disable=not progress)
    with new_file(out) as partial, bar:
        for begin, found in _predictions(predictor, loaded.model, graphs, size):
            if begin == 0:
                places = _reserve(partial, _frame(loaded, graphs, words), found)
            _write_rows(partial, places, begin, found)
            bar.update(len(next(iter(found.values()))))
    return {"out": str(out), "cells": n_cells, "genes": len(loaded.genes), "predicted": words}


@torch.no_grad()
def _predictions(
    predictor: Predictor, model: AnyRecommender, graphs: MultiomeGraphs, size: int
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


def _reserve(path: Path, frame: ad.AnnData, first: dict[str, Tensor]) -> dict[str, int]:
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
    Byte of the file at which the rows of each prediction begin, one after the other.
    """
    found = {}
    with _told_shortly():
        frame.write_h5ad(path, convert_strings_to_categoricals=False)
        with h5py.File(path, "r+") as file:
            for name, values in first.items():
                place = {EXPRESSION: EXPRESSION, MATCH_CHANCE: f"obs/{MATCH_CHANCE}"}.get(
                    name, f"obsm/{name}"
                )
                if place not in file:
                    shape = (frame.n_obs, *values.shape[1:])
                    array = file.create_dataset(place, shape, _NUMBER, fill_time="never")
                    array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
                    array[-1:] = 0  # an array gets its place when it is first written to
                found[name] = int(file[place].id.get_offset())
    return found


def _write_rows(path: Path, places: dict[str, int], begin: int, found: dict[str, Tensor]) -> None:
    """Write the predictions of a batch into their rows.

    Past HDF5, whose buffers crash the process when the disk fills up.
    """
    with path.open("r+b") as file:
        for name, values in found.items():
            rows = np.ascontiguousarray(values.cpu().numpy(), _NUMBER)
            file.seek(places[name] + begin * (rows.nbytes // len(rows)))
            file.write(rows.data)


def _frame(loaded: LoadedModel, graphs: MultiomeGraphs, words: dict[str, str]) -> ad.AnnData:
    """Return all of the file but its large arrays."""
    cells, genes, manifest = graphs.cells, loaded.genes, loaded.manifest
    obs = pd.DataFrame(index=pd.Index(cells["barcode"].astype(str), name="barcode"))
    for name in (name for name in _OBS if name in cells and cells[name].notna().any()):
        obs[name] = pd.Categorical(cells[name])
    if MATCH_CHANCE in words:
        obs[MATCH_CHANCE] = np.full(len(obs), np.nan, _NUMBER)  # filled with the other predictions
    var = genes[[name for name in _VAR if name in genes]].set_axis(pd.Index(genes["gene"], name="gene"))
    var = var.assign(**{str(name): pd.Categorical(var[name]) for name in var.select_dtypes(object)})
    about = {
        "version": version("scweave"),
        "model": manifest["kind"],
        "mode": manifest["mode"],
        "schema_version": manifest["schema_version"],
        "trained_on": manifest["dataset"],
        "genome": manifest["genome"] or "unknown",
        EXPRESSION: "nothing: expression is predicted from ATAC, by a model that was trained to",
        **words,
    }
    return ad.AnnData(obs=obs, var=var, uns={"scweave": about})
