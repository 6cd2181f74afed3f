"""Precision against recall of known links, a curve a method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from matplotlib.axes import Axes

from ..evidence.comparison import Curve
from .palette import INK, PALETTE

_METHODS: Final = {
    "map": ("map", PALETTE[1], "-"),
    "map_mean": ("map, mean over types", PALETTE[1], ":"),
    "distance": ("distance", PALETTE[0], "-"),
    "correlation": ("correlation", PALETTE[2], "-"),
    "linkpeaks": ("correlation, matched peaks", PALETTE[2], ":"),
    "accessibility": ("accessibility", PALETTE[3], "-"),
}


def plot_recovery(ax: Axes, curves: Mapping[str, Curve], *, chance: float) -> Axes:
    """Draw precision against recall for every method, best area first in the legend, with its interval where there is one.

    Parameters
    ----------
    ax
        Axes to draw on.
    curves
        Method -> curve; where there are none, the picture says so.
    chance
        Precision of random ranking.
    """
    highest = chance
    if not curves:
        ax.text(0.5, 0.5, "too few known links to judge", ha="center", va="center", transform=ax.transAxes)
        ax.set_axis_off()
        return ax
    for name, curve in sorted(curves.items(), key=lambda item: -item[1].auprc):
        label, colour, style = _METHODS.get(name, (name, PALETTE[-1], "-"))
        width = 2.4 if name == "map" else 1.5
        # The first few ranks jump between 0 and 1: they would set the scale and say nothing.
        shown = curve.recall[:-1] >= min(0.01, float(curve.recall.max()))
        recall, precision = curve.recall[:-1][shown], curve.precision[:-1][shown]
        text = f"{label} ({_area(curve)})"
        ax.plot(recall, precision, style, color=colour, lw=width, label=text, solid_capstyle="round")
        highest = max(highest, float(precision.max(initial=0.0)))
    ax.axhline(chance, color=INK, lw=1, ls=(0, (4, 3)), label=f"chance ({chance:.3f})")
    ax.set(xlim=(0, 1), ylim=(0, min(1.02, 1.12 * highest)))
    ax.set_xlabel("recall: share of the known pairs found")
    ax.set_ylabel("precision: share of pairs that are known")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#eceef0", lw=0.8)
    ax.set_axisbelow(True)
    ax.legend(frameon=False, fontsize=9, title=_title(curves), title_fontsize=9, alignment="left")
    return ax


def method_label(name: str) -> str:
    """Return a method of a comparison in words."""
    return _METHODS[name][0] if name in _METHODS else name.replace("_", " ")


def _area(curve: Curve) -> str:
    bounds = "" if curve.interval is None else ", {:.3f}–{:.3f}".format(*curve.interval)
    return f"{curve.auprc:.3f}{bounds}"


def _title(curves: Mapping[str, Curve]) -> str:
    told = any(curve.interval is not None for curve in curves.values())
    return "method (AUPRC, 95 % interval)" if told else "method (AUPRC)"
