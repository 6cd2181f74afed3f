"""Training curves as one picture."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def draw_curves(history: pd.DataFrame, path: Path) -> None:
    """Draw losses and validation scores over epochs.

    Parameters
    ----------
    history
        One row an epoch; columns ``epoch``, ``train_*`` and ``validation_*``.
    path
        PNG to write.
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for part in ("matching", "translation"):
        for stage, style in (("train", "--"), ("validation", "-")):
            _line(losses, history, f"{stage}_{part}", style, "C0" if part == "matching" else "C1")
    losses.set(xlabel="epoch", ylabel="loss", yscale="log", title="Losses")
    for name, colour in (("accuracy", "C2"), ("mae", "C3"), ("score", "C4")):
        _line(scores, history, f"validation_{name}", "-", colour)
    scores.set(xlabel="epoch", title="Validation")
    for axes in (losses, scores):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def _line(axes: Axes, history: pd.DataFrame, column: str, style: str, colour: str) -> None:
    if column in history:
        label = column.replace("_", " ")
        marker = "o" if len(history) == 1 else None
        axes.plot(history["epoch"] + 1, history[column], style, color=colour, label=label, marker=marker)
