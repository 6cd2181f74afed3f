"""Small scMoAnno models and counts to put into datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from scweave.graphs.csr import CsrRows
from scweave.graphs.dataset import MultiomeGraphs
from scweave.models.annotation.model import labelled
from scweave.models.annotator import Annotator
from scweave.models.registry import kind_of

MODES = ["default", "published"]
# The last token is padded.
TINY = {
    "default": {"width": 8, "gap": 3, "dim": 8, "heads": 2, "hidden": 6},
    "published": {
        "width": 16,
        "gap": 4,
        "heads": 8,
        "encoder_heads": 2,
        "second_heads": 4,
        "hidden": 6,
        "variable_peaks": 200,
    },
}


def annotator(mode: str, settings=None, **options) -> Annotator:
    """An untrained annotator with small settings."""
    usual = {"epochs": 1, "lr": 3e-3, "batch_size": 32, "seed": 2}
    return Annotator("scmoanno", mode=mode, settings={**TINY[mode], **(settings or {})}, **usual | options)


def training_cells(root: Path, fold: int | None = None) -> MultiomeGraphs:
    return labelled(MultiomeGraphs(root, split="train", fold=fold))


def cells_of(graphs: MultiomeGraphs) -> np.ndarray:
    return graphs.pairs_of(range(len(graphs)))[0]


def make_model(graphs: MultiomeGraphs, mode: str, stage: str = "train", *, std: float = 0.3, **settings):
    """A float64 model of random weights that reads; settings are small, and without dropout."""
    kind = kind_of("scmoanno", mode, stage)
    torch.set_default_dtype(torch.float64)  # what is fitted is kept in double precision too
    try:
        model = kind.model.from_graphs(graphs, kind.config(**{**TINY[mode], "dropout": 0.0, **settings}))
    finally:
        torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return model.double().eval()


def dense_of(rows: CsrRows, cells) -> np.ndarray:
    """Counts (cells, features) in float64."""
    return rows.matrix(cells).toarray().astype(np.float64)


def rows_of(dense: np.ndarray) -> CsrRows:
    """Counts as a dataset holds them."""
    cell, ids = dense.nonzero()
    indptr = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=len(dense)))])
    return CsrRows(indptr, ids, dense[cell, ids].astype(np.uint16), dense.shape[1])


def emptied(rows: CsrRows, cells) -> CsrRows:
    """The same counts, and none in some cells."""
    dense = dense_of(rows, np.arange(rows.n_rows))
    dense[cells] = 0
    return rows_of(dense)


def redrawn(graphs: MultiomeGraphs, splits) -> MultiomeGraphs:
    """The same cells with other counts of both modalities in some splits."""
    some = np.flatnonzero(graphs.cells["split"].isin(splits))
    changed = graphs.only(graphs.modalities)
    for name in ("rna_rows", "atac_rows"):
        dense = dense_of(getattr(graphs, name), np.arange(len(graphs.cells)))
        dense[some] = np.random.default_rng(3).poisson(0.7, dense[some].shape)
        setattr(changed, name, rows_of(dense))
    return changed


def read_elsewhere(graphs: MultiomeGraphs) -> tuple[tuple[str, ...], list[int], list[int]]:
    """What another process sees: modalities, and the genes and peaks of four cells."""
    batch = graphs.batch(range(4))
    return graphs.modalities, batch["gene"].id.tolist(), batch["peak"].id.tolist()


def cells_with_gaps(dataset):
    """Training cells, some without RNA and others without ATAC."""
    found = training_cells(dataset)
    cells = cells_of(found)
    found.rna_rows, found.atac_rows = (
        emptied(found.rna_rows, cells[2:5]),
        emptied(found.atac_rows, cells[6:8]),
    )
    return found
