"""The corrected CrossRec written plainly: every gene against every peak; and small random inputs for it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from scweave.graphs.schema import NO_DISTANCE
from scweave.models.layers.cis_attention import CisAttention
from scweave.models.layers.linked_expression import LinkedExpression
from scweave.models.layers.prior_edges import PriorEdges
from scweave.models.layers.profiles import Profiles

KNOTS, NEAR = 24, 1000  # of the bias of distance


def random_edges(
    seed: int = 0, *, n_genes: int = 7, n_peaks: int = 9, most: float = 0.9, unplaced: bool = True
) -> PriorEdges:
    """Genes with ever more edges: the first has none, the second no distances; the last peak has no edge."""
    rng = np.random.default_rng(seed)
    joined = rng.random((n_genes, n_peaks)) < np.linspace(0.3, most, n_genes)[:, None]
    joined[0], joined[:, -1] = False, False
    gene, peak = (torch.from_numpy(ids) for ids in joined.nonzero())
    distance = torch.from_numpy(rng.integers(-250_000, 250_000, len(gene)))
    distance[gene == 1] = NO_DISTANCE if unplaced else 10
    return PriorEdges(gene, peak, distance, n_genes, n_peaks)


def random_profiles(seed: int = 0, *, n_cells: int = 5, n_features: int = 9) -> Profiles:
    """Cells of random counts; the third is empty."""
    rng = np.random.default_rng(seed)
    dense = rng.poisson(1.0, (n_cells, n_features)) * (rng.random((n_cells, n_features)) < 0.7)
    dense[2:3] = 0
    return profiles_of(dense)


def profiles_of(dense: np.ndarray) -> Profiles:
    cell, ids = dense.nonzero()
    ptr = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=len(dense)))])
    counts = torch.from_numpy(dense[cell, ids].astype(np.float64))
    return Profiles(torch.from_numpy(ids), counts, torch.from_numpy(ptr))


def same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def same_gradients(ours: Tensor, theirs: Tensor, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Compare gradients of random sums of both; return them."""
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(5), dtype=ours.dtype)
    mine, other = (
        torch.autograd.grad(
            (x * weight).sum(), list(inputs.values()), allow_unused=True, materialize_grads=True
        )
        for x in (ours, theirs)
    )
    for name, a, b in zip(inputs, mine, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
    return dict(zip(inputs, mine, strict=True))


def dense_bias(attention: CisAttention, distance: int, head: int) -> Tensor:
    """Each knot weighs by a hat function around its place on the logarithmic scale."""
    edges = attention.edges
    reach = max(math.log1p(abs(d) / NEAR) for d in edges.distance.tolist() if d != NO_DISTANCE)
    place = math.log1p(abs(distance) / NEAR) / reach * (KNOTS - 1)
    hats = torch.tensor([max(0.0, 1 - abs(place - knot)) for knot in range(KNOTS)], dtype=torch.float64)
    return attention.bias[int(distance < 0), :, head] @ hats


def dense_attention(attention: CisAttention, key: Tensor) -> Tensor:
    """Attention, (genes, peaks, heads); zero where there is no edge."""
    edges = attention.edges
    n_heads = attention.query.shape[1]
    listed = list(zip(edges.gene.tolist(), edges.peak.tolist(), edges.distance.tolist(), strict=True))
    weights = torch.zeros(edges.n_genes, edges.n_peaks, n_heads, dtype=key.dtype)
    for gene in range(edges.n_genes):
        own = [(peak, distance) for g, peak, distance in listed if g == gene]
        for head in range(n_heads):
            scores = []
            for peak, distance in own:
                score = attention.query[gene, head] @ key[peak] / math.sqrt(key.shape[1])
                if attention.bias is not None and distance != NO_DISTANCE:
                    score = score + dense_bias(attention, distance, head)
                scores.append(score)
            falling = [-float(score.detach()) for score in scores]
            order = sorted(range(len(own)), key=falling.__getitem__)
            kept = order[: attention.top] if attention.top else order
            total = sum(torch.exp(scores[i]) for i in kept)
            for i in kept:
                soft = torch.sigmoid(scores[i])
                passed = (
                    (soft > attention.threshold).to(soft.dtype) + soft - soft.detach()
                )  # straight-through
                gate = passed if attention.threshold else 1.0
                weights[gene, own[i][0], head] = gate * torch.exp(scores[i]) / total
    return weights


def dense_access(profiles: Profiles, n_peaks: int, base: float) -> Tensor:
    """ln(1 + count) over the cell's depth, (cells, peaks)."""
    counts = profiles.dense(n_peaks).double()
    return torch.log1p(counts) / (counts.sum(1, keepdim=True) / base).clamp_min(0.2)


def dense_expression(layer: LinkedExpression, key: Tensor, profiles: Profiles, place: Tensor) -> Tensor:
    """ln rates from what every peak passes on in every cell, (cells, genes)."""
    gain = torch.log1p(torch.exp(layer.gain))
    weight = (dense_attention(layer.attention, key) * gain[:, None]).sum(2)
    passed = torch.zeros(len(profiles), len(layer.mean), dtype=key.dtype)
    if layer.own is not None:
        passed = passed + layer.own * (
            dense_access(profiles, len(layer.mean), float(layer.base)) - layer.mean
        )
    if layer.smooth:
        passed = passed + place @ layer.programme.T
    return layer.bias + torch.einsum("gp,cp->cg", weight, passed)
