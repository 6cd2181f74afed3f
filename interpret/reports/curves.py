"""Training curves as SVG that needs no script to be read; scripts add the values under the pointer."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from .markup import escape, finite

_TRAIN, _VALIDATION = "train_", "validation_"
SCORE: Final = "validation_score"  # the epoch where it is highest is kept
_WIDTH, _HEIGHT = 300, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 26, 34


@dataclass(frozen=True)
class Panel:
    """One quantity over epochs: title, and series name -> values."""

    title: str
    series: dict[str, list[float]]


def curves(history: pd.DataFrame) -> str:
    """Return a panel a quantity, training and validation in the same; a rule marks the epoch that is kept.

    Parameters
    ----------
    history
        One row an epoch: ``epoch``, from 1, ``train_*`` and ``validation_*``.
    """
    epochs = [int(epoch) for epoch in history["epoch"]]
    kept = kept_epoch(history)
    panels = _panels(history)
    if not epochs or not panels:
        return "<p>No epoch was written down.</p>"
    drawn = "".join(_draw(panel, epochs, kept) for panel in panels)
    told = (
        "" if kept is None else f'<span><i class="key kept"></i>epoch {kept}, whose weights are kept</span>'
    )
    legend = (
        '<p class="legend"><span><i class="key train"></i>training</span>'
        f'<span><i class="key validation"></i>validation</span>{told}</p>'
    )
    return f'{legend}<div class="curves">{drawn}</div>'


def kept_epoch(history: pd.DataFrame) -> int | None:
    """Return the epoch of the best validation score, where one was written down."""
    if SCORE not in history or history[SCORE].isna().all():
        return None
    return int(history["epoch"][history[SCORE].idxmax()])


def _panels(history: pd.DataFrame) -> list[Panel]:
    """Pair what is named alike: the loss first, then its parts, then what is measured in validation only."""
    names: dict[str, dict[str, list[float]]] = {}
    for column in map(str, history):
        for prefix in (_TRAIN, _VALIDATION):
            values = pd.to_numeric(history[column], errors="coerce").astype(float)
            if column.startswith(prefix) and np.isfinite(values).any():
                names.setdefault(column.removeprefix(prefix), {})[prefix.rstrip("_")] = values.tolist()
    order = sorted(names, key=lambda name: (name != "loss", -len(names[name]), name == "score"))
    return [Panel(name.replace("_", " "), names[name]) for name in order]


def _draw(panel: Panel, epochs: Sequence[int], kept: int | None) -> str:
    values = [value for series in panel.series.values() for value in series if math.isfinite(value)]
    ticks = _ticks(min(values), max(values))
    low, high = min(ticks[0], *values), max(ticks[-1], *values)
    first, last = epochs[0], max(epochs[-1], epochs[0] + 1)

    def x(epoch: float) -> float:
        return _LEFT + (epoch - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<text class="title" x="{_LEFT}" y="15">{escape(panel.title)}</text>']
    for tick in ticks:
        parts.append(f'<path class="grid" d="M{_LEFT} {y(tick):.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{tick:g}</text>')
    for epoch in _epoch_ticks(epochs):
        parts.append(
            f'<text x="{x(epoch):.1f}" y="{_HEIGHT - _BOTTOM + 14}" text-anchor="middle">{epoch}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{_HEIGHT - 5}" text-anchor="middle">epoch</text>')
    if kept is not None:
        parts.append(f'<path class="kept" d="M{x(kept):.1f} {_TOP - 4}V{_HEIGHT - _BOTTOM}"/>')
    for name, series in panel.series.items():
        points = [(x(e), y(v)) for e, v in zip(epochs, series, strict=True) if math.isfinite(v)]
        parts.append(_line(name, points))
    words = f"{panel.title} over {len(epochs)} epochs: " + "; ".join(
        f"{name} ends at {series[-1]:.4g}" for name, series in panel.series.items()
    )
    return (
        f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(words)}"'
        f' data-curve="{escape(_told(panel, epochs, x))}">{"".join(parts)}</svg>'
    )


def _line(name: str, points: list[tuple[float, float]]) -> str:
    if len(points) == 1:
        return f'<circle class="{name}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3"/>'
    return f'<polyline class="{name}" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>'


def _told(panel: Panel, epochs: Sequence[int], x: Any) -> str:
    """Return what the pointer reads: epochs, where they lie, and values."""
    content = {
        "epochs": list(epochs),
        "x": [round(x(epoch), 1) for epoch in epochs],
        "series": {name: [float(f"{v:.5g}") for v in series] for name, series in panel.series.items()},
    }
    return json.dumps(finite(content), allow_nan=False)


def _ticks(low: float, high: float) -> list[float]:
    """Return three to six round numbers from just below the lowest value on."""
    span = (high - low) or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 5)
    first = math.floor(low / step)
    n = max(math.ceil(high / step) - first, 1)
    return [float(f"{(first + i) * step:.10g}") for i in range(n + 1)]


def _epoch_ticks(epochs: Sequence[int]) -> list[int]:
    step = max(1, math.ceil(len(epochs) / 6))
    return [epoch for i, epoch in enumerate(epochs) if i % step == 0]
