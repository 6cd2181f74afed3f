"""The sides of benchmarks/maps.py: what its worker processes hold, and answer."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from measure import PeakMemory, seconds, serve
from numpy.typing import NDArray
from two_sides import Figures

from scweave.graphs.dataset import MultiomeGraphs
from scweave.interpret.attention import CellLinks, stream_links
from scweave.interpret.differences import difference
from scweave.interpret.links.link_nulls import LinkNulls
from scweave.interpret.links.shards import CellLinkShards
from scweave.interpret.links.table import LinkTables
from scweave.interpret.links.type_links import cells_by_type, type_links
from scweave.interpret.map_folder import write_map
from scweave.interpret.maps import RegulatoryMap
from scweave.models.checkpoint import load_model

Positions = NDArray[np.int64]

_PRIOR_CELLS = 20  # of openness, as in `edge_links.relative_openness`
_ALIKE = 30  # cells that change places, as in `differences.alike_in_depth`


@dataclass(frozen=True)
class Size:
    """Cells of the dataset and of each case, permutations of both sides, and repeats."""

    dataset: int
    written: int  # by ours
    each: int  # by the loops over cells
    dense: int
    of_one_type: int  # whose memory is compared with that of four times as many
    shard: int  # links a file, where half of the files are kept
    null_step: int  # prior edges whose null is timed: one in so many
    permutations: tuple[int, int]
    repeats: int


FULL = Size(2_000, 512, 64, 8, 640, 500_000, 1, (1_000, 20), 3)
QUICK = Size(200, 64, 8, 2, 64, 100_000, 10, (40, 5), 1)


class Side:
    """A dataset, a model and a folder to write to: what a worker process holds."""

    def __init__(self, folder: Path, size: Size) -> None:
        torch.set_num_threads(1)
        self.graphs = MultiomeGraphs(folder / "dataset")
        self.model = load_model(folder / "run").model.cpu()
        self.size = size
        self.out = Path(tempfile.mkdtemp(dir=folder))

    def empty(self, name: str = "") -> Path:
        """Return a new folder in the place of an old one."""
        folder = self.out / (name or "written")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def growth(self, work: Callable[[], object]) -> float:
        """Peak memory of a piece of work."""
        with PeakMemory(private=True) as memory:
            work()
        return memory.growth_mb


class OurCells(Side):
    """Links of single cells in files of some millions."""

    n_cells: int

    def __init__(self, folder: Path, size: Size) -> None:
        super().__init__(folder, size)
        self.n_cells = size.written
        self.cells = self.graphs[np.arange(self.n_cells)]

    def write(self) -> None:
        """Write the links of all cells."""
        self.write_to(self.empty(), self.cells)

    def write_to(self, folder: Path, graphs: MultiomeGraphs, **options: int) -> None:
        """Write the links of some cells; whole files in the folder are what was done before."""
        with CellLinkShards(folder, graphs, **options) as shards:
            for _ in type_links(self.model, graphs, progress=False, shards=shards):
                pass

    def read(self) -> None:
        """Read what was written."""
        for path in (self.out / "written").glob("part-*.parquet"):
            pq.read_table(path, columns=["cell", "gene", "peak", "score"])

    def links(self) -> list[float]:
        """Number and sum of the written links of the first cells."""
        first = self.graphs.cells["barcode"].iloc[: self.size.dense].tolist()
        table = pq.read_table(self.out / "written", filters=pc.field("cell").isin(first))
        return [len(table), float(np.sum(table["score"].to_numpy()))]

    def alone(self) -> Figures:
        """Links written, their bytes, seconds a cell without the map of cell types, and of going on after a stop."""
        files = list((self.out / "written").iterdir())
        links = sum(pq.read_metadata(path).num_rows for path in files)
        return {
            "links": links,
            "bytes_a_link": sum(path.stat().st_size for path in files) / links,
            "shards_only_s": seconds(self.write_shards) / self.n_cells,
            **self.resume(),
        }

    def write_shards(self) -> None:
        """Write the links of all cells, and add nothing up."""
        with CellLinkShards(self.empty(), self.cells) as shards:
            for links in stream_links(self.model, self.cells, progress=False):
                shards.add(links, "")

    def of_one_type(self, times: int) -> float:
        """Peak memory of cells of one type, the same ones over and over where there are too few."""
        own = max((positions for _, positions in cells_by_type(self.graphs)), key=len)
        cells = self.graphs[np.resize(own, times * self.size.of_one_type)]
        return self.growth(lambda: self.write_to(self.empty(), cells))

    def resume(self) -> Figures:
        """Go on where half of the files are there, and compare with what was never stopped."""
        whole, half = self.empty("whole"), self.empty("half")
        go_on = partial(self.write_to, graphs=self.cells, shard=self.size.shard)
        whole_s = seconds(lambda: go_on(whole))
        files = sorted(whole.iterdir())
        for path in files[: len(files) // 2]:
            shutil.copy(path, half)
        resume_s = seconds(lambda: go_on(half))
        if [path.read_bytes() for path in files] != [path.read_bytes() for path in sorted(half.iterdir())]:
            raise SystemExit("resume: the files differ from those of a map that was not stopped.")
        return {"whole_s": whole_s, "resume_s": resume_s, "files": len(files)}


class CellByCell(Side):
    """What one would write of the same links: a file a cell."""

    def __init__(self, folder: Path, size: Size, kind: str) -> None:
        super().__init__(folder, size)
        self.kind = kind
        self.n_cells = size.dense if kind == "dense" else size.each
        self.cells, self.named = self.graphs[np.arange(self.n_cells)], LinkTables(self.graphs)

    def write(self) -> None:
        """Write the links of all cells."""
        folder = self.empty()
        for cell, links in self.each():
            if self.kind == "dense":
                np.save(folder / f"{cell}.npy", self.matrix(cell, links))
                continue
            table = self.named.table(
                links.gene, links.peak, score=links.weight, cell_type="", cell=links.cell
            )
            if self.kind == "csv_each":
                table.to_pandas().to_csv(folder / f"{cell}.csv", index=False)
            else:
                pq.write_table(table, folder / f"{cell}.parquet", compression="zstd")

    def each(self) -> Iterator[tuple[int, CellLinks]]:
        """Links of one cell after the other; the model reads batches, as ours does."""
        for some in stream_links(self.model, self.cells, progress=False):
            for cell in np.unique(some.cell).tolist():
                own = some.cell == cell
                yield cell, CellLinks(some.cell[own], some.gene[own], some.peak[own], some.weight[own], 1)

    def matrix(self, cell: int, links: CellLinks) -> NDArray[np.float32]:
        """Expressed genes x open peaks of a cell."""
        genes, peaks = (
            np.sort(rows.gather(np.array([cell]))[0])
            for rows in (self.graphs.rna_rows, self.graphs.atac_rows)
        )
        attention = np.zeros((len(genes), len(peaks)), np.float32)
        attention[np.searchsorted(genes, links.gene), np.searchsorted(peaks, links.peak)] = links.weight
        return attention

    def read(self) -> None:
        """Read what was written."""
        for path in (self.out / "written").iterdir():
            self.scores(path)

    def scores(self, path: Path) -> NDArray[np.floating]:
        """Read a cell."""
        if self.kind == "dense":
            attention: NDArray[np.float32] = np.load(path)
            return attention
        columns = ["cell", "gene", "peak", "score"]
        frame = pd.read_csv(path, usecols=columns) if self.kind == "csv_each" else None
        table = pq.read_table(path, columns=columns) if frame is None else frame
        return np.asarray(table["score"])

    def links(self) -> list[float]:
        """Number and sum of the written links of the first cells."""
        files = sorted((self.out / "written").iterdir(), key=lambda path: int(path.stem))
        found = [self.scores(path) for path in files[: self.size.dense]]
        return [
            sum(int(np.count_nonzero(some)) for some in found),
            sum(float(np.sum(some, dtype=np.float64)) for some in found),
        ]


def serve_cells(side: OurCells | CellByCell) -> None:
    """Answer for a side that writes single cells."""
    answers: dict[str, Callable[[], object]] = {
        "growth_mb": lambda: side.growth(side.write),
        "seconds": lambda: seconds(side.write) / side.n_cells,
        "read_s": lambda: seconds(side.read) / side.n_cells,
        "mb_a_cell": lambda: _megabytes(side.out / "written") / side.n_cells,
        "links": side.links,
    }
    if isinstance(side, OurCells):
        answers |= {
            "alone": lambda: side.alone() | map_figures(side),
            "once": lambda: side.of_one_type(1),
            "4_times": lambda: side.of_one_type(4),
        }
    serve(answers)


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


class Difference(Side):
    """Permutation test of the links of two cell types, ours or a loop over permutations."""

    def __init__(self, folder: Path, size: Size, side: str) -> None:
        super().__init__(folder, size)
        cells = self.graphs[np.arange(min(size.dataset, 1_000))]
        (_, self.first), (_, self.second), *_ = cells_by_type(cells)
        self.ours = side == "ours"
        self.permutations = size.permutations[0 if self.ours else 1]
        both = np.concatenate([self.first, self.second])
        self.groups = np.repeat([0, 1], [len(self.first), len(self.second)])
        opened = self.graphs.atac_rows.matrix(self.graphs.pairs_of(both)[1]).tocsr().astype(np.float64)
        opened.data[:] = 1.0
        self.opened, self.depth = opened, np.asarray(opened.sum(1)).ravel()

    def work(self, permutations: int) -> NDArray[np.float64]:
        """Return p-values: of links on our side, of peaks on the other."""
        if not self.ours:
            return self.loop(permutations)
        found = difference(self.model, self.graphs, self.first, self.second, permutations=permutations)
        return self.by_peak(found)

    def by_peak(self, found: pd.DataFrame) -> NDArray[np.float64]:
        """P-values of the peaks that have links; NaN elsewhere."""
        peak = pd.Index(self.graphs.peaks.frame["peak"]).get_indexer(found["peak"])
        values = np.full(len(self.graphs.peaks), np.nan)
        values[peak] = found["pvalue"]
        return values

    def loop(self, permutations: int) -> NDArray[np.float64]:
        """Deal cells of like depth out, one permutation after the other."""
        runs = np.empty(len(self.groups))
        runs[np.argsort(self.depth, kind="stable")] = np.arange(len(runs)) // _ALIKE
        labels = self.groups[np.argsort(runs, kind="stable")]
        observed = self.changes(self.groups)
        reached = np.zeros(len(observed))
        for lots in np.random.default_rng(0).random((len(runs), permutations)).T:
            dealt = np.empty_like(self.groups)
            dealt[np.argsort(runs + lots)] = labels
            reached += self.changes(dealt) >= observed * (1 - 1e-9)
        return (reached + 1) / (permutations + 1)

    def changes(self, groups: Positions) -> NDArray[np.float64]:
        """By how much the openness of every peak differs between two groups, as deep as those observed."""
        opened = np.stack([np.asarray(self.opened[groups == own].sum(0)).ravel() for own in (0, 1)])
        depth = self.depth / self.depth.mean()
        cells = np.array([depth[self.groups == own].sum() for own in (0, 1)])
        share = (opened + _PRIOR_CELLS * opened.sum(0) / cells.sum()) / (cells + _PRIOR_CELLS)[:, None]
        return np.abs(np.subtract(*(share / np.maximum(share.max(0), 1e-12))))

    def pvalues(self) -> list[float]:
        """P-values after a few permutations, -1 where there is none."""
        found = self.work(self.size.permutations[1])
        return np.nan_to_num(found, nan=-1.0).tolist()


def serve_difference(side: Difference) -> None:
    """Answer for a side of the permutation test; times are those of a permutation."""
    n = side.permutations
    serve(
        {
            "growth_mb": lambda: side.growth(lambda: side.work(n)),
            "seconds": lambda: seconds(lambda: side.work(n)) / n,
            "pvalues": side.pvalues,
        }
    )


def map_figures(side: Side) -> Figures:
    """Time the map of cell types, its null, and what reads it."""
    cells = side.graphs[np.arange(side.size.written)]
    types_s = seconds(lambda: list(type_links(side.model, cells, progress=False)))
    edges = [ids.numpy()[:: side.size.null_step] for ids in (side.model.edges.gene, side.model.edges.peak)]
    nulls_s = seconds(lambda: LinkNulls(side.model, cells).of(*edges))
    folder = side.empty()
    write_map_s = seconds(lambda: write_map(side.model, cells, folder, progress=False))
    found: list[RegulatoryMap] = []
    read_map_s = seconds(lambda: found.append(RegulatoryMap.read(folder)))
    return {
        "types_s": types_s,
        "types_cells_per_s": len(cells) / types_s,
        "nulls_s": nulls_s,
        "null_edges": len(edges[0]),
        "write_map_s": write_map_s,
        "map_links": len(found[0]),
        "read_map_s": read_map_s,
        "filter_s": seconds(lambda: found[0].filter(max_distance=100_000, top=5)),
    }
