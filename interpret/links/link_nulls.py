"""LinkNulls: the matched null of a model's links."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ...graphs.dataset import MultiomeGraphs
from ..evidence.correlation import gc_content, open_share
from ..evidence.nulls import DRAWS, NullPeaks, Significance, link_significance

Int64 = npt.NDArray[np.int64]


@runtime_checkable
class AffineModel(Protocol):
    """A model that scores a gene and a peak by a product of two vectors."""

    def affinities(self, graphs: MultiomeGraphs) -> tuple[Tensor, Tensor]:
        """Return queries (genes, d) and keys (peaks, d), as comparable where a peak could be no link of the gene."""
        ...


class LinkNulls:
    """Hold links against the products of their genes with matched peaks of other chromosomes.

    Parameters
    ----------
    model
        Trained model.
    graphs
        Cells that tell how open peaks are.
    draws
        Null peaks of each link.
    seed
        Decides which.
    """

    def __init__(
        self, model: AffineModel, graphs: MultiomeGraphs, *, draws: int = DRAWS, seed: int = 0
    ) -> None:
        queries, keys = model.affinities(graphs)
        self._queries, self._keys = queries.double().cpu().numpy(), keys.double().cpu().numpy()
        self._gene_chrom = graphs.genes.chrom.numpy().astype(np.int64)
        peak_chrom = graphs.peaks.chrom.numpy().astype(np.int64)
        self.has_gc = (gc := gc_content(graphs)) is not None
        self._nulls = NullPeaks.draw(open_share(graphs), gc, peak_chrom, draws=draws, seed=seed)
        genes, peaks = (
            np.bincount(codes[codes >= 0], minlength=len(graphs.store.manifest["chromosomes"]))
            for codes in (self._gene_chrom, peak_chrom)
        )
        self.pairs = int((genes * peaks).sum())  # of a gene and a peak on one chromosome

    def of(self, gene: Int64, peak: Int64, *, tests: int | None = None) -> Significance:
        """Return the significance of links; ``tests`` as in `link_significance`."""
        return link_significance(
            gene, peak, self._queries, self._keys, self._gene_chrom, self._nulls, tests=tests
        )
