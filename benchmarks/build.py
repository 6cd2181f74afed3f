"""What does a graph dataset cost? Size on disk, memory of the build, and speed of reading batches.

Cells are rows of pbmc_mosim40 (10x PBMC Multiome, 36,601 genes x 108,377 peaks) drawn with
replacement, every count thinned binomially (each molecule kept with probability 0.95), so that rows
differ and densities stay real. They are written in pieces as an h5ad pair, and built with the
default window prior. The same is done at a quarter and a half of the cells: memory must not grow,
and time should grow linearly. ``--scale`` builds 10,000, 30,000 and 100,000 cells and reads nothing back.

docs/building.md says how to go on to a million.

bytes_per_nonzero
    bytes of the stored matrices (indptr, indices, values) for each stored non-zero
cells_per_s
    read back in shuffled batches of 64, each cell once: ids, values and node batches, without cis edges
peak_mb_over_static
    growth of resident memory during the build over what imports take, less the static tables; pages
    of mapped files, which the system drops at will, are only in peak_mb_with_mapped_files

Beside it what one would use instead: anndata backed by the h5ad pair, a HeteroData a cell, batched by
torch_geometric's DataLoader. Each build runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import torch
from anndata.io import write_elem
from measure import PeakMemory, Waiting, Worker, seconds, serve
from scipy import sparse
from torch_geometric.data import Dataset, HeteroData
from torch_geometric.loader import DataLoader

from scweave.generators.build import BuildOptions, build
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.loader import GraphLoader
from scweave.graphs.schema import ACCESSIBILITY, EXPRESSION, GENE, ID, PEAK

MODALITIES = ("rna", "atac")
BATCH = 64
_PIECE = 512  # cells written at a time
_KEPT = 0.95
_SOME_CELLS = 512  # where reading is slow: its speed does not depend on how many


def data_folder() -> Path:
    """Where the real data is; ends with a message if it is not."""
    folder = Path(os.environ.get("SCWEAVE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    for name in ("pbmc_mosim40_rna.h5ad", "pbmc_mosim40_atac.h5ad", "genome/hg38_gencode43_genes.gtf.gz"):
        if not (folder / name).is_file():
            sys.exit(f"{folder / name} not found. Set SCWEAVE_DATA to the folder that holds it.")
    return folder


def write_pair(folder: Path, n_cells: int) -> None:
    """Write ``rna.h5ad`` and ``atac.h5ad`` of resampled, thinned cells."""
    rng = np.random.default_rng(0)
    real = {name: ad.read_h5ad(data_folder() / f"pbmc_mosim40_{name}.h5ad") for name in MODALITIES}
    drawn = rng.integers(0, real["rna"].n_obs, n_cells)
    for name, source in real.items():
        obs = source.obs.iloc[drawn].set_axis([f"cell{i}" for i in range(n_cells)])
        with h5py.File(folder / f"{name}.h5ad", "w") as file:
            shell = ad.AnnData(obs=obs, var=source.var, uns={"genome": source.uns["genome"]})
            write_elem(file, "/", shell)
            if "X" in file:
                del file["X"]  # some versions of anndata write an empty one
            counts = sparse.csr_matrix(source.X)
            _write_csr(file, counts.shape[1], (_thinned(counts[rows], rng) for rows in _pieces(drawn)))


def _pieces(drawn: np.ndarray) -> Iterator[np.ndarray]:
    yield from np.split(drawn, range(_PIECE, len(drawn), _PIECE))


def _thinned(counts: sparse.csr_matrix, rng: np.random.Generator) -> sparse.csr_matrix:
    counts.data = rng.binomial(counts.data.astype(np.int64), _KEPT).astype(np.float32)
    counts.eliminate_zeros()
    return counts


def _write_csr(file: h5py.File, n_columns: int, pieces: Iterator[sparse.csr_matrix]) -> None:
    group = file.create_group("X")
    data, indices = (
        group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(1 << 16,))
        for name, dtype in (("data", np.float32), ("indices", np.int32))
    )
    indptr = [np.zeros(1, np.int64)]
    for piece in pieces:
        stored = data.shape[0]
        for array, values in ((data, piece.data), (indices, piece.indices)):
            array.resize((stored + piece.nnz,))
            array[stored:] = values
        indptr.append(piece.indptr[1:].astype(np.int64) + stored)
    group["indptr"] = np.concatenate(indptr)
    n_rows = len(group["indptr"]) - 1
    group.attrs.update(
        {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": np.array([n_rows, n_columns])}
    )


class CellGraphs(Dataset):
    """The reference: a HeteroData a cell, read from a backed h5ad pair."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._sides = [
            (node, field, ad.read_h5ad(folder / f"{name}.h5ad", backed="r"))
            for name, node, field in (("rna", GENE, EXPRESSION), ("atac", PEAK, ACCESSIBILITY))
        ]

    def len(self) -> int:
        """Return the number of cells."""
        return int(self._sides[0][2].n_obs)

    def get(self, idx: int) -> HeteroData:
        """Read one cell."""
        data = HeteroData()
        for node, field, side in self._sides:
            row = sparse.csr_matrix(side.X[idx])
            data[node][ID] = torch.from_numpy(row.indices.astype(np.int64))
            data[node][field] = torch.from_numpy(row.data.astype(np.float32))
            data[node].num_nodes = row.nnz
        return data


