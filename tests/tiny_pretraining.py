"""A model of unlabelled cells that trains in no time: it learns the counts of peaks, of which an epoch hides some."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from scweave.graphs.errors import InputError
from scweave.models.annotation.pretraining import PretrainingModel
from scweave.models.exchange import share
from scweave.models.registry import Kind


@dataclass(frozen=True)
class TinyConfig:
    start: float = 0.0


class Tiny(PretrainingModel):
    kind = "tiny"
    modalities = ("atac",)
    chromosomes = ()

    def __init__(self, n_peaks, config):
        super().__init__()
        self.config, self.epoch = config, None
        self.table = nn.Parameter(torch.full((n_peaks,), config.start))
        self.unused = nn.Parameter(torch.ones(2))

    @classmethod
    def from_graphs(cls, graphs, config, *, seed=0):
        return cls(max(len(some.peaks) for some in graphs), config)

    @classmethod
    def from_tensors(cls, tensors, config, n_chrom):
        return cls(len(tensors["table"]), config)

    def set_epoch(self, epoch):
        self.epoch = epoch

    def errors(self, batch):
        """Errors of hidden peaks: which are hidden is a matter of data set, cell, peak and epoch alone."""
        peak, cell = batch["peak"], batch["cell"].atac[batch["peak"].batch]
        epoch = -1 if self.epoch is None else self.epoch
        hidden = (cell * 31 + peak.id * 7 + epoch * 13 + batch.source) % 3 == 0
        return (self.table[peak.id] - peak.accessibility.log1p())[hidden]

    def loss(self, batch):
        errors = self.errors(batch)
        right = (errors.abs() < 0.2).float().mean()
        return {
            "loss": errors.square().mean(),
            "masked_accuracy": right,
            "weight": torch.tensor(float(len(errors))),
        }

    def measure(self, batch):
        errors = self.errors(batch)
        return {
            "squares": errors.square().sum(),
            "counts": torch.stack([(errors.abs() < 0.2).sum(), torch.tensor(len(errors))]),
        }

    def figures(self, sums):
        right, n = sums["counts"].tolist()
        return {"loss": float(sums["squares"]) / n, "masked_accuracy": right / n, "n": n}

    def told(self, sums):
        return {"masked": self.figures(sums)}

    def lr_factor(self, epoch):
        return 1 / (1 + epoch)


class Failing(Tiny):
    """Fails in the second process, after the first epoch."""

    def loss(self, batch):
        if share()[0] == 1 and self.epoch == 1:
            raise InputError("cell 7: no such luck. Try again.")
        return super().loss(batch)


TINY = Kind(Tiny, TinyConfig, "pretraining", 3, 10, 16, 0.1)
FAILING = replace(TINY, model=Failing)
