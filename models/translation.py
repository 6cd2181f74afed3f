"""Figures of translation, gathered a batch of cells at a time: no prediction is kept."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .metrics import Figures, mean_or_none, ranking_metrics, row_pearson
from .translators import Translation

Floats = NDArray[np.float64]

_BITS = 20  # of a float32 that a score keeps: whole numbers to 4,096 are exact


class TranslationTally:
    """Compare translations with the counts of the same cells.

    Parameters
    ----------
    n_genes
        Number of genes.
    """

    def __init__(self, n_genes: int) -> None:
        self._seen = np.zeros((2, 1 << _BITS))  # silent and expressed by score
        self._wrong, self._items, self.cells = 0.0, 0, 0
        self._errors: Floats | None = np.zeros(2)  # absolute and squared, of ln(1 + count)
        self._pearson: list[Floats] = []
        self._moments = np.zeros((5, n_genes))

    def add(self, translation: Translation, counts: NDArray[np.float32]) -> None:
        """Add a batch of cells with their true counts, (cells, genes)."""
        truth, on = np.log1p(counts), counts > 0
        key = _keys(translation.score).ravel()
        self._seen[1] += np.bincount(key[on.ravel()], minlength=1 << _BITS)
        self._seen[0] += np.bincount(key[~on.ravel()], minlength=1 << _BITS)
        self._wrong += float((translation.on != on).sum())
        self._items += counts.size
        self.cells += len(counts)
        if translation.log is None:
            self._errors = None
        elif self._errors is not None:
            difference = (translation.log - truth).astype(np.float64)
            self._errors += np.abs(difference).sum(), (difference**2).sum()
        guess = (translation.score if translation.log is None else translation.log).astype(np.float64)
        self._pearson.append(row_pearson(guess, truth))
        for moment, values in zip(
            self._moments, (guess, truth, guess * guess, truth * truth, guess * truth), strict=True
        ):
            moment += values.sum(0, dtype=np.float64)

    def figures(self) -> Figures:
        """Return the figures of all cells added.

        Returns
        -------
        ``auroc`` and ``auprc`` of on over all genes of all cells; ``pearson`` with ln(1 + count), the mean
        over cells, and ``gene_pearson``, over genes; ``mae`` and ``rmse`` of on; ``log_mae`` and ``log_rmse``
        of ln(1 + count), None where a method predicts no counts.
        """
        share = self._wrong / max(self._items, 1)
        errors = (
            [None, None] if self._errors is None else [float(e) / max(self._items, 1) for e in self._errors]
        )
        return {
            **ranking_metrics(np.arange(1 << _BITS, dtype=np.float64), self._seen[1], self._seen[0]),
            "pearson": mean_or_none(np.concatenate(self._pearson)),
            "gene_pearson": mean_or_none(self._gene_pearson()),
            "mae": share,
            "rmse": math.sqrt(share),
            "log_mae": errors[0],
            "log_rmse": None if errors[1] is None else math.sqrt(errors[1]),
        }

    def _gene_pearson(self) -> Floats:
        guess, truth, guess2, truth2, both = self._moments / max(self.cells, 1)
        spread = np.maximum(guess2 - guess**2, 0) * np.maximum(truth2 - truth**2, 0)
        # A constant prediction leaves rounding errors where its variance should be.
        known = (guess2 - guess**2 > 1e-10 * guess2) & (truth2 - truth**2 > 1e-10 * truth2)
        found: Floats = np.full(len(spread), np.nan)
        np.divide(both - guess * truth, np.sqrt(spread), out=found, where=known)
        return found


def _keys(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Whole numbers in the order of the scores."""
    bits = (np.ascontiguousarray(scores, dtype=np.float32) + np.float32(0)).view(np.uint32)  # -0 becomes 0
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
    keys: NDArray[np.int64] = (ordered >> np.uint32(32 - _BITS)).astype(np.int64)
    return keys
