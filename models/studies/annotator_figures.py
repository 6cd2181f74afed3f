"""Pictures of annotators' studies: the model in colour, with sd over repeats, baselines in grey."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .annotator_panels import (
    REFERENCE,
    SCRATCH,
    Entries,
    Found,
    Method,
    draw_curves,
    draw_levels,
    draw_types,
)
from .study import LEAVE_TYPE_OUT, PRETRAINING

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
# Baselines are told apart by shade and mark, the model by colour.
_GREYS: Final = {
    "centroid": ("0.7", "s"),
    "knn": ("0.55", "D"),
    "logreg": ("0.4", "^"),
    "svm": ("0.15", "P"),
}


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
    names = [name for name in entries[0]["baselines"][task] if name != REFERENCE]
    kinds = groupby(sorted(names, key=_kind), key=_kind)
    best = {kind: max(own, key=lambda name: _average(entries, task, name, metric)) for kind, own in kinds}
    return sorted(best.values(), key=names.index)


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
    scratch = Method(f"{model}, from scratch", lambda entry: entry["from_scratch"][task], SCRATCH)
    return [*found, scratch, Method(f"{model}, pre-trained", lambda entry: entry[task])]


def _of_baseline(task: str, name: str) -> Found:
    return lambda entry: entry["baselines"][task].get(name, {})


def _average(entries: Entries, task: str, name: str, metric: str) -> float:
    found = [entry["baselines"][task].get(name, {}).get(metric) for entry in entries]
    return float(np.mean([one["mean"] if one else 0.0 for one in found]))


def _kind(name: str) -> str:
    return name.partition("_")[0]
