"""The link table: one row a gene-peak link, the same columns wherever links are written."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ...graphs.dataset import MultiomeGraphs
from ..attention import CellLinks

Int64 = npt.NDArray[np.int64]

_TYPES: Final = {
    "gene": pa.string(),
    "peak": pa.string(),
    "chrom": pa.string(),
    "start": pa.int64(),
    "end": pa.int64(),
    "tss": pa.int64(),
    "distance": pa.int64(),
    "score": pa.float64(),
    "zscore": pa.float64(),
    "pvalue": pa.float64(),
    "qvalue": pa.float64(),
    "cell_type": pa.string(),
    "n_cells": pa.int64(),
    "effect": pa.float64(),
    "cell": pa.string(),
}
COLUMNS: Final = tuple(_TYPES)
SCHEMA: Final = pa.schema(list(_TYPES.items()))
_SHARD: Final = 5_000_000  # links a file
_ROW_GROUP: Final = 1 << 20  # links in memory as a table


def link_frame(
    graphs: MultiomeGraphs,
    gene: Int64,
    peak: Int64,
    *,
    score: npt.NDArray[np.floating],
    cell_type: npt.ArrayLike,
    n_cells: Int64 | None = None,
    effect: npt.NDArray[np.floating] | None = None,
    cell: npt.ArrayLike | None = None,
) -> pd.DataFrame:
    """Name and place links.

    Parameters
    ----------
    graphs
        Dataset whose ids the links have.
    gene, peak
        (links,) ids.
    score
        (links,) strength.
    cell_type
        One name, or (links,) names.
    n_cells
        (links,) cells that have the link; null where None.
    effect
        (links,) change of the gene's predicted ln expression by the link, from the mean training cell to the
        mean cell of the type; null where None.
    cell
        (links,) barcodes; null where None.

    Returns
    -------
    The columns ``COLUMNS``: strings as objects, start and end int64, tss, distance (bp, negative
    upstream; null across chromosomes) and n_cells Int64, the rest float64; what does not apply is null.
    """
    genes, peaks, n = graphs.genes.frame, graphs.peaks.frame, len(gene)
    tss, distance, near = signed_distance(graphs, gene, peak)
    unknown = np.full(n, np.nan)
    support = pd.arrays.IntegerArray(
        np.zeros(n, np.int64) if n_cells is None else n_cells, np.full(n, n_cells is None)
    )
    columns = {
        "gene": genes["gene"].to_numpy(object)[gene],
        "peak": peaks["peak"].to_numpy(object)[peak],
        "chrom": peaks["chrom"].to_numpy(object)[peak],
        "start": graphs.peaks.start.numpy()[peak],
        "end": graphs.peaks.end.numpy()[peak],
        "tss": pd.arrays.IntegerArray(tss, tss < 0),
        "distance": pd.arrays.IntegerArray(distance, ~near),
        "score": score.astype(np.float64),
        "zscore": unknown,
        "pvalue": unknown,
        "qvalue": unknown,
        "cell_type": np.broadcast_to(np.asarray(cell_type, object), (n,)),
        "n_cells": support,
        "effect": unknown if effect is None else effect.astype(np.float64),
        "cell": np.full(n, None, object) if cell is None else np.asarray(cell, object),
    }
    return pd.DataFrame({name: columns[name] for name in COLUMNS})


def signed_distance(
    graphs: MultiomeGraphs, gene: Int64, peak: Int64
) -> tuple[Int64, Int64, npt.NDArray[np.bool_]]:
    """Return TSS (-1 unplaced), signed distance, and where it means anything."""
    genes, peaks = graphs.genes, graphs.peaks
    tss = genes.tss.numpy()[gene]
    centre = (peaks.start.numpy()[peak] + peaks.end.numpy()[peak]) // 2
    sign = np.where(genes.strand.numpy()[gene] < 0, -1, 1)
    near = (tss >= 0) & (genes.chrom.numpy()[gene] == peaks.chrom.numpy()[peak])
    return tss, (centre - tss) * sign, near


class LinkWriter:
    """Write link tables one behind the other to a parquet file, never holding more than a row group."""

    def __init__(self, path: Path) -> None:
        # A frame of no rows gives the schema that pandas needs to restore its nullable integers.
        empty = pd.DataFrame({name: pd.Series(dtype=_PANDAS[name]) for name in COLUMNS})
        self._writer = pq.ParquetWriter(path, _table(empty).schema, compression="zstd")
        self.rows = 0

    def __enter__(self) -> LinkWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, frame: pd.DataFrame) -> None:
        """Append one row group."""
        self._writer.write_table(_table(frame), row_group_size=_ROW_GROUP)
        self.rows += len(frame)

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


class CellLinkShards:
    """Write the links of single cells as they come into ``part-00000.parquet`` and so on.

    A batch of cells is a row group, so that reading some cells touches little of a file.
    """

    def __init__(self, folder: Path, graphs: MultiomeGraphs, *, shard: int = _SHARD) -> None:
        self.folder, self.shard = folder, shard
        self._graphs = graphs
        self._barcodes = graphs.cells["barcode"].to_numpy(object)
        self._shards = 0
        self._writer: LinkWriter | None = None
        folder.mkdir()

    def add(self, links: CellLinks, cell_type: str) -> None:
        """Append the links of a batch of cells of one type; the score is the weight."""
        frame = link_frame(
            self._graphs,
            links.gene,
            links.peak,
            score=links.weight,
            cell_type=cell_type,
            cell=self._barcodes[links.cell],
        )
        if self._writer is None:
            self._writer = LinkWriter(self.folder / f"part-{self._shards:05d}.parquet")
            self._shards += 1
        self._writer.write(frame)
        if self._writer.rows >= self.shard:
            self.close()

    def __enter__(self) -> CellLinkShards:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish the file that is open."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


_PANDAS: Final = {
    name: "Int64" if name in ("tss", "distance", "n_cells") else kind.to_pandas_dtype()
    for name, kind in _TYPES.items()
}


def _table(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, schema=SCHEMA, preserve_index=False)
