"""Reading many cells with an annotator, and calibrating it once it is trained."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch
from tqdm.auto import tqdm

from ...graphs.dataset import MultiomeGraphs
from ..devices import device_of
from .draws import stratified
from .model import AnnotatorModel, Reading, codes_of

Int64 = NDArray[np.int64]

_MOST = 20_000  # training cells that centroids and covariance are fitted on


def batches(graphs: MultiomeGraphs, cells: Int64, size: int) -> Iterator[tuple[int, Batch]]:
    """Give cells (row numbers) as graphs, some at a time, and where each batch begins."""
    for begin in range(0, len(cells), size):
        some = cells[begin : begin + size]
        yield begin, graphs.batch_of_pairs(some, some, cis=False)


@torch.no_grad()
def read_cells(
    model: AnnotatorModel, graphs: MultiomeGraphs, cells: Int64, *, label: str = "", progress: bool = False
) -> Reading:
    """Read many cells (row numbers), on the processor's memory.

    Returns
    -------
    Logits and embedding of all of them.
    """
    device, found = device_of(model), []
    model.eval()
    # Cells that ask each other shall not have their like beside them, as files are often sorted by type.
    order = np.arange(len(cells)) if model.reads_alone else np.random.default_rng(0).permutation(len(cells))
    bar = tqdm(total=len(cells), desc=label, unit="cell", disable=not progress)
    with bar:
        for _, batch in batches(graphs, cells[order], model.at_once):
            reading = model(batch.to(device))
            found.append((reading.logits.cpu(), reading.embedding.cpu()))
            bar.update(len(reading.logits))
    back = torch.from_numpy(np.argsort(order))
    logits, embedding = (torch.cat(parts)[back] for parts in zip(*found, strict=True))
    return Reading(logits, embedding)


def calibrate(
    model: AnnotatorModel,
    train: MultiomeGraphs,
    validation: MultiomeGraphs,
    *,
    seed: int = 0,
    progress: bool = False,
) -> None:
    """Fit confidence and novelty of a trained model.

    Parameters
    ----------
    model
        Its `Calibration` is fitted.
    train, validation
        Labelled cells. Where no validation cell has a type that the model knows, the temperature stays 1 and
        training cells are the scale of novelty.
    seed
        Decides which training cells are read where they are many.
    progress
        Show bars.
    """
    fitted, codes = _known(model, train, most=_MOST, seed=seed)
    held_out, truth = _known(model, validation)
    for modalities, calibration in model.calibrations().items():
        part = train.only(modalities)
        reading = read_cells(model, part, fitted, label="calibrating", progress=progress)
        device = device_of(model)
        calibration.cpu()  # where readings are
        reference = reading
        if len(held_out):
            reference = read_cells(model, part, held_out)
            calibration.fit_temperature(reference.logits, truth)
        calibration.fit_novelty(reading.embedding, codes, reference.embedding, reference.logits)
        calibration.to(device)


def _known(
    model: AnnotatorModel, graphs: MultiomeGraphs, *, most: int | None = None, seed: int = 0
) -> tuple[Int64, Tensor]:
    """Return the cells whose type the model knows, and their codes; every type keeps some where there are many."""
    cells, _ = graphs.pairs_of(range(len(graphs)))
    codes = codes_of(model.cell_types, graphs)[torch.from_numpy(graphs.cell_type_codes[cells])]
    cells, codes = cells[codes.numpy() >= 0], codes[codes >= 0]
    if most is not None and len(cells) > most:
        some = stratified(codes.numpy(), most, seed)
        cells, codes = cells[some], codes[torch.from_numpy(some)]
    return cells, codes
