"""Train and judge a model on every fold of a dataset, each from scratch, and put the figures together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from shutil import rmtree
from typing import Any, Final

import numpy as np
import pandas as pd

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.whole import write_json
from ..models.annotation.metrics import agreement, per_type, rare_recall
from .jobs import FINETUNE, Job, check_same, create_folder, describe

ALL: Final = "all"
CONFIG: Final = "config.json"


def parse_fold(text: str | None) -> int | str | None:
    """Read the number of a fold, or ``all``.

    Raises
    ------
    InputError
        It is neither.
    """
    if text is None or text == ALL:
        return text
    if not text.isdecimal():
        raise InputError(f"--fold {text}: choose the number of a fold, from 0, or {ALL}.")
    return int(text)


def run_folds(job: Job, *, resume: bool = False, progress: bool = True) -> dict[str, Any]:
    """Train and evaluate on each fold, into ``fold-0``, ``fold-1``, … of ``job.out``.

    Parameters
    ----------
    job
        What to train; its fold is not read.
    resume
        Go on where an earlier call was interrupted.
    progress
        Show bars.

    Returns
    -------
    The content of ``metrics.json``: as of one run, with ``mean`` and ``std`` (n − 1) over folds for each figure; of
    annotators also ``pooled``, the figures of each type and of rare ones among the test cells of all folds.

    Raises
    ------
    InputError
        The dataset has no folds, or as of one run.
    """
    from ..train import run

    graphs = MultiomeGraphs(job.dataset)
    n = graphs.store.folds
    if job.stage != FINETUNE or job.further:
        raise InputError(f"--fold {ALL} belongs to one data set and --stage {FINETUNE}. Leave it out.")
    if not n:
        raise InputError(f"{job.dataset} has no folds. Build it with --folds K.")
    if job.out.exists() and not resume:
        raise InputError(f"{job.out} exists already. Go on with --resume, or choose another --out.")
    description = {**describe(job, graphs), "folds": n}
    if resume and job.out.exists():
        check_same(job.out, description)
    create_folder(job.out)
    write_json(job.out / CONFIG, description)
    found = []
    for fold in range(n):
        one = replace(job, fold=fold, out=job.out / f"fold-{fold}")
        try:
            found.append(run(one, resume=resume and one.out.exists(), progress=progress))
        except InputError:
            if [file.name for file in job.out.iterdir()] == [CONFIG]:
                rmtree(job.out)
            raise
    metrics = summarise(found)
    write_json(job.out / "metrics.json", metrics)
    return metrics


def summarise(folds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put metrics of several runs together: mean and standard deviation (n − 1) of each figure where it is defined."""
    first = folds[0]
    tasks = list(first["baselines"])
    return {
        "model": first["model"],
        "mode": first["mode"],
        "split": first["split"],
        "folds": len(folds),
        **{task: _spread([one[task] for one in folds]) for task in tasks},
        "pooled": {
            task: pooled([one[task] for one in folds]) for task in tasks if "confusion" in first[task]
        },
        "notes": _notes([one.get("notes", ()) for one in folds]),
        **({"cost": first["cost"]} if "cost" in first else {}),
        "baselines": {
            task: {
                name: _spread([one["baselines"][task][name] for one in folds])
                for name in first["baselines"][task]
            }
            for task in tasks
        },
    }


def _notes(folds: Sequence[Sequence[str]]) -> list[str]:
    """Tell what holds of all folds once, and the rest by fold."""
    shared = [note for note in folds[0] if all(note in one for one in folds)]
    return shared + [f"fold {i}: {note}" for i, one in enumerate(folds) for note in one if note not in shared]


def pooled(figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return figures of types among the test cells of all folds together: every cell is tested once."""
    known = [one["confusion"] for one in figures]
    frames = [pd.DataFrame(one["counts"], index=one["types"], columns=one["types"]) for one in known]
    types = list(dict.fromkeys(name for frame in frames for name in frame.index))
    total = sum(frame.reindex(index=types, columns=types, fill_value=0) for frame in frames)
    counts = np.asarray(total, np.int64)
    rare = [name for name in types if any(name in one["rare_types"] for one in figures)]
    return {
        **agreement(counts),
        "rare_recall": rare_recall(counts, types, rare),
        "n": int(counts.sum()),
        "per_type": per_type(counts, types),
        "rare_types": rare,
        "confusion": {"types": types, "counts": counts.tolist()},
    }


def _spread(figures: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return mean and standard deviation of the scalars."""
    found = {}
    for name in dict.fromkeys(name for one in figures for name in one):
        values = [one[name] for one in figures if isinstance(one.get(name), int | float)]
        if values:
            std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
            found[name] = {"mean": float(np.mean(values)), "std": std}
    return found
