"""How well a score puts true pairs before the others, for any number of weightings at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

RECALLS: Final = (0.1, 0.25, 0.5)
_HELD: Final = 1 << 21  # sums in memory at a time


@dataclass(frozen=True)
class Ranking:
    """Pairs by descending score, in segments: a tie with true pairs is one, what lies between two such ties another.

    How many pairs of each gene a segment has is all that the figures need, so that weighting genes anew is a
    product of sparse counts with the weights.

    Attributes
    ----------
    pairs, true
        (segments, genes) numbers of pairs, and of true ones.
    first
        (segments,) the first segment of the bin each lies in.
    """

    pairs: sparse.csr_matrix
    true: sparse.csr_matrix
    first: Int64

    @classmethod
    def of(cls, true: Bool, score: Float64, gene: Int64 | None = None, bins: Int64 | None = None) -> Ranking:
        """Rank pairs.

        Parameters
        ----------
        true
            (pairs,) whether each is true.
        score
            (pairs,) the higher, the likelier.
        gene
            (pairs,) what is weighted together, from 0; one for all where None.
        bins
            (pairs,) pairs are ranked within bins, from 0; one bin where None.
        """
        gene = np.zeros(len(true), np.int64) if gene is None else gene
        bins = np.zeros(len(true), np.int64) if bins is None else bins
        order = np.lexsort((-score, bins))
        true, score, gene, bins = true[order], score[order], gene[order], bins[order]
        opens = np.ones(len(true), bool)
        opens[1:] = bins[1:] != bins[:-1]
        segment = _segments(true, opens, score)
        shape = (int(segment[-1]) + 1, int(gene.max()) + 1) if len(true) else (0, 1)
        starts = segment[np.flatnonzero(opens)]
        begins = np.zeros(shape[0], np.int64)
        begins[starts] = starts
        return cls(
            _counts(segment, gene, shape),
            _counts(segment[true], gene[true], shape),
            np.maximum.accumulate(begins),
        )

    def auroc(self, weights: Float64 | None = None) -> Float64:
        """Area under the ROC curve, pairs compared within bins only (Mann-Whitney, stratified), (weightings,)."""
        return np.concatenate([_auroc(w, t, self.first) for w, t in self._sums(weights)])

    def precision(self, weights: Float64 | None = None) -> dict[str, Float64]:
        """Return what `FIGURES` has besides AUROC, (weightings,) each; bins are passed over."""
        parts = [_precisions(w, t) for w, t in self._sums(weights)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def figures(self, weights: Float64 | None = None) -> dict[str, Float64]:
        """Return all figures; see `FIGURES`.

        Parameters
        ----------
        weights
            (weightings, genes) times that each gene counts, whole numbers; once each where None.

        Returns
        -------
        (weightings,) each, NaN where no pair is true, or for AUROC none is untrue.
        """
        found = self.precision(weights)
        return {"auprc": found.pop("auprc"), "auroc": self.auroc(weights), **found}

    def _sums(self, weights: Float64 | None) -> list[tuple[Float64, Float64]]:
        """Weigh the pairs, and the true ones, of each segment, (segments, weightings) each, in portions."""
        weights = np.ones((1, self.pairs.shape[1])) if weights is None else weights
        portions = max(1, -(-len(weights) * self.pairs.shape[0] // _HELD))
        return [(self.pairs @ some.T, self.true @ some.T) for some in np.array_split(weights, portions)]


FIGURES: Final = ("auprc", "auroc", "early_precision", *(f"precision_at_recall_{r}" for r in RECALLS))


def _segments(true: Bool, opens: Bool, score: Float64) -> Int64:
    """Number the segments of sorted pairs; ``opens`` marks where a bin begins."""
    starts = opens.copy()
    starts[1:] |= score[1:] != score[:-1]
    tie = np.cumsum(starts) - 1
    holds = np.bincount(tie, weights=true, minlength=1)[tie] > 0
    cuts = opens.copy()
    cuts[1:] |= starts[1:] & (holds[1:] | holds[:-1])
    return np.cumsum(cuts) - 1


def _counts(segment: Int64, gene: Int64, shape: tuple[int, int]) -> sparse.csr_matrix:
    ones = np.ones(len(segment))
    return sparse.csr_matrix(sparse.coo_matrix((ones, (segment, gene)), shape=shape))


def _auroc(pairs: Float64, true: Float64, first: Int64) -> Float64:
    untrue = pairs - true
    before = np.cumsum(untrue, 0) - untrue
    before -= before[first]
    starts = np.unique(first)
    trues, others = np.add.reduceat(true, starts, 0), np.add.reduceat(untrue, starts, 0)
    after = others[np.searchsorted(starts, first)] - before - untrue
    compared = (trues * others).sum(0)
    return _ratio((true * (after + 0.5 * untrue)).sum(0), compared)


def _precisions(pairs: Float64, true: Float64) -> dict[str, Float64]:
    found, seen = np.cumsum(true, 0), np.cumsum(pairs, 0)
    total = found[-1]
    at_end = found / np.where(seen > 0, seen, 1.0)
    result = {
        "auprc": _ratio((true * at_end).sum(0), total),
        "early_precision": _early(pairs, true, found, seen),
    }
    for recall in RECALLS:
        wanted = np.ceil(recall * total - 1e-9)
        result[f"precision_at_recall_{recall}"] = _precision_at(wanted, pairs, true, found, seen)
    return result


def _early(pairs: Float64, true: Float64, found: Float64, seen: Float64) -> Float64:
    """Precision among as many of the best pairs as are true; ties by expectation."""
    total, column = found[-1], np.arange(found.shape[1])
    last = (seen >= total).argmax(0)
    width, hits = pairs[last, column], true[last, column]
    inside = total - (seen[last, column] - width)
    among = found[last, column] - hits + hits * inside / np.where(width > 0, width, 1.0)
    return _ratio(among, total)


def _precision_at(wanted: Float64, pairs: Float64, true: Float64, found: Float64, seen: Float64) -> Float64:
    """Precision among the fewest best pairs that hold so many true ones; ties by expectation."""
    column = np.arange(found.shape[1])
    last = (found >= wanted).argmax(0)
    width, hits = pairs[last, column], true[last, column]
    missing = wanted - (found[last, column] - hits)
    taken = seen[last, column] - width + width * missing / np.where(hits > 0, hits, 1.0)
    return _ratio(wanted, taken)


def _ratio(part: Float64, whole: Float64) -> Float64:
    """Divide; NaN by 0."""
    result: Float64 = np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan)
    return result


def quality(true: Bool, score: Float64) -> dict[str, float | None]:
    """Return the figures of one method, null where they mean nothing; see `Ranking.figures`."""
    return {name: number(values[0]) for name, values in Ranking.of(true, score).figures().items()}


def number(value: float) -> float | None:
    """Return a float that JSON can hold."""
    return float(value) if np.isfinite(value) else None


def early_precision(true: Bool, score: Float64) -> float:
    """Precision among the best n pairs, n being the number of true ones; ties count by expectation."""
    return share_of_top(true, score, int(true.sum()))


def share_of_top(marked: Bool, score: Float64, n: int) -> float:
    """Share of the best n pairs that are marked; ties count by expectation."""
    return float(marked @ top_share(score, n) / n)


def top_share(score: Float64, n: int) -> Float64:
    """Chance of each item to be among the best n when ties are broken at random, (items,)."""
    cut = np.partition(score, -n)[-n]
    above, tied = score > cut, score == cut
    result: Float64 = above + tied * ((n - above.sum()) / tied.sum())
    return result
