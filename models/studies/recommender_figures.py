"""Pictures of studies: figures against training cells, and of each type with and without it in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from .recommender_trials import MODEL
from .results import CHIEF

_SHARES: Final = {"matching": "Matching", "retrieval": "Retrieval", "translation": "Translation"}
_TYPES: Final = {
    "matching": "Matching",
    "matching_within_type": "Matching within the type",
    "retrieval_within_type": "Retrieval within the type",
    "translation": "Translation",
}
_METRICS: Final = {"auroc": "AUROC", "foscttm": "FOSCTTM", "auprc": "AUPRC"}
_REFERENCES: Final = ("majority", "chance")
_LEFT_OUT: Final = ("all_zero",)  # so far below that nothing else would be told apart


def draw_study(content: dict[str, Any], path: Path) -> None:
    """Draw the content of ``study.json`` as PNG."""
    (_draw_shares if content["study"] == "fractions" else _draw_types)(content, path)


def _draw_shares(content: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    for axes, (task, title) in zip(figure.subplots(1, 3), _SHARES.items(), strict=True):
        draw_shares(axes, content["settings"], task)
        axes.set_title(title, loc="left")
    figure.savefig(path, dpi=150)


def draw_shares(axes: Axes, settings: list[dict[str, Any]], task: str) -> Axes:
    """Draw the chief figure of a task against the number of training cells, mean and sd over repeats."""
    metric, larger = CHIEF[task]
    cells = [entry["training_cells"] for entry in settings]
    baselines = [name for name in settings[0]["baselines"][task] if name not in _LEFT_OUT]
    colours = {name: f"C{i}" for i, name in enumerate([MODEL, *baselines])} | dict.fromkeys(
        _REFERENCES, "0.6"
    )
    for method in (*baselines, MODEL):
        found = [_figure(entry, task, method, metric) for entry in settings]
        mean, sd = (np.array([pair[i] for pair in found]) for i in (0, 1))
        ours = method == MODEL
        axes.errorbar(
            cells,
            mean,
            yerr=np.nan_to_num(sd),
            color=colours[method],
            linewidth=2.5 if ours else 1.2,
            linestyle="--" if _knows(settings[0], task, method) else "-",
            marker="o",
            markersize=5 if ours else 3,
            capsize=2,
            label=_named(method) + (" (knows labels)" if _knows(settings[0], task, method) else ""),
            zorder=3 if ours else 2,
        )
    axes.set_xscale("log")
    axes.set_xticks(cells, [f"{n:,}" for n in cells])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="training cells", ylabel=_axis(metric, larger))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return axes


def _draw_types(content: dict[str, Any], path: Path) -> None:
    n_types = len(content["settings"]) // 2
    figure = Figure(figsize=(14, 2.2 + 0.45 * n_types), layout="constrained")
    for axes, (task, title) in zip(figure.subplots(1, 4, sharey=True), _TYPES.items(), strict=True):
        rival = draw_types(axes, content["settings"], task)
        axes.set_title(f"{title}\ngrey: {_named(rival)}", loc="left", fontsize=11)
    axes.set_ylim(n_types - 0.5, -0.5)  # the first type on top
    marks = [
        Line2D([], [], color="C0", linewidth=2, label=_named(MODEL)),
        Line2D([], [], color="0.5", linewidth=2, label="best baseline"),
        Line2D([], [], color="k", marker="o", linestyle="", label="trained with the type"),
        Line2D([], [], color="k", marker="o", linestyle="", markerfacecolor="w", label="trained without it"),
    ]
    figure.legend(handles=marks, frameon=False, ncols=4, loc="outside lower center")
    figure.savefig(path, dpi=150)


def draw_types(axes: Axes, settings: list[dict[str, Any]], task: str) -> str:
    """Draw the chief figure of a task for each type: filled with it in training, open without.

    Beside the model stands the baseline that is best on average without the types; its name is returned.
    """
    metric, larger = CHIEF[task]
    entries = {entry["setting"]: entry for entry in settings}
    types = [name.removeprefix("without ") for name in entries if name.startswith("without ")]
    rival = _rival(entries, types, task)
    for method, colour, shift in ((MODEL, "C0", -0.12), (rival, "0.5", 0.12)):
        place = np.arange(len(types)) + shift
        ends = [
            [_figure(entries[f"{which} {name}"], task, method, metric) for name in types]
            for which in ("without", "with")
        ]
        axes.hlines(place, [m for m, _ in ends[0]], [m for m, _ in ends[1]], color=colour, linewidth=1.5)
        for found, face in zip(ends, ("white", colour), strict=True):
            mean, sd = (np.array([pair[i] for pair in found]) for i in (0, 1))
            axes.errorbar(
                mean,
                place,
                xerr=np.nan_to_num(sd),
                fmt="o",
                color=colour,
                markerfacecolor=face,
                capsize=2,
                linewidth=1,
            )
    axes.set_yticks(np.arange(len(types)), types)
    axes.set(xlabel=_axis(metric, larger))
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    return rival


def _rival(entries: dict[str, dict[str, Any]], types: list[str], task: str) -> str:
    """Name the baseline that is best without the types, of those that know no labels."""
    metric, larger = CHIEF[task]
    of = [entries[f"without {name}"] for name in types]
    methods: list[str] = [name for name in of[0]["baselines"][task] if not _knows(of[0], task, name)]
    found = np.array([[_figure(entry, task, name, metric)[0] for entry in of] for name in methods])
    mean = np.nan_to_num(found, nan=0 if larger else 1).mean(1)
    return methods[int(mean.argmax() if larger else mean.argmin())]


def _knows(entry: dict[str, Any], task: str, method: str) -> bool:
    """Whether a baseline uses the labels of held-out cells."""
    return method != MODEL and "oracle" in entry["baselines"][task][method]


def _figure(entry: dict[str, Any], task: str, method: str, metric: str) -> tuple[float, float]:
    """Mean and sd of a method's figure, NaN where there is none."""
    figures = entry[task] if method == MODEL else entry["baselines"][task][method]
    found = figures.get(metric)
    if found is None:
        return np.nan, np.nan
    return found["mean"], np.nan if found["sd"] is None else found["sd"]


def _named(method: str) -> str:
    return {MODEL: "CrossRec"}.get(method, method.replace("_", " "))


def _axis(metric: str, larger: bool) -> str:
    return f"{_METRICS[metric]} ({'larger' if larger else 'smaller'} is better)"
