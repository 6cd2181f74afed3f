"""Training curves as one picture."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def draw_curves(history: pd.DataFrame, path: Path) -> None:
    """Draw losses and validation measures over epochs, and mark the epoch whose weights are kept.

    Parameters
    ----------
    history
        One row an epoch; columns ``epoch``, ``train_*`` and ``validation_*``.
    path
        PNG to write.
    """
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    matching, translation, measures = figure.subplots(1, 3)
    for axes, part, colour in ((matching, "matching", "C0"), (translation, "translation", "C1")):
        for stage, style in (("train", "--"), ("validation", "-")):
            _line(axes, history, f"{stage}_{part}", style, colour)
        axes.set(xlabel="epoch", ylabel="loss", title=part.capitalize())
    for name, colour in (("accuracy", "C2"), ("mae", "C3"), ("mrr", "C4")):
        _line(measures, history, f"validation_{name}", "-", colour)
    measures.set(xlabel="epoch", title="Validation")
    for axes in (matching, translation, measures):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        if "validation_score" in history and axes.lines:
            best = history["epoch"][history["validation_score"].idxmax()] + 1
            axes.axvline(best, color="0.7", linewidth=1, zorder=0, label="kept")
        if axes.lines:
            axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def _line(axes: Axes, history: pd.DataFrame, column: str, style: str, colour: str) -> None:
    if column in history:
        label = column.replace("_", " ")
        marker = "o" if len(history) == 1 else None
        axes.plot(history["epoch"] + 1, history[column], style, color=colour, label=label, marker=marker)
