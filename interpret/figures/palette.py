"""Colours of all pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# Told apart by readers with any colour vision (after Okabe and Ito, with four more), darkened for white paper.
PALETTE: Final = (
    "#0072b2", "#d55e00", "#009e73", "#b8559a", "#c98f00", "#3fa0d8",
    "#7a4fa3", "#8c5a2b", "#5b7f1d", "#c2274b", "#1f7a8c", "#5c6470",
)  # fmt: skip
INK, FAINT = "#333333", "#b5b8bd"
PAPER: Final = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85}


def type_colours(cell_types: Sequence[str]) -> dict[str, str]:
    """Give each cell type a colour; they repeat after twelve."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(cell_types)}
