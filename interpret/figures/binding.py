"""Likeness of a map with the binding of a transcription factor, cell type by cell type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes

from .palette import INK, PALETTE

_SHOWN: Final = {"map": (PALETTE[1], "map"), "accessibility": (PALETTE[0], "accessibility")}
_OFFSET: Final = 0.18  # of a row, the two scores above each other
_NAMES: Final = {
    "cosine": "cosine similarity with binding",
    "pearson": "Pearson correlation with binding",
    "jaccard": "Jaccard index of the {k:,} best peaks with the most strongly bound",
    "partial": "correlation with binding, given log accessibility",
}


def plot_binding(ax: Axes, comparison: Mapping[str, Any], *, measure: str = "pearson") -> Axes:
    """Draw one measure for the map and for accessibility, a row a cell type, each with its two nulls.

    A broad pale band is 95 % of permutations within peaks of like accessibility, a thin bar those of all peaks;
    a filled point is beyond the matched null (p ≤ 0.05). Where it was measured, a dotted line is what nearness
    to the next TSS alone reaches.

    Parameters
    ----------
    ax
        Axes to draw on.
    comparison
        Of `evidence.tf_binding.compare_binding`; where nothing is judged, the picture says why.
    measure
        ``cosine``, ``pearson``, ``jaccard`` or ``partial``.
    """
    if not comparison["judged"]:
        ax.text(0.5, 0.5, comparison["reason"], ha="center", va="center", transform=ax.transAxes)
        ax.set_axis_off()
        return ax
    types = comparison["cell_types"]
    for number, (name, (colour, _)) in enumerate(_SHOWN.items()):
        rows = np.arange(len(types)) + _OFFSET * (2 * number - 1)
        for y, found in zip(rows, types.values(), strict=True):
            _draw(ax, y, found[name][measure], colour)
        ax.plot([], [], "o", color=colour, label=_SHOWN[name][1])
    ax.plot([], [], "o", mec=INK, mfc="white", label="hollow: p > 0.05 among\npeaks as open")
    ax.plot(
        [],
        [],
        color=INK,
        lw=6,
        alpha=0.2,
        solid_capstyle="butt",
        label="95 %, binding permuted\namong peaks as open",
    )
    ax.plot([], [], color=INK, lw=1, label="95 %, binding permuted\namong all peaks")
    near = comparison.get("baselines", {}).get("nearness", {}).get(measure, {}).get("value")
    if near is not None:
        ax.axvline(near, color=PALETTE[2], lw=1.5, ls=(0, (1, 1)), label="nearness to the next TSS")
    if measure == "jaccard":
        ax.axvline(comparison["chance_jaccard"], color=INK, lw=1, ls=(0, (4, 3)), label="chance")
    ax.set_yticks(range(len(types)), labels=list(types))
    ax.set_ylim(len(types) - 0.5, -0.5)
    ax.set_xlabel(_NAMES[measure].format(k=comparison["k"]))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", color="#eceef0", lw=0.8)
    ax.set_axisbelow(True)
    ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def _draw(ax: Axes, y: float, found: Mapping[str, Any], colour: str) -> None:
    for kind, width, alpha in (("matched", 6.0, 0.2), ("free", 1.0, 1.0)):
        null = found[kind]
        if null is not None:
            reach = 1.96 * null["sd"]
            bounds = [null["mean"] - reach, null["mean"] + reach]
            ax.plot(bounds, [y, y], color=colour, lw=width, alpha=alpha, solid_capstyle="butt")
    if found["value"] is not None:
        beyond = found["matched"] is not None and found["matched"]["p"] <= 0.05
        ax.plot(found["value"], y, "o", ms=6, mec=colour, mfc=colour if beyond else "white", zorder=3)
