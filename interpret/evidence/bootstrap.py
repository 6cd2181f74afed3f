"""How sure a figure is: genes drawn anew, with all of their pairs."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

RESAMPLES: Final = 200
_LEVEL: Final = 0.95
_ENOUGH: Final = 0.5  # of the draws must have a figure


def gene_draws(n_genes: int, resamples: int = RESAMPLES, *, seed: int = 0) -> Float64:
    """Draw as many genes as there are, with replacement.

    Pairs of one gene share its expression and its true links, so they are no independent draws.

    Returns
    -------
    (resamples, genes) how often each gene was drawn.
    """
    shares = np.full(n_genes, 1 / max(n_genes, 1))
    return np.random.default_rng(seed).multinomial(n_genes, shares, size=resamples).astype(np.float64)


def interval(values: Float64) -> list[float] | None:
    """Return the bounds of the middle 95 % of draws; None where half of them have no figure."""
    known = values[np.isfinite(values)]
    if not len(known) or len(known) < _ENOUGH * len(values):
        return None
    tail = (1 - _LEVEL) / 2
    return [float(bound) for bound in np.quantile(known, [tail, 1 - tail])]
