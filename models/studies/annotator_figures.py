"""Pictures of annotators' studies: the model in colour, with sd over repeats, baselines in grey."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from .study import LEAVE_TYPE_OUT, PRETRAINING

Entries = Sequence[Mapping[str, Any]]
Found = Callable[[Mapping[str, Any]], Mapping[str, Any]]
Floats = NDArray[np.float64]

_PANELS: Final = {
    "macro_f1": "Macro-F1",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "kappa": "Cohen's κ",
    "jaccard_micro": "Jaccard, micro",
    "jaccard_weighted": "Jaccard, weighted",
}
_NOVELTY: Final = {
    "auroc": "AUROC of novelty",
    "average_precision": "Average precision",
    "accuracy": "Accuracy on known types",
}
_CURVES: Final = {"validation_macro_f1": "Validation macro-F1", "validation_loss": "Validation loss"}
_X: Final = {"label-noise": "labels shuffled"}
_MODEL: Final = "C0"
_SCRATCH: Final = "C1"
# Baselines are told apart by shade and mark, the model by colour.
_GREYS: Final = {
    "centroid": ("0.7", "s"),
    "knn": ("0.55", "D"),
    "logreg": ("0.4", "^"),
    "svm": ("0.15", "P"),
}
_REFERENCE: Final = "majority"  # so far below that nothing else would be told apart
_DODGE: Final = 0.008  # of the width, so that error bars stand side by side


@dataclass(frozen=True)
class Method:
    """A method in a picture.

    Attributes
    ----------
    name
        In the legend.
    found
        Gives its figures in an entry of ``study.json``: metric -> mean and sd.
    colour, mark
        Of line and points.
    ours
        Whether it is the model that is studied.
    """

    name: str
    found: Found
    colour: str = _MODEL
    mark: str = "o"
    ours: bool = True

    def values(self, entries: Entries, metric: str) -> tuple[Floats, Floats]:
        """Return mean and sd of a figure in each setting; NaN where there is none, 0 for no sd."""
        pairs = [self.found(entry).get(metric) or {"mean": np.nan, "sd": None} for entry in entries]
        return np.array([p["mean"] for p in pairs]), np.array([p["sd"] or 0.0 for p in pairs])


def draw_annotator_study(
    content: Mapping[str, Any], path: Path, *, curves: pd.DataFrame | None = None
) -> None:
    """Draw the content of ``study.json`` as PNG, and ``curves.csv`` where pre-training is studied."""
    if content["study"] == LEAVE_TYPE_OUT:
        figure = _types_figure(content)
    elif content["study"] == PRETRAINING and curves is not None:
        figure = _pretraining_figure(content, curves)
    else:
        figure = _levels_figure(content)
    figure.savefig(path, dpi=150)


def shown_baselines(entries: Entries, task: str, metric: str) -> list[str]:
    """Choose of each kind of baseline the features that are best on average, so that a picture can be read."""
    names = [name for name in entries[0]["baselines"][task] if name != _REFERENCE]
    kinds = groupby(sorted(names, key=_kind), key=_kind)
    best = {kind: max(own, key=lambda name: _average(entries, task, name, metric)) for kind, own in kinds}
    return sorted(best.values(), key=names.index)


def draw_levels(
    axes: Axes, entries: Entries, metric: str, methods: Sequence[Method], *, log: bool = False
) -> Axes:
    """Draw a figure of annotation against shares or noise: mean and sd of each method.

    Parameters
    ----------
    axes
        Where.
    entries
        Settings of ``study.json``.
    metric
        Which figure.
    methods
        The model's come last, on top.
    log
        Space shares by their logarithm.
    """
    levels = np.array([float(entry["setting"]) for entry in entries])
    place = np.log(levels) if log else levels
    for i, method in enumerate(methods):
        mean, sd = method.values(entries, metric)
        axes.errorbar(
            place + (i - len(methods) / 2) * _DODGE * np.ptp(place),
            mean,
            yerr=sd,
            color=method.colour,
            marker=method.mark,
            markersize=6 if method.ours else 4,
            linewidth=2.5 if method.ours else 1.2,
            elinewidth=1,
            capsize=2,
            label=method.name,
            zorder=3 if method.ours else 2,
        )
    axes.set_xticks(place, [f"{100 * level:.3g} %" for level in levels])
    axes.set_ylim(top=min(axes.get_ylim()[1], 1.03))
    axes.spines[["top", "right"]].set_visible(False)
    if reference := entries[-1]["baselines"]["annotation"].get(_REFERENCE):
        told = f"{_REFERENCE}: {reference[metric]['mean']:.2f}"
        axes.set_title(told, loc="right", fontsize=8, color="0.4")
    return axes


def draw_curves(axes: Axes, curves: pd.DataFrame, metric: str) -> Axes:
    """Draw a validation figure over epochs: a thin line a repeat, and the mean while all of them train.

    Parameters
    ----------
    axes
        Where.
    curves
        Rows of ``curves.csv`` of one setting.
    metric
        Which column.
    """
    for colour, (_, own) in zip((_MODEL, _SCRATCH), curves.groupby("method", sort=False), strict=True):
        by_epoch = own.pivot(index="epoch", columns="repeat", values=metric)
        axes.plot(by_epoch.index + 1, by_epoch, color=colour, linewidth=0.7, alpha=0.5)
        mean = by_epoch.dropna().mean(axis=1)
        axes.plot(mean.index + 1, mean, color=colour, linewidth=2.2)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def draw_types(
    axes: Axes,
    entries: Entries,
    metric: str,
    methods: Sequence[Method],
    *,
    hollow: bool = False,
) -> Axes:
    """Draw a figure of novelty of each type: a row a type, mean and sd of each method."""
    rows = np.arange(len(entries))
    shifts = np.linspace(0.3, -0.3, len(methods)) if len(methods) > 1 else np.zeros(1)
    for shift, method in zip(shifts, methods, strict=True):
        mean, sd = method.values(entries, metric)
        axes.errorbar(
            mean,
            rows + shift,
            xerr=sd,
            fmt=method.mark,
            color=method.colour,
            markerfacecolor="white" if hollow else method.colour,
            markersize=7 if method.ours else 5,
            capsize=2,
            linewidth=1,
        )
    axes.set_yticks(rows, [str(entry["setting"]).removeprefix("without ") for entry in entries])
    for row in rows[::2]:
        axes.axhspan(row - 0.5, row + 0.5, color="0.95", zorder=0)
    axes.set_ylim(len(entries) - 0.5, -0.5)  # the first type on top
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    return axes


def _levels_figure(content: Mapping[str, Any]) -> Figure:
    entries = content["settings"]
    methods = _methods(content, "annotation", "macro_f1")
    figure = Figure(figsize=(12, 7), layout="constrained")
    for place, (axes, (metric, title)) in enumerate(
        zip(figure.subplots(2, 3, sharex=True).flat, _PANELS.items(), strict=True)
    ):
        draw_levels(axes, entries, metric, methods)
        axes.set_title(title, loc="left")
        if place >= 3:
            axes.set_xlabel(_X.get(content["study"], "labels of training cells"))
    _legend(figure, figure.axes[0])
    return figure


def _pretraining_figure(content: Mapping[str, Any], curves: pd.DataFrame) -> Figure:
    entries = content["settings"]
    methods = _methods(content, "annotation", "macro_f1")
    figure = Figure(figsize=(4.2 + 2.7 * len(entries), 6.6), layout="constrained")
    panels = figure.subplots(2, 1 + len(entries), width_ratios=[1.5, *[1] * len(entries)])
    for axes, metric in zip(panels[:, 0], ("macro_f1", "accuracy"), strict=True):
        draw_levels(axes, entries, metric, methods, log=True)
        axes.set_title(f"{_PANELS[metric]}, test cells", loc="left", fontsize=11)
    panels[1, 0].set_xlabel("labels of training cells")
    for row, (metric, title) in zip(panels[:, 1:], _CURVES.items(), strict=True):
        for axes, entry in zip(row, entries, strict=True):
            draw_curves(axes, curves[curves["setting"] == entry["setting"]], metric)
            told = f"{entry['training_cells']:,} labelled cells"
            axes.set_title(f"{title}\n{told}", loc="left", fontsize=9)
        for axes in row[1:]:
            axes.sharey(row[0])
    for axes in panels[1, 1:]:
        axes.set_xlabel("epoch")
    _legend(figure, panels[0, 0])
    return figure


def _types_figure(content: Mapping[str, Any]) -> Figure:
    entries = content["settings"]
    methods = _methods(content, "novelty", "auroc")
    figure = Figure(figsize=(14, 2.0 + 0.55 * len(entries)), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True)
    for axes, (metric, title) in zip(panels, _NOVELTY.items(), strict=False):
        draw_types(axes, entries, metric, methods)
        axes.set_title(title, loc="left", fontsize=11)
    model = methods[-1:]
    draw_types(panels[3], entries, "called_novel", model)
    draw_types(panels[3], entries, "known_called_novel", model, hollow=True)
    panels[3].set_title("Called novel (open: of known types)", loc="left", fontsize=11)
    panels[0].axvline(0.5, color="0.6", linestyle=":", linewidth=1)
    marks = [
        Line2D([], [], color=m.colour, marker=m.mark, linestyle="", label=m.name) for m in reversed(methods)
    ]
    figure.legend(handles=marks, frameon=False, ncols=6, fontsize=9, loc="outside lower center")
    return figure


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], frameon=False, ncols=6, fontsize=9, loc="outside lower center")


def _methods(content: Mapping[str, Any], task: str, metric: str) -> list[Method]:
    """Return what is drawn: baselines first, the model last, on top."""
    model, entries = content["model"], content["settings"]
    found = [
        Method(name, _of_baseline(task, name), *_GREYS[_kind(name)], ours=False)
        for name in shown_baselines(entries, task, metric)
    ]
    if content["study"] != PRETRAINING:
        return [*found, Method(model, lambda entry: entry[task])]
    scratch = Method(f"{model}, from scratch", lambda entry: entry["from_scratch"][task], _SCRATCH)
    return [*found, scratch, Method(f"{model}, pre-trained", lambda entry: entry[task])]


def _of_baseline(task: str, name: str) -> Found:
    return lambda entry: entry["baselines"][task].get(name, {})


def _average(entries: Entries, task: str, name: str, metric: str) -> float:
    found = [entry["baselines"][task].get(name, {}).get(metric) for entry in entries]
    return float(np.mean([one["mean"] if one else 0.0 for one in found]))


def _kind(name: str) -> str:
    return name.partition("_")[0]
