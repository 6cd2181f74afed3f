"""PriorEdges: the peak-gene pairs that attention may join, as buffers of a model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from ...graphs.schema import NO_DISTANCE

MOST_EDGES = 5_000_000  # a model holds its edges in memory; a whole chromosome's pairs are soon too many


class PriorEdges(nn.Module):
    """Edges from peaks to genes, by gene, then peak.

    Parameters
    ----------
    gene, peak
        (edges,) int64 ids, sorted by gene.
    distance
        (edges,) bp, peak centre from TSS, negative upstream; ``NO_DISTANCE`` where there is no TSS.
    n_genes, n_peaks
        Numbers of genes and peaks.
    """

    def __init__(self, gene: Tensor, peak: Tensor, distance: Tensor, n_genes: int, n_peaks: int) -> None:
        super().__init__()
        self.gene: Tensor
        self.peak: Tensor
        self.distance: Tensor
        self.by_peak: Tensor
        self.peak_ptr: Tensor
        self.n_genes, self.n_peaks = n_genes, n_peaks
        self.register_buffer("gene", gene)
        self.register_buffer("peak", peak)
        self.register_buffer("distance", distance)
        # The same edges listed by peak, for sums over the open peaks of cells.
        counts = torch.bincount(peak, minlength=n_peaks)
        self.register_buffer("by_peak", torch.argsort(peak, stable=True), persistent=False)
        self.register_buffer("peak_ptr", F.pad(counts.cumsum(0), (1, 0)), persistent=False)

    @classmethod
    def from_graphs(cls, graphs: MultiomeGraphs) -> PriorEdges:
        """Take the prior of a dataset: its window edges, or all pairs on a chromosome.

        Raises
        ------
        InputError
            There are no edges, or more than fit in memory.
        """
        count = graphs.n_cis
        if not count:
            raise InputError(
                f"{graphs.root} has no edge between a peak and a gene, and crossrec learns from such edges. "
                "Build it with a GTF and --window BP, or train with --mode published."
            )
        if count > MOST_EDGES:
            raise InputError(
                f"{graphs.root} has {count:,} pairs of a peak and a gene on one chromosome, more than the "
                f"{MOST_EDGES:,} that crossrec holds. Build it with --window BP, or train with --mode published."
            )
        (peak, gene), distance = graphs.cis_edges()
        return cls(gene, peak, distance, len(graphs.genes), len(graphs.peaks))

    def __len__(self) -> int:
        return len(self.gene)

    @property
    def placed(self) -> Tensor:
        """Which edges have a distance, (edges,) bool."""
        return self.distance != NO_DISTANCE
