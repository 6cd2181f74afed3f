"""DNA of peaks: a window of bases of each, and the GC content of the whole peak."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...graphs.bases import Anchor, N, check_window, window_offset, windows
from ...graphs.errors import InputError
from ...graphs.messages import few
from .fasta import Fasta

__all__ = ["PeakDna", "read_peak_dna"]

_SLICE: Final = 1_000_000  # bases held at a time
_NEAR: Final = 1_000  # a gap that costs less to read than to skip


@dataclass(frozen=True)
class PeakDna:
    """Bases of peaks.

    Attributes
    ----------
    sequences
        uint8, shape (peaks, length): 0 A, 1 C, 2 G, 3 T, 4 anything else.
    gc
        float32, shape (peaks,): (G + C) / (A + C + G + T) over the whole peak, NaN where it has none
        of the four.
    """

    sequences: NDArray[np.uint8]
    gc: NDArray[np.float32]


def read_peak_dna(
    path: Path,
    names: NDArray[np.object_],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    *,
    length: int,
    anchor: Anchor,
) -> PeakDna:
    """Bases of many peaks, in any order; `Genome.sequences` says what is returned.

    Parameters
    ----------
    path
        FASTA.
    names, start, end
        Peaks, shape (peaks,): names as in the FASTA, 0-based half-open.
    length, anchor
        Window a peak.

    Raises
    ------
    InputError
        If the FASTA lacks a name, or `length` or `anchor` is none.
    """
    check_window(length, anchor)
    chromosome, spelled = pd.factorize(names)
    out = np.full((len(names), length), N, dtype=np.uint8)
    counts = np.zeros((2, len(names)), dtype=np.int64)  # G or C; any of the four
    with Fasta(path) as fasta:
        _check_names(path, fasta.lengths, list(spelled), names)
        for code, name in enumerate(spelled):
            rows = np.flatnonzero(chromosome == code)
            spans = _Spans.of(rows, start[rows], end[rows], length, anchor, fasta.lengths[name])
            for begin, stop in _tiles(spans.low, spans.high):
                _fill(fasta.codes(name, begin, stop), begin, stop, spans, out, counts)
    return PeakDna(out, share(counts[0], counts[1]))


def tallies(codes: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """How many G or C, and how many called bases, lie before each code and the end: shapes (codes + 1,)."""
    strong, called = np.zeros((2, len(codes) + 1), dtype=np.int32)
    for total, letters in ((strong, (codes == 1) | (codes == 2)), (called, codes != N)):
        np.cumsum(letters.view(np.uint8), dtype=np.int32, out=total[1:])
    return strong, called


def share(part: NDArray[np.integer], whole: NDArray[np.integer]) -> NDArray[np.float32]:
    """Quotient as float32, NaN where there is nothing."""
    quotient = np.full(len(part), np.nan)
    np.divide(part, whole, out=quotient, where=whole > 0)
    return quotient.astype(np.float32)


@dataclass(frozen=True)
class _Spans:
    """Peaks of one chromosome by position: window, part of it that has letters, peak, all that is read."""

    rows: NDArray[np.int64]
    first: NDArray[np.int64]
    shown: NDArray[np.int64]  # (2, peaks)
    peak: NDArray[np.int64]  # (2, peaks)
    low: NDArray[np.int64]
    high: NDArray[np.int64]

    @staticmethod
    def of(
        rows: NDArray[np.int64],
        start: NDArray[np.int64],
        end: NDArray[np.int64],
        length: int,
        anchor: Anchor,
        size: int,
    ) -> _Spans:
        first = start + window_offset(end - start, length, anchor)
        last = np.minimum(first + length, end) if anchor == "start" else first + length
        shown, peak = (np.stack(pair).clip(0, size) for pair in ((first, last), (start, end)))
        low, high = np.minimum(shown[0], peak[0]), np.maximum(shown[1], peak[1])
        order = np.argsort(low, kind="stable")
        order = order[low[order] < high[order]]
        return _Spans(rows[order], first[order], shown[:, order], peak[:, order], low[order], high[order])


def _tiles(
    low: NDArray[np.int64], high: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Ranges that cover sorted spans and leave out what lies far from them, about `_SLICE` bases a time."""
    if len(low) == 0:
        return
    reach = np.maximum.accumulate(high)
    heads = np.concatenate([[0], np.flatnonzero(low[1:] > reach[:-1] + _NEAR) + 1])
    begin, end = low[heads], reach[np.append(heads[1:], len(low)) - 1]
    pieces = -(-(end - begin) // _SLICE)  # a range may be longer than what is held at a time
    begin = begin.repeat(pieces)
    begin += (np.arange(len(begin)) - (np.cumsum(pieces) - pieces).repeat(pieces)) * _SLICE
    end = np.minimum(begin + _SLICE, end.repeat(pieces))
    share = np.cumsum(end - begin) // _SLICE
    cuts = np.flatnonzero(np.diff(share)) + 1
    yield from zip(np.split(begin, cuts), np.split(end, cuts), strict=True)


def _fill(
    codes: NDArray[np.uint8],
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
    spans: _Spans,
    out: NDArray[np.uint8],
    counts: NDArray[np.int64],
) -> None:
    """Write what the codes of some tiles say about the peaks that reach into them."""
    near = np.flatnonzero((spans.high > begin[0]) & (spans.low < end[-1]))
    rows, low = spans.rows[near], spans.low[near].clip(begin[0], end[-1])
    tile = np.searchsorted(begin, low, side="right") - 1
    # A span never leaves its range, whose tiles follow each other: one shift serves all its bases.
    shift = (np.cumsum(end - begin) - (end - begin) - begin)[tile]
    shown, peak = (at[:, near].clip(begin[0], end[-1]) + shift for at in (spans.shown, spans.peak))
    found = windows(codes, spans.first[near] + shift, shown[0], shown[1], out.shape[1])
    # N is the largest code: a window read in parts keeps the letters of each.
    out[rows] = np.minimum(out[rows], found)
    for count, total in zip(counts, tallies(codes), strict=True):
        count[rows] += total[peak[1]] - total[peak[0]]


def _check_names(
    path: Path, lengths: Mapping[str, int], wanted: list[str], names: NDArray[np.object_]
) -> None:
    missing = [name for name in wanted if name not in lengths]
    if missing:
        count = int(np.isin(names.astype(str), missing).sum())
        raise InputError(
            f"{path.name} lacks {few(missing)}, on which {count:,} of {len(names):,} peaks lie"
            f" (it has {few(lengths)}). Pass the FASTA of the peaks' genome, drop scaffolds with --scaffolds drop, or remove these peaks."
        )
