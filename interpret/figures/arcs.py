"""Arcs from peaks to the TSS of a gene, a lane a cell type."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.ticker import MaxNLocator

from ..evidence.candidates import DEFAULT_WINDOW
from .palette import FAINT, INK, PAPER, type_colours

_ARC = np.linspace(0.0, np.pi, 48)


def plot_map(
    ax: Axes,
    links: pd.DataFrame,
    gene: str,
    *,
    cell_types: Sequence[str],
    peaks: pd.DataFrame | None = None,
    true_peaks: Collection[str] = (),
    window: int = DEFAULT_WINDOW,
    colours: Mapping[str, str] | None = None,
) -> Axes:
    """Draw the links of one gene around its TSS, a lane of arcs a cell type.

    The wider and darker an arc, the higher its score beside the highest in the plot. Links farther
    than the window are counted at the right of their lane.

    Parameters
    ----------
    ax
        Axes to draw on.
    links
        Link table with at least one link of ``gene``.
    gene
        Name as in the table.
    cell_types
        Lanes from top to bottom; their order decides their colours, where none are given.
    peaks
        Table ``peak, chrom, start, end`` of all peaks, drawn as ticks below the lanes.
    true_peaks
        Names of peaks to mark as known links of the gene.
    window
        Half of the width shown, in bp.
    colours
        Cell type -> colour, so that pictures of some types agree with those of all.
    """
    own = links[(links["gene"] == gene) & links["distance"].notna()]
    tss, chrom = int(own["tss"].iloc[0]), str(own["chrom"].iloc[0])
    near = own[own["distance"].abs() <= window]
    highest = float(near["score"].max()) if len(near) else 0.0
    given = colours or type_colours(cell_types)
    colours = {name: given[name] for name in cell_types}
    for lane, name in enumerate(cell_types):
        base = float(len(cell_types) - 1 - lane)
        mine = near[near["cell_type"] == name]
        ax.axhline(base, color=FAINT, lw=0.6, zorder=1)
        draw_arcs(ax, mine, tss, colours[name], floor=base, highest=highest, window=window)
        beyond = int((own["cell_type"] == name).sum()) - len(mine)
        if beyond:
            text = f"+{beyond:,} beyond"
            ax.text(
                tss + window, base + 0.5, text, ha="right", va="center", fontsize=6.5, color=INK, bbox=PAPER
            )
    if peaks is not None:
        _peak_track(ax, peaks[peaks["chrom"] == chrom], tss, true_peaks, window)
    ax.axvline(tss, color=INK, lw=0.8, ls=(0, (4, 3)), zorder=1)
    _dress_lanes(ax, cell_types, colours, tss, window)
    ax.set_title(f"{gene}\n", fontsize=12, fontweight="bold", color=INK)
    note = f"strongest link: score {highest:.2g}" if len(near) else f"no link within {window // 1000:,} kb"
    ax.annotate(
        note, (0.5, 1.0), (0, 5), "axes fraction", "offset points", ha="center", fontsize=8, color=INK
    )
    ax.set_xlabel(f"{chrom} (Mb)", fontsize=9)
    return ax


def draw_arcs(
    ax: Axes,
    links: pd.DataFrame,
    tss: int,
    colour: str,
    *,
    floor: float,
    highest: float,
    window: int,
    room: float = 0.85,
) -> None:
    """Draw half ellipses from peak centres to the TSS; far ones are higher, strong ones wider and darker.

    Parameters
    ----------
    ax
        Axes to draw on.
    links
        ``start, end, score`` of the links of one lane.
    tss
        Where all arcs end, bp.
    colour
        Of all arcs.
    floor
        Where arcs stand, in data coordinates.
    highest
        Score of the widest arc.
    window
        Distance of the highest arc, bp.
    room
        Height of the highest arc, in data coordinates.
    """
    links = links.sort_values("score", kind="stable")  # strong arcs above weak ones
    centre = (links["start"].to_numpy(np.float64) + links["end"].to_numpy(np.float64)) / 2
    middle, half = (centre + tss) / 2, np.abs(centre - tss) / 2
    height = room * (0.3 + 0.7 * np.sqrt(np.minimum(2 * half / window, 1.0)))
    x = middle[:, None] + half[:, None] * np.cos(_ARC)
    y = floor + height[:, None] * np.sin(_ARC)
    share = links["score"].to_numpy(np.float64) / highest if highest > 0 else np.zeros(len(links))
    share = np.clip(share, 0, 1)
    rgba = np.tile(to_rgba(colour), (len(links), 1))
    rgba[:, 3] = 0.22 + 0.78 * share
    ax.add_collection(
        LineCollection(list(np.stack([x, y], 2)), colors=rgba, linewidths=0.6 + 2.0 * share, zorder=2)
    )


def _peak_track(ax: Axes, peaks: pd.DataFrame, tss: int, true_peaks: Collection[str], window: int) -> None:
    centre = (peaks["start"].to_numpy() + peaks["end"].to_numpy()) / 2
    here: npt.NDArray[np.bool_] = np.abs(centre - tss) <= window
    known = here & peaks["peak"].isin(list(true_peaks)).to_numpy()
    ax.vlines(centre[here], -0.5, -0.25, color="#85898f", lw=0.8)
    ax.plot(centre[known], np.full(known.sum(), -0.68), "^", color=INK, ms=5, mew=0)


def _dress_lanes(
    ax: Axes, cell_types: Sequence[str], colours: Mapping[str, str], tss: int, window: int
) -> None:
    ax.set(xlim=(max(tss - window, 0), tss + window), ylim=(-0.95, len(cell_types)))
    ax.set_yticks(
        [len(cell_types) - 0.6 - i for i in range(len(cell_types))] + [-0.4], [*cell_types, "peaks"]
    )
    for label, colour in zip(ax.get_yticklabels(), [*colours.values(), INK], strict=True):
        label.set(color=colour, fontsize=9)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelsize=8)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(lambda position, _: f"{position / 1e6:.2f}")
    ax.spines[["top", "right", "left"]].set_visible(False)