def built(folder: Path) -> dict[str, float]:
    """Build the dataset: time, and growth of memory without and with mapped files."""
    gtf = data_folder() / "genome" / "hg38_gencode43_genes.gtf.gz"
    inputs, options = [folder / f"{name}.h5ad" for name in MODALITIES], BuildOptions(labels="cell_type")
    with PeakMemory() as everything, PeakMemory(private=True) as private:
        spent = seconds(lambda: build(inputs, folder / "dataset", gtf=gtf, options=options, progress=False))
    return {
        "build_s": spent,
        "peak_mb": private.growth_mb,
        "peak_mb_with_mapped_files": everything.growth_mb,
    }


def sizes(folder: Path) -> dict[str, float]:
    """Bytes of the dataset's matrices, of its static tables in memory, and of the h5ad pair."""
    graphs = MultiomeGraphs(folder / "dataset")
    matrices = [graphs.rna_rows, graphs.atac_rows]
    arrays = [array for rows in matrices for array in (rows.indptr, rows.indices, rows.values)]
    nonzeros = sum(len(rows.values) for rows in matrices)
    tables = (graphs.genes, graphs.peaks)
    static = sum(int(table.frame.memory_usage(deep=True).sum()) for table in tables)
    static += sum(tensor.nbytes for table in tables for tensor in table.tensors.values())
    if graphs.cis is not None:
        static += graphs.cis.indptr.nbytes + graphs.cis.peak.nbytes + graphs.cis.distance.nbytes
    return {
        "nonzeros": nonzeros,
        "bytes_per_nonzero": sum(array.nbytes for array in arrays) / nonzeros,
        "static_mb": static / 1e6,
        "h5ad_bytes_per_nonzero": sum((folder / f"{m}.h5ad").stat().st_size for m in MODALITIES) / nonzeros,
    }


def cells_per_s(folder: Path, *, cis: bool, workers: int, repeats: int) -> float:
    """Cells a second through the loader, once over the dataset (some of it with cis edges), median of repeats."""
    graphs = MultiomeGraphs(folder / "dataset")
    some = graphs[: _SOME_CELLS if cis else len(graphs)]
    loader = GraphLoader(some, BATCH, shuffle=True, cis=cis, num_workers=workers)
    return _median_speed(lambda: sum(int(batch.num_graphs) for batch in loader), repeats)


def reference_cells_per_s(folder: Path, repeats: int) -> float:
    """Cells a second through backed anndata and torch_geometric's DataLoader, over some of the cells."""
    graphs = CellGraphs(folder)
    some = graphs[torch.randperm(len(graphs))[:_SOME_CELLS]]
    loader = DataLoader(some, BATCH, shuffle=True)
    return _median_speed(lambda: sum(int(batch.num_graphs) for batch in loader), repeats)


