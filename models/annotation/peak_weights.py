"""What an annotator attends to: peaks within the sentences of types, and types within a cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch_geometric.data import Batch


@dataclass(frozen=True)
class PeakWeights:
    """Attention of type sentences to the open peaks of cells, as edges.

    Attributes
    ----------
    cell
        (edges,) position in the batch.
    sentence
        (edges,) cell type whose sentence it is.
    peak
        (edges,) peak of the dataset.
    weight
        (edges,) mean over heads.
    """

    cell: Tensor
    sentence: Tensor
    peak: Tensor
    weight: Tensor


class PeakReader(Protocol):
    """An annotator that tells what it attends to."""

    cell_types: tuple[str, ...]

    def attended_peaks(self, batch: Batch) -> PeakWeights:
        """Return the attention of every sentence to the open peaks of every cell."""
        ...

    def attended_types(self, batch: Batch) -> Tensor:
        """Return the attention of cells to the sentences, (cells, types), mean over heads."""
        ...

    def ranked_markers(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return type, peak and score of the marker peaks, best first in each type."""
        ...
