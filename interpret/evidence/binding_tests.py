"""Likeness of peak scores with binding, and what it would be by chance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from .nulls import matched_bins
from .ranking import top_share
from .topk import jaccard

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

MEASURES: Final = ("cosine", "pearson", "jaccard", "partial")
_MATCHED = 100  # peaks a bin, at least
_HELD = 1 << 21  # permuted values in memory at a time
_FLAT = 1e-12
_ROUNDING = 1e-9


@dataclass(frozen=True)
class PeakTests:
    """Scores of peaks beside their binding.

    All measures are functions of sums over peaks of score times binding, so that a permutation of the
    binding costs a product.

    Attributes
    ----------
    scores, tops
        (scores, peaks) the scores, and the chance of each peak to be among the k best.
    given
        (scores, peaks) what each score is held constant for.
    binding, bound_top
        (peaks,) binding, and the chance of each peak to be among the k most strongly bound.
    k
        Size of the best sets.
    """

    scores: Float64
    tops: Float64
    given: Float64
    binding: Float64
    bound_top: Float64
    k: int

    @classmethod
    def of(cls, scores: Float64, given: Float64, binding: Float64, k: int) -> PeakTests:
        """Prepare the tests."""
        tops = np.stack([top_share(values, k) for values in scores])
        return cls(scores, tops, given, binding, top_share(binding, k), k)

    def measures(self, order: Int64 | None = None) -> dict[str, Float64]:
        """Return all measures, (scores, permutations) each.

        Parameters
        ----------
        order
            (permutations, peaks) whose binding each peak is given; its own where None.
        """
        order = np.arange(len(self.binding))[None] if order is None else order
        binding = self.binding[order].T
        products, held = self.scores @ binding, self.given @ binding
        pearson = _pearson(products, self.scores, self.binding)
        return {
            "cosine": _over(products, _norms(self.scores)[:, None] * _norms(self.binding[None])),
            "pearson": pearson,
            "jaccard": jaccard(self.tops @ self.bound_top[order].T, self.k),
            "partial": _partial(
                pearson, _rowwise(self.scores, self.given), _pearson(held, self.given, self.binding)
            ),
        }

    def null(
        self, bins: Int64, permutations: int, *, seed: int = 0, rows: slice = slice(None)
    ) -> dict[str, list[dict[str, float] | None]]:
        """Permute the binding within bins, and hold some of the scores against it.

        Returns
        -------
        Measure -> a score's ``mean, sd, p`` each, None where it is constant.
        """
        some = replace(self, scores=self.scores[rows], tops=self.tops[rows], given=self.given[rows])
        rng, portion = np.random.default_rng(seed), max(1, _HELD // len(bins))
        parts = [
            some.measures(shuffles(bins, min(portion, permutations - begin), rng))
            for begin in range(0, permutations, portion)
        ]
        own = some.measures()
        return {
            name: _against(own[name][:, 0], np.concatenate([part[name] for part in parts], 1))
            for name in MEASURES
        }


def log_accessibility(accessibility: Float64) -> Float64:
    """Return logarithms that begin at the lowest share above 0, (peaks,)."""
    positive = accessibility[accessibility > 0]
    result: Float64 = np.log(accessibility + (positive.min() if len(positive) else 1.0))
    return result


def alike(accessibility: Float64) -> Int64:
    """Put peaks of like accessibility into bins of 100 or more, (peaks,)."""
    return matched_bins(accessibility, None, None, least=_MATCHED)


def shuffles(bins: Int64, times: int, rng: np.random.Generator) -> Int64:
    """Permute items within bins, (times, items): row r gives the item that stands in for each.

    Keys of bin, random bits and place are sorted as one integer: three times as fast as sorting places by
    random numbers, and with 28 random bits or more as even.
    """
    place_bits = max(len(bins) - 1, 1).bit_length()
    free_bits = 64 - place_bits - int(bins.max(initial=0)).bit_length()
    place = np.arange(len(bins), dtype=np.uint64)
    keys = rng.integers(0, 1 << (free_bits - 1), (times, len(bins)), dtype=np.uint64) << np.uint64(place_bits)
    keys |= place
    keys |= bins.astype(np.uint64) << np.uint64(place_bits + free_bits - 1)
    keys.sort(1)
    drawn = (keys & np.uint64((1 << place_bits) - 1)).astype(np.int64)
    result = np.empty_like(drawn)
    result[:, np.argsort(bins, kind="stable")] = drawn
    return result


def _against(value: Float64, drawn: Float64) -> list[dict[str, float] | None]:
    as_high = (drawn >= value[:, None] - _ROUNDING).sum(1)
    return [
        {
            "mean": float(row.mean()),
            "sd": float(row.std(ddof=1)) if len(row) > 1 else 0.0,
            "p": float((high + 1) / (len(row) + 1)),
        }
        if np.isfinite(known) and np.isfinite(row).all()
        else None
        for known, high, row in zip(value, as_high, drawn, strict=True)
    ]


def _norms(rows: Float64) -> Float64:
    result: Float64 = np.sqrt((rows**2).sum(1))
    return result


def _centred(rows: Float64) -> Float64:
    result: Float64 = rows - rows.mean(1, keepdims=True)
    return result


def _pearson(products: Float64, rows: Float64, values: Float64) -> Float64:
    """Turn Σ row · value into correlations."""
    centred = products - len(values) * rows.mean(1, keepdims=True) * values.mean()
    return _over(centred, _norms(_centred(rows))[:, None] * _norms(_centred(values[None])))


def _rowwise(first: Float64, second: Float64) -> Float64:
    """Correlate each row with the row beside it, (rows, 1)."""
    first, second = _centred(first), _centred(second)
    products = np.einsum("rp,rp->r", first, second)
    return _over(products, _norms(first) * _norms(second))[:, None]


def _partial(first: Float64, second: Float64, third: Float64) -> Float64:
    """Partial correlation of a and b given c, of r(a, b), r(a, c) and r(b, c); c may be constant, and is then passed over."""
    second, third = np.nan_to_num(second), np.nan_to_num(third)
    return _over(first - second * third, np.sqrt(np.maximum((1 - second**2) * (1 - third**2), 0.0)))


def _over(part: Float64, whole: Float64) -> Float64:
    """Divide; NaN where there is nothing to divide by."""
    whole = np.broadcast_to(whole, part.shape)
    result: Float64 = np.where(whole > _FLAT, part / np.where(whole > _FLAT, whole, 1.0), np.nan)
    return result
