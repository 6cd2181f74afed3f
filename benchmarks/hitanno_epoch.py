"""What does training HitAnno cost, and annotating many cells? Run by ``hitanno.py --epoch`` and ``--scale``.

Cells are cells of pbmc_mosim40 over 18,000 drawn peaks, thinned to 5 % on average; nine groups of the 40 cells are
the types. ``epoch``: both modes are trained for an epoch as `scweave train` does, each in a process of its own.
``scale``: a model trained on 2,000 cells annotates more and more of them into a file; memory without pages of
mapped files.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from measure import PeakMemory, Worker, serve
from scipy import sparse

from scweave.generators.build import BuildOptions, build
from scweave.graphs.dataset import MultiomeGraphs
from scweave.models.annotation.model import labelled
from scweave.models.checkpoint import load_model
from scweave.models.prediction import write_predictions
from scweave.models.registry import kind_of
from scweave.models.train_options import TrainOptions
from scweave.models.training import fit

DATA = Path(os.environ.get("SCWEAVE_DATA", Path(__file__).parents[2] / "shared" / "data"))
CELLS, GTF = DATA / "pbmc_mosim40_atac.h5ad", DATA / "genome/hg38_gencode43_genes.gtf.gz"
PEAKS, TYPES, OPEN = 18_000, 9, 0.05
MODES = ("default", "published")


def write_experiment(file: Path, n_cells: int, *, seed: int = 0) -> Path:
    """Resample the real cells."""
    rng = np.random.default_rng(seed)
    real = ad.read_h5ad(CELLS)
    counts = sparse.csr_matrix(real.X)
    peaks = np.sort(np.random.default_rng(0).permutation(counts.shape[1])[:PEAKS])
    counts = counts[:, peaks]
    kept = OPEN * PEAKS * counts.shape[0] / counts.nnz
    parts, drawn = [], rng.integers(0, counts.shape[0], n_cells)
    for begin in range(0, n_cells, 4096):
        some = counts[drawn[begin : begin + 4096]]
        some.data *= rng.random(some.nnz) < kept
        some.eliminate_zeros()
        parts.append(some)
    obs = pd.DataFrame(
        {"cell_type": [f"type {i % TYPES}" for i in drawn]}, index=[f"cell{i}" for i in range(n_cells)]
    )
    data = ad.AnnData(sparse.vstack(parts, format="csr"), obs=obs, var=real.var.iloc[peaks])
    data.uns["genome"] = "hg38"
    data.write_h5ad(file)
    return file


def make_dataset(folder: Path, n_cells: int) -> Path:
    """Build the resampled cells."""
    file = write_experiment(folder / "atac.h5ad", n_cells)
    options = BuildOptions(labels="cell_type")
    build([file], folder / "dataset", gtf=GTF, options=options, progress=False)
    file.unlink()
    return folder / "dataset"


class Training:
    """Trains a mode for an epoch: what a worker process holds."""

    def __init__(self, mode: str, dataset: Path) -> None:
        self.kind, self.dataset = kind_of("hitanno", mode), dataset
        self.graphs = labelled(MultiomeGraphs(dataset, split="train"))

    def epoch(self) -> dict[str, float]:
        """Return seconds of the start (what is fitted before the first step) and of the whole with an epoch."""
        kind = self.kind
        options = TrainOptions(1, kind.batch_size, kind.lr, kind.weight_decay)
        begin = time.perf_counter()
        kind.model.from_graphs(self.graphs, kind.config())
        start_s = time.perf_counter() - begin
        with tempfile.TemporaryDirectory() as run, PeakMemory() as memory:
            begin = time.perf_counter()
            fit(kind, self.dataset, Path(run), kind.config(), options, progress=False)
            whole_s = time.perf_counter() - begin
        return {
            "minutes": whole_s / 60,
            "start_s": start_s,
            "cells_per_s": len(self.graphs) / (whole_s - start_s),
            "peak_mb": memory.growth_mb,
        }


def epoch(*, quick: bool) -> dict[str, Any]:
    """Measure an epoch of both modes."""
    n_cells = 3_000 if quick else 24_000
    with tempfile.TemporaryDirectory() as folder:
        dataset, found = make_dataset(Path(folder), n_cells), {}
        for mode in MODES:
            with Worker(__file__, [mode, str(dataset)]) as worker:
                found[mode] = worker.ask("epoch")
    return {"cells": n_cells, "peaks": PEAKS, "types": TYPES, **found}


def scale(*, quick: bool) -> dict[str, Any]:
    """Annotate more and more cells; memory is growth over the loaded model and dataset."""
    sizes = (1_000, 4_000) if quick else (10_000, 100_000)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (trained := folder / "trained").mkdir()
        dataset, kind = make_dataset(trained, 2_000), kind_of("hitanno")
        (run := folder / "run").mkdir()
        options = TrainOptions(3, kind.batch_size, kind.lr, kind.weight_decay)
        fit(kind, dataset, run, kind.config(), options, progress=False)
        for n_cells in sizes:
            (place := folder / str(n_cells)).mkdir()
            with Worker(__file__, ["scale", str(make_dataset(place, n_cells)), str(run)]) as worker:
                found[f"{n_cells}_cells"] = worker.ask("annotate")
    return found


class Annotating:
    """Annotates a dataset into a file: what a worker process holds."""

    def __init__(self, dataset: Path, run: Path) -> None:
        self.loaded, self.graphs, self.run = load_model(run), MultiomeGraphs(dataset), run

    def annotate(self) -> dict[str, float]:
        """Return speed and memory."""
        out = self.run.parent / f"{len(self.graphs)}.h5ad"
        # Pages of the mapped dataset are shared and dropped at will, so they are no memory of this process.
        with PeakMemory(private=True) as memory:
            begin = time.perf_counter()
            write_predictions(self.loaded, self.graphs, out, progress=False)
            spent = time.perf_counter() - begin
        return {"cells_per_s": len(self.graphs) / spent, "seconds": spent, "peak_mb": memory.growth_mb}


if __name__ == "__main__":
    if sys.argv[1] == "scale":
        serve({"annotate": Annotating(Path(sys.argv[2]), Path(sys.argv[3])).annotate})
    elif sys.argv[1] in MODES:
        serve({"epoch": Training(sys.argv[1], Path(sys.argv[2])).epoch})
    else:
        print(json.dumps(epoch(quick="--quick" in sys.argv)))
