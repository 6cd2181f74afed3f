"""Which links cell types share: of their strongest ones, how many types have each, and which types agree."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.sparse import csr_array
from scipy.spatial.distance import squareform

from ...graphs.errors import InputError
from .labels import (
    count,
    letters_beside,
    require_columns,
    say_nothing,
    shorten,
    size_in_points,
    title_with_notes,
)
from .palette import GRID, INK, PALETTE, STRENGTH

Float64 = npt.NDArray[np.float64]

TOP = 1000
_COUNTED = 16  # types whose numbers can be read in a square


def plot_sharing(ax: Axes, links: pd.DataFrame, *, n: int = TOP) -> Axes:
    """Draw how many of the types' strongest links are shared by 1, 2, … types.

    Dots are what chance would share: as many links drawn for each type from all links of the table.

    Parameters
    ----------
    ax
        Axes to draw on.
    links
        ``gene, peak, score, cell_type``.
    n
        Strongest links of each cell type.

    Raises
    ------
    InputError
        A column is missing, or n is less than 1.
    """
    types, member, distinct = _strongest(links, n)
    if not types:
        return say_nothing(ax, "There are no links to compare.")
    sharing = np.asarray(member.sum(0)).ravel().astype(np.int64)
    counts = np.bincount(sharing, minlength=len(types) + 1)[1:]
    at = np.arange(1, len(types) + 1)
    ax.bar(at, counts, color=PALETTE[0], width=0.8)
    chance = distinct * _of_many(np.asarray(member.sum(1)).ravel() / distinct)[1:]
    ax.plot(at, chance, "o", color=PALETTE[1], ms=5, mec="white", mew=0.6, label="by chance", zorder=3)
    highest = max(float(counts.max()), float(chance.max()))
    _count(ax, counts, chance, 0.06 * highest)
    ax.set_xlim(0.4, len(types) + 0.6)
    ax.set_ylim(0, 1.15 * highest)
    ax.set_xticks(at[:: max(int(np.ceil(len(types) / 15)), 1)])
    ax.set_xlabel("cell types that share a link", fontsize=9)
    ax.set_ylabel("links", fontsize=9)
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color=GRID, lw=0.6)
    ax.set_axisbelow(True)
    ax.legend(frameon=False, fontsize=8, loc="upper right")
    title_with_notes(ax, "Links shared by cell types", _notes(member, n, distinct))
    return ax


def _count(ax: Axes, counts: npt.NDArray[np.int64], chance: Float64, reach: float) -> None:
    """Write numbers above bars, and above dots that would hide them."""
    size = float(np.clip(size_in_points(ax)[0] / len(counts) / 4, 6, 8))
    hidden = (chance > counts - reach / 3) & (chance < counts + reach)
    top = np.where(hidden, np.maximum(chance, counts), counts)
    for i in np.flatnonzero(counts):
        ax.annotate(
            f"{counts[i]:,}", (i + 1, top[i]), (0, 4), "data", "offset points",
            ha="center", va="bottom", fontsize=size, color=INK,
        )  # fmt: skip


def plot_overlap(ax: Axes, links: pd.DataFrame, *, n: int = TOP) -> Axes:
    """Draw for every two cell types how much their strongest links agree (Jaccard), similar types side by side.

    Parameters
    ----------
    ax
        Axes to draw on.
    links, n
        As in `plot_sharing`.

    Raises
    ------
    InputError
        As in `plot_sharing`.
    """
    types, member, distinct = _strongest(links, n)
    if len(types) < 2:
        return say_nothing(ax, "It takes links of two cell types to compare them.")
    jaccard = _jaccard(member)
    order = _alike(jaccard)
    shown = jaccard[np.ix_(order, order)]
    np.fill_diagonal(shown, np.nan)
    names = [types[i] for i in order]
    scale = Normalize(0, float(np.nanmax(shown)) or 1.0)
    image = ax.imshow(shown, cmap=STRENGTH, norm=scale, aspect="auto", interpolation="nearest")
    ax.set_facecolor("#eef0f2")
    _name(ax, names)
    if len(types) <= _COUNTED:
        for i, j in zip(*np.nonzero(~np.isnan(shown)), strict=True):
            dark = float(np.dot(STRENGTH(scale(shown[i, j]))[:3], (0.3, 0.59, 0.11))) < 0.5
            text = f"{shown[i, j]:.2f}".removeprefix("0")
            ax.text(j, i, text, ha="center", va="center", fontsize=6.5, color="white" if dark else INK)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8, aspect=22, pad=0.02)
    bar.set_label("Jaccard", fontsize=8)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=0)
    size = float(np.asarray(member.sum(1)).mean())
    both = size * size / distinct
    notes = _notes(member, n, distinct)
    title_with_notes(ax, "Agreement of cell types", [*notes, f"by chance {both / (2 * size - both):.2f}"])
    return ax


def _strongest(links: pd.DataFrame, n: int) -> tuple[list[str], csr_array, int]:
    """Return the cell types, what is among the strongest of each (types x links), and the number of distinct links."""
    require_columns(links, ["gene", "peak", "score", "cell_type"], "links")
    if n < 1:
        raise InputError(f"n: found {n}. Pass 1 or more links a cell type.")
    known = links[links["cell_type"].notna().to_numpy()]
    gene, _ = pd.factorize(known["gene"])
    peak, peaks = pd.factorize(known["peak"])
    link, distinct = pd.factorize(gene.astype(np.int64) * max(len(peaks), 1) + peak)
    code, types = pd.factorize(known["cell_type"].astype(object), sort=True)
    order = np.lexsort((link, -known["score"].to_numpy(np.float64), code))
    first = np.searchsorted(code[order], np.arange(len(types)))
    strong = order[np.arange(len(order)) - first[code[order]] < n]
    member = csr_array(
        (np.ones(len(strong)), (code[strong], link[strong])), shape=(len(types), max(len(distinct), 1))
    )
    member.data[:] = 1.0  # a link that is told twice is one
    return [str(name) for name in types], member, len(distinct)


def _of_many(chance: Float64) -> Float64:
    """Chance that 0, 1, … of independent events happen, (events + 1,): a Poisson binomial distribution."""
    odds = np.ones(1)
    for p in chance:
        odds = np.convolve(odds, [1 - p, p])
    return odds


def _jaccard(member: csr_array) -> Float64:
    both = (member @ member.T).toarray()
    size = np.diag(both)
    jaccard: Float64 = both / np.maximum(size[:, None] + size[None] - both, 1)
    return jaccard


def _alike(jaccard: Float64) -> npt.NDArray[np.int64]:
    """Order cell types so that similar ones are neighbours (average linkage, optimal leaves)."""
    if len(jaccard) < 3:
        return np.arange(len(jaccard))
    far = 1 - jaccard
    np.fill_diagonal(far, 0)
    tree = linkage(squareform(far, checks=False), "average", optimal_ordering=True)
    return leaves_list(tree).astype(np.int64)


def _name(ax: Axes, names: list[str]) -> None:
    width, height = size_in_points(ax)
    size = float(np.clip(0.75 * min(height, width) / len(names), 5, 8))
    ends = np.arange(len(names))
    rows = [shorten(name, letters_beside(ax, size, 18)) for name in names]
    columns = [shorten(name, 18) for name in names]
    upright = max(map(len, columns)) * 0.6 * size > width / len(names)
    if upright:
        columns = [shorten(name, letters_beside(ax, size, 18, "bottom")) for name in names]
    ax.set_xticks(ends, columns, rotation=90 if upright else 0, fontsize=size)
    ax.set_yticks(ends, rows, fontsize=size)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _notes(member: csr_array, n: int, distinct: int) -> list[str]:
    sizes = np.asarray(member.sum(1)).ravel()
    fewer = "" if sizes.min() >= n else f" (or all: {int(sizes.min()):,} at least)"
    return [f"the {n:,} strongest links of each type{fewer}, of {count(distinct, 'distinct link')}"]
