"""How links thin out and weaken with their distance from the TSS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from ...graphs.errors import InputError
from .labels import count, require_columns, say_nothing, shorten, title_with_notes
from .palette import GRID, INK, PALETTE, type_colours

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

_NEAREST: Final = 1000.0  # bp; what is nearer is in the first bin
_BARS: Final = "#d5dae0"
_NAMED: Final = 8  # cell types whose lines can be told apart


def plot_distance_decay(
    ax: Axes,
    links: pd.DataFrame,
    *,
    by: Literal["all", "cell_type"] = "all",
    candidates: npt.ArrayLike | None = None,
    bins: int = 18,
) -> Axes:
    """Draw the mean score of links (line) and their number (bars) against their distance from the TSS.

    Bins are even in the logarithm of the distance; the first has all links nearer than 1 kb. For all links
    together, a band spans the middle half of the scores. Of more than eight cell types, those with the highest
    sum of scores have colours, and the others are grey.

    Parameters
    ----------
    ax
        Axes to draw on; the bars have axes of their own behind them.
    links
        ``distance, score``; and ``cell_type`` where ``by`` is that. Links without a distance are counted in
        the notes alone.
    by
        One line of all links, or one a cell type.
    candidates
        Distances (bp, signed or not) of all pairs that could be links. With them, dashed lines show the same
        links and scores laid evenly over the candidates: their numbers, and their mean score.
    bins
        Number of bins.

    Raises
    ------
    InputError
        A column is missing, or ``by`` or ``bins`` is none of those accepted.
    """
    if by not in ("all", "cell_type") or bins < 1:
        raise InputError(
            f"by={by!r}, bins={bins}: found what is not accepted. Pass all or cell_type, and 1 bin or more."
        )
    require_columns(links, ["distance", "score", *([by] if by != "all" else [])], "links")
    distance = (
        links["distance"].astype("Float64").abs().to_numpy(np.float64, na_value=np.nan).astype(np.float64)
    )
    known = ~np.isnan(distance)
    if not known.any():
        return say_nothing(ax, "There is no link with a distance.")
    away, score = distance[known], links["score"].to_numpy(np.float64)[known]
    others = None if candidates is None else _known(candidates)
    edges = _edges(away if others is None else np.r_[away, others], bins)
    place = _bin(away, edges)
    behind = _draw_counts(ax, place, edges, others)
    if by == "all":
        _draw_all(ax, place, score, edges)
    else:
        _draw_types(ax, place, score, edges, links["cell_type"].astype(object).to_numpy(object)[known])
    if others is not None:
        ax.axhline(
            float(score.mean()),
            color=INK,
            lw=1.1,
            ls=(0, (4, 3)),
            label="laid evenly over candidates\n(score dark, links pale)",
            zorder=2.5,
        )
    _dress(ax, behind, edges)
    notes = [f"{count(int(known.sum()), 'link')}, median distance {_bp(float(np.median(away)))}"]
    if not known.all():
        notes.append(f"{count(int((~known).sum()), 'link')} without a distance not shown")
    title_with_notes(ax, "Links by distance", notes)
    return ax


def _known(candidates: npt.ArrayLike) -> Float64:
    """Distances of candidates, those across chromosomes left out."""
    away = (
        pd.Series(candidates).astype("Float64").abs().to_numpy(np.float64, na_value=np.nan).astype(np.float64)
    )
    return away[~np.isnan(away)]


def _edges(distance: Float64, bins: int) -> Float64:
    """Edges of bins, even in the logarithm, from the nearest (1 kb or less) to the farthest."""
    highest = max(float(np.nanmax(distance)), 10.0) * 1.0001
    lowest = min(_NEAREST, highest / 10)
    return np.geomspace(lowest, highest, bins + 1)


def _bin(distance: Float64, edges: Float64) -> Int64:
    return np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, len(edges) - 2)


def _draw_counts(ax: Axes, place: Int64, edges: Float64, candidates: Float64 | None) -> Axes:
    n_bins = len(edges) - 1
    behind = ax.twinx()
    counts = np.bincount(place, minlength=n_bins)
    behind.stairs(counts, edges, fill=True, color=_BARS)
    highest = float(counts.max())
    if candidates is not None and len(candidates):
        share = np.bincount(_bin(candidates, edges), minlength=n_bins) / len(candidates)
        behind.stairs(share * len(place), edges, color="#7c8791", lw=1.1, ls=(0, (4, 3)))
        highest = max(highest, float(share.max()) * len(place))
    behind.set_ylim(0, 1.6 * highest)
    behind.set_ylabel("links (bars)", fontsize=9, color="#5c6470")
    behind.tick_params(axis="y", colors="#5c6470", labelsize=8, length=0)
    behind.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    behind.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return behind


def _draw_all(ax: Axes, place: Int64, score: Float64, edges: Float64) -> None:
    middle = np.sqrt(edges[1:] * edges[:-1])
    scores = pd.Series(score).groupby(place)
    quarters, mean = scores.quantile(np.array([0.25, 0.75])).unstack(), scores.mean()
    x, mean_y = middle[mean.index.to_numpy()], mean.to_numpy()
    ax.fill_between(
        x, quarters[0.25].to_numpy(), quarters[0.75].to_numpy(),
        color=PALETTE[1], alpha=0.25, lw=0, label="middle half of scores", zorder=2,
    )  # fmt: skip
    ax.plot(x, mean_y, "o-", color=PALETTE[1], lw=2, ms=4, label="mean score", zorder=3)


def _draw_types(
    ax: Axes, place: Int64, score: Float64, edges: Float64, types: npt.NDArray[np.object_]
) -> None:
    middle = np.sqrt(edges[1:] * edges[:-1])
    table = pd.DataFrame({"type": types, "place": place, "score": score})
    means = (
        table.groupby(["type", "place"], sort=True)["score"]
        .mean()
        .unstack()
        .reindex(columns=range(len(middle)))
    )
    names = list(means.index)
    named = _named(table, names)
    colours = {name: colour for name, colour in type_colours(names).items() if name in named}
    for name in [name for name in names if name not in named] + named:
        y = means.loc[name].to_numpy(np.float64)
        if name in colours:
            ax.plot(middle, y, "o-", color=colours[name], lw=1.6, ms=3, label=shorten(name), zorder=3)
        else:
            ax.plot(middle, y, "-", color="#8f959c", lw=0.8, zorder=2.5)
    if len(named) < len(names):
        ax.plot([], [], "-", color="#8f959c", lw=0.8, label=f"{len(names) - len(named)} other types")


def _named(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Cell types to colour, in order: all, or the eight with the highest sum of scores."""
    if len(names) <= _NAMED:
        return list(names)
    most = set(table.groupby("type")["score"].sum().nlargest(_NAMED).index)
    return [name for name in names if name in most]


