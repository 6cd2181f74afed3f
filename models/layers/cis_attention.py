"""CisAttention: how a gene shares its attention among the peaks of its prior."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...graphs.segments import segment_rank, segment_softmax
from .prior_edges import PriorEdges

NEAR = 1_000.0  # bp below which distances are much alike
KNOTS = 24  # of the bias, on a logarithmic scale, a side


class CisAttention(nn.Module):
    """Softmax over a gene's prior edges of (query · key) / √d + bias(distance), head by head.

    Weights belong to the edge, not to the cell: a peak that happens not to be seen in a cell passes no
    message there, and leaves the weights of the others as they are.

    Parameters
    ----------
    edges
        The pairs that attention may join.
    width
        Width d of queries and keys.
    heads
        Attention heads; they share the keys.
    distance
        Whether there is a bias of distance, piecewise linear in log(|bp| + 1000) on each side of the TSS.
    top
        Only the best so many edges of a gene share its softmax; all when 0.
    threshold
        Edges whose sigmoid score does not pass it get no weight, as published, with straight-through gradients,
        for at first none passes; 0 lets all pass.

    Notes
    -----
    Attention begins uniform, but for the noise that tells heads apart; `penalty` draws it back there, so
    that a gene without evidence keeps the weights that distance and the other genes suggest.
    """

    def __init__(
        self,
        edges: PriorEdges,
        width: int,
        *,
        heads: int = 1,
        distance: bool = True,
        top: int = 0,
        threshold: float = 0.0,
    ) -> None:
        super().__init__()
        self.edges, self.top, self.threshold = edges, top, threshold
        self.query = nn.Parameter(0.01 * torch.randn(edges.n_genes, heads, width))
        self.bias = nn.Parameter(torch.zeros(2, KNOTS, heads)) if distance else None

    def scores(self, key: Tensor) -> Tensor:
        """Return the scores of all edges, (edges, heads), from keys of all peaks, (peaks, width)."""
        gene, peak = self.edges.gene, self.edges.peak
        queries, keys = self.query.index_select(0, gene), key.index_select(0, peak)
        scores = (queries * keys[:, None]).sum(2) / math.sqrt(key.shape[1])
        return scores if self.bias is None else scores + self._distance_bias(self.bias)

    def forward(self, key: Tensor) -> Tensor:
        """Return the weights of all edges, (edges, heads); without a threshold a gene's add up to one."""
        scores = self.scores(key)
        shared = scores
        if self.top:
            late = segment_rank(scores.detach(), self.edges.gene, self.edges.n_genes) >= self.top
            shared = scores.masked_fill(late, -torch.inf)
        weights = segment_softmax(shared, self.edges.gene, self.edges.n_genes)
        if self.threshold:
            soft = torch.sigmoid(scores)
            weights = weights * ((soft > self.threshold) + soft - soft.detach())  # straight-through
        return weights

    def penalty(self, query: float, bias: float = 0.1) -> Tensor:
        """Return the negative log density of normal priors of these precisions, but for a constant."""
        total = 0.5 * query * self.query.square().sum()
        return total if self.bias is None else total + 0.5 * bias * self.bias.square().sum()

    def _distance_bias(self, bias: Tensor) -> Tensor:
        """Interpolate between knots; edges without a distance get none."""
        distance = self.edges.distance.abs().to(bias.dtype)
        reach = torch.log1p(torch.where(self.edges.placed, distance, 0).max() / NEAR).clamp_min(1e-6)
        place = torch.log1p(distance / NEAR) / reach * (KNOTS - 1)
        knot = place.long().clamp(0, KNOTS - 2)
        part = (place - knot)[:, None]
        side = (self.edges.distance < 0).long()
        found = bias[side, knot] * (1 - part) + bias[side, knot + 1] * part
        return found * self.edges.placed[:, None]
