"""Figures of a study: a long table of all repeats, and their means beside the baselines."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy.stats import ttest_rel

Tasks = dict[str, dict[str, dict[str, Any]]]  # task -> method -> metric -> value

MODEL: Final = "crossrec"
ALL_TYPES: Final = "all types"
# The figure of each task that settles a comparison, and whether larger is better.
CHIEF: Final = {
    "matching": ("auroc", True),
    "matching_within_type": ("auroc", True),
    "retrieval": ("foscttm", False),
    "retrieval_within_type": ("foscttm", False),
    "translation": ("auprc", True),
}
COLUMNS: Final = ["study", "setting", "repeat", "task", "method", "metric", "value"]


def table_of(study: str, found: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return all figures in long form, one row a figure; what does not apply is left out.

    Where a type was left out, settings are ``without TYPE`` and ``with TYPE``.
    """
    rows = [
        (study, _setting(study, run, judged), run["repeat"], task, method, metric, float(value))
        for run in found
        for judged, tasks in run["figures"].items()
        for task, methods in tasks.items()
        for method, figures in methods.items()
        for metric, value in figures.items()
        if isinstance(value, int | float)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def summarise(table: pd.DataFrame, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one entry a setting: figures of the model by task, and of its baselines, as mean and sd.

    Parameters
    ----------
    table
        From `table_of`.
    found
        The trainings it was made of.

    Returns
    -------
    Entries with ``setting``, ``training_cells``, ``repeats``, a key a task, ``baselines``, and
    ``against_best_baseline``: by task, the baseline with the best mean of those that do not use labels of held-out
    cells, and the differences over repeats with the p-value of a paired t-test (null under two repeats).
    """
    oracles = {
        method: str(figures["oracle"])
        for run in found
        for tasks in run["figures"].values()
        for methods in tasks.values()
        for method, figures in methods.items()
        if "oracle" in figures
    }
    study = str(table["study"].iloc[0])
    cells: dict[str, set[int]] = {}
    for run in found:
        for judged in run["figures"]:
            cells.setdefault(_setting(study, run, judged), set()).add(run["training_cells"])
    entries = []
    for setting, own in table.groupby("setting", sort=False):
        tasks = _means(own, oracles)
        entries.append(
            {
                "setting": setting,
                "training_cells": max(cells[str(setting)]),
                "repeats": int(own["repeat"].nunique()),
                **{task: methods[MODEL] for task, methods in tasks.items()},
                "baselines": {
                    task: {method: figures for method, figures in methods.items() if method != MODEL}
                    for task, methods in tasks.items()
                },
                "against_best_baseline": _against(own, oracles),
            }
        )
    return entries


def _setting(study: str, run: dict[str, Any], judged: str) -> str:
    if study == "fractions":
        return str(run["setting"])
    return f"with {judged}" if run["setting"] == ALL_TYPES else f"without {judged}"


def _means(own: pd.DataFrame, oracles: dict[str, str]) -> Tasks:
    tasks: Tasks = {}
    for name, values in own.groupby(["task", "method", "metric"], sort=False)["value"]:
        task, method, metric = map(str, name)
        known = {"oracle": oracles[method]} if method in oracles else {}
        figures = tasks.setdefault(task, {}).setdefault(method, known)
        figures[metric] = {"mean": float(values.mean()), "sd": _sd(values.to_numpy())}
    return tasks


def _against(own: pd.DataFrame, oracles: dict[str, str]) -> dict[str, Any]:
    found = {}
    for task, (metric, larger) in CHIEF.items():
        chosen = own[(own["task"] == task) & (own["metric"] == metric)]
        values = chosen.pivot(index="repeat", columns="method", values="value")
        others = values.drop(columns=[MODEL, *oracles], errors="ignore").dropna(axis=1)
        if MODEL not in values or others.empty:
            continue
        best = others.mean().idxmax() if larger else others.mean().idxmin()
        difference = (values[MODEL] - others[best]).to_numpy()
        found[task] = {
            "metric": metric,
            "better": "larger" if larger else "smaller",
            "baseline": str(best),
            "difference": {"mean": float(difference.mean()), "sd": _sd(difference)},
            "p": _p_value(values[MODEL].to_numpy(), others[best].to_numpy()),
        }
    return found


def _sd(values: np.ndarray[Any, np.dtype[Any]]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _p_value(ours: np.ndarray[Any, np.dtype[Any]], theirs: np.ndarray[Any, np.dtype[Any]]) -> float | None:
    if len(ours) < 2 or np.ptp(ours - theirs) < 1e-12:  # no spread, no test
        return None
    p = float(ttest_rel(ours, theirs).pvalue)
    return p if math.isfinite(p) else None