def _dress(ax: Axes, behind: Axes, edges: Float64) -> None:
    ax.set_zorder(behind.get_zorder() + 1)
    ax.patch.set_visible(False)
    ax.set(xscale="log", xlim=(edges[0], edges[-1]))
    decades = 10.0 ** np.arange(np.ceil(np.log10(edges[0]) - 1e-9), np.floor(np.log10(edges[-1])) + 1)
    ax.xaxis.set_major_locator(FixedLocator(decades.tolist()))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels([("≤ " if x <= edges[0] * 1.001 else "") + _bp(x) for x in decades])
    ax.set_xlabel("distance of peak and TSS", fontsize=9)
    ax.set_ylabel("score of a link", fontsize=9)
    ax.tick_params(labelsize=8)
    top = max(
        (float(np.nanmax(np.asarray(line.get_ydata(), np.float64), initial=0.0)) for line in ax.lines),
        default=0.0,
    )
    bands = [np.asarray(path.vertices)[:, 1] for band in ax.collections for path in band.get_paths()]
    ax.set_ylim(0, 1.35 * max([top, *(float(band.max()) for band in bands)]) or 1.0)
    for axes in (ax, behind):
        axes.spines[["top", "right", "left"]].set_visible(False)
    ax.grid(axis="y", color=GRID, lw=0.6)
    columns = 1 if len(ax.lines) <= 4 else 3
    ax.legend(
        frameon=False, fontsize=7.5, loc="upper right", ncols=columns, handlelength=1.6, columnspacing=1.0
    )


def _bp(distance: float) -> str:
    """Write a distance in the unit that fits."""
    for unit, size in (("Mb", 1e6), ("kb", 1e3)):
        if distance >= size:
            return f"{distance / size:.3g} {unit}"
    return f"{distance:.3g} bp"
