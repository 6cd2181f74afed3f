"""Components of both modalities of a cell, either of which may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Batch

from ...graphs.csr import CsrRows
from ...graphs.dataset import MultiomeGraphs
from ..layers.profiles import Profiles
from .components import Components, Lsi, Pca, weighted_matrix
from .draws import drawn
from .inputs import MOST, variable_genes

Int64 = NDArray[np.int64]
OfPeaks = Literal["lsi", "pca"]

KINDS: Final[dict[OfPeaks, type[Components]]] = {"lsi": Lsi, "pca": Pca}


@dataclass(frozen=True)
class Pair:
    """Both modalities of cells.

    Attributes
    ----------
    rna, atac
        (cells, width) components; what they are of a modality that is missing does not matter.
    has
        (cells, 2) whether RNA and ATAC are there.
    """

    rna: Tensor
    atac: Tensor
    has: Tensor

    @property
    def parts(self) -> tuple[Tensor, Tensor]:
        """Both."""
        return self.rna, self.atac

    def without(self, dropped: Tensor) -> Pair:
        """Return the same cells as if some modalities, (cells, 2), had not been measured."""
        return Pair(self.rna, self.atac, self.has & ~dropped)


class PairedComponents(nn.Module):
    """PCA of genes, and LSI or PCA of peaks, of equal width; a modality without counts is missing.

    Parameters
    ----------
    n_genes, n_peaks, width
        Sizes.
    of_peaks
        ``lsi`` or ``pca``.
    """

    def __init__(self, n_genes: int, n_peaks: int, width: int, of_peaks: OfPeaks) -> None:
        super().__init__()
        self.rna = Pca(n_genes, width)
        self.atac = KINDS[of_peaks](n_peaks, width)

    @classmethod
    def fitted(
        cls, graphs: MultiomeGraphs, width: int, of_peaks: OfPeaks, *, variable_peaks: int = 0, seed: int = 0
    ) -> PairedComponents:
        """Fit on training cells; of genes the highly variable ones of the dataset are read.

        Parameters
        ----------
        graphs
            Training cells; those without counts of a modality are left out of its fit.
        width
            Components of each modality, 0 where there are fewer.
        of_peaks
            ``lsi`` or ``pca``.
        variable_peaks
            PCA reads so many peaks, those of largest variance; all when 0.
        seed
            Decides randomised parts, and which cells are read where there are very many.
        """
        cells, _ = graphs.pairs_of(range(len(graphs)))
        found = cls(len(graphs.genes), len(graphs.peaks), width, of_peaks)
        rna, atac = _with_counts(graphs.rna_rows, cells), _with_counts(graphs.atac_rows, cells)
        assert isinstance(found.rna, Pca)
        found.rna.fit(graphs.rna_rows, rna, variable_genes(graphs), most=MOST, seed=seed)
        if isinstance(found.atac, Lsi):
            found.atac.fit(graphs.atac_rows, atac, most=MOST, seed=seed)
        elif isinstance(found.atac, Pca):
            peaks = _most_variable(found.atac, graphs.atac_rows, atac, variable_peaks, seed)
            found.atac.fit(graphs.atac_rows, atac, peaks, most=MOST, seed=seed)
        return found

    @classmethod
    def shaped(cls, tensors: Mapping[str, Tensor], of_peaks: OfPeaks) -> PairedComponents:
        """Make components of the shapes that saved ones have."""
        (n_genes, width), (n_peaks, _) = (tensors[f"{name}.table"].shape for name in ("rna", "atac"))
        return cls(n_genes, n_peaks, width, of_peaks)

    @property
    def width(self) -> int:
        """Components of each modality."""
        return int(self.rna.table.shape[1])

    @property
    def ranks(self) -> tuple[int, int]:
        """How many components of RNA and ATAC are not 0."""
        rna, atac = (int((part.table != 0).any(0).sum()) for part in (self.rna, self.atac))
        return rna, atac

    def forward(self, batch: Batch) -> Pair:
        """Read cells."""
        genes, peaks = Profiles.genes(batch), Profiles.peaks(batch)
        has = torch.stack([genes.ptr.diff() > 0, peaks.ptr.diff() > 0], 1)
        return Pair(self.rna(genes), self.atac(peaks), has)


def most_components(graphs: MultiomeGraphs) -> tuple[int, int]:
    """Return how many components of RNA and of ATAC training cells can have."""
    cells, _ = graphs.pairs_of(range(len(graphs)))
    rna, atac = (len(_with_counts(rows, cells)) for rows in (graphs.rna_rows, graphs.atac_rows))
    found = min(rna, len(variable_genes(graphs))), min(atac, len(graphs.peaks))
    return max(found[0] - 1, 0), max(found[1] - 1, 0)


def _with_counts(rows: CsrRows, cells: Int64) -> Int64:
    return cells[rows.indptr[cells + 1] > rows.indptr[cells]]


def _most_variable(pca: Pca, rows: CsrRows, cells: Int64, n: int, seed: int) -> Int64:
    """Return the features whose log-normalised counts vary most over cells, in ascending order."""
    if not 0 < n < rows.n_columns:
        return np.arange(rows.n_columns)
    weighted = weighted_matrix(pca.weigh, rows, drawn(cells, MOST, seed))
    mean = np.asarray(weighted.mean(0)).ravel()
    variance = np.asarray(weighted.multiply(weighted).mean(0)).ravel() - mean**2
    return np.sort(np.argsort(-variance, kind="stable")[:n])
