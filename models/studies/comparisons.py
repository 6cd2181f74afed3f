"""Means over repeats, and paired t-tests between what was measured in the same repeats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import ttest_rel

Floats = NDArray[np.floating[Any]]

_NO_SPREAD = 1e-12  # of differences, below which there is nothing to test


def spread(values: Floats) -> dict[str, float | None]:
    """Return mean and sd of values over repeats; no sd of a single one."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": sd}


def compared(ours: Floats, theirs: Floats) -> dict[str, Any]:
    """Return mean and sd of differences over repeats, and the two-sided p-value of a paired t-test.

    Parameters
    ----------
    ours, theirs
        (repeats,) figures, in the same order of repeats.

    Returns
    -------
    ``difference`` (ours − theirs) and ``p``, which is None with fewer than two repeats or where all differences are
    the same.
    """
    difference = ours - theirs
    p = None
    if len(difference) > 1 and np.ptp(difference) > _NO_SPREAD:
        found = float(ttest_rel(ours, theirs).pvalue)
        p = found if math.isfinite(found) else None
    return {"difference": spread(difference), "p": p}


def against_methods(
    own: pd.DataFrame, model: str, metrics: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Compare the model with every other method of a setting.

    Parameters
    ----------
    own
        Rows of one setting and task of a study's table.
    model
        The model's name among the methods.
    metrics
        Figures to compare.

    Returns
    -------
    method -> metric -> `compared` over the repeats that have both.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for metric, method, pair in _pairs(own, "method", model, metrics):
        found.setdefault(method, {})[metric] = compared(*pair)
    return found


def between_settings(
    table: pd.DataFrame, model: str, metrics: Sequence[str], settings: Sequence[str]
) -> list[dict[str, Any]]:
    """Compare a model's figures in every two settings of a study.

    Parameters
    ----------
    table
        Of one task; a repeat is the same draw in all settings.
    model
        Whose figures.
    metrics
        Figures to compare.
    settings
        In their order.

    Returns
    -------
    Entries with ``setting``, ``other`` (an earlier one), ``metric`` and what `compared` tells of setting − other.
    """
    own = table[table["method"] == model]
    found = []
    for other, setting in combinations(settings, 2):
        two = own[own["setting"].isin([other, setting])]
        for metric, _, pair in _pairs(two, "setting", setting, metrics):
            found.append({"setting": setting, "other": other, "metric": metric, **compared(*pair)})
    return found


def comparison_table(study: str, entries: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return comparisons as a table, one row a test.

    Parameters
    ----------
    study
        Its name.
    entries
        With ``setting``, ``task``, ``method``, ``against``, ``metric``, and what `compared` tells.
    """
    rows = [
        {
            "study": study,
            **{key: entry[key] for key in ("setting", "task", "method", "against", "metric")},
            **entry["difference"],
            "p": entry["p"],
        }
        for entry in entries
    ]
    columns = ["study", "setting", "task", "method", "against", "metric", "mean", "sd", "p"]
    table = pd.DataFrame(rows, columns=columns)
    return table.rename(columns={"mean": "mean_difference", "sd": "sd_difference"})


def _pairs(
    own: pd.DataFrame, column: str, ours: str, metrics: Sequence[str]
) -> list[tuple[str, str, tuple[Floats, Floats]]]:
    """Put the values of one entry of a column beside those of each other, repeat by repeat."""
    found = []
    for metric in metrics:
        values = own[own["metric"] == metric].pivot(index="repeat", columns=column, values="value")
        if ours not in values:
            continue
        for name in own[column].drop_duplicates():
            if name == ours or name not in values:
                continue
            both = values[[ours, name]].dropna().to_numpy()
            if len(both):
                found.append((metric, str(name), (both[:, 0], both[:, 1])))
    return found
