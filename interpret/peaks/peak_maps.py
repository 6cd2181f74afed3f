"""What an annotator reads cell types from: tables of peaks by type and by cell, from its attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from ...graphs.loader import GraphLoader
from ...graphs.schema import CELL, RNA
from ...models.annotation.model import AnnotatorModel
from ...models.annotation.peak_weights import PeakWeights
from ...models.devices import device_of
from .peak_figures import draw_peaks
from .peak_pairs import reads_pairs, write_peak_pairs

PEAKS, TYPES, MARKERS = "peaks.parquet", "types.parquet", "markers.parquet"
CELL_PEAKS: Final = "cells/part-00000.parquet"
FIGURE: Final = "peaks.png"
Floats = NDArray[np.float64]


def attends_to_peaks(model: AnnotatorModel) -> bool:
    """Whether a model's attention says something of peaks."""
    return hasattr(model, "attended_peaks")


def write_peak_map(
    model: AnnotatorModel,
    graphs: MultiomeGraphs,
    folder: Path,
    *,
    per: str = "cell-type",
    batch_size: int = 64,
    progress: bool = True,
) -> dict[str, Any]:
    """Write what an annotator attends to into a folder that exists.

    ``peaks.parquet``: ``cell_type, peak, chrom, start, end, score, n_cells``, what a type's sentence takes
    from each peak, averaged over the cells told to be of that type (closed peaks count 0), highest first: attention in
    published mode; in default mode evidence, which speaks against the type where it is negative. Peaks that say nothing
    are left out.
    ``types.parquet``: ``cell_type, sentence, score, n_cells``, the attention of such cells to every sentence.
    ``markers.parquet``: ``cell_type, peak, rank, score``, the marker peaks in rank order.
    With ``per="cell"`` also ``cells/part-00000.parquet``: ``cell, cell_type, peak, score``, where ``cell_type`` is the
    sentence.

    Of a model in which peaks attend to each other, what `peak_pairs.write_peak_pairs` writes instead.

    Parameters
    ----------
    model
        Annotator with `PeakReader`'s methods.
    graphs
        Cells to describe.
    folder
        Receives the tables and ``peaks.png``.
    per
        ``cell-type`` or ``cell``.
    batch_size
        Cells at a time.
    progress
        Show a bar.

    Returns
    -------
    ``cells``, ``peaks`` (that a type attends to), and ``cell_types``: name -> cells told to be of it.

    Raises
    ------
    InputError
        The model attends to no peaks, or there are no cells.
    """
    if per not in ("cell-type", "cell"):
        raise InputError(f"no map per {per!r}. Choose cell-type or cell.")
    if not attends_to_peaks(model):
        raise InputError(f"{model.kind} attends to no peaks, so there is no map of it. Train hitanno.")
    if not len(graphs):
        raise InputError(f"{graphs.root} has no such cells. Choose another --split.")
    if reads_pairs(model):
        return write_peak_pairs(model, graphs, folder, per=per, batch_size=batch_size, progress=progress)
    tally = _PeakTally(len(model.cell_types), len(graphs.peaks))
    with ExitStack() as stack:
        writer = (
            stack.enter_context(_CellTable(folder / CELL_PEAKS, model, graphs)) if per == "cell" else None
        )
        for cells, told, weights, types in _stream(model, graphs, batch_size, progress):
            tally.add(told, weights, types)
            if writer is not None:
                writer.add(cells, weights)
    return _conclude(model, graphs, folder, tally)


@torch.no_grad()
def _stream(
    model: Any, graphs: MultiomeGraphs, batch_size: int, progress: bool
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], PeakWeights, Floats]]:
    """Give cells, the types they are told to be of, and both levels of attention, a batch at a time."""
    device = device_of(model)
    for batch in tqdm(GraphLoader(graphs, batch_size, cis=False), desc="map", disable=not progress):
        batch = batch.to(device)
        told = model(batch).logits.argmax(1).cpu().numpy()
        weights, types = model.attended_peaks(batch), model.attended_types(batch)
        yield batch[CELL][RNA].cpu().numpy(), told, weights, types.double().cpu().numpy()


