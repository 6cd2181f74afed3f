"""Calibration: what turns an annotator's logits and embedding into confidence and novelty."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

Int64 = NDArray[np.int64]

_QUANTILES: Final = 1001  # of the reference distances that are kept
_WIDEST: Final = 100.0  # a temperature beyond it, times the spread of the logits, says that they say nothing
_TINY: Final = 1e-6
_RIDGE: Final = 1e-3  # added to the covariance, as a share of its mean variance


class Calibration(nn.Module):
    """Temperature of the probabilities, and distances of cells from what was trained on.

    Confidence is the largest of softmax(logits / temperature); the temperature makes validation cells
    likeliest (Guo et al., ICML 2017), with a standard normal prior of its logarithm beside that of the
    logits' spread. Novelty is the mean of two
    places among held-out cells, from 0 to 1: the share of them that are told with more confidence, and
    the share that lie nearer to a type, by the smallest Mahalanobis distance of the embedding from the
    centroids of the training cells, with one covariance for all types (Lee et al., NeurIPS 2018). A new type may
    show in either alone: it resembles several known ones, or none.

    Parameters
    ----------
    n_types
        Number of cell types.
    width
        Width of the embedding.
    """

    def __init__(self, n_types: int, width: int) -> None:
        super().__init__()
        self.temperature: Tensor
        self.centroids: Tensor
        self.whitening: Tensor
        self.distances: Tensor
        self.doubts: Tensor
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("centroids", torch.zeros(n_types, width))
        self.register_buffer("whitening", torch.eye(width))
        self.register_buffer("distances", torch.zeros(_QUANTILES))
        self.register_buffer("doubts", torch.zeros(_QUANTILES))

    @torch.no_grad()
    def fit_temperature(self, logits: Tensor, codes: Tensor) -> None:
        """Choose the temperature under which the types of held-out cells are likeliest.

        Parameters
        ----------
        logits
            (cells, types).
        codes
            (cells,) type of each cell.
        """
        if not len(codes):
            return

        wide = logits.double()
        spread = float((wide - wide.mean(1, keepdim=True)).std(correction=0).clamp_min(_TINY))

        def loss(log_temperature: float) -> float:
            scaled = wide / (spread * np.exp(log_temperature))
            # A few cells that are all told rightly would ask for no doubt at all: a normal prior keeps some.
            return float(F.cross_entropy(scaled, codes, reduction="sum")) + log_temperature**2 / 2

        bound = float(np.log(_WIDEST))
        found = minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-6})
        self.temperature.fill_(spread * float(np.exp(found.x)))

    @torch.no_grad()
    def fit_novelty(self, embedding: Tensor, codes: Tensor, reference: Tensor, logits: Tensor) -> None:
        """Fit centroids and covariance, and the scales of distance and doubt; the temperature is fitted before.

        Parameters
        ----------
        embedding, codes
            (cells, width) and (cells,) of training cells; every type has at least one.
        reference, logits
            (cells, width) and (cells, types) of held-out cells, whose distances and doubts are the scale of
            novelty; of training cells where there are none.
        """
        wide, n_types = embedding.double(), len(self.centroids)
        sums = wide.new_zeros(n_types, wide.shape[1]).index_add(0, codes, wide)
        centroids = sums / torch.bincount(codes, minlength=n_types).clamp_min(1)[:, None]
        rest = wide - centroids[codes]
        covariance = rest.T @ rest / len(rest)
        ridge = _RIDGE * covariance.diagonal().mean().clamp_min(1e-12)
        values, vectors = torch.linalg.eigh(covariance)
        self.whitening.copy_(vectors * (values.clamp_min(0) + ridge).rsqrt())
        self.centroids.copy_(centroids)
        self.distances.copy_(_quantiles(self.distance(reference)))
        self.doubts.copy_(_quantiles(self.doubt(logits)))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return calibrated probabilities (cells, types)."""
        return (logits / self.temperature).softmax(1)

    def distance(self, embedding: Tensor) -> Tensor:
        """Return the Mahalanobis distance of cells from the nearest type, (cells,)."""
        moved, centroids = (x.to(self.whitening.dtype) @ self.whitening for x in (embedding, self.centroids))
        # The exact mode: a cell's distance shall not depend on the others of its batch.
        return torch.cdist(moved, centroids, compute_mode="donot_use_mm_for_euclid_dist").amin(1)

    def doubt(self, logits: Tensor) -> Tensor:
        """Return 1 − confidence, (cells,)."""
        return 1 - self.probabilities(logits).amax(1)

    def novelty(self, logits: Tensor, embedding: Tensor) -> Tensor:
        """Return the novelty of cells, (cells,) from 0 to 1."""
        far = _place(self.distances, self.distance(embedding))
        return (far + _place(self.doubts, self.doubt(logits))) / 2


def _quantiles(values: Tensor) -> Tensor:
    wide = values.double()
    levels = torch.linspace(0, 1, _QUANTILES, dtype=wide.dtype, device=wide.device)
    return torch.quantile(wide, levels)


def _place(quantiles: Tensor, values: Tensor) -> Tensor:
    """Return the share of reference values below each value, interpolated."""
    values = values.to(quantiles.dtype)
    place = torch.searchsorted(quantiles.contiguous(), values.contiguous()).clamp(1, len(quantiles) - 1)
    below, above = quantiles[place - 1], quantiles[place]
    part = ((values - below) / (above - below).clamp_min(1e-12)).clamp(0, 1)
    return (place - 1 + part) / (len(quantiles) - 1)
