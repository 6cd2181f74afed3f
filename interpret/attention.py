"""Stream a model's attention out of a dataset as sparse gene-peak links, a batch of cells at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from tqdm.auto import tqdm

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.schema import CELL, GENE, ID, PEAK, RNA
from ..models.layers.links import Links

Int64 = npt.NDArray[np.int64]


class LinkingModel(Protocol):
    """A model whose attention joins genes to peaks."""

    def attention(self, batch: Batch) -> Links:
        """Return the links between the gene and the peak nodes of a batch."""
        ...


@dataclass(frozen=True)
class CellLinks:
    """Links of a batch of cells, ordered by cell.

    Attributes
    ----------
    cell
        (links,) int64 row of the dataset's ``cells``.
    gene, peak
        (links,) int64 ids.
    weight
        (links,) float32 attention, mean over heads.
    n_cells
        Cells of the batch, with and without links.
    """

    cell: Int64
    gene: Int64
    peak: Int64
    weight: npt.NDArray[np.float32]
    n_cells: int

    def __len__(self) -> int:
        return len(self.cell)


def stream_links(
    model: LinkingModel, graphs: MultiomeGraphs, *, batch_size: int = 64, progress: bool = True
) -> Iterator[CellLinks]:
    """Yield the links of every cell, in the order of ``graphs``.

    Memory is that of one batch: its nodes and its links, never genes × peaks.

    Parameters
    ----------
    model
        In evaluation mode; batches go to the device of its parameters.
    graphs
        Dataset of single cells (``view="cells"``), or any subset of it.
    batch_size
        Cells a batch. It changes speed, not results.
    progress
        Show a bar over the cells.

    Raises
    ------
    InputError
        The dataset is one of pairs, or the model has no attention from genes to peaks.
    """
    _check(model, graphs, batch_size)
    device = _device(model)
    bar = tqdm(total=len(graphs), desc="attention", unit="cell", disable=not progress)
    with bar:
        for begin in range(0, len(graphs), batch_size):
            which = np.arange(begin, min(begin + batch_size, len(graphs)))
            batch = graphs.batch(which, cis=False).to(device)
            yield _cell_links(batch, model.attention(batch), len(which))
            bar.update(len(which))


def _cell_links(batch: Batch, links: Links, n_cells: int) -> CellLinks:
    genes, peaks = batch[GENE], batch[PEAK]
    columns: tuple[Tensor, ...] = (
        batch[CELL][RNA][genes.batch[links.gene]],
        genes[ID][links.gene],
        peaks[ID][links.peak],
    )
    cell, gene, peak = (column.cpu().numpy() for column in columns)
    weight = links.weight.mean(1).to("cpu", torch.float32).numpy()
    return CellLinks(cell, gene, peak, weight, n_cells)


def _check(model: LinkingModel, graphs: MultiomeGraphs, batch_size: int) -> None:
    if not hasattr(model, "attention"):
        raise InputError(
            f"{type(model).__name__} has no attention from genes to peaks, so there is no map of it. "
            "Pass a run of --model crossrec."
        )
    if graphs.view != "cells":
        raise InputError(f"a map describes cells; the dataset was opened as {graphs.view}. Use view='cells'.")
    if batch_size < 1:
        raise InputError(f"the batch size is {batch_size}. Pass 1 or more.")


def _device(model: LinkingModel) -> torch.device:
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if first is None else first.device
