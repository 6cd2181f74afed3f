"""Which intervals overlap: positions on chromosomes, 0-based and half-open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...graphs.chromosomes import harmonise
from ...graphs.csr import ranges
from ...graphs.errors import InputError
from ...graphs.messages import few
from ...graphs.tables import chromosome_codes

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Intervals:
    """Intervals, (intervals,) int64 each.

    Attributes
    ----------
    chrom
        Chromosome code; a negative one overlaps nothing.
    start, end
        bp, 0-based half-open; an empty interval overlaps nothing.
    """

    chrom: Int64
    start: Int64
    end: Int64

    def __len__(self) -> int:
        return len(self.chrom)

    @classmethod
    def of(cls, frame: pd.DataFrame, chromosomes: Sequence[str]) -> Intervals:
        """Take the columns ``chrom``, ``start`` and ``end``; chromosomes may be spelled otherwise.

        Raises
        ------
        InputError
            Two names are one chromosome.
        """
        names = frame["chrom"].astype(object).astype(str).where(frame["chrom"].notna())
        spelled = harmonise(names.dropna().unique().tolist(), chromosomes)
        codes = chromosome_codes(names.map(spelled), list(chromosomes))
        return cls(codes, frame["start"].to_numpy(np.int64), frame["end"].to_numpy(np.int64))


def overlaps(first: Intervals, second: Intervals) -> tuple[Int64, Int64]:
    """Find all pairs that share a base.

    Of two that overlap, either the second starts within the first, or the first starts within the second
    and beyond its start: two searches of sorted starts, whose cost is that of sorting and of the pairs found.

    Returns
    -------
    (pairs,) rows of the first, ascending, and of the second.
    """
    rows = [
        _starts_within(first, second, side="left"),
        _starts_within(second, first, side="right")[::-1],
    ]
    left = np.concatenate([rows[0][0], rows[1][0]])
    right = np.concatenate([rows[0][1], rows[1][1]])
    order = np.lexsort((right, left))
    return left[order], right[order]


def _starts_within(outer: Intervals, inner: Intervals, *, side: str) -> tuple[Int64, Int64]:
    """Pair each outer interval with the inner ones that start in it; ``side`` right leaves out equal starts."""
    mine = np.flatnonzero((inner.chrom >= 0) & (inner.end > inner.start))
    stride = 1 + int(max((table.end.max(initial=0) for table in (outer, inner)), default=0))
    line = inner.chrom[mine] * stride + inner.start[mine]
    order = np.argsort(line, kind="stable")
    at = outer.chrom * stride
    begin = np.searchsorted(line[order], at + outer.start, side="left" if side == "left" else "right")
    finish = np.searchsorted(line[order], at + outer.end, side="left")
    width = np.where((outer.chrom >= 0) & (outer.end > outer.start), np.maximum(finish - begin, 0), 0)
    return np.repeat(np.arange(len(outer)), width), mine[order][ranges(begin, width)]


def require_common_chromosomes(
    found: Intervals, names: pd.Series[str], chromosomes: Sequence[str], what: str
) -> None:
    """Refuse intervals of which none lies on a chromosome of the dataset."""
    if not (found.chrom >= 0).any():
        raise InputError(
            f"{what} and the dataset have no chromosome in common ({what}: {few(names.dropna().unique())}; dataset: "
            f"{few(chromosomes)}). Pass a file of the dataset's genome build."
        )


def require_intervals(frame: pd.DataFrame, what: str) -> None:
    """Refuse intervals that are empty or begin before 0."""
    wrong = (frame["start"] < 0) | (frame["end"] <= frame["start"])
    if wrong.any():
        row = frame[wrong].iloc[0]
        raise InputError(
            f"{what}: {int(wrong.sum()):,} intervals are empty or begin before 0 (the first is {row['chrom']}:"
            f"{row['start']}-{row['end']}). Positions are 0-based and half-open: correct the file."
        )
