"""Which peaks attend to which, in annotators whose sentences are read by more than one block."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from ...graphs.loader import GraphLoader
from ...models.annotation.model import AnnotatorModel
from ...models.devices import device_of

PAIRS: Final = "pairs.parquet"
_KEYS: Final = ["layer", "sentence", "query", "key"]
Sums: TypeAlias = "pd.Series[float]"


def reads_pairs(model: AnnotatorModel) -> bool:
    """Whether peaks attend to each other in a model."""
    return getattr(model.config, "peak_layers", 1) > 1


def write_peak_pairs(
    model: Any,
    graphs: MultiomeGraphs,
    folder: Path,
    *,
    per: str = "cell-type",
    top: int = 100,
    batch_size: int = 16,
    progress: bool = True,
) -> dict[str, Any]:
    """Write the attention between peaks into a folder that exists.

    ``pairs.parquet``: ``cell_type, layer, peak, attends_to, score, n_cells``, the attention in the sentence of a type,
    averaged over the cells told to be of that type (pairs below a cell's strongest count 0), highest first.

    Parameters
    ----------
    model
        Annotator with ``peak_attention``.
    graphs
        Cells to describe.
    folder
        Receives the table.
    per
        Only ``cell-type``.
    top
        Strongest pairs that count of each cell and sentence.
    batch_size
        Cells at a time.
    progress
        Show a bar.

    Returns
    -------
    ``cells``, ``pairs``, and ``cell_types``: name -> cells told to be of it.

    Raises
    ------
    InputError
        A table of single cells was asked for, or there are no cells.
    """
    if per != "cell-type":
        raise InputError(
            "--per cell: attention between peaks is told per cell type only. Leave the option out."
        )
    if not len(graphs):
        raise InputError(f"{graphs.root} has no such cells. Choose another --split.")
    device, n_types = device_of(model), len(model.cell_types)
    cells, sums = np.zeros(n_types, np.int64), list[Sums]()
    with torch.no_grad():
        for batch in tqdm(GraphLoader(graphs, batch_size, cis=False), desc="map", disable=not progress):
            batch = batch.to(device)
            told = model(batch).logits.argmax(1).cpu().numpy()
            cells += np.bincount(told, minlength=n_types)
            sums = [pd.concat([*sums, *_sums(model, batch, told, top)]).groupby(level=_KEYS).sum()]
    table = _table(model, graphs, pd.concat(sums), cells)
    table.to_parquet(folder / PAIRS, index=False)
    return {
        "cells": int(cells.sum()),
        "pairs": len(table),
        "cell_types": {name: int(n) for name, n in zip(model.cell_types, cells, strict=True)},
    }


def _sums(model: Any, batch: Any, told: NDArray[np.int64], top: int) -> list[Sums]:
    """Add up the weights of a batch's pairs over the cells told to be of the sentence's type."""
    found = []
    for layer in range(model.config.peak_layers - 1):
        for pairs in model.peak_attention(batch, top=top, layer=layer):
            own = told[pairs.cell.cpu().numpy()] == pairs.sentence.cpu().numpy()
            frame = pd.DataFrame(
                {
                    name: getattr(pairs, name).cpu().numpy()[own]
                    for name in ("sentence", "query", "key", "weight")
                }
            ).assign(layer=layer)
            frame["weight"] = frame["weight"].astype(np.float64)
            found.append(frame.groupby(_KEYS)["weight"].sum())
    return found


def _table(model: Any, graphs: MultiomeGraphs, sums: Sums, cells: NDArray[np.int64]) -> pd.DataFrame:
    layer, sentence, query, key = (sums.index.get_level_values(name).to_numpy(np.int64) for name in _KEYS)
    peaks = graphs.peaks.frame["peak"].to_numpy(object)[model.ranked_markers()[1].cpu().numpy()]
    frame = pd.DataFrame(
        {
            "cell_type": np.array(model.cell_types, dtype=object)[sentence],
            "layer": layer,
            "peak": peaks[query],
            "attends_to": peaks[key],
            "score": sums.to_numpy(np.float64) / np.maximum(cells[sentence], 1),
            "n_cells": cells[sentence],
        }
    )
    return frame.sort_values(
        ["cell_type", "layer", "score"], ascending=[True, True, False], ignore_index=True
    )
