"""The expression layer of the corrected CrossRec written plainly: one cell, every gene against every peak of a chromosome."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scweave.models.crossrec_cis import CisCrossRec
from scweave.models.layers.cis_attention import KNOTS, NEAR
from scweave.models.layers.profiles import Profiles


class DenseExpression:
    """ln rates of all genes of one cell from dense attention, a chromosome at a time.

    Parameters
    ----------
    model
        Whose weights are used.
    gene_chrom, peak_chrom
        (genes,) and (peaks,) chromosome codes, sorted.
    """

    def __init__(self, model: CisCrossRec, gene_chrom: Tensor, peak_chrom: Tensor) -> None:
        self.model = model
        edges = model.edges
        self.blocks = []
        for code in torch.unique(gene_chrom[gene_chrom >= 0]).tolist():
            genes, peaks = (
                (gene_chrom == code).nonzero().squeeze(1),
                (peak_chrom == code).nonzero().squeeze(1),
            )
            if not len(peaks):
                continue
            here = (gene_chrom[edges.gene] == code).nonzero().squeeze(1)
            row, column = edges.gene[here] - genes[0], edges.peak[here] - peaks[0]
            near = torch.zeros(len(genes), len(peaks), dtype=torch.bool)
            near[row, column] = True
            distance = torch.zeros(len(genes), len(peaks), dtype=torch.int32)
            distance[row, column] = edges.distance[here].int()
            self.blocks.append((genes, peaks, near, distance))

    def __call__(self, key: Tensor, cell: Profiles, place: Tensor) -> Tensor:
        """Return ln rates (1, genes)."""
        layer = self.model.expression
        attention = layer.attention
        gain = torch.nn.functional.softplus(layer.gain)
        access = torch.zeros(len(key)).index_put((cell.ids,), layer.accessibility(cell))
        value = layer.programme @ place[0]
        if layer.own is not None:
            value = value + layer.own * (access - layer.mean)
        rates = layer.bias.clone()
        reach = torch.log1p(attention.edges.distance.abs().max() / NEAR)
        for genes, peaks, near, distance in self.blocks:
            scores = attention.query[genes, 0] @ key[peaks].T / math.sqrt(key.shape[1])
            if attention.bias is not None:
                scores = scores + _bias(attention.bias[..., 0], distance, reach)
            weights = torch.softmax(scores.masked_fill(~near, -torch.inf), 1)
            weights = torch.where(near.any(1, keepdim=True), weights, 0.0)
            rates = rates.index_add(0, genes, gain[genes, 0] * (weights @ value[peaks]))
        return rates[None]


def _bias(bias: Tensor, distance: Tensor, reach: Tensor) -> Tensor:
    place = torch.log1p(distance.abs() / NEAR) / reach * (KNOTS - 1)
    knot = place.long().clamp(0, KNOTS - 2)
    part, side = place - knot, (distance < 0).long()
    return bias[side, knot] * (1 - part) + bias[side, knot + 1] * part
