"""The part of a report on an annotator's map: which peaks tell which cell type."""

from __future__ import annotations

import math
from typing import Any, Final

import pandas as pd

from .evidence_part import evidence_part
from .markup import escape, facts, folded, notes, number, picture, table
from .sources import Source

_TOP: Final = 25  # rows a cell type
_TABLES: Final = {
    "peaks.parquet": "Peaks that tell each type",
    "markers.parquet": "Marker peaks of each type",
    "pairs.parquet": "Peaks that attend to each other, in each type",
    "predicted_markers.parquet": "Peaks that are more open in the cells told to be of each type",
}


def peaks_part(source: Source) -> str:
    """Return the part of a page on one map of an annotator."""
    arguments = source.config.get("arguments", {})
    told = {
        "model": source.config.get("model", {}).get("kind"),
        "run": arguments.get("run"),
        "cells": source.config.get("cells"),
        "data set fingerprint": source.config.get("dataset_fingerprint"),
    }
    drawing = source.folder / "peaks.png"
    parts = [facts(told)]
    if drawing.is_file():
        parts.append(picture(drawing, "The peaks that speak most for each cell type", wide=True))
    types = source.frame("types.parquet")
    if types is not None and {"cell_type", "sentence", "score"} <= set(types):
        parts.append("<h3>Attention of each type's cells to every sentence</h3>" + _attention(types))
    for name, words in _TABLES.items():
        frame = source.frame(name)
        if frame is not None:
            parts.append(_strongest(frame, words))
    parts.append(evidence_part(source))
    return "".join(parts)


def _attention(types: pd.DataFrame) -> str:
    """Return a matrix: cells told to be of a type (rows) and the sentences that they read."""
    wide = types.pivot_table(index="cell_type", columns="sentence", values="score", sort=False, dropna=False)
    highest = float(wide.abs().max().max()) or 1.0
    rows = [
        [
            escape(name),
            *(_shade(str(name), str(other), float(value), highest) for other, value in row.items()),
        ]
        for name, row in wide.iterrows()
    ]
    heads = [f'<span class="slant">{escape(name)}</span>' for name in wide.columns]
    return table(["cells told \\ sentence", *heads], rows, name="confusion")


def _shade(name: str, sentence: str, value: float, highest: float) -> str:
    if math.isnan(value):
        return '<span class="count" data-tip="no cell is told to be of this type">–</span>'
    share = max(value, 0.0) / highest
    tip = f"cells told {name}, sentence of {sentence}: {value:.4f}"
    dark = " dark" if share > 0.55 else ""
    return (
        f'<span class="count right{dark}" style="--share:{share:.3f}" data-tip="{escape(tip)}">'
        f"{'·' if abs(value) < 0.005 else f'{value:.2f}'}</span>"
    )


def _strongest(frame: pd.DataFrame, words: str) -> str:
    """Return the first rows of every cell type, folded; the table is sorted by strength."""
    columns = [name for name in frame if name not in ("cell_type", "start", "end", "chrom")]
    parts = []
    for name, own in frame.groupby("cell_type", sort=False):
        rows = [[_shown(value) for value in row] for row in own[columns].head(_TOP).itertuples(index=False)]
        told = notes([f"{min(len(own), _TOP):,} of {len(own):,} rows"])
        shown = table([escape(column) for column in columns], rows, heads=False)
        parts.append(folded(str(name), told + shown))
    return folded(words, f'<div class="inner">{"".join(parts)}</div>')


def _shown(value: Any) -> str:
    if isinstance(value, float) and not pd.isna(value):
        return number(value, 4)
    return "–" if pd.isna(value) else escape(f"{value:,}" if isinstance(value, int) else value)
