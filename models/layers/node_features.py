"""Features of gene and peak nodes, read once a step for the distinct ids of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...graphs.segments import block_pointers, unique_ids
from .block_topk import Blocks
from .scaled_rows import ScaledRows

_ROWS = 2048  # peaks whose DNA is read at a time
# A, C, G, T, N as numbers, in the order of the stored codes; the published model reads DNA so.
_ORDINAL_DNA = (0.25, 1.0, 0.75, 0.5, 0.0)


class NodeFeatures(nn.Module):
    """Feature vector of a node: id embedding ‖ count ‖ chromosome one-hot ‖ numbers ‖ DNA as ordinals.

    Parameters
    ----------
    chrom
        (ids,) int64 chromosome codes; negative (unplaced) gives a zero one-hot.
    n_chrom
        Number of chromosomes.
    id_width
        Width of the id embedding.
    numbers
        (ids, m) further static features, or None.
    sequence
        (ids, length) uint8 base codes, or None.
    sparse
        Whether gradients of the id table are sparse.

    Shapes
    ------
    ``width = id_width + 1 + n_chrom + m + length``; the order is that of the published weights.
    """

    def __init__(
        self,
        chrom: Tensor,
        n_chrom: int,
        id_width: int,
        *,
        numbers: Tensor | None = None,
        sequence: Tensor | None = None,
        sparse: bool = True,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(chrom), id_width, sparse=sparse)
        self.n_chrom = n_chrom
        self.chrom: Tensor
        self.numbers: Tensor
        self.sequence: Tensor
        self.ordinals: Tensor
        self.register_buffer("chrom", chrom)
        self.register_buffer("numbers", torch.empty(len(chrom), 0) if numbers is None else numbers)
        empty = torch.empty(len(chrom), 0, dtype=torch.uint8)
        self.register_buffer("sequence", empty if sequence is None else sequence)
        self.register_buffer("ordinals", torch.tensor(_ORDINAL_DNA), persistent=False)

    @property
    def width(self) -> int:
        """Width of a feature vector."""
        return (
            self.embedding.embedding_dim + 1 + self.n_chrom + self.numbers.shape[1] + self.sequence.shape[1]
        )

    def static(self, ids: Tensor) -> Tensor:
        """Return everything behind the count, (n, width - id_width - 1)."""
        places = torch.where(self.chrom[ids] < 0, self.n_chrom, self.chrom[ids])
        one_hot = F.one_hot(places, self.n_chrom + 1)[:, : self.n_chrom].to(self.ordinals.dtype)
        known = torch.cat([one_hot, self.numbers[ids]], 1)
        fixed = known.new_empty(len(ids), known.shape[1] + self.sequence.shape[1])
        fixed[:, : known.shape[1]] = known
        for begin in range(0, len(ids), _ROWS):  # an index of eight bytes a base would outweigh all else
            rows = slice(begin, begin + _ROWS)
            fixed[rows, known.shape[1] :] = self.ordinals[self.sequence[ids[rows]].int()]
        return fixed

    def nodes(self, ids: Tensor, values: Tensor, cell: Tensor, ptr: Tensor) -> Nodes:
        """Look up the features of a batch's nodes.

        Parameters
        ----------
        ids, values, cell
            (nodes,) ids, counts and owning graph, sorted by graph.
        ptr
            (graphs + 1,) pointers.
        """
        unique, position = unique_ids(ids, len(self.chrom))
        one = torch.zeros_like(unique)
        blocks = Blocks(
            block_pointers(cell, self.chrom[ids], len(ptr) - 1, self.n_chrom),
            block_pointers(one, self.chrom[unique], 1, self.n_chrom),
        )
        values = values.to(self.ordinals.dtype)
        return Nodes(ids, self.embedding(unique), self.static(unique), position, values, cell, ptr, blocks)


@dataclass(frozen=True)
class Nodes:
    """The nodes of one type in a batch, features held once for each distinct id.

    Attributes
    ----------
    ids, position, values, cell
        (nodes,): id, row in ``table``, count and graph.
    table, static
        (distinct ids, …): trained and fixed features.
    ptr
        (graphs + 1,) pointers.
    blocks
        Where the nodes of each graph and chromosome lie.
    """

    ids: Tensor
    table: Tensor
    static: Tensor
    position: Tensor
    values: Tensor
    cell: Tensor
    ptr: Tensor
    blocks: Blocks

    def project(self, layer: nn.Linear) -> ScaledRows:
        """Apply a linear map to every node's features, at the cost of the distinct ids."""
        width = self.table.shape[1]
        base = F.linear(self.table, layer.weight[:, :width], layer.bias)
        base = torch.addmm(base, self.static, layer.weight[:, width + 1 :].T)
        return ScaledRows(base, layer.weight[:, width], self.position, self.values)

    def pooled(self, weight: Tensor, bias: Tensor, shares: Tensor) -> Tensor:
        """Return Σ share · (features @ weight.T + bias) over the nodes of each graph, (graphs, out).

        The map is linear, so features are summed first and mapped once a graph.

        Parameters
        ----------
        weight, bias
            (out, width) and (out,) of a linear map of the features.
        shares
            (nodes,) factor of each node.
        """
        offsets = self.ptr[:-1]
        trained, fixed = (
            F.embedding_bag(self.position, table, offsets, mode="sum", per_sample_weights=shares)
            for table in (self.table, self.static)
        )
        zeros = shares.new_zeros(len(offsets))
        value = zeros.index_add(0, self.cell, shares * self.values)
        total = zeros.index_add(0, self.cell, shares)
        return F.linear(torch.cat([trained, value[:, None], fixed], 1), weight) + total[:, None] * bias

    @property
    def counts(self) -> Tensor:
        """Number of nodes of each graph, (graphs,)."""
        return self.ptr.diff()

    def mean_share(self) -> Tensor:
        """1 / (nodes of the graph), (graphs,); 1 where there are none."""
        return 1.0 / self.counts.clamp_min(1).to(self.values.dtype)
