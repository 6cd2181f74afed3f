"""The locus of a gene: openness, links and expression, a lane a cell type, over peaks and gene models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from ...graphs.errors import InputError
from ..evidence.candidates import DEFAULT_WINDOW
from .arcs import draw_arcs
from .gene_models import LANE_POINTS, draw_genes, genes_within, pack
from .labels import letters_beside, require_columns, say_nothing, shorten, size_in_points, title_with_notes
from .palette import FAINT, INK, PAPER, type_colours

Float64 = npt.NDArray[np.float64]

_PEAKS = 9.0  # points of the lane of peaks
_LEAST = 7.0  # points of a cell type's lane
_BARS = 0.3  # share of a lane that bars of openness take at most
_LANES = 4  # of genes


@dataclass(frozen=True)
class _Lanes:
    """Where things stand: x in bp, y in lanes of cell types, the lowest lane from 0 to 1."""

    types: Sequence[str]
    colours: dict[str, str]
    chrom: str
    tss: int
    window: int
    point: float  # lanes a point of height

    @property
    def low(self) -> int:
        return max(self.tss - self.window, 0)

    @property
    def high(self) -> int:
        return self.tss + self.window

    def base(self, cell_type: str) -> float:
        """Return the line of a cell type: arcs stand on it, bars hang from it."""
        return float(len(self.types) - 1 - list(self.types).index(cell_type)) + _BARS + 0.06


def plot_locus(
    ax: Axes,
    links: pd.DataFrame,
    gene: str,
    *,
    genes: pd.DataFrame,
    peaks: pd.DataFrame,
    exons: pd.DataFrame | None = None,
    openness: pd.DataFrame | None = None,
    expression: pd.DataFrame | None = None,
    cell_types: Sequence[str] | None = None,
    window: int = DEFAULT_WINDOW,
) -> Axes:
    """Draw what surrounds a gene, from top to bottom: a lane a cell type, the peaks, the gene models.

    Arcs are links, the wider and darker, the higher their score; the bars that hang below are the share of the
    type's cells in which a peak is open. Both scales are shared by all lanes. At the right is the gene's
    expression.

    Parameters
    ----------
    ax
        Axes to draw on, at their final size.
    links
        Link table; only the links of ``gene`` are looked at, and those of other chromosomes or farther than
        the window are counted and not drawn.
    gene
        Name as in ``genes["gene"]``.
    genes
        ``gene, chrom, tss``; ``symbol, start, end, strand`` where known.
    peaks
        ``peak, chrom, start, end``.
    exons
        ``gene, start, end``; a gene without exons has a mark at its TSS.
    openness
        A row a peak (index: names), a column a cell type; share of cells.
    expression
        A row a gene (index: names), a column a cell type.
    cell_types
        Lanes from top to bottom; by default those of ``openness``, or of the links, in order.
    window
        Half of the width shown, bp.

    Raises
    ------
    InputError
        A column is missing, the gene is not in ``genes``, or a cell type is not in the tables.
    """
    require_columns(links, ["gene", "start", "end", "score", "distance", "cell_type"], "links")
    require_columns(genes, ["gene", "chrom", "tss"], "genes")
    require_columns(peaks, ["peak", "chrom", "start", "end"], "peaks")
    row = _row(genes, gene)
    own = links[(links["gene"] == gene).to_numpy(bool)]
    types = _types(own, openness, cell_types)
    if pd.isna(row["tss"]) or pd.isna(row["chrom"]):
        return say_nothing(ax, f"{shorten(gene)} has no place on the genome.")
    if not types:
        return say_nothing(ax, f"There is no cell type to show {shorten(gene)} in.")
    tss, chrom = int(row["tss"]), str(row["chrom"])
    low, high = max(tss - window, 0), tss + window
    models = pack(ax, genes_within(genes, chrom, low, high), low, high, focus=gene, lanes=_LANES)
    below = _PEAKS + LANE_POINTS * (int(models["lane"].max()) + 1)
    point = 1 / max((size_in_points(ax)[1] - below) / len(types), _LEAST)
    lanes = _Lanes(types, type_colours(types), chrom, tss, window, point)
    ax.set(xlim=(low, high), ylim=(-below * point, len(types)))
    here = _here(peaks, lanes)
    most_open = _draw_openness(ax, here, openness, lanes)
    highest = _draw_links(ax, own, lanes)
    _draw_peaks(ax, here, lanes)
    top = -_PEAKS * point
    draw_genes(ax, models, exons, low, high, top=top, lane=LANE_POINTS * point, focus=gene)
    _dress(ax, lanes)
    if expression is not None and gene in expression.index:
        _draw_expression(ax, expression.loc[[gene]].iloc[0], lanes)
    _title(ax, str(models["name"].iloc[0]), own, models, (most_open, highest), lanes)
    return ax


def _row(genes: pd.DataFrame, gene: str) -> pd.Series:
    found = genes[(genes["gene"] == gene).to_numpy(bool)]
    if found.empty:
        raise InputError(
            f"genes: no gene {gene!r} among {len(genes):,}. Pass a name as in the column gene of that table."
        )
    return found.iloc[0]


def _types(own: pd.DataFrame, openness: pd.DataFrame | None, asked: Sequence[str] | None) -> list[str]:
    if asked is None:
        return list(openness.columns) if openness is not None else sorted(own["cell_type"].dropna().unique())
    strange = [name for name in asked if openness is not None and name not in openness.columns]
    if strange:
        raise InputError(
            f"openness: no cell type {strange[0]!r} (found: {', '.join(map(str, openness.columns))}). "  # type: ignore[union-attr]
            "Choose among them."
        )
    return list(asked)


def _here(peaks: pd.DataFrame, lanes: _Lanes) -> pd.DataFrame:
    """Return the peaks that the lanes show, at least as wide as can be seen."""
    on = peaks[(peaks["chrom"] == lanes.chrom).to_numpy(bool)]
    return on[(on["end"] > lanes.low) & (on["start"] < lanes.high)]


def _draw_openness(ax: Axes, peaks: pd.DataFrame, openness: pd.DataFrame | None, lanes: _Lanes) -> float:
    """Draw a bar a peak and cell type that has it open, and return the height of the highest."""
    if openness is None or peaks.empty:
        return 0.0
    values = openness.reindex(peaks["peak"].to_numpy(object))[list(lanes.types)].to_numpy(np.float64)
    values = np.nan_to_num(values)
    highest = float(values.max())
    start, end = _at_least(ax, peaks, lanes)
    for i, name in enumerate(lanes.types):
        shown = values[:, i] > 0
        a, b, base = start[shown], end[shown], np.full(shown.sum(), lanes.base(name))
        top = base - _BARS * values[shown, i] / (highest or 1.0)
        bars = np.stack([np.stack(c, 1) for c in ((a, base), (a, top), (b, top), (b, base))], 1)
        ax.add_collection(PolyCollection(list(bars), facecolors=lanes.colours[name], linewidths=0, zorder=2))
    return highest


def _at_least(ax: Axes, peaks: pd.DataFrame, lanes: _Lanes) -> tuple[Float64, Float64]:
    """Widen peaks that would not be seen to 1.6 points."""
    start, end = peaks["start"].to_numpy(np.float64), peaks["end"].to_numpy(np.float64)
    least = 1.6 * (lanes.high - lanes.low) / size_in_points(ax)[0]
    more = np.maximum(least - (end - start), 0) / 2
    return start - more, end + more


def _draw_links(ax: Axes, own: pd.DataFrame, lanes: _Lanes) -> float:
    """Draw arcs on every lane, count those out of sight, and return the highest score."""
    distance = own["distance"].astype("Float64").to_numpy(np.float64, na_value=np.inf)
    near = np.abs(distance) <= lanes.window
    seen = near & own["cell_type"].isin(lanes.types).to_numpy(bool)
    highest = float(own["score"].to_numpy(np.float64)[seen].max(initial=0.0))
    for name in lanes.types:
        mine = (own["cell_type"] == name).to_numpy(bool)
        ax.axhline(lanes.base(name), color=FAINT, lw=0.6, zorder=1)
        draw_arcs(
            ax, own[mine & near], lanes.tss, lanes.colours[name],
            floor=lanes.base(name), highest=highest, window=lanes.window, room=0.9 - _BARS,
        )  # fmt: skip
        beyond = int((mine & ~near).sum())
        if beyond:
            size = float(np.clip(0.7 / lanes.point, 4.5, 6.5))
            ax.text(
                lanes.high, lanes.base(name) + 0.5, f"+{beyond:,} elsewhere", ha="right", va="center",
                fontsize=size, color=INK, bbox=PAPER,
            )  # fmt: skip
    return highest


def _draw_peaks(ax: Axes, peaks: pd.DataFrame, lanes: _Lanes) -> None:
    start, end = _at_least(ax, peaks, lanes)
    top, bottom = (np.full(len(peaks), -share * _PEAKS * lanes.point) for share in (0.25, 0.85))
    boxes = np.stack([np.stack(c, 1) for c in ((start, bottom), (start, top), (end, top), (end, bottom))], 1)
    ax.add_collection(PolyCollection(list(boxes), facecolors="#85898f", linewidths=0, zorder=2))


def _dress(ax: Axes, lanes: _Lanes) -> None:
    ax.axvline(lanes.tss, color=INK, lw=0.7, ls=(0, (4, 3)), zorder=1)
    middles = [lanes.base(name) + 0.1 for name in lanes.types]
    size = float(np.clip(0.85 / lanes.point, 5, 9))
    names = [shorten(name, letters_beside(ax, size, 22)) for name in lanes.types]
    bottom = ax.get_ylim()[0]
    peaks, models = -0.55 * _PEAKS * lanes.point, (bottom - _PEAKS * lanes.point) / 2
    ax.set_yticks([*middles, peaks, models], [*names, "peaks", "genes"])
    for label, colour in zip(ax.get_yticklabels(), [*lanes.colours.values(), INK, INK], strict=True):
        dark = tuple(0.8 * part for part in to_rgb(colour))  # pale shades are hard to read
        label.set(color=dark, fontsize=size if colour != INK else 7)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelsize=8)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    digits = 2 if lanes.window >= 50_000 else 3
    ax.xaxis.set_major_formatter(lambda position, _: f"{position / 1e6:.{digits}f}")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.set_xlabel(f"{lanes.chrom} (Mb)", fontsize=9)


def _draw_expression(ax: Axes, values: pd.Series, lanes: _Lanes) -> None:
    """Draw a bar and a number a lane in axes of their own at the right."""
    side = ax.inset_axes((1.015, 0, 0.1, 1), sharey=ax)
    side.set_axis_off()
    shown = values.reindex(list(lanes.types)).to_numpy(np.float64)
    middles = np.array([lanes.base(name) + 0.1 for name in lanes.types])
    highest = float(np.nanmax(shown, initial=0.0))
    side.set_xlim(0, 2.1 * (highest or 1.0))
    side.barh(
        middles, np.nan_to_num(shown), height=min(0.55, 9 * lanes.point), color=list(lanes.colours.values())
    )
    size = float(np.clip(0.8 / lanes.point, 4.5, 7))
    for value, y in zip(shown, middles, strict=True):
        text = "–" if np.isnan(value) else f"{value:.2f}"
        side.text(
            np.nan_to_num(value) + 0.06 * (highest or 1.0), y, text, va="center", fontsize=size, color=INK
        )
    side.annotate(
        "expression", (0, 1), (0, 2), "axes fraction", "offset points", fontsize=6.5, color=INK, va="bottom"
    )
    ax.set_ylim(ax.get_ylim())


def _title(
    ax: Axes, name: str, own: pd.DataFrame, models: pd.DataFrame, highest: tuple[float, float], lanes: _Lanes
) -> None:
    most_open, score = highest
    reach = f"{lanes.window / 1000:,.0f} kb"
    notes = [f"arcs: links, score up to {score:.2g}" if score else f"no link within {reach}"]
    if most_open:
        notes.append(f"bars below: share of cells with the peak open, up to {100 * most_open:.3g} %")
    unnamed = int((models["lane"] < 0).sum())
    if unnamed:
        notes.append(f"{unnamed:,} more genes not drawn")
    title_with_notes(ax, name, notes)