class _PeakTally:
    """Sums over the cells told to be of each type."""

    def __init__(self, n_types: int, n_peaks: int) -> None:
        self.peaks = np.zeros((n_types, n_peaks))
        self.types = np.zeros((n_types, n_types))
        self.cells = np.zeros(n_types, np.int64)

    def add(self, told: NDArray[np.int64], weights: PeakWeights, types: Floats) -> None:
        """Add a batch."""
        cell, sentence, peak = (x.cpu().numpy() for x in (weights.cell, weights.sentence, weights.peak))
        own = told[cell] == sentence
        np.add.at(self.peaks, (sentence[own], peak[own]), weights.weight.double().cpu().numpy()[own])
        np.add.at(self.types, told, types)
        self.cells += np.bincount(told, minlength=len(self.cells))

    def means(self, sums: Floats) -> Floats:
        """Divide by the cells of each type."""
        means: Floats = sums / np.maximum(self.cells, 1)[:, None]
        return means


class _CellTable:
    """Writes the peaks of single cells as they come, a batch a row group."""

    def __init__(self, path: Path, model: AnnotatorModel, graphs: MultiomeGraphs) -> None:
        path.parent.mkdir()
        self.schema = pa.schema(
            [
                ("cell", pa.string()),
                ("cell_type", pa.string()),
                ("peak", pa.string()),
                ("score", pa.float32()),
            ]
        )
        self._writer = pq.ParquetWriter(path, self.schema, compression="zstd")
        self._barcodes = graphs.cells["barcode"].to_numpy(object)
        self._types = np.array(model.cell_types, dtype=object)
        self._peaks = graphs.peaks.frame["peak"].to_numpy(object)

    def add(self, cells: NDArray[np.int64], weights: PeakWeights) -> None:
        """Append a batch."""
        columns = [
            self._barcodes[cells[weights.cell.cpu().numpy()]],
            self._types[weights.sentence.cpu().numpy()],
            self._peaks[weights.peak.cpu().numpy()],
            weights.weight.float().cpu().numpy(),
        ]
        self._writer.write_table(pa.table(columns, schema=self.schema))

    def __enter__(self) -> _CellTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()


def _conclude(
    model: AnnotatorModel, graphs: MultiomeGraphs, folder: Path, tally: _PeakTally
) -> dict[str, Any]:
    peaks, types, markers = (
        _peak_table(model, graphs, tally),
        _type_table(model, tally),
        _markers(model, graphs),
    )
    peaks.to_parquet(folder / PEAKS, index=False)
    types.to_parquet(folder / TYPES, index=False)
    markers.to_parquet(folder / MARKERS, index=False)
    draw_peaks(folder / FIGURE, peaks, types)
    return {
        "cells": int(tally.cells.sum()),
        "peaks": int(peaks["peak"].nunique()),
        "cell_types": {name: int(n) for name, n in zip(model.cell_types, tally.cells, strict=True)},
    }


def _peak_table(model: AnnotatorModel, graphs: MultiomeGraphs, tally: _PeakTally) -> pd.DataFrame:
    means = tally.means(tally.peaks)
    code, peak = np.nonzero(means)
    order = np.lexsort((peak, -means[code, peak], code))
    code, peak = code[order], peak[order]
    places = graphs.peaks.frame[["peak", "chrom", "start", "end"]].iloc[peak].reset_index(drop=True)
    places.insert(0, "cell_type", np.array(model.cell_types, dtype=object)[code])
    return places.assign(score=means[code, peak], n_cells=tally.cells[code])


def _type_table(model: AnnotatorModel, tally: _PeakTally) -> pd.DataFrame:
    names, n = np.array(model.cell_types, dtype=object), len(model.cell_types)
    return pd.DataFrame(
        {
            "cell_type": np.repeat(names, n),
            "sentence": np.tile(names, n),
            "score": tally.means(tally.types).ravel(),
            "n_cells": np.repeat(tally.cells, n),
        }
    )


def _markers(model: Any, graphs: MultiomeGraphs) -> pd.DataFrame:
    code, peak, score = (values.cpu().numpy() for values in model.ranked_markers())
    frame = pd.DataFrame(
        {
            "cell_type": np.array(model.cell_types, dtype=object)[code],
            "peak": graphs.peaks.frame["peak"].to_numpy(object)[peak],
            "score": score.astype(np.float64),
        }
    )
    frame.insert(2, "rank", frame.groupby("cell_type", sort=False).cumcount() + 1)
    return frame
