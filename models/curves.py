"""Training curves as one picture."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_VALIDATION: Final = "validation_"
_SCORE: Final = "validation_score"

# Title -> columns; what a model does not log is not drawn.
_PANELS: Final[dict[str, tuple[str, ...]]] = {
    "Matching (loss)": ("train_matching", "validation_matching"),
    "Translation (loss)": ("train_translation", "validation_translation"),
    "Loss": ("train_loss", "validation_loss", "validation_balanced_loss"),
    "Masked values": ("train_masked_accuracy", "validation_masked_accuracy", "validation_masked_macro_f1"),
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
        One row an epoch; columns ``epoch``, from 1, ``train_*`` and ``validation_*``.
    path
        PNG to write.
    """
    panels = _panels(history)
    figure = Figure(figsize=(3.7 * len(panels), 3.2), layout="constrained")
    for axes, (title, columns) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for i, column in enumerate(columns):
            _line(axes, history, column, "--" if column.startswith("train") else "-", f"C{i}")
        axes.set(xlabel="epoch", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        if _SCORE in history:
            best = history["epoch"][history[_SCORE].idxmax()]
            axes.axvline(best, color="0.7", linewidth=1, zorder=0, label="kept")
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def _panels(history: pd.DataFrame) -> dict[str, list[str]]:
    """Choose what is drawn; validation figures that no panel names share the last, but for parts of the loss."""
    named = {*chain(*_PANELS.values()), _SCORE}
    others = [
        name
        for name in map(str, history)
        if name.startswith(_VALIDATION)
        and name not in named
        and name.replace(_VALIDATION, "train_") not in history
    ]
    panels = {title: [name for name in names if name in history] for title, names in _PANELS.items()}
    panels["Validation"] += others
    return {title: columns for title, columns in panels.items() if columns}


def _line(axes: Axes, history: pd.DataFrame, column: str, style: str, colour: str) -> None:
    label = column.replace("_", " ")
    marker = "o" if len(history) == 1 else None
    axes.plot(history["epoch"], history[column], style, color=colour, label=label, marker=marker)
