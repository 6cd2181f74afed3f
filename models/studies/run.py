"""Run a study: train all that it needs, once each, and gather the figures in one folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ...graphs.errors import InputError
from ...graphs.whole import write_json
from .annotator_figures import draw_annotator_study
from .annotator_results import all_tests, annotator_content, curves_table
from .annotator_trials import AnnotatorTrials, PretrainingTrials
from .comparisons import comparison_table
from .options import options_of
from .plan import plan
from .recommender_figures import draw_study
from .recommender_trials import RecommenderTrials
from .results import summarise, table_of
from .study import PRETRAINING, TEST, Study, Training

_RUNS = "runs"
_WORK = ".work"

Trials = RecommenderTrials | AnnotatorTrials
Write = Callable[..., None]


def run_study(study: Study, out: Path, write: Write, *, progress: bool = True) -> dict[str, Any]:
    """Train and evaluate all that a study needs, and leave its figures in ``out``.

    Parameters
    ----------
    study
        What to do.
    out
        Folder that exists; receives ``study.json``, ``table.csv``, ``study.png``, and ``runs``: one file a
        finished training. A training whose file is there is not repeated. Of annotators also ``tests.csv``, and
        ``curves.csv`` where pre-training is studied.
    write
        Writes the dataset of a training: `Restrict` for recommenders, `Relabel` for annotators.
    progress
        Show a bar over all trainings.

    Returns
    -------
    The content of ``study.json``.
    """
    trainings, notes = plan(study)
    (out / _RUNS).mkdir(exist_ok=True)
    found = []
    with _emptied(out / _WORK) as folder, _bar(study, trainings, progress) as bar:
        trials = _trials(study, folder, write)
        for training in trainings:
            bar.set_postfix_str(f"{training.setting}, repeat {training.repeat + 1} of {study.repeats}")
            found.append(_finished(out, training) or _train(study, training, out, trials, folder))
            bar.update(training.size)
    return _report(study, notes, found, out)


def _bar(study: Study, trainings: list[Training], progress: bool) -> tqdm[Any]:
    cells = sum(training.size for training in trainings)
    return tqdm(total=cells, desc=study.name, unit="cell", disable=not progress)


def _trials(study: Study, folder: Path, write: Write) -> Trials:
    if study.kind.task == "recommendation":
        return RecommenderTrials(study, write)
    kind = PretrainingTrials if study.name == PRETRAINING else AnnotatorTrials
    return kind(study, folder, write)


def _finished(out: Path, training: Training) -> dict[str, Any] | None:
    file = out / _RUNS / f"{training.name}.json"
    if not file.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(file.read_text())
        if found["setting"] == training.setting and found["kept_cells"] == training.size:
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{file} is damaged or of another study. Remove it, and resume.")


def _train(study: Study, training: Training, out: Path, trials: Trials, folder: Path) -> dict[str, Any]:
    """Train once, evaluate, and keep the figures; the dataset and the model go."""
    with _emptied(folder / "trial") as place:
        found = {
            "setting": training.setting,
            "repeat": training.repeat,
            "seed": options_of(study, training).seed,
            "kept_cells": training.size,
            **trials.train(training, place),
        }
    write_json(out / _RUNS / f"{training.name}.json", found)
    return found


def _report(study: Study, notes: list[str], found: list[dict[str, Any]], out: Path) -> dict[str, Any]:
    """Write content, tables and figure."""
    model = study.kind.model.kind
    table = table_of(study.name, found)
    content = {
        "study": study.name,
        "model": model,
        "mode": found[0]["mode"],
        "split": TEST,
        "repeats": study.repeats,
        "seed": study.options.seed,
        "notes": notes,
    }
    if study.kind.task == "recommendation":
        content["settings"] = summarise(table, found, model)
        draw_study(content, out / "study.png")
    else:
        content |= annotator_content(study.name, table, found, model)
        curves = curves_table(study.name, found) if study.name == PRETRAINING else None
        if curves is not None:
            curves.to_csv(out / "curves.csv", index=False)
        comparison_table(study.name, all_tests(content)).to_csv(out / "tests.csv", index=False)
        draw_annotator_study(content, out / "study.png", curves=curves)
    write_json(out / "study.json", content)
    table.to_csv(out / "table.csv", index=False)
    return content


@contextmanager
def _emptied(folder: Path) -> Iterator[Path]:
    """Give an empty folder that is always removed, also what a killed process left of it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
