"""The peaks that are open in the cells which an annotator tells to be of a type."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from ...graphs.loader import GraphLoader
from ...models.annotation.model import AnnotatorModel
from ...models.devices import device_of
from ..motifs.context import PeakContext
from ..motifs.marker_peaks import marker_peaks, peaks_by_type

PREDICTED_MARKERS: Final = "predicted_markers.parquet"


@torch.no_grad()
def predicted_types(
    model: AnnotatorModel, graphs: MultiomeGraphs, *, batch_size: int = 64, progress: bool = True
) -> list[str]:
    """Return the likeliest type of each cell, novel or not.

    Parameters
    ----------
    model
        In evaluation mode.
    graphs
        Cells.
    batch_size
        Cells at a time.
    progress
        Show a bar.
    """
    device, told = device_of(model), list[str]()
    for batch in tqdm(GraphLoader(graphs, batch_size, cis=False), desc="types", disable=not progress):
        codes = model(batch.to(device)).logits.argmax(1).cpu().tolist()
        told += [model.cell_types[code] for code in codes]
    return told


def write_predicted_markers(
    model: AnnotatorModel,
    graphs: MultiomeGraphs,
    folder: Path,
    context: PeakContext,
    *,
    batch_size: int = 64,
    progress: bool = True,
) -> dict[str, Any]:
    """Write the marker peaks of predicted types, and what these peaks are, into a folder that exists.

    ``predicted_markers.parquet`` has the columns of `motifs.marker_peaks.marker_peaks`; `PeakContext.write` says
    what else there is.

    Returns
    -------
    ``cells``, ``peaks`` (that mark a type), ``cell_types``: name -> cells told to be of it; and what
    `PeakContext.write` returns.

    Raises
    ------
    InputError
        There are no cells, or no ATAC.
    """
    if not len(graphs):
        raise InputError(f"{graphs.root} has no such cells. Choose another --split.")
    graphs.require(["atac"], "a map of peaks")
    labels = predicted_types(model, graphs, batch_size=batch_size, progress=progress)
    markers = marker_peaks(graphs, labels)
    markers.to_parquet(folder / PREDICTED_MARKERS, index=False)
    names, cells = np.unique(labels, return_counts=True)
    counts = dict(zip(names.tolist(), cells.tolist(), strict=True))
    return {
        "cells": len(graphs),
        "peaks": int(pd.Series(markers["peak"]).nunique()),
        "cell_types": {name: counts.get(name, 0) for name in model.cell_types},
        **context.write(folder, graphs, peaks_by_type(markers), progress=progress),
    }