def _median_speed(read_all: Callable[[], int], repeats: int) -> float:
    speeds = []
    for _ in range(repeats):
        cells: list[int] = []
        spent = seconds(lambda cells=cells: cells.append(read_all()))  # type: ignore[misc]
        speeds.append(cells[0] / spent)
    return statistics.median(speeds)


def measure(n_cells: int, repeats: int) -> dict[str, float]:
    """Write, build (in a process of its own) and read one size; speed of reading when there are repeats."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pair(folder, n_cells)
        with Worker(__file__, ["--worker", name]) as worker:
            memory = worker.ask("build")
        row = {**sizes(folder), **memory}
        row["peak_mb_over_static"] = row["peak_mb"] - row["static_mb"]
        if repeats:
            for cis in (False, True):
                for workers in (0, 2):
                    key = f"cells_per_s{'_cis' if cis else ''}_{workers}_workers"
                    row[key] = cells_per_s(folder, cis=cis, workers=workers, repeats=repeats)
            row["reference_cells_per_s"] = reference_cells_per_s(folder, repeats)
        return row


def result(n_cells: int, repeats: int) -> dict[str, Any]:
    """Measure all sizes and name the figures."""
    sizes_of = (
        (n_cells // 4, n_cells // 2, n_cells) if repeats else (n_cells // 10, 3 * n_cells // 10, n_cells)
    )
    cases = {str(n): measure(n, repeats * (n == n_cells)) for n in sizes_of}
    whole = cases[str(n_cells)]
    if not repeats:
        return {**scaling(cases), "cases": cases}
    return {
        "bytes_per_nonzero": whole["bytes_per_nonzero"],
        "cells_per_s": max(whole["cells_per_s_0_workers"], whole["cells_per_s_2_workers"]),
        "peak_mb_over_static": whole["peak_mb_over_static"],
        "reference_cells_per_s": whole["reference_cells_per_s"],
        "reference_bytes_per_nonzero": whole["h5ad_bytes_per_nonzero"],
        "cases": cases,
    }


def scaling(cases: dict[str, dict[str, float]]) -> dict[str, float]:
    """Compare the largest size with the smallest: both ratios are 1 where time and memory are as promised."""
    (few, small), *_, (many, large) = ((int(n), case) for n, case in cases.items())
    return {
        "cells": many,
        "build_s": large["build_s"],
        "bytes_per_nonzero": large["bytes_per_nonzero"],
        "peak_mb_over_static": large["peak_mb_over_static"],
        "time_per_cell_ratio": (large["build_s"] / many) / (small["build_s"] / few),
        "memory_ratio": large["peak_mb_over_static"] / small["peak_mb_over_static"],
    }


def show(figures: dict[str, Any]) -> None:
    for name, value in figures.items():
        if name != "cases":
            print(f"{name:26}{value!s:>12}" if value is None else f"{name:26}{value:12,.2f}")
    print(pd.DataFrame(figures["cases"]).map(lambda value: f"{value:,.1f}").replace("nan", "").to_string())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--quick", action="store_true", help="1,000 cells")
    parser.add_argument("--scale", action="store_true", help="builds of 10,000, 30,000 and 100,000 cells")
    parser.add_argument("--cells", type=int, help="cells (default 10,000; with --scale 100,000)")
    parser.add_argument("--worker", metavar="FOLDER", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    n_cells = arguments.cells or (100_000 if arguments.scale else 1_000 if arguments.quick else 10_000)
    repeats = 0 if arguments.scale else 1 if arguments.quick else 3
    data_folder()
    if arguments.worker:
        serve({"build": lambda: built(arguments.worker)})
        return
    with Waiting() as waiting:
        figures = result(n_cells, repeats)
    figures["waiting_for_cores"] = waiting.share
    print(json.dumps(figures)) if arguments.json else show(figures)


if __name__ == "__main__":
    main()
