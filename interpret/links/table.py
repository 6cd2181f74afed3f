"""The link table: one row a gene-peak link, the same columns wherever links are written."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ...graphs.dataset import MultiomeGraphs
from ..evidence.nulls import Significance

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
_NULLABLE: Final = dict.fromkeys(("tss", "distance", "n_cells"), "Int64")


def _schema() -> pa.Schema:
    """Return the columns, with what pandas needs to restore its nullable integers."""
    empty = pd.DataFrame(
        {name: pd.Series(dtype=_NULLABLE.get(name, kind.to_pandas_dtype())) for name, kind in _TYPES.items()}
    )
    return pa.Table.from_pandas(empty, schema=pa.schema(list(_TYPES.items())), preserve_index=False).schema


SCHEMA: Final = _schema()


class LinkTables:
    """Name and place links of a dataset; strings are looked up in Arrow, never made in Python."""

    def __init__(self, graphs: MultiomeGraphs) -> None:
        genes, peaks = graphs.genes.frame, graphs.peaks.frame
        self._graphs = graphs
        self._gene, self._peak = pa.array(genes["gene"], pa.string()), pa.array(peaks["peak"], pa.string())
        self._chrom = pa.array(peaks["chrom"], pa.string())
        self._start, self._end = (pa.array(peaks[name], pa.int64()) for name in ("start", "end"))
        self._barcode = pa.array(graphs.cells["barcode"], pa.string())

    def table(
        self,
        gene: Int64,
        peak: Int64,
        *,
        score: npt.NDArray[np.floating],
        cell_type: str,
        n_cells: Int64 | None = None,
        effect: npt.NDArray[np.floating] | None = None,
        significance: Significance | None = None,
        cell: Int64 | None = None,
    ) -> pa.Table:
        """Return the columns ``COLUMNS``; what does not apply is null.

        Parameters
        ----------
        gene, peak
            (links,) ids.
        score
            (links,) strength.
        cell_type
            Of all of them.
        n_cells
            (links,) cells that have the link.
        effect
            (links,) change of the gene's predicted ln expression by the link, from the mean training cell to the
            mean cell of the type.
        significance
            z-, p- and q-values of the links.
        cell
            (links,) rows of the dataset's ``cells``.
        """
        tss, distance, near = signed_distance(self._graphs, gene, peak)
        n = len(gene)
        at = pa.array(peak)
        columns: dict[str, Any] = {
            "gene": self._gene.take(pa.array(gene)),
            "peak": self._peak.take(at),
            "chrom": self._chrom.take(at),
            "start": self._start.take(at),
            "end": self._end.take(at),
            "tss": pa.array(tss, mask=tss < 0),
            "distance": pa.array(distance, mask=~near),
            "score": _numbers(score),
            "zscore": None if significance is None else _numbers(significance.zscore),
            "pvalue": None if significance is None else _numbers(significance.pvalue),
            "qvalue": None if significance is None else _numbers(significance.qvalue),
            "cell_type": pa.repeat(pa.scalar(cell_type, pa.string()), n),
            "n_cells": None if n_cells is None else pa.array(n_cells, pa.int64()),
            "effect": None if effect is None else _numbers(effect),
            "cell": None if cell is None else self._barcode.take(pa.array(cell)),
        }
        arrays = [
            pa.nulls(n, kind) if columns[name] is None else columns[name] for name, kind in _TYPES.items()
        ]
        return pa.table(arrays, schema=SCHEMA)


def link_frame(
    graphs: MultiomeGraphs,
    gene: Int64,
    peak: Int64,
    *,
    score: npt.NDArray[np.floating],
    cell_type: str,
    cell: Int64 | None = None,
) -> pd.DataFrame:
    """Return `LinkTables.table` as a frame: strings as objects; tss, distance and n_cells as Int64."""
    frame: pd.DataFrame = (
        LinkTables(graphs).table(gene, peak, score=score, cell_type=cell_type, cell=cell).to_pandas()
    )
    return frame


def _numbers(values: npt.NDArray[np.floating]) -> pa.Array:
    """NaN becomes null."""
    return pa.array(values.astype(np.float64), from_pandas=True)


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
    """Write link tables one behind the other to a parquet file, each as a row group."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")
        self.rows = 0

    def __enter__(self) -> LinkWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, table: pa.Table) -> None:
        """Append a row group."""
        self._writer.write_table(table, row_group_size=max(len(table), 1))
        self.rows += len(table)

    def note(self, about: dict[str, str]) -> None:
        """Write down what the file holds."""
        self._writer.add_key_value_metadata(about)

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
