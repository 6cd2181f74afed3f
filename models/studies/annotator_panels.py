"""Panels of annotators' studies, axes in and axes out: figures against shares, over epochs, and by type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

Entries = Sequence[Mapping[str, Any]]
Found = Callable[[Mapping[str, Any]], Mapping[str, Any]]
Floats = NDArray[np.float64]

MODEL: Final = "C0"  # colours
SCRATCH: Final = "C1"
REFERENCE: Final = "majority"  # so far below that nothing else would be told apart
_DODGE: Final = 0.008  # of the width, so that error bars stand side by side


@dataclass(frozen=True)
class Method:
    """A method in a picture.

    Attributes
    ----------
    name
        In the legend.
    found
        Gives its figures in an entry of ``study.json``: metric -> mean and sd.
    colour, mark
        Of line and points.
    ours
        Whether it is the model that is studied.
    """

    name: str
    found: Found
    colour: str = MODEL
    mark: str = "o"
    ours: bool = True

    def values(self, entries: Entries, metric: str) -> tuple[Floats, Floats]:
        """Return mean and sd of a figure in each setting; NaN where there is none, 0 for no sd."""
        pairs = [self.found(entry).get(metric) or {"mean": np.nan, "sd": None} for entry in entries]
        return np.array([p["mean"] for p in pairs]), np.array([p["sd"] or 0.0 for p in pairs])


def draw_levels(
    axes: Axes, entries: Entries, metric: str, methods: Sequence[Method], *, log: bool = False
) -> Axes:
    """Draw a figure of annotation against shares or noise: mean and sd of each method.

    Parameters
    ----------
    axes
        Where.
    entries
        Settings of ``study.json``.
    metric
        Which figure.
    methods
        The model's come last, on top.
    log
        Space shares by their logarithm.
    """
    levels = np.array([float(entry["setting"]) for entry in entries])
    place = np.log(levels) if log else levels
    for i, method in enumerate(methods):
        mean, sd = method.values(entries, metric)
        axes.errorbar(
            place + (i - len(methods) / 2) * _DODGE * np.ptp(place),
            mean,
            yerr=sd,
            color=method.colour,
            marker=method.mark,
            markersize=6 if method.ours else 4,
            linewidth=2.5 if method.ours else 1.2,
            elinewidth=1,
            capsize=2,
            label=method.name,
            zorder=3 if method.ours else 2,
        )
    axes.set_xticks(place, [f"{100 * level:.3g} %" for level in levels])
    axes.set_ylim(top=min(axes.get_ylim()[1], 1.03))
    axes.spines[["top", "right"]].set_visible(False)
    if reference := entries[-1]["baselines"]["annotation"].get(REFERENCE):
        told = f"{REFERENCE}: {reference[metric]['mean']:.2f}"
        axes.set_title(told, loc="right", fontsize=8, color="0.4")
    return axes


def draw_curves(axes: Axes, curves: pd.DataFrame, metric: str) -> Axes:
    """Draw a validation figure over epochs: a thin line a repeat, and the mean while all of them train.

    Parameters
    ----------
    axes
        Where.
    curves
        Rows of ``curves.csv`` of one setting.
    metric
        Which column.
    """
    for colour, (_, own) in zip((MODEL, SCRATCH), curves.groupby("method", sort=False), strict=True):
        by_epoch = own.pivot(index="epoch", columns="repeat", values=metric)
        axes.plot(by_epoch.index, by_epoch, color=colour, linewidth=0.7, alpha=0.5)
        mean = by_epoch.dropna().mean(axis=1)
        axes.plot(mean.index, mean, color=colour, linewidth=2.2)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def draw_types(
    axes: Axes,
    entries: Entries,
    metric: str,
    methods: Sequence[Method],
    *,
    hollow: bool = False,
) -> Axes:
    """Draw a figure of novelty of each type: a row a type, mean and sd of each method."""
    rows = np.arange(len(entries))
    shifts = np.linspace(0.3, -0.3, len(methods)) if len(methods) > 1 else np.zeros(1)
    for shift, method in zip(shifts, methods, strict=True):
        mean, sd = method.values(entries, metric)
        axes.errorbar(
            mean,
            rows + shift,
            xerr=sd,
            fmt=method.mark,
            color=method.colour,
            markerfacecolor="white" if hollow else method.colour,
            markersize=7 if method.ours else 5,
            capsize=2,
            linewidth=1,
        )
    axes.set_yticks(rows, [str(entry["setting"]).removeprefix("without ") for entry in entries])
    for row in rows[::2]:
        axes.axhspan(row - 0.5, row + 0.5, color="0.95", zorder=0)
    axes.set_ylim(len(entries) - 0.5, -0.5)  # the first type on top
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    return axes
