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
_WIDEST: Final = 20.0  # a temperature beyond it, or below its inverse, says that the logits say nothing
_RIDGE: Final = 1e-3  # added to the covariance, as a share of its mean variance


class Calibration(nn.Module):
    """Temperature of the probabilities, and distances of cells from what was trained on.

    Confidence is the largest of softmax(logits / temperature); the temperature makes validation cells
    likeliest (Guo et al., ICML 2017), with a standard normal prior of its logarithm. Novelty is how far a cell lies from the nearest type: the smallest
    Mahalanobis distance of its embedding from the centroids of the training cells, with one covariance
    for all types (Lee et al., NeurIPS 2018), as the share of reference cells that lie nearer.

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
        self.reference: Tensor
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("centroids", torch.zeros(n_types, width))
        self.register_buffer("whitening", torch.eye(width))
        self.register_buffer("reference", torch.zeros(_QUANTILES))

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

        def loss(log_temperature: float) -> float:
            scaled = logits.double() / np.exp(log_temperature)
            # A few cells that are all told rightly would ask for no doubt at all: a normal prior keeps some.
            return float(F.cross_entropy(scaled, codes, reduction="sum")) + log_temperature**2 / 2

        bound = float(np.log(_WIDEST))
        found = minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-6})
        self.temperature.fill_(float(np.exp(found.x)))

    @torch.no_grad()
    def fit_distances(self, embedding: Tensor, codes: Tensor, reference: Tensor) -> None:
        """Fit centroids and covariance.

        Parameters
        ----------
        embedding, codes
            (cells, width) and (cells,) of training cells; every type has at least one.
        reference
            (cells, width) held-out cells whose distances are the scale of novelty; training cells where
            there are none.
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
        near = self.distance(reference).double()
        levels = torch.linspace(0, 1, _QUANTILES, dtype=near.dtype, device=near.device)
        self.reference.copy_(torch.quantile(near, levels))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return calibrated probabilities (cells, types)."""
        return (logits / self.temperature).softmax(1)

    def distance(self, embedding: Tensor) -> Tensor:
        """Return the Mahalanobis distance of cells from the nearest type, (cells,)."""
        moved, centroids = (x.to(self.whitening.dtype) @ self.whitening for x in (embedding, self.centroids))
        # The exact mode: a cell's distance shall not depend on the others of its batch.
        return torch.cdist(moved, centroids, compute_mode="donot_use_mm_for_euclid_dist").amin(1)

    def novelty(self, embedding: Tensor) -> Tensor:
        """Return the share of reference cells that lie nearer to a type, (cells,) from 0 to 1."""
        distance, reference = self.distance(embedding), self.reference.contiguous()
        place = torch.searchsorted(reference, distance.contiguous()).clamp(1, len(reference) - 1)
        below, above = reference[place - 1], reference[place]
        part = ((distance - below) / (above - below).clamp_min(1e-12)).clamp(0, 1)
        return (place - 1 + part) / (len(reference) - 1)
