"""EdgeLinks: links of a model whose attention belongs to the prior's edges, not to the cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ...graphs.dataset import MultiomeGraphs
from ...models.layers.prior_edges import PriorEdges
from ...models.layers.profiles import Profiles
from ..evidence.nulls import Significance
from .link_nulls import LinkNulls

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_ROUNDING = 1e-6  # of attention in single precision
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

    def link_gains(self) -> Tensor:
        """Return what every edge passes on to its gene's ln rate, (edges,)."""
        ...

    def openness(self, atac: Profiles) -> Tensor:
        """Return how open each peak is in the mean of some cells beside the mean training cell, (peaks,)."""
        ...


@dataclass
class EdgeLinks:
    """Attention of all prior edges, and how open their peaks are in each of several groups of cells.

    Attributes
    ----------
    gene, peak
        (edges,) ids.
    weight, gain
        (edges,) attention beyond an even share of the gene's, 0 where there is none; and what is passed on to the
        gene's ln rate. A gene's only edge has all of its attention, which says nothing.
    n_peaks
        Number of peaks.
    significance
        Of every edge, once `judge` was called. Attention does not depend on the cell, so it is alike in all types.
    """

    model: EdgeModel
    gene: Int64
    peak: Int64
    weight: Float64
    gain: Float64
    n_peaks: int
    significance: Significance | None = None
    _relative: Float64 = field(default_factory=lambda: np.zeros((0, 0)))  # (groups, peaks), as the next
    _openness: Float64 = field(default_factory=lambda: np.zeros((0, 0)))

    @classmethod
    def of(cls, model: EdgeModel, graphs: MultiomeGraphs) -> EdgeLinks:
        """Read the attention of a model."""
        gene, peak = (ids.cpu().numpy() for ids in (model.edges.gene, model.edges.peak))
        even = 1 / np.maximum(np.bincount(gene, minlength=len(graphs.genes)), 1)[gene]
        return cls(
            model,
            gene,
            peak,
            np.maximum(model.link_weights().double().cpu().numpy() - even, 0),
            model.link_gains().double().cpu().numpy(),
            len(graphs.peaks),
        )

    def compare(self, graphs: MultiomeGraphs, groups: list[Int64]) -> None:
        """Measure how open peaks are in groups of cells (row numbers)."""
        opened = np.zeros((len(groups), self.n_peaks))
        depth = np.zeros(len(groups))
        self._openness = np.zeros((len(groups), self.n_peaks))
        device = self.model.edges.gene.device
        for place, cells in enumerate(groups):
            for some in Profiles.chunks(graphs.atac_rows, cells):
                opened[place] += np.bincount(some.ids.numpy(), minlength=self.n_peaks)
                depth[place] += len(some.ids)
                openness = self.model.openness(some.to(device)).double().cpu().numpy()
                self._openness[place] += openness * (len(some) / len(cells))
        cells_by_depth = depth / max(depth.sum() / sum(map(len, groups)), 1e-12)
        self._relative = relative_openness(opened, cells_by_depth)

    def judge(self, nulls: LinkNulls | None) -> None:
        """Hold all edges against a null; all of them are tested, listed or not."""
        self.significance = None if nulls is None else nulls.of(self.gene, self.peak)

    def scores(self, group: int) -> Float64:
        """Weight times the peak's openness in a group, relative to the group where it is most open, (edges,)."""
        scores: Float64 = self.weight * self._relative[group][self.peak]
        return scores

    def effects(self, group: int) -> Float64:
        """What an edge changes of the gene's ln rate between the mean cell of a group and of training, (edges,)."""
        effects: Float64 = self.gain * self._openness[group][self.peak]
        return effects

    def listed(self, group: int) -> Int64:
        """Edges with a score, by descending score."""
        score = self.scores(group)
        order = np.argsort(-score, kind="stable")
        kept: Int64 = order[score[order] > _ROUNDING]
        return kept


def relative_openness(opened: Float64, cells: Float64) -> Float64:
    """Share of cells in which each peak is open, as if all were as deep, by the largest share of any group.

    Parameters
    ----------
    opened
        (groups, peaks, …) cells that have the peak open.
    cells
        (groups, …) cells, each counted by its depth.
    """
    usual = opened.sum(0) / np.maximum(cells.sum(0), 1e-12)
    share = (opened + _PRIOR_CELLS * usual) / (cells + _PRIOR_CELLS)[:, None]
    relative: Float64 = share / np.maximum(share.max(0), 1e-12)
    return relative
