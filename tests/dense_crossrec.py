"""The published CrossRec written plainly: one pair at a time, every gene against every peak."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from scweave.models.crossrec import CrossRec
from scweave.models.layers.node_features import NodeFeatures

ORDINALS = {0: 0.25, 1: 1.0, 2: 0.75, 3: 0.5, 4: 0.0}  # A C G T N


def features(part: NodeFeatures, ids: Tensor, values: Tensor) -> Tensor:
    chrom = part.chrom[ids]
    one_hot = (chrom[:, None] == torch.arange(part.n_chrom, device=ids.device)).to(values.dtype)
    dna = part.sequence[ids].to(values.dtype)
    dna = sum((part.sequence[ids] == code).to(values.dtype) * value for code, value in ORDINALS.items())
    return torch.cat([part.embedding.weight[ids], values[:, None], one_hot, part.numbers[ids], dna], 1)


def dense_weights(model: CrossRec, genes: Tensor, peaks: Tensor, same: Tensor) -> list[Tensor]:
    """Attention (genes × peaks) of each head."""
    config, n_heads = model.config, model.config.heads
    query, key = model.query(genes), model.key(peaks)
    weights = []
    for q, k in zip(query.chunk(n_heads, 1), key.chunk(n_heads, 1), strict=True):
        scores = (q @ k.T) * same
        sigmoid = torch.sigmoid(scores)
        order = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, : config.top]
        best = torch.gather(sigmoid, 1, order)
        soft = torch.softmax(best, 1) * (best > config.threshold)
        weights.append(torch.zeros_like(scores).scatter(1, order, soft))
    return weights


def dense_pair(
    model: CrossRec, gene_ids: Tensor, expression: Tensor, peak_ids: Tensor, access: Tensor
) -> Tensor:
    """Logits ‖ pooled genes ‖ pooled peaks of one pair."""
    config = model.config
    genes = features(model.gene_features, gene_ids, expression)
    peaks = features(model.peak_features, peak_ids, access)
    same = model.gene_features.chrom[gene_ids][:, None] == model.peak_features.chrom[peak_ids][None]
    weights = dense_weights(model, genes, peaks, same.to(genes.dtype))
    v_peak = model.peak_value(peaks).chunk(config.heads, 1)
    v_gene = model.gene_value(genes).chunk(config.heads, 1)
    to_gene = torch.cat([w @ v for w, v in zip(weights, v_peak, strict=True)], 1)
    to_peak = torch.cat([w.T @ v for w, v in zip(weights, v_gene, strict=True)], 1)
    gene = model.gene_out(torch.cat([model.gene_heads(to_gene), model.gene_self(genes)], 1))
    peak = model.peak_out(torch.cat([model.peak_heads(to_peak), model.peak_self(peaks)], 1))
    pooled = [x.mean(0) if len(x) else x.new_zeros(config.width) for x in (gene, peak)]
    return torch.cat([model.classifier(torch.cat(pooled)), *pooled])


def dense_counts(model: CrossRec, peak_ids: Tensor, access: Tensor) -> Tensor:
    """Links that pass the threshold for every gene of the model; straight-through."""
    every = torch.arange(len(model.gene_features.chrom), device=peak_ids.device)
    genes = features(model.gene_features, every, torch.ones_like(every).to(access.dtype))
    sigmoid = torch.sigmoid(model.query(genes) @ model.key(features(model.peak_features, peak_ids, access)).T)
    hard = (sigmoid > model.config.threshold).to(sigmoid.dtype)
    return (hard + sigmoid - sigmoid.detach()).sum(1)


def graphs_of(batch) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    return [
        (d["gene"].id, d["gene"].expression.double(), d["peak"].id, d["peak"].accessibility.double())
        for d in batch.to_data_list()
    ]


def dense_forward(model: CrossRec, batch) -> tuple[Tensor, Tensor, Tensor]:
    rows = torch.stack([dense_pair(model, *graph) for graph in graphs_of(batch)])
    width = model.config.width
    return rows[:, :2], rows[:, 2 : 2 + width], rows[:, 2 + width :]


def dense_loss(model: CrossRec, batch) -> Tensor:
    config, match = model.config, batch["cell"].match
    loss = F.cross_entropy(dense_forward(model, batch)[0], match.long())
    errors = []
    for (gene_ids, expression, peak_ids, access), positive in zip(graphs_of(batch), match, strict=True):
        if positive:
            counts = dense_counts(model, peak_ids, access)
            on = (counts > config.on_above).to(counts.dtype)
            target = torch.zeros_like(counts).scatter(0, gene_ids, expression)
            if config.target == "binary":
                target = (target > 0).to(target.dtype)
            errors.append((on + counts - counts.detach() - target) ** 2)
    return loss + config.alpha * torch.stack(errors).mean() if errors else loss
