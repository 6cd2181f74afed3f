"""Plots of maps: axes in, axes out; nothing is shown and no global state is touched."""

from __future__ import annotations

from .figures.arcs import plot_map
from .figures.binding import plot_binding
from .figures.cell_heatmap import plot_cell_attention
from .figures.decay import plot_distance_decay
from .figures.locus import plot_locus
from .figures.network import plot_network
from .figures.palette import PALETTE, type_colours
from .figures.recovery import plot_recovery
from .figures.sharing import plot_overlap, plot_sharing
from .figures.track import plot_genome_track

__all__ = [
    "PALETTE",
    "plot_binding",
    "plot_cell_attention",
    "plot_distance_decay",
    "plot_genome_track",
    "plot_locus",
    "plot_map",
    "plot_network",
    "plot_overlap",
    "plot_recovery",
    "plot_sharing",
    "type_colours",
]
