"""What an annotator's study found: means, t-tests, and curves, as content and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from .annotator_trials import CURVES, FROM_SCRATCH
from .comparisons import against_methods, between_settings, spread
from .results import summarise
from .study import LEAVE_TYPE_OUT, PRETRAINING

# Figures of each task, in the order in which they are shown and compared.
METRICS: Final = {
    "annotation": (
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "kappa",
        "jaccard_micro",
        "jaccard_weighted",
    ),
    "novelty": (
        "auroc",
        "average_precision",
        "called_novel",
        "known_called_novel",
        "accuracy",
        "macro_f1",
    ),
}
MEAN: Final = "mean of the types"


def annotator_content(
    study: str, table: pd.DataFrame, found: list[dict[str, Any]], model: str
) -> dict[str, Any]:
    """Return ``settings`` and ``between_settings`` of ``study.json``.

    Parameters
    ----------
    study
        Its name.
    table
        All figures, in long form.
    found
        The trainings it was made of.
    model
        The model's name among the methods.

    Returns
    -------
    ``settings`` as `summarise` gives them, each with ``against_baselines`` (task -> method -> metric ->
    ``difference, p``) and what the trainings told; of ``pretraining`` also ``from_scratch`` and
    ``pretraining_gain`` by task; of ``leave-type-out`` the last one is the mean of the types.
    ``between_settings``: the same tests between any two settings of shares or noise.
    """
    if study == LEAVE_TYPE_OUT:
        table = pd.concat([table, _mean_of_types(table)], ignore_index=True)
    bare = model + FROM_SCRATCH
    entries = summarise(table[table["method"] != bare], found, model)
    for entry in entries:
        own = table[table["setting"] == entry["setting"]]
        against = {
            task: against_methods(rows, model, METRICS[str(task)]) for task, rows in own.groupby("task")
        }
        if study == PRETRAINING:
            gain = {task: methods.pop(bare) for task, methods in against.items()}
            entry |= {"from_scratch": _means(own[own["method"] == bare]), "pretraining_gain": gain}
        entry |= {"against_baselines": against, **_told(found, entry["setting"])}
    names = [entry["setting"] for entry in entries]
    between = [] if study == LEAVE_TYPE_OUT else _between(table, model, names)
    return {"settings": entries, "between_settings": between}


def all_tests(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every t-test of a study, for `comparison_table`."""
    model, found = content["model"], []
    for entry in content["settings"]:
        gains = {task: {model + FROM_SCRATCH: own} for task, own in entry.get("pretraining_gain", {}).items()}
        for task, methods in entry["against_baselines"].items():
            for method, metrics in {**gains.get(task, {}), **methods}.items():
                found += [
                    {
                        "setting": entry["setting"],
                        "task": task,
                        "method": model,
                        "against": method,
                        "metric": m,
                        **t,
                    }
                    for m, t in metrics.items()
                ]
    return found + [
        {**entry, "task": "annotation", "method": model, "against": f"{model} at {entry['other']}"}
        for entry in content["between_settings"]
    ]


def curves_table(study: str, found: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return validation figures of every epoch of a study of pre-training, one row an epoch, which count from 1."""
    columns = ["study", "setting", "repeat", "method", "epoch", *CURVES]
    frames = []
    for run in found:
        told = {"study": study, "setting": run["setting"], "repeat": run["repeat"]}
        for method, curves in run["curves"].items():
            frame = pd.DataFrame(curves).assign(**told, method=method)
            frames.append(frame.assign(epoch=frame.index + 1))
    return pd.concat(frames, ignore_index=True).reindex(columns=columns)


def _mean_of_types(table: pd.DataFrame) -> pd.DataFrame:
    by = ["study", "repeat", "task", "method", "metric"]
    return table.groupby(by, sort=False)["value"].mean().reset_index().assign(setting=MEAN)


def _means(own: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return mean and sd by task and metric of one method."""
    found: dict[str, dict[str, Any]] = {}
    for name, values in own.groupby(["task", "metric"], sort=False)["value"]:
        task, metric = map(str, name)
        found.setdefault(task, {})[metric] = spread(values.to_numpy())
    return found


def _told(found: Sequence[Mapping[str, Any]], setting: str) -> dict[str, float]:
    """Return what the trainings of a setting told of their labels, the mean over repeats."""
    own = [run["told"] for run in found if run["setting"] == setting and "told" in run]
    return {key: float(np.mean([one[key] for one in own])) for key in (own[0] if own else {})}


def _between(table: pd.DataFrame, model: str, names: Sequence[str]) -> list[dict[str, Any]]:
    return between_settings(table, model, METRICS["annotation"], names)
