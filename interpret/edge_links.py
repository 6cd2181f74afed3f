"""EdgeLinks: links of a model whose attention belongs to the prior's edges, not to the cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..graphs.dataset import MultiomeGraphs
from ..models.layers.prior_edges import PriorEdges
from ..models.layers.profiles import Profiles

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

LEAST_SCORE = 0.001  # links below are not listed
_PRIOR_CELLS = 20  # cells' worth of the mean over all, that a type's openness begins with


@runtime_checkable
class EdgeModel(Protocol):
    """A model whose attention and effects belong to prior edges."""

    @property
    def edges(self) -> PriorEdges:
        """The prior edges."""
        ...

    def link_weights(self) -> Tensor:
        """Return the attention of every edge, (edges,)."""
        ...

    def link_effects(self, atac: Profiles) -> Tensor:
        """Return what every edge adds to its gene's ln rate in the mean of some cells, (edges,)."""
        ...


@dataclass
class EdgeLinks:
    """Attention of all prior edges, and how open their peaks are in each of several groups of cells.

    Attributes
    ----------
    gene, peak
        (edges,) ids.
    weight
        (edges,) attention.
    n_peaks
        Number of peaks.
    """

    model: EdgeModel
    gene: Int64
    peak: Int64
    weight: Float64
    n_peaks: int
    _openness: Float64 = field(default_factory=lambda: np.zeros((0, 0)))
    _effects: list[Float64] = field(default_factory=list)

    @classmethod
    def of(cls, model: EdgeModel, graphs: MultiomeGraphs) -> EdgeLinks:
        """Read the attention of a model."""
        edges = model.edges
        return cls(
            model,
            edges.gene.cpu().numpy(),
            edges.peak.cpu().numpy(),
            model.link_weights().double().cpu().numpy(),
            len(graphs.peaks),
        )

    def compare(self, graphs: MultiomeGraphs, groups: list[Int64]) -> None:
        """Measure openness and effects in groups of cells (row numbers)."""
        opened = np.zeros((len(groups), self.n_peaks))
        depth = np.zeros(len(groups))
        self._effects = []
        device = self.model.edges.gene.device
        for place, cells in enumerate(groups):
            effect = np.zeros(len(self.gene))
            for some in Profiles.chunks(graphs.atac_rows, cells):
                opened[place] += np.bincount(some.ids.numpy(), minlength=self.n_peaks)
                depth[place] += len(some.ids)
                with torch.no_grad():
                    mean = self.model.link_effects(some.to(device)).double().cpu().numpy()
                effect += mean * (len(some) / max(len(cells), 1))
            self._effects.append(effect)
        self._openness = _relative(opened, depth / max(depth.sum() / sum(map(len, groups)), 1e-12))

    def scores(self, group: int) -> Float64:
        """Attention times the peak's openness in a group, relative to the group where it is most open, (edges,)."""
        scores: Float64 = self.weight * self._openness[group][self.peak]
        return scores

    def effects(self, group: int) -> Float64:
        """Effects in the mean cell of a group, (edges,)."""
        return self._effects[group]


def _relative(opened: Float64, cells: Float64) -> Float64:
    """Share of cells in which each peak is open, as if all were as deep, by the largest share of any group.

    Parameters
    ----------
    opened
        (groups, peaks) cells that have the peak open.
    cells
        (groups,) cells, each counted by its depth.
    """
    usual = opened.sum(0) / max(float(cells.sum()), 1e-12)
    share = (opened + _PRIOR_CELLS * usual) / (cells + _PRIOR_CELLS)[:, None]
    relative: Float64 = share / np.maximum(share.max(0), 1e-12)
    return relative
