"""The published layer of CrossRec as one would write it in PyTorch: one pair, every gene against every peak.

No straw man: float32, one matrix product for all scores, one top-k, features looked up from tables
already in memory as numbers, and sparse gradients for the id tables, as ours has.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scweave.models.crossrec import CrossRec
from scweave.models.layers.node_features import NodeFeatures


class DenseCrossRec(nn.Module):
    """CrossRec over dense matrices, with the weights of a given model.

    Parameters
    ----------
    model
        Model of one head whose parameters are used (shared, not copied).
    """

    def __init__(self, model: CrossRec) -> None:
        super().__init__()
        self.model = model
        self.gene_static, self.peak_static = (
            self._static(model.gene_features),
            self._static(model.peak_features),
        )

    @staticmethod
    def _static(part: NodeFeatures) -> Tensor:
        return part.static(torch.arange(len(part.chrom)))  # (ids, width behind the count)

    def features(self, ids: Tensor, values: Tensor, part: NodeFeatures, static: Tensor) -> Tensor:
        """Id embedding ‖ count ‖ fixed numbers, (nodes, width)."""
        return torch.cat([part.embedding(ids), values[:, None], static[ids]], 1)

    def forward(self, gene_ids: Tensor, expression: Tensor, peak_ids: Tensor, access: Tensor) -> Tensor:
        """Return the (1, 2) logits of one pair."""
        model, config = self.model, self.model.config
        genes = self.features(gene_ids, expression, model.gene_features, self.gene_static)
        peaks = self.features(peak_ids, access, model.peak_features, self.peak_static)
        same = model.gene_features.chrom[gene_ids][:, None] == model.peak_features.chrom[peak_ids][None]
        scores = (model.query(genes) @ model.key(peaks).T) * same  # (genes, peaks)
        best, where = torch.sigmoid(scores).topk(config.top, dim=1)
        kept = torch.softmax(best, 1) * (best > config.threshold)
        weights = torch.zeros_like(scores).scatter(1, where, kept)
        to_gene, to_peak = weights @ model.peak_value(peaks), weights.T @ model.gene_value(genes)
        gene = model.gene_out(torch.cat([to_gene, model.gene_self(genes)], 1)).mean(0)
        peak = model.peak_out(torch.cat([to_peak, model.peak_self(peaks)], 1)).mean(0)
        logits: Tensor = model.classifier(torch.cat([gene, peak])[None])
        return logits

    def translate(self, peak_ids: Tensor, access: Tensor) -> Tensor:
        """Return, for every gene, the number of open peaks that pass, (genes,); straight-through."""
        model = self.model
        every = torch.arange(len(model.gene_features.chrom))
        genes = self.features(every, torch.ones(len(every)), model.gene_features, self.gene_static)
        peaks = self.features(peak_ids, access, model.peak_features, self.peak_static)
        soft = torch.sigmoid(model.query(genes) @ model.key(peaks).T)  # (all genes, peaks)
        hard = (soft > model.config.threshold).to(soft.dtype)
        return (hard - soft.detach() + soft).sum(1)
