"""What a match to a motif is worth: log odds in steps, their exact distribution, and its threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ...graphs.bases import N
from ...graphs.errors import InputError
from .read import Motif

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

STEP: Final = 0.01  # bits; p-values are those of scores rounded to it, position by position
PSEUDOCOUNT: Final = 0.1  # sites, divided as the background is
_ROUNDING: Final = 1e-9  # of a sum of probabilities, relative


@dataclass(frozen=True)
class Scoring:
    """Scores of motifs against a background, and the least that is significant.

    The score of bases b at the positions of a motif is Σ log₂ p(b) / q(b), with p of the motif and q of
    the background. Its levels are whole numbers: each term in steps of 0.01 bits above the least of its
    position. Their distribution over random bases is exact, by convolution from position to position,
    as FIMO (Grant, Bailey and Noble 2011) and MOODS (Korhonen et al. 2009) have it.

    Attributes
    ----------
    odds, levels
        A motif (length, 4) each: bits, and whole numbers from 0.
    threshold
        (motifs,) least level whose p-value is at most the one asked for; above all levels where none is.
    tails, ptr
        p-values of the levels from the threshold on, motif after motif, and (motifs + 1,) pointers.
    """

    odds: tuple[Float64, ...]
    levels: tuple[Int64, ...]
    threshold: Int64
    tails: Float64
    ptr: Int64

    @classmethod
    def of(
        cls,
        motifs: Sequence[Motif],
        background: Float64,
        *,
        pvalue: float = 1e-4,
        pseudocount: float = PSEUDOCOUNT,
    ) -> Scoring:
        """Score motifs.

        Parameters
        ----------
        motifs
            Any number.
        background
            (4,) shares of A, C, G, T; positive, and as many A as T and C as G, so that one
            distribution is that of both strands.
        pvalue
            Most that a match may have, in (0, 1).
        pseudocount
            Sites added to every position, divided as the background is.

        Raises
        ------
        InputError
            ``pvalue`` or ``pseudocount`` is out of range.
        """
        if not 0 < pvalue < 1:
            raise InputError(f"the p-value of motif matches is {pvalue:g}. Pass one between 0 and 1.")
        if not pseudocount > 0:
            raise InputError(f"the pseudocount of motifs is {pseudocount:g}. Pass one above 0.")
        odds = tuple(log_odds(motif, background, pseudocount) for motif in motifs)
        steps = tuple(np.rint(own / STEP).astype(np.int64) for own in odds)
        levels = tuple(own - own.min(1, keepdims=True) for own in steps)
        cuts = [_significant(tail_of(own, background), pvalue) for own in levels]
        ptr = np.concatenate([[0], np.cumsum([len(tail) for _, tail in cuts])]).astype(np.int64)
        tails = np.concatenate([np.zeros(0), *(tail for _, tail in cuts)])
        return cls(odds, levels, np.array([cut for cut, _ in cuts], np.int64), tails, ptr)

    @property
    def never(self) -> Int64:
        """Rows of the motifs too short or too vague to have a significant match at all."""
        return np.flatnonzero(np.diff(self.ptr) == 0)

    def pvalues(self, motif: Int64, above: Int64) -> Float64:
        """P-values of matches, (matches,), from their levels above the threshold."""
        found: Float64 = self.tails[self.ptr[motif] + above]
        return found


def background_of(sequences: npt.NDArray[np.uint8]) -> Float64:
    """Shares of A, C, G, T in sequences and their other strands together, (4,), one added to each count.

    Raises
    ------
    InputError
        There is no base but N.
    """
    counts = np.bincount(sequences.ravel(), minlength=N + 1)[:N]
    if not counts.sum():
        raise InputError(
            "the DNA of all peaks is N, so no motif can match. Build the dataset with the FASTA of its genome."
        )
    both = counts + counts[::-1] + 1.0
    shares: Float64 = both / both.sum()
    return shares


def log_odds(motif: Motif, background: Float64, pseudocount: float = PSEUDOCOUNT) -> Float64:
    """log₂ of the share of each base, pseudocounts included, over that of the background; (length, 4) bits."""
    counts = motif.counts + pseudocount * background
    odds: Float64 = np.log2(counts / counts.sum(1, keepdims=True) / background)
    return odds


def tail_of(levels: Int64, background: Float64) -> Float64:
    """P-value of every level from 0 to the highest, (levels,): how likely random bases reach it."""
    chance = np.ones(1)
    for row in levels:
        longer = np.zeros(len(chance) + int(row.max()))
        for level, share in zip(row.tolist(), background.tolist(), strict=True):
            longer[level : level + len(chance)] += share * chance
        chance = longer
    tail: Float64 = np.cumsum(chance[::-1])[::-1]
    return tail


def _significant(tail: Float64, pvalue: float) -> tuple[int, Float64]:
    """Cut a tail, which falls, where it is small enough."""
    cut = int(np.searchsorted(-tail, -pvalue * (1 + _ROUNDING)))
    return cut, tail[cut:].copy()
