"""Whole pictures of a map folder, drawn from what was written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...graphs.dataset import MultiomeGraphs
from ..evidence.comparison import Comparison
from .arcs import plot_map
from .binding import plot_binding
from .palette import type_colours
from .recovery import plot_recovery

_LANES = 10
_COLUMNS = ["gene", "peak", "chrom", "start", "end", "tss", "distance", "score", "cell_type"]


def draw_map(
    path: Path,
    links: Path,
    graphs: MultiomeGraphs,
    *,
    genes: Sequence[str],
    cells: Mapping[str, int],
    known: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Draw the links around a few genes, a panel a gene, from a written link table.

    Parameters
    ----------
    path
        PNG to write.
    links
        Link table (parquet); only the rows of ``genes`` are read.
    graphs
        Dataset, for its peaks and cell types.
    genes
        Names; where there are none, the picture says so.
    cells
        Cells of each cell type.
    known
        Gene -> peaks of its known links, to mark.
    """
    table = pd.read_parquet(links, columns=_COLUMNS, filters=[("gene", "in", list(genes) or [""])])
    lanes, note = _lanes(table)
    colours = type_colours(list(cells))
    figure = Figure(
        figsize=(1.2 + 4.0 * max(len(genes), 1), 2.0 + 0.55 * max(len(lanes), 2)), layout="constrained"
    )
    FigureCanvasAgg(figure)
    if not genes:
        figure.text(0.5, 0.5, "No gene has a link within 250 kb of its TSS.", ha="center", fontsize=12)
    axes = figure.subplots(1, max(len(genes), 1), squeeze=False)[0] if genes else []
    for i, (ax, gene) in enumerate(zip(axes, genes, strict=True)):
        true_peaks = (known or {}).get(gene, ())
        plot_map(
            ax,
            table,
            gene,
            cell_types=lanes,
            peaks=graphs.peaks.frame,
            true_peaks=true_peaks,
            colours=colours,
        )
        ax.set_yticks(
            ax.get_yticks(),
            labels=[] if i else [*(f"{name}\n{cells[name]:,} cells" for name in lanes), "peaks"],
        )
    figure.suptitle("Peaks linked to the genes that differ most between cell types" + note, fontsize=13)
    marks = [
        Line2D([], [], color="#5c6470", lw=2, label="link from peak to TSS: the darker, the higher its score")
    ]
    if known is not None:
        marks.append(Line2D([], [], color="#333333", marker="^", lw=0, ms=5, label="known link"))
    figure.legend(handles=marks, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


def draw_binding(path: Path, comparison: Mapping[str, Any]) -> None:
    """Draw how like the binding of a factor the map and accessibility are, by correlation and by their best peaks."""
    rows = len(comparison.get("cell_types", ()))
    figure = Figure(figsize=(11.5, 2.2 + 0.32 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for ax, measure in zip(figure.subplots(1, 2), ("pearson", "jaccard"), strict=True):
        plot_binding(ax, comparison, measure=measure)
        if measure == "pearson" and (legend := ax.get_legend()) is not None:
            legend.remove()
    figure.savefig(path, dpi=150)


def draw_recovery(path: Path, comparison: Comparison) -> None:
    """Draw the precision-recall curves of all methods to a PNG."""
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    ax = plot_recovery(figure.subplots(), comparison.curves(), chance=comparison.chance)
    number, coverage = len(comparison.candidates), comparison.coverage
    ax.set_title(
        f"Recovery of the {coverage['in_candidates']:,} of {coverage['links']:,} known links that are\n"
        f"among {number:,} peak-gene pairs within {comparison.candidates.window // 1000:,} kb",
        fontsize=11,
    )
    figure.savefig(path, dpi=150)


def _lanes(table: pd.DataFrame) -> tuple[list[str], str]:
    """Return the cell types to draw: all, or those with the most attention on these genes."""
    total = table.groupby("cell_type")["score"].sum().sort_values(ascending=False)
    lanes = sorted(total.index[:_LANES])
    return lanes, "" if len(lanes) == len(total) else f" ({len(lanes)} of {len(total)} cell types)"
