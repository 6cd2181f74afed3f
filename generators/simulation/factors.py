"""Transcription factors of a simulation: activity in each cell type, motifs, and sites in peaks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .genome import Layout

MOTIF_LENGTHS = (8, 12)
UBIQUITOUS = 3  # TFs active in every cell type
_LEAST_FACTORS = 24
_SLOTS, _SLOT_BP = 8, 24  # sites lie in the central 192 bp, one a slot


@dataclass(frozen=True)
class Programs:
    """TF activity of every cell type.

    Attributes
    ----------
    factors : list of str
        TF names; the first ``UBIQUITOUS`` are active everywhere.
    activity : (types, factors) float64
        Mean activity, 0 is none and about 1 is full.
    """

    factors: list[str]
    activity: NDArray[np.float64]


def make_programs(types: int, rng: np.random.Generator) -> Programs:
    """Give every branch of a binary tree of types a TF of its own, so that relatives share TFs.

    Types are the leaves of the tree; a TF of an inner branch is active in all types below it.
    """
    depth = max(1, int(np.ceil(np.log2(types))))
    leaves = np.arange(types)
    branches = [
        leaves >> (depth - level) == prefix
        for level in range(1, depth + 1)
        for prefix in range(((types - 1) >> (depth - level)) + 1)
    ]
    spare = max(0, _LEAST_FACTORS - UBIQUITOUS - len(branches))
    extra = [leaves == leaf % types for leaf in range(spare)]
    members = np.stack([np.ones(types, dtype=bool)] * UBIQUITOUS + branches + extra, axis=1)
    activity = np.where(members, rng.uniform(0.8, 1.2, members.shape), rng.uniform(0.0, 0.1, members.shape))
    return Programs([f"TF{number:02d}" for number in range(1, members.shape[1] + 1)], activity)


@dataclass(frozen=True)
class Motifs:
    """Binding preference of every TF.

    Attributes
    ----------
    lengths : (factors,) int64
        Motif length, 8 to 12 bp.
    frequencies : (factors, 12, 4) float64
        Probability of A, C, G, T at each position; rows past a motif's end are uniform.
    """

    lengths: NDArray[np.int64]
    frequencies: NDArray[np.float64]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(factors, 12): positions inside the motif."""
        return np.asarray(np.arange(MOTIF_LENGTHS[1]) < self.lengths[:, None])

    def consensus(self) -> list[str]:
        """Most probable letters of each motif."""
        best = np.array(list("ACGT"))[self.frequencies.argmax(axis=2)]
        return ["".join(row[:length]) for row, length in zip(best, self.lengths, strict=True)]


def make_motifs(factors: int, rng: np.random.Generator) -> Motifs:
    """Draw a position weight matrix a TF: one preferred base a position, some positions looser."""
    longest = MOTIF_LENGTHS[1]
    lengths = rng.integers(MOTIF_LENGTHS[0], longest + 1, factors)
    preferred = rng.integers(0, 4, (factors, longest))
    sharpness = rng.uniform(0.75, 0.98, (factors, longest, 1))
    rest = rng.dirichlet(np.ones(4), (factors, longest))
    frequencies = sharpness * np.eye(4)[preferred] + (1 - sharpness) * rest
    valid = np.arange(longest) < lengths[:, None]
    return Motifs(lengths, np.where(valid[..., None], frequencies, 0.25))


@dataclass(frozen=True)
class Sites:
    """Motif sites to be planted in the DNA of peaks.

    Attributes
    ----------
    peak, factor, start, length : (sites,) int64
        Peak row, TF, leftmost base on the chromosome (0-based) and length in bp.
    reverse : (sites,) bool
        True where the motif reads on the reverse strand.
    codes : (sites, 12) int8
        Bases on the forward strand, 0-3 in ACGT, -1 past the end.
    strength : (sites,) float64
        Match to the motif: log odds over those of the consensus, in [0, 1].
    """

    peak: NDArray[np.int64]
    factor: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    reverse: NDArray[np.bool_]
    codes: NDArray[np.int8]
    strength: NDArray[np.float64]

    def sequences(self) -> list[str]:
        """Letters of each site in the motif's direction."""
        own = _on_forward(self.codes.astype(np.int64), self.length, self.reverse)  # turning twice undoes it
        letters = np.array(list("ACGT"))[own]
        return ["".join(row[:length]) for row, length in zip(letters, self.length, strict=True)]

    def occupancy(self, peaks: int, factors: int) -> NDArray[np.float32]:
        """(peaks, factors) share of full binding: 1 - exp(-summed strength)."""
        cell = self.peak * factors + self.factor
        total = np.bincount(cell, weights=self.strength, minlength=peaks * factors)
        return np.asarray(1 - np.exp(-total.reshape(peaks, factors)), dtype=np.float32)


def plant_sites(
    layout: Layout,
    primary: NDArray[np.int64],
    secondary: NDArray[np.int64],
    motifs: Motifs,
    rng: np.random.Generator,
) -> Sites:
    """Sample sites from the motifs, mismatches included, and give each a slot near its peak's centre."""
    number = len(layout.peaks)
    many = rng.integers(1, 4, number)
    peak = np.concatenate([np.repeat(np.arange(number), many), np.flatnonzero(secondary >= 0)])
    factor = np.concatenate([np.repeat(primary, many), secondary[secondary >= 0]])
    order = np.argsort(peak, kind="stable")
    peak, factor = peak[order], factor[order]
    rank = np.arange(len(peak)) - np.searchsorted(peak, peak)
    slot = rng.random((number, _SLOTS)).argsort(axis=1)[peak, rank]
    length = motifs.lengths[factor]
    jitter = rng.integers(0, _SLOT_BP - length + 1)
    start = layout.peaks["centre"].to_numpy()[peak] + (slot - _SLOTS // 2) * _SLOT_BP + jitter
    codes, strength = _sample_sites(factor, motifs, rng)
    reverse = rng.random(len(peak)) < 0.5
    return Sites(peak, factor, start, length, reverse, _on_forward(codes, length, reverse), strength)


def _sample_sites(
    factor: NDArray[np.int64], motifs: Motifs, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(sites, 12) bases in the motif's direction, and how well each site matches."""
    cumulative = motifs.frequencies.cumsum(axis=2)[factor]
    draws = rng.random((*cumulative.shape[:2], 1))
    codes = np.minimum((draws > cumulative).sum(axis=2), 3)
    odds = np.log(np.maximum(motifs.frequencies, 1e-3) / 0.25)
    score = np.take_along_axis(odds[factor], codes[..., None], axis=2)[..., 0].sum(axis=1)
    best = odds.max(axis=2).sum(axis=1)[factor]
    return codes, np.clip(score / best, 0.0, 1.0)


def _on_forward(
    codes: NDArray[np.int64], length: NDArray[np.int64], reverse: NDArray[np.bool_]
) -> NDArray[np.int8]:
    column = np.arange(codes.shape[1])
    mirrored = np.clip(length[:, None] - 1 - column, 0, None)
    flipped = 3 - np.take_along_axis(codes, mirrored, axis=1)
    strand = np.where(reverse[:, None], flipped, codes)
    return np.where(column < length[:, None], strand, -1).astype(np.int8)
