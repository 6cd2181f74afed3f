"""Training curves as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Title -> columns; what a model does not log is not drawn.
_PANELS: Final[dict[str, tuple[str, ...]]] = {
    "Matching (loss)": ("train_matching", "validation_matching"),
    "Translation (loss)": ("train_translation", "validation_translation"),
    "Loss": ("train_loss", "validation_loss", "validation_balanced_loss"),
    "Validation": (
        "validation_accuracy",
        "validation_macro_f1",
        "validation_mae",
        "validation_mrr",
    ),
}


def draw_curves(history: pd.DataFrame, path: Path) -> None:
    """Draw losses and validation measures over epochs, and mark the epoch whose weights are kept.

    Parameters
    ----------
    history
        One row an epoch; columns ``epoch``, ``train_*`` and ``validation_*``.
    path
        PNG to write.
    """
    panels = {title: found for title, names in _PANELS.items() if (found := _there(history, names))}
    figure = Figure(figsize=(3.7 * len(panels), 3.2), layout="constrained")
    for axes, (title, columns) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for i, column in enumerate(columns):
            _line(axes, history, column, "--" if column.startswith("train") else "-", f"C{i}")
        axes.set(xlabel="epoch", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        if "validation_score" in history:
            best = history["epoch"][history["validation_score"].idxmax()] + 1
            axes.axvline(best, color="0.7", linewidth=1, zorder=0, label="kept")
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def _there(history: pd.DataFrame, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if name in history]


def _line(axes: Axes, history: pd.DataFrame, column: str, style: str, colour: str) -> None:
    label = column.replace("_", " ")
    marker = "o" if len(history) == 1 else None
    axes.plot(history["epoch"] + 1, history[column], style, color=colour, label=label, marker=marker)
