"""Attention of one cell, genes by peaks, with its sums along both."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...graphs.errors import InputError
from .chromosomes import Stretch, by_position, rule
from .labels import (
    count,
    letters_beside,
    require_columns,
    say_nothing,
    shorten,
    size_in_points,
    title_with_notes,
)
from .palette import FAINT, PALETTE, STRENGTH

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_SQUARE = 2.2  # points a side of a square of the picture, at least
_NAMED = 7.5  # points a row whose gene is named


def plot_cell_attention(
    ax: Axes, links: pd.DataFrame, genes: pd.DataFrame, peaks: pd.DataFrame, *, linked_only: bool = True
) -> Axes:
    """Draw the attention of one cell as a heat map of genes (rows) by peaks (columns), by position.

    Where there are more genes or peaks than squares that can be seen, neighbours share a square, which shows
    the strongest link in it. Above are the sums over genes, on the right those over peaks. What has no place
    on the genome comes last. The picture holds squares, never genes × peaks.

    Parameters
    ----------
    ax
        Axes to draw on, at their final size. They become a frame around four axes of their own
        (``ax.child_axes``): the heat map, the sums above and at the right, and the scale.
    links
        Link table of one cell, or of one cell type: ``gene, peak, score``; title from ``cell`` and ``cell_type``.
    genes
        ``gene, chrom, tss``, all genes of the links among them.
    peaks
        ``peak, chrom, start``, all peaks of the links among them.
    linked_only
        Leave out genes and peaks without a link.

    Raises
    ------
    InputError
        A column is missing, there are links of several cells, or a gene or peak is not in its table.
    """
    require_columns(links, ["gene", "peak", "score"], "links")
    require_columns(genes, ["gene", "chrom", "tss"], "genes")
    require_columns(peaks, ["peak", "chrom", "start"], "peaks")
    _one_cell(links)
    if links.empty:
        return say_nothing(ax, "This cell has no links.")
    if linked_only:
        genes, peaks = genes[genes["gene"].isin(links["gene"])], peaks[peaks["peak"].isin(links["peak"])]
    rank, rows = by_position(genes["chrom"].to_numpy(object), genes["tss"])
    column_rank, columns = by_position(peaks["chrom"].to_numpy(object), peaks["start"])
    row = _places(links["gene"], genes["gene"], rank)
    column = _places(links["peak"], peaks["peak"], column_rank)
    score = links["score"].to_numpy(np.float64)
    _title(ax, links, len(genes), len(peaks), linked_only)
    names = np.empty(len(genes), object)
    names[rank] = genes["symbol" if "symbol" in genes else "gene"].to_numpy(object)
    _draw(ax, row, column, score, rows, columns, names)
    return ax


def _one_cell(links: pd.DataFrame) -> None:
    for column, what in (("cell", "cells"), ("cell_type", "cell types")):
        found = links[column].nunique() if column in links else 0
        if found > 1:
            raise InputError(
                f"links: of {found:,} {what}, and the plot is of one. Select one, as links[links[{column!r}] == …]."
            )


def _places(wanted: pd.Series[Any], known: pd.Series[Any], rank: Int64) -> Int64:
    """Return the rank of each name, (links,)."""
    at = pd.Index(known.to_numpy(object)).get_indexer(pd.Index(wanted.to_numpy(object)))
    if (at < 0).any():
        stranger = wanted.to_numpy(object)[at < 0][0]
        raise InputError(
            f"links: {wanted.name} {stranger} is not among the {len(known):,} of the table of {wanted.name}s. "
            "Pass the tables of the same dataset."
        )
    return rank[at]


def _draw(
    ax: Axes,
    row: Int64,
    column: Int64,
    score: Float64,
    rows: list[Stretch],
    columns: list[Stretch],
    names: npt.NDArray[np.object_],
) -> None:
    """Put four axes into those given: the heat map, the sums above and beside it, and the scale."""
    ax.set_axis_off()
    heat = ax.inset_axes((0, 0, 0.81, 0.83))
    above = ax.inset_axes((0, 0.845, 0.81, 0.155), sharex=heat)
    beside = ax.inset_axes((0.82, 0, 0.1, 0.83), sharey=heat)
    scale = ax.inset_axes((0.95, 0, 0.016, 0.83))
    n_rows, n_columns = int(rows[-1].end), int(columns[-1].end)
    width, height = size_in_points(heat)
    shape = (min(n_rows, max(int(height / _SQUARE), 1)), min(n_columns, max(int(width / _SQUARE), 1)))
    square = (row * shape[0] // n_rows, column * shape[1] // n_columns)
    strongest = np.full(shape, np.nan)
    np.fmax.at(strongest, square, score)
    image = heat.imshow(
        strongest, cmap=STRENGTH, vmin=0, vmax=float(score.max()) or 1.0, interpolation="nearest",
        aspect="auto", extent=(0, n_columns, n_rows, 0), zorder=1,
    )  # fmt: skip
    _draw_sums(above, "vertical", square[1], score, np.arange(shape[1] + 1) * n_columns / shape[1])
    _draw_sums(beside, "horizontal", square[0], score, np.arange(shape[0] + 1) * n_rows / shape[0])
    heat.set(xlim=(0, n_columns), ylim=(n_rows, 0))
    heat.spines[:].set_color(FAINT)
    _dress_rows(heat, beside, rows, names if height / n_rows >= _NAMED else None)
    rule(heat, columns, "x")
    rule(above, columns, "x", names=False)
    heat.set_xlabel("peaks by position (chromosome)", fontsize=8.5, labelpad=14)
    bar = heat.figure.colorbar(image, cax=scale)
    bar.set_label("attention" if shape == (n_rows, n_columns) else "strongest attention", fontsize=8)
    bar.outline.set_visible(False)
    scale.tick_params(labelsize=7, length=0)
    scale.yaxis.set_major_locator(MaxNLocator(4))


def _dress_rows(heat: Axes, beside: Axes, rows: list[Stretch], names: npt.NDArray[np.object_] | None) -> None:
    """Name the genes, or their chromosomes where there is no room."""
    widest = rule(heat, rows, "y", names=names is None)
    rule(beside, rows, "y", names=False)
    heat.set_ylabel("genes by position" + (" (chromosome)" if names is None else ""), fontsize=8.5)
    if names is None:
        heat.yaxis.labelpad = 7 + widest
    else:
        heat.set_yticks(
            np.arange(len(names)) + 0.5,
            [shorten(name, letters_beside(heat, 7, 16)) for name in names],
            fontsize=7,
        )
        heat.tick_params(axis="y", length=0, pad=2)


def _draw_sums(
    ax: Axes, turned: Literal["vertical", "horizontal"], square: Int64, score: Float64, edges: Float64
) -> None:
    total = np.zeros(len(edges) - 1)
    np.add.at(total, square, score)
    ax.stairs(total, edges, fill=True, color=PALETTE[0], orientation=turned)
    ax.spines[:].set_visible(False)
    top = float(total.max()) or 1.0
    ax.tick_params(labelsize=7, length=0, pad=2, labelbottom=False, labelleft=False)
    if turned == "vertical":
        ax.set_ylim(0, 1.02 * top)
        ax.set_yticks([top], [f"{top:.2g}"])
        ax.tick_params(labelleft=True)
        ax.annotate(
            "sum", (0, 0.35), (-4, 0), "axes fraction", "offset points", ha="right", va="center", fontsize=7
        )
    else:
        ax.set_xlim(0, 1.02 * top)
        ax.set_xticks([top], [f"{top:.2g}"])
        ax.tick_params(labelbottom=True)
        ax.set_xlabel("sum", fontsize=7, labelpad=1)


def _title(ax: Axes, links: pd.DataFrame, n_genes: int, n_peaks: int, linked_only: bool) -> None:
    """Say whose attention it is, and how much there is."""
    named = [str(links[c].iloc[0]) for c in ("cell", "cell_type") if c in links and links[c].notna().all()]
    title = ", ".join(named) or "attention of one cell"
    kind = "linked" if linked_only else "all"
    title_with_notes(
        ax,
        title,
        [
            f"{count(len(links), 'link')} between {count(n_genes, 'gene')} and {count(n_peaks, 'peak')} ({kind})"
        ],
    )
