"""Links: what a model joins in a batch, as edges between its nodes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Links:
    """Attention as edges between the nodes of a batch.

    Attributes
    ----------
    gene, peak
        (links,) node positions in the batch.
    weight
        (links, heads), positive in at least one head.
    """

    gene: Tensor
    peak: Tensor
    weight: Tensor
