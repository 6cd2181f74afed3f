"""Text that fits: sizes in points, short names, labels that leave each other room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from ...graphs.errors import InputError
from .palette import INK

Float64 = npt.NDArray[np.float64]


def require_columns(frame: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Refuse a table that lacks a column, by name."""
    missing = [name for name in columns if name not in frame]
    if missing:
        raise InputError(
            f"{what}: no column {', '.join(missing)} (found: {', '.join(map(str, frame.columns))}). "
            f"Pass a table with {', '.join(columns)}."
        )


def say_nothing(ax: Axes, text: str) -> Axes:
    """Write why there is nothing to see, in place of a plot."""
    ax.set_axis_off()
    ax.text(
        0.5, 0.5, text, ha="center", va="center", fontsize=10, color=INK, transform=ax.transAxes, wrap=True
    )
    return ax


def shorten(name: object, most: int = 22) -> str:
    """Leave out the middle of a long name."""
    text = str(name)
    if len(text) <= most:
        return text
    end = (most - 1) // 3
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def size_in_points(ax: Axes) -> tuple[float, float]:
    """Width and height of axes as they stand, in points."""
    box, figure = ax.get_window_extent(), ax.get_figure(root=True)
    scale = 72 / (figure.dpi if figure is not None else 72)
    return max(box.width * scale, 1.0), max(box.height * scale, 1.0)


def title_with_notes(ax: Axes, title: str, notes: Sequence[str], *, size: float = 11) -> None:
    """Write a title and, below it, notes in small print, in as many lines as the width asks for."""
    width, _ = size_in_points(ax)
    lines, room = [""], max(width / 3.7, 20)  # characters of 7.5 points
    for note in notes:
        joined = f"{lines[-1]} · {note}" if lines[-1] else note
        lines = [*lines[:-1], joined] if len(joined) <= room or not lines[-1] else [*lines, note]
    small = "\n".join(line for line in lines if line)
    height = 9.5 * (small.count("\n") + 1) if small else 0
    ax.set_title(
        shorten(title, max(int(width / (0.56 * size)), 12)), fontsize=size, color=INK, pad=5 + height
    )
    if small:
        ax.annotate(
            small, (0.5, 1.0), (0, 3), "axes fraction", "offset points",
            ha="center", va="bottom", fontsize=7.5, color=INK, linespacing=1.15,
        )  # fmt: skip


def drop_overlaps(labels: Sequence[Text], *, gap: float = 1.25) -> list[Text]:
    """Remove each label that touches one before it, and return those that stay.

    Parameters
    ----------
    labels
        On their axes, the most important first.
    gap
        Room that a label takes, beside its own size; more than 1 leaves air, and lets the axes shrink a little.
    """
    kept: list[tuple[Text, Bbox]] = []
    for label in labels:
        box = label.get_window_extent().expanded(gap, gap)
        if any(box.overlaps(other) for _, other in kept):
            label.remove()
        else:
            kept.append((label, box))
    return [label for label, _ in kept]


def place_labels(
    ax: Axes,
    points: Float64,
    names: Sequence[str],
    crowd: Float64,
    *,
    colours: Sequence[str],
    lines: Float64 | None = None,
    size: float = 7.5,
) -> int:
    """Write names beside points, where they hide neither points nor names already there, nor lines if they can.

    Parameters
    ----------
    ax
        Axes with their limits set.
    points
        (names, 2) in data coordinates; the first are placed first.
    names
        Text of each; one that finds no room is left out.
    crowd
        (points, 2) in data coordinates, not to be written over.
    colours
        Of each name.
    lines
        (lines, 2, 2) ends of lines in data coordinates, written over only where there is no other place.

    Returns
    -------
    How many names were left out.
    """
    frame, lost = ax.get_window_extent(), 0
    taken: list[Bbox] = []
    dots = ax.transData.transform(crowd.reshape(-1, 2))
    along = _along(ax, lines)
    for point, name, colour in zip(points, names, colours, strict=True):
        label = ax.annotate(
            name, (point[0], point[1]), (0, 0), "data", "offset points", fontsize=size, color=colour, zorder=5
        )
        label.set_path_effects([withStroke(linewidth=2, foreground="white")])
        box = _free_place(label, frame, taken, np.concatenate([dots, along]))
        box = _free_place(label, frame, taken, dots) if box is None else box
        if box is None:
            label.remove()
            lost += 1
        else:
            taken.append(box)
    return lost


def _along(ax: Axes, lines: Float64 | None) -> Float64:
    """Points along lines, in pixels, so close that no name fits between them."""
    if lines is None or not len(lines):
        return np.zeros((0, 2))
    ends = ax.transData.transform(lines.reshape(-1, 2)).reshape(-1, 2, 2)
    share = np.linspace(0, 1, 41)[None, :, None]
    points: Float64 = (ends[:, :1] * (1 - share) + ends[:, 1:] * share).reshape(-1, 2)
    return points


_PLACES = [
    (6, 0, "left", "center"), (-6, 0, "right", "center"), (0, 6, "center", "bottom"), (0, -6, "center", "top"),
    (5, 5, "left", "bottom"), (5, -5, "left", "top"), (-5, 5, "right", "bottom"), (-5, -5, "right", "top"),
]  # fmt: skip


def _free_place(label: Annotation, frame: Bbox, taken: list[Bbox], dots: Float64) -> Bbox | None:
    """Try eight places around a point, and leave the label at the first that is free."""
    for right, up, across, upright in _PLACES:
        label.xyann = (right, up)
        label.set(ha=across, va=upright)
        box = label.get_window_extent()
        inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        if not inside or any(box.overlaps(other) for other in taken):
            continue
        near = box.padded(1)
        if not ((dots > near.min) & (dots < near.max)).all(1).any():
            return box
    return None


def tell(number: float) -> str:
    """Write a number in few digits."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"


def count(number: int, what: str) -> str:
    """Write how many there are of something, whose plural takes an s."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def letters_beside(ax: Axes, size: float, most: int, side: Literal["left", "bottom"] = "left") -> int:
    """How many letters of a name fit between the figure's edge and the axes; a layout makes room for ``most``."""
    figure = ax.get_figure(root=True)
    if figure is None or figure.get_layout_engine() is not None:
        return most
    box = ax.get_window_extent()
    room = (box.x0 if side == "left" else box.y0) * 72 / figure.dpi - 6
    return int(np.clip(room / (0.62 * size), 6, most))
