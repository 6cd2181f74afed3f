"""Plots of annotation: axes in, axes out; nothing is shown and no global state is touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Curve
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text
from scipy.optimize import isotonic_regression

from ...graphs.whole import new_file
from ...models.annotation.metrics import calibration_error
from .palette import PALETTE
from .umap import umap_of

Floats = npt.NDArray[np.floating[Any]]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

_INK, _FAINT, _STRANGE = "#333333", "#b5b8bd", "#4a4a4a"
_BLUES: Final = LinearSegmentedColormap.from_list("share", ["#ffffff", "#8fc1e3", PALETTE[0], "#003a61"])
_MOST_COUNTED: Final = 25  # types whose cells can be read in a confusion matrix
_NODE: Final = 0.035  # width of a block


def colours_of(cell_types: Sequence[str]) -> dict[str, str]:
    """Give each cell type a colour: the palette, then its lighter and its darker shades."""
    shades = [
        *PALETTE,
        *(_mix(c, "white", 0.45) for c in PALETTE),
        *(_mix(c, "black", 0.45) for c in PALETTE),
    ]
    return {name: shades[i % len(shades)] for i, name in enumerate(cell_types)}


def confusion_matrix(ax: Axes, confusion: Mapping[str, Any]) -> Axes:
    """Draw the share of each true type's cells (rows) that were told to be of each type (columns).

    Parameters
    ----------
    ax
        Axes to draw on.
    confusion
        ``types`` and ``counts`` (truth x predicted), as `annotation_metrics` gives them. Types that no
        cell has nor was told to have are left out. Numbers of cells are written for up to 25 types.
    """
    names, counts = _present(confusion)
    if not names:
        return _nothing(ax)
    support = counts.sum(1, keepdims=True)
    share = counts / np.maximum(support, 1)
    ax.imshow(share, cmap=_BLUES, vmin=0, vmax=1)
    size = min(9.0, 190 / max(len(names), 14))
    for i, j in zip(*np.nonzero(counts), strict=True) if len(names) <= _MOST_COUNTED else ():
        colour = "white" if share[i, j] > 0.45 else _INK
        small = size * min(1.0, 4.5 / len(f"{counts[i, j]:,}"))
        ax.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", fontsize=small, color=colour)
    ends = np.arange(len(names))
    rows = [f"{name} ({n:,})" for name, n in zip(names, support[:, 0], strict=True)]
    ax.set_xticks(ends, names, rotation=90, fontsize=size)
    ax.set_yticks(ends, rows, fontsize=size)
    ax.set_xticks(ends[1:] - 0.5, minor=True)
    ax.set_yticks(ends[1:] - 0.5, minor=True)
    ax.grid(which="minor", color="#e4e7ea", lw=0.6)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_color(_FAINT)
    ax.set_xlabel("predicted cell type")
    ax.set_ylabel("true cell type (cells)")
    return ax


def reliability_curve(ax: Axes, table: pd.DataFrame) -> Axes:
    """Draw accuracy against confidence over a histogram of confidence, the calibration error in the title.

    Parameters
    ----------
    ax
        Axes to draw on; the histogram has axes of its own behind them.
    table
        As `reliability` gives it.
    """
    filled = table[table["cells"] > 0]
    if filled.empty:
        return _nothing(ax)
    behind = ax.twinx()
    behind.bar(
        table["low"], table["cells"], table["high"] - table["low"], align="edge", color="#dfe5ea", ec="white"
    )
    behind.set_ylim(0, 1.25 * float(table["cells"].max()))
    behind.set_ylabel("cells (bars)", color="#7c8791")
    behind.tick_params(axis="y", colors="#7c8791", labelsize=8, length=0)
    ax.set_zorder(behind.get_zorder() + 1)
    ax.patch.set_visible(False)
    ax.plot([0, 1], [0, 1], color=_INK, lw=1, ls=(0, (4, 3)), label="perfect")
    ax.plot(filled["confidence"], filled["accuracy"], "o-", color=PALETTE[1], lw=2, ms=5, label="predicted")
    ax.set(xlim=(0, 1), ylim=(0, 1.02))
    ax.set_xlabel("confidence")
    ax.set_ylabel("accuracy: share of cells predicted right")
    error, cells = calibration_error(table), int(table["cells"].sum())
    ax.set_title(f"expected calibration error {error:.3f}, {cells:,} cells", fontsize=11)
    for axes in (ax, behind):
        axes.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9, loc="upper left")
    return ax


def embedding_map(
    ax: Axes,
    points: Floats,
    names: Sequence[str | None],
    *,
    cell_types: Sequence[str] | None = None,
    title: str = "",
) -> Axes:
    """Draw cells in two dimensions, coloured by type, the name of each type beside its median.

    Parameters
    ----------
    ax
        Axes to draw on, at their final size: labels are moved apart for it.
    points
        (cells, 2).
    names
        (cells,) type of each cell; None draws it grey and without a name.
    cell_types
        Types whose order decides their colours; all others are dark grey. By default the types of the cells.
    title
        Above the cells.
    """
    own = pd.Series(list(names), dtype=object)
    present = sorted(own.dropna().unique())
    palette = colours_of(present if cell_types is None else cell_types)
    colours = np.full((len(own), 3), to_rgb(_FAINT))
    for name in present:
        colours[(own == name).to_numpy()] = to_rgb(palette.get(name, _STRANGE))
    # In random order, so that the last type does not hide the others.
    order = np.random.default_rng(0).permutation(len(own))
    size = float(np.clip(24_000 / max(len(own), 1), 4, 40))
    x, y = points[order].T
    ax.scatter(x, y, s=size, c=colours[order], alpha=0.75, linewidths=0, rasterized=True)
    ax.margins(0.06)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.set_title(title, fontsize=11)
    middles = np.array([np.median(points[(own == name).to_numpy()], axis=0) for name in present])
    labels = [
        _label(ax, name, at, palette.get(name, _STRANGE)) for name, at in zip(present, middles, strict=True)
    ]
    _move_apart(ax, labels)
    return ax


def alluvial(ax: Axes, confusion: Mapping[str, Any]) -> Axes:
    """Draw cells flowing from their true types (left) to their predicted types (right).

    A ribbon is as wide as its cells and has the colour of their true type; wrong ones are paler.

    Parameters
    ----------
    ax
        Axes to draw on.
    confusion
        ``types`` and ``counts`` (truth x predicted), as `annotation_metrics` gives them.
    """
    names, counts = _present(confusion)
    if not names:
        return _nothing(ax)
    order = np.argsort(-counts.sum(1), kind="stable")
    counts = counts[np.ix_(order, order)]
    shades = colours_of(confusion["types"])
    own = [names[i] for i in order]
    left, right = _blocks(counts.sum(1)), _blocks(counts.sum(0))
    scale = (1 - _gap(len(own)) * (len(own) - 1)) / counts.sum()
    leave = left[:, None] - scale * (np.cumsum(counts, 1) - counts)
    arrive = right[None, :] - scale * (np.cumsum(counts, 0) - counts)
    for i, j in zip(*np.nonzero(counts), strict=True):
        shape = _ribbon(leave[i, j], arrive[i, j], scale * counts[i, j])
        alpha = 0.6 if i == j else 0.38
        # The line keeps a flow of one cell among thousands in sight.
        ax.add_patch(PathPatch(shape, fc=shades[own[i]], ec=shades[own[i]], lw=0.35, alpha=alpha))
    for top, sums, x, side in (
        (left, counts.sum(1), 0.0, "right"),
        (right, counts.sum(0), 1 - _NODE, "left"),
    ):
        shown = np.flatnonzero(sums)
        for i in shown:
            ax.add_patch(
                Rectangle((x, top[i]), _NODE, -scale * sums[i], fc=shades[own[i]], ec="none", zorder=3)
            )
        middle = top[shown] - scale * sums[shown] / 2
        _name_blocks(ax, [f"{own[i]}  {sums[i]:,}" for i in shown], middle, side)
    ax.set(xlim=(0, 1), ylim=(-0.01, 1.01))
    ax.set_axis_off()
    ax.text(0, 1.03, "true cell type", ha="left", va="bottom", fontsize=10, color=_INK)
    ax.text(1, 1.03, "predicted cell type", ha="right", va="bottom", fontsize=10, color=_INK)
    return ax


def write_figures(
    folder: Path,
    *,
    confusion: Mapping[str, Any],
    reliability: pd.DataFrame,
    embedding: Floats,
    names: Sequence[str | None],
    seed: int = 0,
) -> list[Path]:
    """Write confusion.png, reliability.png, umap.png and alluvial.png, each whole or not at all.

    Parameters
    ----------
    folder
        Existing folder.
    confusion, reliability
        As `annotation_metrics` and `reliability` of ``models.annotation.metrics`` give them.
    embedding
        (cells, width). With fewer than four cells there is no umap.png.
    names
        (cells,) type of each cell, known to the model or not; None for cells without a label.
    seed
        Of the UMAP.

    Raises
    ------
    InputError
        The embedding is not finite or a file cannot be written.
    """
    types = len(_present(confusion)[0])
    side = 3.0 + 0.3 * min(max(types, 5), 40)
    written = [
        _draw(
            folder / "confusion.png",
            (side + 0.7, side),
            lambda ax: _with_scale(confusion_matrix(ax, confusion)),
        ),
        _draw(folder / "reliability.png", (6.4, 4.8), lambda ax: reliability_curve(ax, reliability)),
    ]
    layout = umap_of(embedding, seed=seed)
    if layout is not None:
        cells, points = layout
        own, vocabulary = [names[i] for i in cells], confusion["types"]
        of = f" of {len(embedding):,}" if len(cells) < len(embedding) else ""
        title = f"UMAP of the embedding, {len(cells):,}{of} cells"

        def draw_umap(ax: Axes) -> Axes:
            ax.set_position((0.01, 0.01, 0.98, 0.93))  # takes the axes out of the automatic layout
            return embedding_map(ax, points, own, cell_types=vocabulary, title=title)

        written.append(_draw(folder / "umap.png", (8, 7), draw_umap))
    height = 2.0 + 0.26 * max(types, 8)
    written.append(_draw(folder / "alluvial.png", (8, height), lambda ax: alluvial(ax, confusion)))
    return written


def _draw(path: Path, size: tuple[float, float], plot: Callable[[Axes], Axes]) -> Path:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    plot(figure.subplots())
    with new_file(path) as partial:
        figure.savefig(partial, dpi=150, format="png")
    return path


def _with_scale(ax: Axes) -> Axes:
    figure = ax.get_figure(root=True)
    if ax.images and figure is not None:
        bar = figure.colorbar(ax.images[0], ax=ax, shrink=0.5, aspect=25, pad=0.02)
        bar.set_label("share of the true type's cells", fontsize=9)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8, length=0)
    return ax


def _mix(colour: str, other: str, share: float) -> str:
    mixed = (1 - share) * np.array(to_rgb(colour)) + share * np.array(to_rgb(other))
    return to_hex(tuple(mixed))


def _nothing(ax: Axes) -> Axes:
    ax.set_axis_off()
    ax.text(0.5, 0.5, "No cell has a type that the model knows.", ha="center", va="center", fontsize=11)
    return ax


def _present(confusion: Mapping[str, Any]) -> tuple[list[str], Int64]:
    """Leave out the types that no cell has nor was told to have."""
    types = list(confusion["types"])
    counts = np.asarray(confusion["counts"], dtype=np.int64).reshape(len(types), len(types))
    kept = np.flatnonzero(counts.sum(0) + counts.sum(1))
    return [types[i] for i in kept], counts[np.ix_(kept, kept)]


def _gap(blocks: int) -> float:
    """Return the space between blocks of an alluvial plot, as a share of its height."""
    return min(0.02, 0.4 / blocks)


def _blocks(sums: Int64) -> Float64:
    """Return the upper end of each block of a side from 1 down to 0, the gaps of empty blocks left out."""
    gap = _gap(len(sums))
    scale = (1 - gap * (len(sums) - 1)) / sums.sum()
    before = scale * (np.cumsum(sums) - sums) + gap * (np.cumsum(sums > 0) - (sums > 0))
    spare = gap * (len(sums) - np.count_nonzero(sums))
    tops: Float64 = 1 - spare / 2 - before
    return tops


def _ribbon(leave: float, arrive: float, width: float) -> Curve:
    start, stop = _NODE, 1 - _NODE
    middle = (start + stop) / 2
    points = [
        (start, leave), (middle, leave), (middle, arrive), (stop, arrive),
        (stop, arrive - width), (middle, arrive - width), (middle, leave - width), (start, leave - width),
        (start, leave),
    ]  # fmt: skip
    bend = [Curve.CURVE4] * 3
    return Curve(points, [Curve.MOVETO, *bend, Curve.LINETO, *bend, Curve.CLOSEPOLY])


def _name_blocks(ax: Axes, texts: Sequence[str], middle: Float64, side: str) -> None:
    """Write names beside blocks, from top to bottom, moved apart where blocks are thin."""
    figure = ax.get_figure(root=True)
    points = ax.get_window_extent().height * 72 / (figure.dpi if figure else 72)
    size = float(np.clip(0.8 * points / len(texts), 4, 8.5))
    at = spread(middle[::-1], gap=1.25 * size / points, low=0.01, high=0.99)[::-1]
    edge, away = (0.0, -1) if side == "right" else (1.0, 1)
    for text, y, own in zip(texts, at, middle, strict=True):
        ends = [edge + away * x for x in (0.005, 0.02, 0.03)]
        ax.plot(ends, [own, y, y], color=_FAINT, lw=0.7, clip_on=False)
        ax.text(edge + away * 0.036, y, text, ha=side, va="center", fontsize=size, color=_INK)


def spread(centres: Float64, *, gap: float, low: float, high: float) -> Float64:
    """Move ascending positions apart as little as possible (least squares), within bounds.

    With the steps of ``gap`` taken away it is isotonic regression; a gap that is too wide for the bounds
    shrinks to fill them.
    """
    gap = min(gap, (high - low) / max(len(centres) - 1, 1))
    steps = gap * np.arange(len(centres))
    sorted_: Float64 = isotonic_regression(centres - steps).x
    return np.clip(sorted_, low, high - steps[-1]) + steps


def _label(ax: Axes, name: str, at: Float64, colour: str) -> Annotation:
    """Write a name at a point, dark enough to be read, with a line to it once it is moved."""
    text = ax.annotate(
        name, tuple(at), (0, 0), "data", "offset points", ha="center", va="center", fontsize=9,
        fontweight="bold", color=_mix(colour, "black", 0.3), zorder=4,
        arrowprops={"arrowstyle": "-", "color": _INK, "lw": 0.6, "shrinkA": 0, "shrinkB": 0},
    )  # fmt: skip
    text.set_in_layout(False)  # it stays within the axes
    text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    return text


def _move_apart(ax: Axes, labels: Sequence[Annotation], *, steps: int = 300) -> None:
    """Move labels until none overlap, each step half of every overlap, along its shorter side."""
    if not labels:
        return
    ax.autoscale_view()  # or the transform is that of empty axes
    home = ax.transData.transform([label.xy for label in labels])
    boxes = [Text.get_window_extent(label) for label in labels]
    half = np.array([[box.width, box.height] for box in boxes]) / 2 + 2
    frame = ax.get_window_extent()
    low, high = np.array([frame.x0, frame.y0]) + half, np.array([frame.x1, frame.y1]) - half
    at = np.clip(home, low, np.maximum(low, high))
    # Two labels at one place need a direction to part in.
    at = at + np.random.default_rng(0).normal(scale=0.1, size=at.shape)
    for _ in range(steps):
        apart = at[:, None] - at[None]
        overlap = half[:, None] + half[None] - np.abs(apart)
        np.einsum("iij->ij", overlap)[:] = 0
        touching = (overlap > 0).all(2)
        if not touching.any():
            break
        shorter = np.eye(2)[overlap.argmin(2)] * touching[..., None]
        at = np.clip(at + (np.sign(apart) * shorter * overlap / 2).sum(1), low, np.maximum(low, high))
    figure = ax.get_figure(root=True)
    moved = (at - home) * 72 / (figure.dpi if figure else 72)
    for label, offset in zip(labels, moved, strict=True):
        label.xyann = tuple(offset)
        if label.arrow_patch is not None and np.hypot(*offset) < 9:
            label.arrow_patch.set_visible(False)
