"""Run a study of CrossRec: train on less data or without a cell type, evaluate, and gather the figures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm.auto import tqdm

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.whole import write_json
from .baselines import matching_baselines
from .checkpoint import load_model
from .evaluation import evaluate
from .judges import match_scores
from .metrics import matching_metrics
from .recommender import AnyRecommender
from .study_figures import draw_study
from .study_plan import SMALLEST_BATCH, TEST, TRAIN, Bools, Study, Training, plan
from .study_results import ALL_TYPES, MODEL, Tasks, summarise, table_of
from .train_options import TrainOptions
from .training import fit

_BATCH = 256  # pairs at a time in evaluation
_RUNS = "runs"


class Restrict(Protocol):
    """Writes a dataset in which some cells belong to no split."""

    def __call__(
        self, dataset: Path, folder: Path, keep: Bools, *, hard_test: bool = False, seed: int = 0
    ) -> None:
        """Write it to ``folder``; see `scweave.generators.restrict.restrict`."""


def run_study(study: Study, out: Path, restrict: Restrict, *, progress: bool = True) -> dict[str, Any]:
    """Train and evaluate all that a study needs, and leave its figures in ``out``.

    Parameters
    ----------
    study
        What to do.
    out
        Folder that exists; receives ``study.json``, ``table.csv``, ``study.png``, and ``runs``: one file a
        finished training. A training whose file is there is not repeated.
    restrict
        Writes a dataset of some cells.
    progress
        Show a bar over all trainings.

    Returns
    -------
    The content of ``study.json``.
    """
    trainings, notes = plan(study)
    (out / _RUNS).mkdir(exist_ok=True)
    sizes = [int(training.keep.sum()) for training in trainings]
    found = []
    with tqdm(total=sum(sizes), desc=study.name, unit="cell", disable=not progress) as bar:
        for training, size in zip(trainings, sizes, strict=True):
            bar.set_postfix_str(f"{training.setting}, repeat {training.repeat + 1} of {study.repeats}")
            found.append(_finished(out, training) or _train(study, training, out, restrict))
            bar.update(size)
    table = table_of(study.name, found)
    content = {
        "study": study.name,
        "model": MODEL,
        "mode": found[0]["mode"],
        "split": TEST,
        "repeats": study.repeats,
        "seed": study.options.seed,
        "notes": notes,
        "settings": summarise(table, found),
    }
    write_json(out / "study.json", content)
    table.to_csv(out / "table.csv", index=False)
    draw_study(content, out / "study.png")
    return content


def _finished(out: Path, training: Training) -> dict[str, Any] | None:
    file = out / _RUNS / f"{training.name}.json"
    if not file.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(file.read_text())
        if found["setting"] == training.setting and found["kept_cells"] == int(training.keep.sum()):
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{file} is damaged or of another study. Remove it, and resume.")


def _train(study: Study, training: Training, out: Path, restrict: Restrict) -> dict[str, Any]:
    """Train once, evaluate, and keep the figures; the dataset and the model go."""
    seed = study.options.seed
    options = _options(study, training)
    with _scratch(out) as folder:
        dataset, run = folder / "dataset", folder / "run"
        restrict(study.dataset, dataset, training.keep, seed=seed)
        run.mkdir()
        fit(study.kind, dataset, run, study.config, options, progress=False)
        model = load_model(run).model
        if not training.judged:
            figures = {ALL_TYPES: _tasks(evaluate(model, MultiomeGraphs(dataset), seed=seed, progress=False))}
        else:
            figures = {
                name: _judge_type(study, training, model, name, folder, restrict) for name in training.judged
            }
        cells = MultiomeGraphs(dataset).cells
    found = {
        "setting": training.setting,
        "repeat": training.repeat,
        "seed": options.seed,
        "mode": model.mode,
        "kept_cells": int(training.keep.sum()),
        "training_cells": int((cells["split"] == TRAIN).sum()),
        "figures": figures,
    }
    write_json(out / _RUNS / f"{training.name}.json", found)
    return found


def _options(study: Study, training: Training) -> TrainOptions:
    """Seed the repeat; small shares take small batches, or they would be measured after fewer steps."""
    usual = study.options
    size = min(max(round(training.share * usual.batch_size), SMALLEST_BATCH), usual.batch_size)
    return replace(usual, seed=usual.seed + training.repeat, batch_size=size)


def _judge_type(
    study: Study, training: Training, model: AnyRecommender, name: str, folder: Path, restrict: Restrict
) -> Tasks:
    """Evaluate on the test cells of one type, beside baselines that were fitted on what the model saw."""
    view, seed, source = folder / "judged", study.options.seed, MultiomeGraphs(study.dataset)
    shutil.rmtree(view, ignore_errors=True)
    judged = (source.cells["cell_type"] == name) | (source.cells["split"] != TEST)
    restrict(study.dataset, view, training.keep & judged.to_numpy(), hard_test=True, seed=seed)
    graphs = MultiomeGraphs(view)
    tasks = _tasks(evaluate(model, graphs, seed=seed, progress=False))
    tasks["matching_within_type"] = tasks.pop("matching")
    tasks["retrieval_within_type"] = tasks.pop("retrieval")  # the view has test cells of one type only
    return {"matching": _match_type(model, graphs, source, name, seed), **tasks}


def _match_type(
    model: AnyRecommender, graphs: MultiomeGraphs, source: MultiomeGraphs, name: str, seed: int
) -> dict[str, dict[str, Any]]:
    """Classify the test pairs of the whole dataset in which a cell of the type takes part."""
    pairs = source.part("pairs", TEST)
    own = (source.cells["cell_type"] == name).to_numpy()
    rna, atac = pairs.pairs_of(range(len(pairs)))
    some = pairs.index_select(np.flatnonzero(own[rna] | own[atac]))
    score, match = match_scores(model, some, _BATCH, False)
    rna, atac = some.pairs_of(range(len(some)))
    guesses = matching_baselines(graphs, rna, atac, match, seed=seed)
    return {
        method: {**matching_metrics(*guess, match), "n": len(match)}
        for method, guess in {MODEL: (score, score > 0), **guesses}.items()
    }


def _tasks(metrics: dict[str, Any]) -> Tasks:
    """Put the model's figures beside those of its baselines."""
    return {task: {MODEL: metrics[task], **others} for task, others in metrics["baselines"].items()}


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """Give an empty folder that is always removed, also what a killed process left of it."""
    folder = out / ".work"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
