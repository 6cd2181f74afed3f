"""Colours of all pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb

# Told apart by readers with any colour vision (after Okabe and Ito, with four more), darkened for white paper.
PALETTE: Final = (
    "#0072b2", "#d55e00", "#009e73", "#b8559a", "#c98f00", "#3fa0d8",
    "#7a4fa3", "#8c5a2b", "#5b7f1d", "#c2274b", "#1f7a8c", "#5c6470",
)  # fmt: skip
INK, FAINT, GRID = "#333333", "#b5b8bd", "#e4e7ea"
PAPER: Final = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85}
# From a blue that is seen on white paper, so that what is weak does not look like what is absent.
STRENGTH: Final = LinearSegmentedColormap.from_list(
    "strength", ["#b9d9ee", "#5fabdb", PALETTE[0], "#003a61", "#001a30"]
)


def type_colours(cell_types: Sequence[str]) -> dict[str, str]:
    """Give each cell type a colour: the palette, then its lighter and its darker shades; 36 in all."""
    shades = [
        *PALETTE,
        *(_mix(colour, "white", 0.4) for colour in PALETTE),
        *(_mix(colour, "black", 0.45) for colour in PALETTE),
    ]
    return {name: shades[i % len(shades)] for i, name in enumerate(cell_types)}


def _mix(colour: str, other: str, share: float) -> str:
    mixed = (1 - share) * np.array(to_rgb(colour)) + share * np.array(to_rgb(other))
    return to_hex(tuple(mixed))
