"""Evaluation of pre-training: hidden values of held-out cells, told by the model and guessed without the cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ...graphs.dataset import MultiomeGraphs
from ...graphs.schema import SOURCE, Split
from ..devices import device_of
from .calibrate import batches
from .pretraining import PretrainingModel


@torch.no_grad()
def evaluate_masked(
    model: PretrainingModel, graphs: Sequence[MultiomeGraphs], *, split: Split = "test", progress: bool = True
) -> dict[str, Any]:
    """Ask for hidden values of one split of some data sets.

    Parameters
    ----------
    model
        Pre-trained.
    graphs
        Data sets of its genome; their cells are read together.
    split
        Whose cells are asked.
    progress
        Show a bar.

    Returns
    -------
    Ready for JSON: figures of the model, and of guesses from training cells alone as baselines.
    """
    sums: dict[str, Tensor] = {}
    model.eval().set_epoch(None)
    parts = [some.part(split=split) for some in graphs]
    with tqdm(total=sum(map(len, parts)), desc="hidden values", unit="cell", disable=not progress) as bar:
        for part in parts:
            model.place([part.peaks.frame], model.chromosomes)
            cells, _ = part.pairs_of(range(len(part)))
            for _, batch in batches(part, cells, model.at_once):
                batch[SOURCE] = torch.tensor(0)
                for name, value in model.measure(batch.to(device_of(model))).items():
                    sums[name] = sums[name] + value if name in sums else value
                bar.update(batch.num_graphs)
    return {
        "model": model.kind,
        "mode": model.mode,
        "stage": model.stage,
        "split": split,
        "fold": graphs[0].fold,
        "notes": list(model.notes),
        **model.told(sums),
    }
