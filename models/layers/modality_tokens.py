"""Vectors cut into tokens of equal width, and where each token stands."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def cut(vectors: Tensor, gap: int) -> Tensor:
    """Cut vectors (cells, width) into tokens (cells, ⌈width / gap⌉, gap); the last is padded with zeros."""
    short = -vectors.shape[1] % gap
    tokens: Tensor = F.pad(vectors, (0, short)).unflatten(1, (-1, gap))
    return tokens


def sinusoids(n_tokens: int, width: int) -> Tensor:
    """Return sines and cosines of each token's place, (tokens, width), in wavelengths from 2π to 10⁴·2π.

    Source
    ------
    Vaswani et al., Attention is all you need, 2017.
    """
    rates = torch.exp(-math.log(1e4) * torch.arange(0, width, 2) / width)
    angles = torch.arange(n_tokens)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :width]
