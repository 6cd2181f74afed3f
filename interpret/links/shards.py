"""Links of single cells in files of a million, written so that an interrupted map can go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from ..attention import CellLinks
from .table import LinkTables, LinkWriter

Int64 = npt.NDArray[np.int64]

_SHARD: Final = 1_000_000  # links a file, and at most lost when a process is killed
_BATCHES: Final = "scweave.batches"  # cells and links of every batch of a file


class CellLinkShards:
    """Write the links of single cells as they come into ``part-00000.parquet`` and so on.

    A batch of cells is a row group, so that reading some cells touches little of a file. A file has its name only
    once it is whole: what a killed process leaves are whole files and a hidden one, which is written anew.

    Parameters
    ----------
    folder
        Is made where there is none; whole files in it are what was done before.
    graphs
        Dataset whose ids the links have.
    shard
        Links a file.
    """

    def __init__(self, folder: Path, graphs: MultiomeGraphs, *, shard: int = _SHARD) -> None:
        self.folder, self.shard = folder, shard
        self._graphs, self._tables = graphs, LinkTables(graphs)
        self._writer: LinkWriter | None = None
        self._batches: list[tuple[int, int]] = []
        folder.mkdir(exist_ok=True)
        self._before = sorted(folder.glob("part-*.parquet"))
        self._n_files = len(self._before)

    def done(self) -> Iterator[CellLinks]:
        """Yield the batches that were written before, without the cell of each link."""
        genes = pd.Index(self._graphs.genes.frame["gene"])
        peaks = pd.Index(self._graphs.peaks.frame["peak"])
        nothing = np.zeros(0, np.int64)
        for path in self._before:
            with _opened(path) as file:
                group = 0
                for n_cells, n_links in _batches(file, path):
                    if not n_links:
                        yield CellLinks(nothing, nothing, nothing, np.zeros(0, np.float32), n_cells)
                        continue
                    table = file.read_row_group(group, columns=["gene", "peak", "score"])
                    group += 1
                    weight = table.column("score").to_numpy().astype(np.float32)
                    gene, peak = _ids(table.column("gene"), genes), _ids(table.column("peak"), peaks)
                    yield CellLinks(np.full(n_links, -1), gene, peak, weight, n_cells)

    def add(self, links: CellLinks, cell_type: str) -> None:
        """Append the links of a batch of cells of one type; the score is the weight."""
        if self._writer is None:
            self._writer = LinkWriter(self._hidden())
        if len(links):
            table = self._tables.table(
                links.gene, links.peak, score=links.weight, cell_type=cell_type, cell=links.cell
            )
            self._writer.write(table)
        self._batches.append((links.n_cells, len(links)))
        if self._writer.rows >= self.shard:
            self._finish()

    def __enter__(self) -> CellLinkShards:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._finish()
        elif self._writer is not None:
            self._writer.close()
            self._hidden().unlink(missing_ok=True)

    def _hidden(self) -> Path:
        return self.folder / f".part-{self._n_files:05d}.parquet"

    def _finish(self) -> None:
        """Close the file that is open and give it its name."""
        if self._writer is None:
            return
        self._writer.note({_BATCHES: json.dumps(self._batches)})
        self._writer.close()
        self._hidden().rename(self.folder / f"part-{self._n_files:05d}.parquet")
        self._writer, self._batches = None, []
        self._n_files += 1


def _opened(path: Path) -> pq.ParquetFile:
    """Open a file; after a loss of power one may have its name and not its content."""
    try:
        return pq.ParquetFile(path, read_dictionary=["gene", "peak"])
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{path} is damaged. Remove it and all parts after it, then pass --resume."
        ) from error


def _ids(column: pa.ChunkedArray, names: pd.Index[str]) -> Int64:
    """Turn names into the dataset's ids."""
    told = column.combine_chunks()
    codes = names.get_indexer(pd.Index(told.dictionary.to_pylist()))
    found: Int64 = codes[told.indices.to_numpy()].astype(np.int64)
    return found


def _batches(file: pq.ParquetFile, path: Path) -> list[tuple[int, int]]:
    told = (file.metadata.metadata or {}).get(_BATCHES.encode())
    if told is None:
        raise InputError(
            f"{path} is no file of an interrupted map. Remove the folder and map without --resume."
        )
    return [(int(cells), int(links)) for cells, links in json.loads(told)]
