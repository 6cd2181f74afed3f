"""Figures of a study: a long table of all repeats, and their means beside the baselines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from .comparisons import compared, spread
from .study import LEAVE_TYPE_OUT

Figures = dict[str, Any]  # metric -> value
Tasks = dict[str, dict[str, Figures]]  # task -> method -> figures

ALL_TYPES: Final = "all types"
# The figure of each task that settles a comparison, and whether larger is better.
CHIEF: Final = {
    "matching": ("auroc", True),
    "matching_within_type": ("auroc", True),
    "retrieval": ("foscttm", False),
    "retrieval_within_type": ("foscttm", False),
    "translation": ("auprc", True),
    "annotation": ("macro_f1", True),
    "novelty": ("auroc", True),
}
COLUMNS: Final = ["study", "setting", "repeat", "task", "method", "metric", "value"]


def table_of(study: str, found: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return all figures in long form, one row a figure; what does not apply is left out.

    Where a type was left out, settings are ``without TYPE`` and ``with TYPE``.
    """
    rows = [
        (study, setting_of(study, run, judged), run["repeat"], task, method, metric, float(value))
        for run in found
        for judged, tasks in run["figures"].items()
        for task, methods in tasks.items()
        for method, figures in methods.items()
        for metric, value in figures.items()
        if isinstance(value, int | float)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def summarise(table: pd.DataFrame, found: list[dict[str, Any]], model: str) -> list[dict[str, Any]]:
    """Return one entry a setting: figures of the model by task, and of its baselines, as mean and sd.

    Parameters
    ----------
    table
        From `table_of`.
    found
        The trainings it was made of.
    model
        The model's name among the methods.

    Returns
    -------
    Entries with ``setting``, ``training_cells`` (None of a mean), ``repeats``, a key a task, ``baselines``, and
    ``against_best_baseline``: by task, the baseline with the best mean of those that do not use labels of held-out
    cells, and the differences over repeats with the p-value of a paired t-test (null under two repeats).
    """
    oracles = _oracles(found)
    study = str(table["study"].iloc[0])
    cells: dict[str, set[int]] = {}
    for run in found:
        for judged in run["figures"]:
            cells.setdefault(setting_of(study, run, judged), set()).add(run["training_cells"])
    entries = []
    for setting, own in table.groupby("setting", sort=False):
        tasks = _means(own, oracles)
        entries.append(
            {
                "setting": setting,
                "training_cells": max(cells.get(str(setting), ()), default=None),
                "repeats": int(own["repeat"].nunique()),
                **{task: methods[model] for task, methods in tasks.items()},
                "baselines": {
                    task: {method: figures for method, figures in methods.items() if method != model}
                    for task, methods in tasks.items()
                },
                "against_best_baseline": _against_best(own, oracles, model),
            }
        )
    return entries


def setting_of(study: str, run: Mapping[str, Any], judged: str) -> str:
    """Name the setting of a training's figures; a recommender that knows all types is judged on each."""
    if study != LEAVE_TYPE_OUT:
        return str(run["setting"])
    return f"with {judged}" if run["setting"] == ALL_TYPES else f"without {judged}"


def _oracles(found: list[dict[str, Any]]) -> dict[str, str]:
    """Methods that use labels of held-out cells, and what they use."""
    return {
        method: str(figures["oracle"])
        for run in found
        for tasks in run["figures"].values()
        for methods in tasks.values()
        for method, figures in methods.items()
        if "oracle" in figures
    }


def _means(own: pd.DataFrame, oracles: Mapping[str, str]) -> Tasks:
    tasks: Tasks = {}
    for name, values in own.groupby(["task", "method", "metric"], sort=False)["value"]:
        task, method, metric = map(str, name)
        known = {"oracle": oracles[method]} if method in oracles else {}
        figures = tasks.setdefault(task, {}).setdefault(method, known)
        figures[metric] = spread(values.to_numpy())
    return tasks


def _against_best(own: pd.DataFrame, oracles: Mapping[str, str], model: str) -> dict[str, Any]:
    found = {}
    for task, (metric, larger) in CHIEF.items():
        chosen = own[(own["task"] == task) & (own["metric"] == metric)]
        values = chosen.pivot(index="repeat", columns="method", values="value")
        others = values.drop(columns=[model, *oracles], errors="ignore").dropna(axis=1)
        if model not in values or others.empty:
            continue
        best = others.mean().idxmax() if larger else others.mean().idxmin()
        found[task] = {
            "metric": metric,
            "better": "larger" if larger else "smaller",
            "baseline": str(best),
            **compared(*(np.asarray(values[name], float) for name in (model, best))),
        }
    return found
