"""Profiles: the counts of one modality of several cells, as tensors side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch

from ...graphs.csr import CsrRows
from ...graphs.schema import ACCESSIBILITY, EXPRESSION, GENE, ID, PEAK
from .bags import bag

Int64 = NDArray[np.int64]
DEPTHS = 2  # numbers that say how deeply a cell was sequenced
_CHUNK = 1024


@dataclass(frozen=True)
class Profiles:
    """Counts of one modality of several cells.

    Attributes
    ----------
    ids, counts
        (nodes,) features and their counts, cell after cell.
    ptr
        (cells + 1,) pointers into the nodes.
    """

    ids: Tensor
    counts: Tensor
    ptr: Tensor

    @classmethod
    def genes(cls, batch: Batch) -> Profiles:
        """Take the RNA profiles of a batch of graphs."""
        return cls(batch[GENE][ID], batch[GENE][EXPRESSION], batch[GENE].ptr)

    @classmethod
    def peaks(cls, batch: Batch) -> Profiles:
        """Take the ATAC profiles of a batch of graphs."""
        return cls(batch[PEAK][ID], batch[PEAK][ACCESSIBILITY], batch[PEAK].ptr)

    @classmethod
    def of(cls, rows: CsrRows, cells: Int64) -> Profiles:
        """Read cells of a dataset."""
        ids, counts, sizes = rows.gather(cells)
        return cls(
            torch.from_numpy(ids),
            torch.from_numpy(counts),
            F.pad(torch.from_numpy(sizes).cumsum(0), (1, 0)),
        )

    @classmethod
    def chunks(cls, rows: CsrRows, cells: Int64) -> Iterator[Profiles]:
        """Read many cells of a dataset, some at a time."""
        for begin in range(0, len(cells), _CHUNK):
            yield cls.of(rows, cells[begin : begin + _CHUNK])

    def __len__(self) -> int:
        return len(self.ptr) - 1

    def to(self, device: torch.device) -> Profiles:
        """Move to a device."""
        return Profiles(self.ids.to(device), self.counts.to(device), self.ptr.to(device))

    @cached_property
    def cell(self) -> Tensor:
        """The cell of each node, (nodes,)."""
        return torch.repeat_interleave(self.ptr.diff())

    def total(self, values: Tensor) -> Tensor:
        """Add up values (nodes,) by cell, (cells,)."""
        return values.new_zeros(len(self)).index_add(0, self.cell, values)

    def bag(self, values: Tensor, table: Tensor) -> Tensor:
        """Return Σ value · table[id] over the nodes of each cell, (cells, width)."""
        return bag(table, self.ids, values, self.ptr)

    def depths(self) -> Tensor:
        """Return ln(1 + counts) and ln(1 + features) of each cell, (cells, 2)."""
        features = self.ptr.diff().to(self.counts.dtype)
        return torch.log1p(torch.stack([self.total(self.counts), features], 1))

    def dense(self, n_features: int) -> Tensor:
        """Return counts (cells, n_features)."""
        dense = self.counts.new_zeros(len(self), n_features)
        dense[self.cell, self.ids] = self.counts
        return dense

    def some(self, cells: Tensor) -> Profiles:
        """Return the profiles of some cells, in ascending order; ``cells`` is a mask (cells,)."""
        kept = cells[self.cell]
        return Profiles(self.ids[kept], self.counts[kept], F.pad(self.ptr.diff()[cells].cumsum(0), (1, 0)))
