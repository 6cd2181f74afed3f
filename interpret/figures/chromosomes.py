"""Chromosomes side by side along an axis: where each begins, rules between them, names that do not overlap."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.text import Annotation

from .labels import drop_overlaps, shorten, size_in_points
from .palette import GRID, INK

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

UNPLACED: Final = "unplaced"
_WHOLE: Final = re.compile(r"(chr)?([0-9]+[LRAB]?|[A-Z]|MT)", re.IGNORECASE)
_NAMES: Final = 80  # of chromosomes and contigs that are tried for room


@dataclass(frozen=True)
class Stretch:
    """Part of an axis that a chromosome takes."""

    name: str
    begin: float
    end: float


def ordered(names: Iterable[object]) -> list[str]:
    """Return the distinct chromosomes, chr2 before chr10, then contigs, and what has no place last."""
    own = pd.Series(list(names), dtype=object).dropna().astype(str).unique()
    return sorted(own, key=lambda name: (name == UNPLACED, not _WHOLE.fullmatch(name), _natural(name)))


def by_position(chrom: npt.ArrayLike, place: npt.ArrayLike) -> tuple[Int64, list[Stretch]]:
    """Put features in the order of their position, side by side, each as wide as 1.

    Parameters
    ----------
    chrom
        (features,) names; null where the feature has no place.
    place
        (features,) bp.

    Returns
    -------
    (features,) rank of each, and where each chromosome lies along the ranks.
    """
    names = pd.Series(chrom, dtype=object).fillna(UNPLACED).astype(str)
    order = ordered(names)
    code = names.map({name: i for i, name in enumerate(order)}).to_numpy(np.int64)
    position = pd.Series(place, dtype="Float64").to_numpy(np.float64, na_value=-1.0)
    rank = np.empty(len(code), np.int64)
    rank[np.lexsort((position, code))] = np.arange(len(code))
    ends = np.cumsum(np.bincount(code, minlength=len(order)))
    begins = ends - np.bincount(code, minlength=len(order))
    return rank, [Stretch(name, float(a), float(b)) for name, a, b in zip(order, begins, ends, strict=True)]


def end_to_end(chrom: npt.NDArray[np.object_], end: Int64) -> list[Stretch]:
    """Lay chromosomes end to end, each as long as its last feature reaches, in bp."""
    last = pd.Series(end, dtype=np.int64).groupby(chrom).max()
    order = ordered(last.index)
    ends = np.cumsum(last.reindex(order).to_numpy(np.float64))
    begins = np.r_[0.0, ends[:-1]]
    return [Stretch(name, float(a), float(b)) for name, a, b in zip(order, begins, ends, strict=True)]


def rule(ax: Axes, stretches: Sequence[Stretch], axis: Literal["x", "y"], *, names: bool = True) -> float:
    """Rule the borders of chromosomes and write their names, the longest chromosomes first where room is short.

    Returns
    -------
    Width of the widest name written, in points.
    """
    borders = [stretch.begin for stretch in stretches[1:]]
    if axis == "x":
        ax.vlines(borders, 0, 1, transform=ax.get_xaxis_transform(), color=GRID, lw=0.7, zorder=0.5)
        ax.set_xticks([])
    else:
        ax.hlines(borders, 0, 1, transform=ax.get_yaxis_transform(), color=GRID, lw=0.7, zorder=0.5)
        ax.set_yticks([])
    if not names:
        return 0.0
    longest = sorted(stretches, key=lambda stretch: stretch.begin - stretch.end)[:_NAMES]
    kept = drop_overlaps([_write(ax, stretch, axis, chr_=len(stretches) == 1) for stretch in longest])
    scale = size_in_points(ax)[0] / ax.get_window_extent().width
    return max((label.get_window_extent().width * scale for label in kept), default=0.0)


def _write(ax: Axes, stretch: Stretch, axis: Literal["x", "y"], *, chr_: bool) -> Annotation:
    """Write a name at the middle of a stretch; chr is left out where there are several, to make room."""
    name = shorten(stretch.name if chr_ else stretch.name.removeprefix("chr"), 10)
    middle = (stretch.begin + stretch.end) / 2
    if axis == "x":
        label = ax.annotate(
            name, (middle, 0), (0, -4), ("data", "axes fraction"), "offset points", ha="center", va="top"
        )
    else:
        label = ax.annotate(
            name, (0, middle), (-4, 0), ("axes fraction", "data"), "offset points", ha="right", va="center"
        )
    label.set(fontsize=7.5, color=INK, annotation_clip=False)
    return label


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = [part for part in re.split(r"([0-9]+)", name) if part]
    return [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts]
