"""Gene models: bodies with their strand, exons, and names that do not overlap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection

from .labels import shorten, size_in_points
from .palette import INK, PALETTE

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

LANE_POINTS = 18.0  # a lane of genes, name and body
_NAME = 7.0
_ARROWS = 13.0  # points from arrow head to arrow head


def genes_within(genes: pd.DataFrame, chrom: str, low: float, high: float) -> pd.DataFrame:
    """Return the genes whose body reaches into a stretch, by start; a gene without a body is its TSS."""
    here = genes[(genes["chrom"] == chrom).fillna(False).to_numpy(bool) & genes["tss"].notna().to_numpy(bool)]
    tss = here["tss"].to_numpy(np.float64)
    begin = here["start"].astype("Float64").to_numpy(np.float64, na_value=np.nan) if "start" in here else tss
    end = here["end"].astype("Float64").to_numpy(np.float64, na_value=np.nan) if "end" in here else tss + 1
    here = here.assign(begin=np.where(np.isnan(begin), tss, begin), end=np.where(np.isnan(end), tss + 1, end))
    return here[(here["begin"] < high) & (here["end"] > low)].sort_values(["begin", "gene"], kind="stable")


def pack(ax: Axes, genes: pd.DataFrame, low: float, high: float, *, focus: str, lanes: int) -> pd.DataFrame:
    """Give each gene a lane where neither its body nor its name touches another's.

    Parameters
    ----------
    ax
        Axes, whose width is that of the stretch.
    genes
        As `genes_within` gives them.
    low, high
        The stretch, bp.
    focus
        Gene that is placed first.
    lanes
        At most; the gene that finds no room in them has lane -1.

    Returns
    -------
    The genes, ``focus`` first, with ``lane``, ``name`` and ``middle`` (where the name stands, bp).
    """
    bp = (high - low) / size_in_points(ax)[0]  # of a point
    genes = genes.iloc[np.argsort((genes["gene"] != focus).to_numpy(), kind="stable")]
    label = (
        genes["symbol"].where(genes["symbol"].notna(), genes["gene"]) if "symbol" in genes else genes["gene"]
    )
    names = [shorten(name, 18) for name in label]
    begin = np.clip(genes["begin"].to_numpy(np.float64), low, high)
    end = np.clip(genes["end"].to_numpy(np.float64), low, high)
    half = _widths(ax, names) * bp / 2
    middle = np.clip(
        (begin + end) / 2, np.minimum(low + half, high - half), np.maximum(low + half, high - half)
    )
    left, right = np.minimum(begin, middle - half) - 4 * bp, np.maximum(end, middle + half) + 4 * bp
    return genes.assign(name=names, middle=middle, lane=_first_free(left, right, lanes))


def _widths(ax: Axes, names: list[str]) -> Float64:
    """Measure names as wide as they can be, in points."""
    probe = ax.text(0, 0, "", fontsize=_NAME, fontweight="bold", fontstyle="italic")
    scale, widths = size_in_points(ax)[0] / ax.get_window_extent().width, []
    for name in names:
        probe.set_text(name)
        widths.append(probe.get_window_extent().width * scale)
    probe.remove()
    return np.array(widths)


def _first_free(left: Float64, right: Float64, lanes: int) -> Int64:
    """Put each interval into the first lane where it meets none, -1 where there is none; few genes, so a loop."""
    taken: list[list[tuple[float, float]]] = [[] for _ in range(lanes)]
    found = np.full(len(left), -1, np.int64)
    for i, (a, b) in enumerate(zip(left, right, strict=True)):
        for lane, others in enumerate(taken):
            if all(b <= x or y <= a for x, y in others):
                others.append((a, b))
                found[i] = lane
                break
    return found


def draw_genes(
    ax: Axes,
    genes: pd.DataFrame,
    exons: pd.DataFrame | None,
    low: float,
    high: float,
    *,
    top: float,
    lane: float,
    focus: str,
) -> None:
    """Draw packed genes below ``top``, each lane ``lane`` high, in data coordinates; ``focus`` in colour."""
    shown = genes[genes["lane"] >= 0]
    y = top - (shown["lane"].to_numpy(np.float64) + 0.74) * lane
    thick = 0.16 * lane
    colours = np.where(shown["gene"] == focus, PALETTE[1], INK)
    begin, end = shown["begin"].to_numpy(np.float64), shown["end"].to_numpy(np.float64)
    bodies = np.stack([np.stack([begin, y], 1), np.stack([end, y], 1)], 1)
    ax.add_collection(LineCollection(list(bodies), colors=colours.tolist(), linewidths=1.0, zorder=2))
    for x, base, name, colour in zip(
        shown["middle"].tolist(), y.tolist(), shown["name"].tolist(), colours.tolist(), strict=True
    ):
        weight = "normal" if colour == INK else "bold"
        ax.text(
            x, base + thick, name, ha="center", va="bottom", fontsize=_NAME, fontweight=weight,
            fontstyle="italic", color=colour,
        )  # fmt: skip
    _draw_boxes(ax, shown, exons, y, thick, colours)
    _draw_strand(ax, shown, low, high, y, thick, colours)


def _draw_boxes(
    ax: Axes,
    genes: pd.DataFrame,
    exons: pd.DataFrame | None,
    y: Float64,
    thick: float,
    colours: npt.NDArray[np.str_],
) -> None:
    """Draw exons; where a gene has none, an upright at its TSS."""
    at = pd.Index(genes["gene"].to_numpy(object))
    bare = np.ones(len(genes), bool)
    if exons is not None:
        own = at.get_indexer(pd.Index(exons["gene"].to_numpy(object)))
        parts, own = exons[own >= 0], own[own >= 0]
        bare[own] = False
        a, b = parts["start"].to_numpy(np.float64), parts["end"].to_numpy(np.float64)
        corners = [(a, y[own] - thick), (b, y[own] - thick), (b, y[own] + thick), (a, y[own] + thick)]
        boxes = np.stack([np.stack(corner, 1) for corner in corners], 1)
        shades = colours[own].tolist()
        ax.add_collection(
            PolyCollection(list(boxes), facecolors=shades, edgecolors=shades, linewidths=0.6, zorder=3)
        )
    tss = genes["tss"].to_numpy(np.float64)[bare]
    marks = np.stack([np.stack([tss, y[bare] - thick], 1), np.stack([tss, y[bare] + thick], 1)], 1)
    ax.add_collection(LineCollection(list(marks), colors=colours[bare].tolist(), linewidths=1.6, zorder=3))


def _draw_strand(
    ax: Axes,
    genes: pd.DataFrame,
    low: float,
    high: float,
    y: Float64,
    thick: float,
    colours: npt.NDArray[np.str_],
) -> None:
    """Draw heads of arrows along bodies, one at least where the strand is known."""
    bp = (high - low) / size_in_points(ax)[0]
    begin = np.clip(genes["begin"].to_numpy(np.float64), low, high)
    end = np.clip(genes["end"].to_numpy(np.float64), low, high)
    strand = genes["strand"].to_numpy(object) if "strand" in genes else np.full(len(genes), None, object)
    sign = np.select([np.isin(strand, ["+", "1"]), np.isin(strand, ["-", "-1"])], [1, -1], 0)
    number = np.where(sign != 0, np.maximum((end - begin) / (_ARROWS * bp), 1).astype(np.int64), 0)
    own = np.repeat(np.arange(len(genes)), number)
    step = np.arange(len(own)) - np.repeat(np.cumsum(number) - number, number)
    tip = begin[own] + (step + 0.5) * (end - begin)[own] / np.maximum(number, 1)[own] + 1.5 * bp * sign[own]
    back = tip - 3 * bp * sign[own]
    heads = np.stack(
        [np.stack(p, 1) for p in ((back, y[own] + 0.7 * thick), (tip, y[own]), (back, y[own] - 0.7 * thick))],
        1,
    )
    ax.add_collection(LineCollection(list(heads), colors=colours[own].tolist(), linewidths=0.8, zorder=2))
