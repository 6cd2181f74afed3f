"""Likelihoods of counts given the logarithm of their mean, and what they say about unseen counts."""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Likelihood = Literal["nb", "poisson", "binary"]
LIKELIHOODS: Final = get_args(Likelihood)

_LOG_SIZE = 6.0  # bounds of ln θ: beyond them the distribution does not change
# E ln(1 + X) is the integral of (1 - G(e^-t)) e^-t / t, with G the generating function of X; in s = ln t
# the integrand is smooth, and the sum over these points is exact to 1e-5 for means up to 100. Below the first
# point it falls as t does: a geometric series. Three points for the library size are exact to 3e-5 at a spread of 0.3.
_STEP = 0.7
_T = torch.arange(-12.0, 2.6, _STEP).exp()
_SHARE = _STEP * torch.exp(-_T)
_SHARE[0] /= -np.expm1(-_STEP)
_SPREAD_POINTS = 3  # of the Gauss-Hermite rule over an uncertain library size


class CountLikelihood(nn.Module):
    """Negative binomial, Poisson, or on/off likelihood of counts, gene by gene.

    Parameters
    ----------
    n_genes
        Number of genes; each has a dispersion of its own.
    kind
        ``nb``: variance μ + μ²/θ; ``poisson``: variance μ; ``binary``: a gene is on with chance 1 - e^-μ,
        how much is not asked.
    """

    def __init__(self, n_genes: int, kind: Likelihood) -> None:
        super().__init__()
        self.kind = kind
        self.log_size = nn.Parameter(torch.zeros(n_genes)) if kind == "nb" else None

    def loss(self, log_mean: Tensor, counts: Tensor) -> Tensor:
        """Return the mean negative log likelihood, up to a constant of the counts.

        Parameters
        ----------
        log_mean, counts
            (cells, genes); what depends on a count is computed for those that are not zero only.
        """
        row, gene = counts.nonzero(as_tuple=True)
        count, own = counts[row, gene], log_mean[row, gene]
        if self.kind == "poisson":
            total = log_mean.exp().sum() - (count * own).sum()
        elif self.kind == "binary":
            mean = own.exp()
            total = log_mean.exp().sum() - (torch.log(-torch.expm1(-mean.clamp_min(1e-12))) + mean).sum()
        else:
            size = self._size()
            # ln(1 + μ/θ), for all; a cell's silence has probability (1 + μ/θ)^-θ.
            excess = F.softplus(log_mean - size.log())
            some = count * (own - size[gene].log() - excess[row, gene])
            some = some + torch.lgamma(count + size[gene]) - torch.lgamma(size[gene])
            total = (excess * size).sum() - some.sum()
        return total / max(counts.numel(), 1)

    @torch.no_grad()
    def expect(self, log_mean: Tensor, spread: float = 0.0) -> tuple[Tensor, Tensor]:
        """Return the chance that a gene is on and E ln(1 + count), (cells, genes) each.

        Parameters
        ----------
        log_mean
            (cells, genes).
        spread
            Standard deviation of the logarithm of the library size, over which both are averaged.
        """
        points, weights = np.polynomial.hermite_e.hermegauss(_SPREAD_POINTS if spread else 1)
        on, log = torch.zeros_like(log_mean), torch.zeros_like(log_mean)
        for point, weight in zip(points, weights / weights.sum(), strict=True):
            mean = (log_mean + spread * float(point)).exp()
            on += float(weight) * self._lacking(mean, 1.0)
            for share, t in zip(_SHARE.tolist(), _T.tolist(), strict=True):
                log += float(weight) * share * self._lacking(mean, -float(np.expm1(-t)))
        return on, log

    def _lacking(self, mean: Tensor, distance: float) -> Tensor:
        """What the generating function of the counts lacks of one at 1 - ``distance``."""
        if self.kind != "nb":
            return -torch.expm1(-mean * distance)
        size = self._size()
        return -torch.expm1(-size * torch.log1p(mean * distance / size))

    def _size(self) -> Tensor:
        assert self.log_size is not None
        return self.log_size.clamp(-_LOG_SIZE, _LOG_SIZE).exp()
