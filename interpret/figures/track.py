"""Values of peaks along the genome: attention beside a transcription factor's binding."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...graphs.errors import InputError
from .chromosomes import UNPLACED, Stretch, end_to_end, rule
from .labels import (
    letters_beside,
    require_columns,
    say_nothing,
    shorten,
    size_in_points,
    tell,
    title_with_notes,
)
from .palette import FAINT, INK, PALETTE

Float64 = npt.NDArray[np.float64]

_BIN = 1.2  # points
_GAP = 1.25  # from one track to the next, where a track is 1 high


def plot_genome_track(
    ax: Axes,
    values: Mapping[str, npt.ArrayLike],
    peaks: pd.DataFrame,
    *,
    chrom: str | None = None,
    bins: int | None = None,
) -> Axes:
    """Draw values of peaks by position: two tracks back to back, more of them one below the other.

    A bin shows the mean over its peaks, so that places with many peaks do not stand out for that alone; each
    track has a scale of its own. With two tracks the notes tell Pearson's correlation over single peaks.

    Parameters
    ----------
    ax
        Axes to draw on, at their final size.
    values
        Name -> (peaks,) numbers from 0; NaN where a peak was not measured.
    peaks
        ``peak, chrom, start, end``, in the order of the values.
    chrom
        Chromosome to show; all, end to end, when None.
    bins
        Number of bins along the axis; as many as can be seen when None.

    Raises
    ------
    InputError
        A column is missing, there are no values or negative ones, a track is not as long as ``peaks``, no peak
        is on ``chrom``, or fewer than one bin was asked for.
    """
    require_columns(peaks, ["chrom", "start", "end"], "peaks")
    tracks = _checked(values, len(peaks))
    if bins is not None and bins < 1:
        raise InputError(f"bins: found {bins}. Pass 1 or more.")
    if peaks.empty:
        return say_nothing(ax, "There is no peak to show.")
    names = peaks["chrom"].astype(object).fillna(UNPLACED).to_numpy(object).astype(str)
    end = peaks["end"].to_numpy(np.int64)
    here = names != UNPLACED if chrom is None else names == chrom
    if not here.any() and chrom is not None:
        raise InputError(f"chrom: no peak is on {chrom!r}. The peaks are on {_some(names)}.")
    if not here.any():
        return say_nothing(ax, "No peak has a place on the genome.")
    stretches = end_to_end(names[here], end[here])
    begins = {stretch.name: stretch.begin for stretch in stretches}
    middle = (peaks["start"].to_numpy(np.float64) + end)[here] / 2
    along = middle + pd.Series(names[here]).map(begins).to_numpy(np.float64)
    low, high = _span(stretches, along, chrom)
    number = bins or max(int(size_in_points(ax)[0] / _BIN), 1)
    edges = np.linspace(low, high, number + 1)
    place = np.clip(((along - low) / (high - low) * number).astype(np.int64), 0, number - 1)
    shown = {name: track[here] for name, track in tracks.items()}
    _draw(ax, {name: _means(track, place, number) for name, track in shown.items()}, edges)
    _dress(ax, stretches, (low, high), chrom)
    title_with_notes(
        ax,
        " and ".join(shorten(name) for name in shown) if len(shown) < 3 else "Peaks by position",
        _notes(shown),
    )
    return ax


def _checked(values: Mapping[str, npt.ArrayLike], n_peaks: int) -> dict[str, Float64]:
    tracks = {name: np.asarray(track, np.float64) for name, track in values.items()}
    if not tracks:
        raise InputError("values: found no track. Pass a name and a number a peak for each.")
    for name, track in tracks.items():
        if track.shape != (n_peaks,):
            raise InputError(f"values: track {name!r} has the shape {track.shape}, for {n_peaks:,} peaks.")
        if (track < 0).any():
            raise InputError(
                f"values: track {name!r} has negative numbers, the least {np.nanmin(track):.3g}. Pass numbers from 0."
            )
    return tracks


def _some(names: npt.NDArray[np.str_]) -> str:
    own = np.unique(names)
    return ", ".join(own[:5]) + (" …" if len(own) > 5 else "")


def _span(stretches: list[Stretch], along: Float64, chrom: str | None) -> tuple[float, float]:
    """All chromosomes whole, or the part of one that has peaks."""
    if chrom is None:
        return 0.0, stretches[-1].end
    low, high = float(along.min()), float(along.max())
    room = max(0.01 * (high - low), 500.0)
    return max(low - room, 0.0), high + room


def _means(track: Float64, place: npt.NDArray[np.int64], number: int) -> Float64:
    """Mean of each bin over its measured peaks, NaN where there are none."""
    known = ~np.isnan(track)
    count = np.bincount(place[known], minlength=number)
    total = np.bincount(place[known], track[known], minlength=number)
    means: Float64 = np.divide(total, count, out=np.full(number, np.nan), where=count > 0)
    return means


def _draw(ax: Axes, means: Mapping[str, Float64], edges: Float64) -> None:
    mirrored = len(means) == 2
    ticks: list[float] = []
    labels: list[str] = []
    for i, (name, mean) in enumerate(means.items()):
        highest = float(np.nanmax(mean, initial=0.0))
        sign = -1 if mirrored and i else 1
        base = 0.0 if mirrored else (len(means) - 1 - i) * _GAP
        height = base + sign * np.nan_to_num(mean) / (highest or 1.0)
        colour = PALETTE[i % len(PALETTE)]
        ax.stairs(height, edges, baseline=base, fill=True, color=colour, lw=0, zorder=2)
        ax.axhline(base, color=FAINT, lw=0.6, zorder=3)
        ticks.append(base + sign * 0.5)
        labels.append(f"{shorten(name, letters_beside(ax, 8, 18))}\nmax {tell(highest)}")
    ax.set_yticks(ticks, labels, fontsize=8)
    for i, label in enumerate(ax.get_yticklabels()):
        label.set_color(PALETTE[i % len(PALETTE)])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-1.05 if mirrored else -0.02, 1.05 if mirrored else (len(means) - 1) * _GAP + 1.05)


def _dress(ax: Axes, stretches: list[Stretch], span: tuple[float, float], chrom: str | None) -> None:
    ax.set_xlim(*span)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(FAINT)
    if chrom is None:
        rule(ax, stretches, "x")
        ax.set_xlabel("chromosome", fontsize=9, labelpad=14)
        return
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.xaxis.set_major_formatter(lambda position, _: f"{position / 1e6:g}")
    ax.tick_params(axis="x", labelsize=8, colors=INK)
    ax.set_xlabel(f"{chrom} (Mb)", fontsize=9)


def _notes(tracks: Mapping[str, Float64]) -> list[str]:
    notes = ["mean of the peaks in a bin"]
    if len(tracks) != 2:
        return notes
    first, second = tracks.values()
    both = ~np.isnan(first) & ~np.isnan(second)
    x, y = first[both], second[both]
    flat = both.sum() < 3 or np.ptp(x) == 0 or np.ptp(y) == 0
    r = "not defined" if flat else f"{np.corrcoef(x, y)[0, 1]:.2f}"
    return [*notes, f"Pearson r {r} over {both.sum():,} peaks"]
