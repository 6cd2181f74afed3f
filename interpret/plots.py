"""Plots of maps: axes in, axes out; nothing is shown and no global state is touched."""

from __future__ import annotations

from .figures.arcs import plot_map
from .figures.palette import PALETTE, type_colours
from .figures.recovery import plot_recovery

__all__ = ["PALETTE", "plot_map", "plot_recovery", "type_colours"]
