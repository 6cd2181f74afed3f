"""Evaluate a trained CrossRec on held-out cells, every figure beside its baselines on the same cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.schema import Split
from .baselines import Guess, activity_scores, cca_scores, matching_baselines, start_scores
from .judges import Judge, judge_of, match_scores
from .metrics import chance_retrieval, matching_metrics, mean_figures, retrieval_metrics
from .recommender import AnyRecommender
from .translation import TranslationTally
from .translators import Translation, Translator, fit_translators

Int64 = NDArray[np.int64]


def evaluate(
    model: AnyRecommender,
    graphs: MultiomeGraphs,
    *,
    split: Split = "test",
    retrieval_cells: int = 200,
    translation_cells: int = 1000,
    batch_size: int = 256,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Measure matching, retrieval and translation on the cells of one split.

    Retrieval is among n sampled cells. Published vectors have seen their partner, so that mode scores every
    one of n² pairs. Translation ranks genes by a score, ``mae`` and ``rmse`` are those of on or off.

    Parameters
    ----------
    model
        In evaluation mode.
    graphs
        The dataset, any view.
    split
        Which cells.
    retrieval_cells, translation_cells
        How many cells at most; sampled by ``seed``. Translation holds (cells, genes) counts for
        a batch of cells only.
    batch_size
        Graphs a batch.
    seed
        Decides the samples.
    progress
        Show bars.

    Returns
    -------
    The content of ``metrics.json``.
    """
    cells, pairs = graphs.part(split=split), graphs.part("pairs", split)
    if not len(cells):
        raise InputError(f"the dataset has no {split} cells. Build it with more cells.")
    rng = np.random.default_rng([seed, 2])
    rows = cells.pairs_of(range(len(cells)))[0]
    sampled = np.sort(rng.permutation(rows)[:retrieval_cells])
    translated = np.sort(rng.permutation(rows)[:translation_cells])
    score, match = match_scores(model, pairs, batch_size, progress)
    rna, atac = pairs.pairs_of(range(len(pairs)))
    judge = judge_of(model, cells)
    table = graphs.store.table("pairs")
    kind = table.loc[table["split"] == split, "kind"].to_numpy()
    tasks = {
        **_by_kind(
            {"crossrec": (score, score > 0), **matching_baselines(cells, rna, atac, match, seed=seed)},
            match,
            kind,
        ),
        **_retrieval(judge, cells, sampled, batch_size, progress, seed),
        **_translation(judge, cells, translated, batch_size, progress, seed),
    }
    return {
        "model": "crossrec",
        "mode": model.mode,
        "split": split,
        "fold": graphs.fold,
        **{task: figures.pop("crossrec") for task, figures in tasks.items()},
        "baselines": tasks,
    }


def _by_kind(
    guesses: dict[str, Guess], match: NDArray[np.bool_], kind: NDArray[np.object_]
) -> dict[str, dict[str, Any]]:
    """Matching among all pairs, and where negatives are of several kinds, beside each kind alone."""
    negatives = sorted(set(kind[~match]))
    chosen = {"matching": np.ones(len(match), dtype=bool)}
    if len(negatives) > 1:
        chosen |= {f"matching_{name}": match | (kind == name) for name in negatives}
    return {
        task: {
            name: {**matching_metrics(score[some], on[some], match[some]), "n": int(some.sum())}
            for name, (score, on) in guesses.items()
        }
        for task, some in chosen.items()
    }


def _retrieval(
    judge: Judge, cells: MultiomeGraphs, sampled: Int64, batch_size: int, progress: bool, seed: int
) -> dict[str, dict[str, Any]]:
    """Retrieval of partners among sampled cells of all types, and of the cell's own type."""
    scores = {
        "crossrec": judge.partners(sampled, batch_size, progress),
        "gene_activity": activity_scores(cells, sampled),
        "cca": cca_scores(cells, sampled, seed=seed),
        "cca_weighted": start_scores(cells, sampled, seed=seed),
    }
    tasks = {"retrieval": {name: retrieval_metrics(own) for name, own in scores.items()}}
    tasks["retrieval"]["chance"] = chance_retrieval(len(sampled))
    codes = cells.cell_type_codes[sampled]
    blocks = [np.flatnonzero(codes == code) for code in np.unique(codes[codes >= 0])]
    blocks = [block for block in blocks if len(block) > 1]
    sizes = [len(block) for block in blocks]
    if blocks:
        own = {
            name: [retrieval_metrics(all_[np.ix_(block, block)]) for block in blocks]
            for name, all_ in scores.items()
        }
        own["chance"] = [chance_retrieval(size) for size in sizes]
        tasks["retrieval_within_type"] = {name: mean_figures(each, sizes) for name, each in own.items()}
    for figures in tasks.values():
        figures["crossrec"]["scored_by"] = judge.scored_by  # type: ignore[assignment]
    return tasks


def _translation(
    judge: Judge, cells: MultiomeGraphs, which: Int64, batch_size: int, progress: bool, seed: int
) -> dict[str, dict[str, Any]]:
    """Compare translations of the model and the baselines with the expression of cells, a batch at a time.

    Each of the model's translations is a task, beside the same baselines.
    """
    n_genes = len(cells.genes)
    ours = judge.translators()
    methods: dict[str, Translator] = {
        **ours,
        "all_zero": AllZero(n_genes),
        **fit_translators(cells, seed=seed),
    }
    tallies = {name: TranslationTally(n_genes) for name in methods}
    step = max(1, min(batch_size, 2**24 // n_genes))
    for begin in tqdm(range(0, len(which), step), desc="translation", disable=not progress):
        some = which[begin : begin + step]
        counts = cells.rna_rows.matrix(some).toarray()
        for name, method in methods.items():
            tallies[name].add(method.predict(some), counts)
    found: dict[str, Any] = {
        name: {**tally.figures(), "n_cells": len(which)} for name, tally in tallies.items()
    }
    found["type_mean"]["oracle"] = "uses the labels of the held-out cells"
    baselines = {name: figures for name, figures in found.items() if name not in ours}
    return {name.replace("crossrec", "translation"): {"crossrec": found[name], **baselines} for name in ours}


@dataclass(frozen=True)
class AllZero:
    """Predicts that no gene is on."""

    n_genes: int

    def predict(self, cells: Int64) -> Translation:
        """Translate cells (row numbers)."""
        zero = np.zeros((len(cells), self.n_genes), np.float32)
        return Translation(zero, zero > 0, zero)
