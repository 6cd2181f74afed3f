"""Masked pre-training of annATAC: tell hidden values of islands from the others of the cell."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch

from ..graphs.dataset import MultiomeGraphs
from ..graphs.schema import ATAC, CELL, SOURCE
from .annotation.island_places import island_places
from .annotation.islands import MOST, Islands
from .annotation.masking import Masked
from .annotation.pretraining import PretrainingModel
from .annotation.schedules import step_decay
from .layers.even_masks import random_keys
from .layers.profiles import Profiles

_HELD_OUT = -1  # the epoch of the masks of held-out cells


class MaskedIslands(PretrainingModel):
    """The encoder of annATAC, and what tells hidden values from it.

    The masks of a cell depend on seed, epoch and cell alone: not on its batch, nor on the number of processes.

    Parameters
    ----------
    n_islands
        Number of islands.
    config
        Settings of the mode.

    Attributes
    ----------
    islands, encoder
        What fine-tuning takes up.
    counted
        (islands, 6) how often training cells have each value: what baselines guess from.
    """

    kind: ClassVar[str] = "annatac"
    reads_places = True
    modalities = (ATAC,)
    config: Any
    encoder: nn.Module

    def __init__(self, n_islands: int, config: Any) -> None:
        super().__init__()
        self.config, self.seed, self.epoch = config, 0, _HELD_OUT
        self.islands = Islands(n_islands, config.island)
        self.encoder = self.make_encoder(n_islands)
        self.counted: Tensor
        self.register_buffer("counted", torch.zeros(n_islands, MOST + 1, dtype=torch.int64))

    @classmethod
    def from_graphs(cls, graphs: Sequence[MultiomeGraphs], config: Any, *, seed: int = 0) -> Self:
        """Find the islands of training cells, place them among each other, and make an untrained model."""
        for some in graphs:
            some.require(cls.modalities, cls.kind)
        islands = cls.places_of(graphs, config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(len(islands), config)
        model.seed, model.islands = seed, islands
        places = island_places(islands, graphs, config.width, seed=seed)
        model.encoder.settle(places)  # type: ignore[operator]  # encoders of islands have it
        model.notes = told_rank(places.rank, config.width)
        for source, some in enumerate(graphs):
            model._count(some, source)
        model.counted[:, 0] = sum(len(some) for some in graphs) - model.counted.sum(1)
        return model

    @classmethod
    def places_of(cls, graphs: Sequence[MultiomeGraphs], config: Any) -> Islands:
        """Return the islands of data sets."""
        return Islands.of(graphs, config.island, tss=config.tss)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: Any, n_chrom: int) -> Self:
        """Make a model of the shapes that saved weights have."""
        del n_chrom
        return cls(len(tensors["islands.bin"]), config)

    def _count(self, graphs: MultiomeGraphs, source: int) -> None:
        _, cells = graphs.pairs_of(range(len(graphs)))
        for peaks in Profiles.chunks(graphs.atac_rows, cells):
            found = self.islands.read(peaks, source)
            place = found.ids * (MOST + 1) + found.counts.long()
            self.counted += torch.bincount(place, minlength=self.counted.numel()).view_as(self.counted)

    @property
    def chromosomes(self) -> tuple[str, ...]:
        """Names for the codes of the islands' chromosomes."""
        return self.islands.chromosomes

    def place(self, peaks: Sequence[pd.DataFrame], chromosomes: Sequence[str]) -> None:
        """Find the islands of peaks."""
        self.islands.place(peaks, chromosomes)

    def set_epoch(self, epoch: int | None) -> None:
        """Choose the masks of a training epoch, or those of held-out cells."""
        self.epoch = _HELD_OUT if epoch is None else epoch

    @property
    def held_out(self) -> bool:
        """Whether masks are those of held-out cells."""
        return self.epoch == _HELD_OUT

    def lr_factor(self, epoch: float) -> float:
        """Fall step by step."""
        return step_decay(epoch)

    @abstractmethod
    def make_encoder(self, n_islands: int) -> nn.Module:
        """Make an untrained encoder."""

    @abstractmethod
    def hide(self, islands: Profiles, draw: Tensor) -> Masked:
        """Hide islands of cells; ``draw`` (cells,) decides which."""

    @abstractmethod
    def tell(self, masked: Masked) -> Tensor:
        """Return the logits of the values asked for, (asked, 6)."""

    def ask(self, batch: Batch) -> tuple[Masked, Tensor]:
        """Hide islands of a batch, and return what is asked and the logits of its values, (asked, 6)."""
        cell = batch[CELL][ATAC]
        seed = 0 if self.epoch == _HELD_OUT else self.seed  # every run is asked the same of held-out cells
        masked = self.hide(self.islands(batch), _mixed(seed, self.epoch, int(batch[SOURCE]), cell))
        return masked, self.tell(masked)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean cross-entropy of the values asked for, and how many these are."""
        masked, logits = self.ask(batch)
        right = (logits.argmax(1) == masked.truth).float()
        n = max(len(right), 1)  # cells without open islands ask for nothing
        told = F.cross_entropy(logits, masked.truth, reduction="sum") / n
        return {
            "loss": told,
            "masked_accuracy": right.sum() / n,
            "weight": told.new_tensor(float(len(right))),
        }

    @torch.no_grad()
    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """Count predicted against true values, also of two guesses: the commonest value, and the island's own."""
        masked, logits = self.ask(batch)
        told = {"model": logits.argmax(1), **self.guesses(masked.islands.ids[masked.asked])}
        sums = {name: _confusion(masked.truth, value) for name, value in told.items()}
        loss = F.cross_entropy(logits.double(), masked.truth, reduction="sum")
        return {"loss": loss, **sums}

    def guesses(self, ids: Tensor) -> dict[str, Tensor]:
        """Return what training cells alone say of islands (asked,): without looking at the cell."""
        opened = self.counted[:, 1:]
        return {
            "majority": (opened.sum(0).argmax() + 1).expand_as(ids),
            "island": opened.argmax(1)[ids] + 1,
        }

    def figures(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Return loss, accuracy and macro-F1 (over values that occur) of the values asked for."""
        n = max(int(sums["model"].sum()), 1)
        return {"loss": float(sums["loss"]) / n, **masked_figures(sums["model"])}

    def told(self, sums: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the figures of the model, with those of guesses as baselines."""
        n = int(sums["model"].sum())
        guesses = {name: value for name, value in sums.items() if name not in ("model", "loss")}
        return {
            "masked": {**self.figures(sums), "n": n},
            "baselines": {"masked": {name: {**masked_figures(c), "n": n} for name, c in guesses.items()}},
        }


def masked_figures(confusion: Tensor) -> dict[str, float]:
    """Return accuracy and macro-F1 from counts of true (rows) against predicted values.

    Values that neither occur nor are predicted do not count.
    """
    counts = confusion.double()
    right, total = counts.diagonal(), counts.sum(0) + counts.sum(1)
    f1 = 2 * right / total.clamp_min(1)
    met = total > 0
    return {
        "masked_accuracy": float(right.sum() / counts.sum().clamp_min(1)),
        "masked_macro_f1": float(f1[met].mean()) if met.any() else 0.0,
    }


def told_rank(rank: int, width: int) -> list[str]:
    """Say where the training cells have fewer dimensions than a token."""
    if rank == width:
        return []
    return [
        f"positions: the training cells have rank {rank}; the other {width - rank} of {width} numbers are 0"
    ]


def _confusion(truth: Tensor, value: Tensor) -> Tensor:
    return torch.bincount(truth * (MOST + 1) + value, minlength=(MOST + 1) ** 2).view(MOST + 1, MOST + 1)


def _mixed(seed: int, epoch: int, source: int, cell: Tensor) -> Tensor:
    """Return a number for each cell of an epoch, which decides its masks."""
    return (random_keys(seed, epoch, source, cell) * 2**53).long()
