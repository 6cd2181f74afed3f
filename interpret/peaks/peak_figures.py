"""A picture of what an annotator attends to."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_TOP: Final = 3  # peaks of each type that are shown


def plot_top_peaks(ax: Axes, peaks: pd.DataFrame) -> Axes:
    """Draw the scores, in the sentence of every type, of the peaks that some type scores highest.

    Parameters
    ----------
    ax
        Axes to draw on.
    peaks
        ``cell_type, peak, score``, highest first in each type.
    """
    top = peaks.groupby("cell_type", sort=False).head(_TOP)["peak"].drop_duplicates()
    table = peaks.pivot(index="peak", columns="cell_type", values="score").reindex(
        index=top, columns=list(dict.fromkeys(peaks["cell_type"]))
    )
    share = table.div(table.max(axis=1), axis=0).fillna(0.0)
    ax.imshow(share.to_numpy(), aspect="auto", cmap="Blues", vmin=0, vmax=1)
    ax.set_xticks(range(share.shape[1]), list(share.columns), rotation=60, ha="right", fontsize=8)
    ax.set_yticks(range(len(share)), list(share.index), fontsize=6)
    ax.set_title("score of each type's top peaks, beside a peak's highest", fontsize=9, loc="left")
    return ax


def plot_type_attention(ax: Axes, types: pd.DataFrame) -> Axes:
    """Draw the attention of cells told to be of a type (rows) to the sentences (columns).

    Parameters
    ----------
    ax
        Axes to draw on.
    types
        ``cell_type, sentence, score, n_cells``.
    """
    seen = types[types["n_cells"] > 0]
    table = seen.pivot(index="cell_type", columns="sentence", values="score")
    order = list(dict.fromkeys(types["sentence"]))
    table = table.reindex(index=[name for name in order if name in table.index], columns=order)
    ax.imshow(table.to_numpy(), aspect="auto", cmap="Blues", vmin=0)
    ax.set_xticks(range(table.shape[1]), list(table.columns), rotation=60, ha="right", fontsize=8)
    ax.set_yticks(range(len(table)), list(table.index), fontsize=8)
    ax.set_title("share of each type's sentence in cells told to be of a type", fontsize=9, loc="left")
    return ax


def draw_peaks(path: Path, peaks: pd.DataFrame, types: pd.DataFrame) -> None:
    """Draw both levels of attention side by side.

    Parameters
    ----------
    path
        PNG to write.
    peaks, types
        Tables of `peak_maps.write_peak_map`.
    """
    n_types = types["sentence"].nunique()
    figure = Figure(figsize=(7.0 + 0.5 * n_types, 2.5 + 0.32 * n_types), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    if len(peaks):
        plot_top_peaks(left, peaks)
    plot_type_attention(right, types)
    figure.savefig(path, dpi=150)
