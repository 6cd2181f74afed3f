"""One training of a recommender's study, and what it is judged by."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...graphs.dataset import MultiomeGraphs
from ..baselines import matching_baselines
from ..checkpoint import load_model
from ..evaluation import evaluate
from ..judges import match_scores
from ..metrics import matching_metrics
from ..recommender import AnyRecommender
from ..training import fit
from .options import options_of
from .results import ALL_TYPES, Tasks
from .study import TEST, TRAIN, Bools, Study, Training

MODEL = "crossrec"
_BATCH = 256  # pairs at a time in evaluation


class Restrict(Protocol):
    """Writes a dataset in which some cells belong to no split."""

    def __call__(
        self, dataset: Path, folder: Path, keep: Bools, *, hard_test: bool = False, seed: int = 0
    ) -> None:
        """Write it to ``folder``; see `scweave.generators.restrict.restrict`."""


class RecommenderTrials:
    """Trains a recommender on some cells, evaluates it, and leaves nothing but figures.

    Parameters
    ----------
    study
        What to do.
    restrict
        Writes a dataset of some cells.
    """

    def __init__(self, study: Study, restrict: Restrict) -> None:
        self.study, self.restrict = study, restrict

    def train(self, training: Training, folder: Path) -> dict[str, Any]:
        """Return ``mode``, ``training_cells`` and ``figures`` (judged -> task -> method -> metric).

        Parameters
        ----------
        training
            What to train on.
        folder
            An empty one, for datasets and models.
        """
        study, seed = self.study, self.study.options.seed
        dataset, run = folder / "dataset", folder / "run"
        self.restrict(study.dataset, dataset, training.keep, seed=seed)
        run.mkdir()
        fit(study.kind, dataset, run, study.config, options_of(study, training), progress=False)
        model, graphs = load_model(run).model, MultiomeGraphs(dataset)
        if training.judged:
            figures = {
                name: self._judge_type(training, model, name, folder / "judged") for name in training.judged
            }
        else:
            figures = {ALL_TYPES: _tasks(evaluate(model, graphs, seed=seed, progress=False))}
        cells = int((graphs.cells["split"] == TRAIN).sum())
        return {"mode": model.mode, "training_cells": cells, "figures": figures}

    def _judge_type(self, training: Training, model: AnyRecommender, name: str, view: Path) -> Tasks:
        """Evaluate on the test cells of one type, beside baselines that were fitted on what the model saw."""
        study, seed = self.study, self.study.options.seed
        source = MultiomeGraphs(study.dataset)
        shutil.rmtree(view, ignore_errors=True)
        judged = (source.cells["cell_type"] == name) | (source.cells["split"] != TEST)
        self.restrict(study.dataset, view, training.keep & judged.to_numpy(), hard_test=True, seed=seed)
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
