"""The published attention of CrossRec: softmax over the ten best sigmoid scores, cut at 0.8."""

from __future__ import annotations

import torch
from torch import Tensor


def threshold_weights(scores: Tensor, n_other: Tensor, *, threshold: float = 0.8, top: int = 10) -> Tensor:
    """Turn each gene's best same-chromosome scores into attention weights.

    ``w_j = exp(σ_j) / Σ_i exp(σ_i) · [σ_j > threshold]``, where i runs over the gene's ``top``
    best peaks of the whole cell. Peaks on other chromosomes score 0 (σ = 0.5): they take the
    places that positive scores leave, before negative ones, and never pass the threshold.

    Parameters
    ----------
    scores
        (genes, top) descending, ``-inf`` where the chromosome has no more peaks.
    n_other
        (genes,) open peaks of the cell on other chromosomes.
    threshold
        Smallest sigmoid that passes.
    top
        Peaks that share the softmax; fewer where the cell has fewer open peaks.

    Returns
    -------
    (genes, top) weights; rows do not sum to one, as published.
    """
    sigmoid = torch.sigmoid(scores)
    positive = scores > 0
    fill = torch.minimum(top - positive.sum(1), n_other)
    negative = (scores > -torch.inf) & ~positive
    # Negative scores are in descending order behind the positive ones and come after the fill.
    rank = torch.arange(scores.shape[1], device=scores.device)
    counted = positive | (negative & (rank + fill[:, None] < top))
    exp = torch.where(counted, torch.exp(sigmoid), 0.0)
    total = exp.sum(1) + fill * torch.exp(scores.new_tensor(0.5))
    return torch.where(sigmoid > threshold, exp / total.clamp_min(1e-30)[:, None], 0.0)
