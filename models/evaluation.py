"""Evaluate a trained CrossRec on held-out cells, every figure beside its baselines on the same cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.loader import GraphLoader
from ..graphs.schema import CELL, MATCH, Split
from .baselines import Guess, activity_scores, cca_scores, matching_baselines
from .crossrec import CrossRec
from .metrics import chance_retrieval, matching_metrics, mean_figures, retrieval_metrics
from .translation import TranslationTally
from .translators import Translation, Translator, fit_translators

Int64 = NDArray[np.int64]


def evaluate(
    model: CrossRec,
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

    Published retrieval scores every one of n² RNA/ATAC pairs of n sampled cells, because the
    published vectors have seen their partner. Translation ranks genes by the count before the
    threshold; MAE and RMSE are those of the 0/1 output against expressed or not.

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
    score, match, (rna, atac) = _match_scores(model, pairs, batch_size, progress)
    table = graphs.store.table("pairs")
    kind = table.loc[table["split"] == split, "kind"].to_numpy()
    tasks = {
        **_by_kind(
            {"crossrec": (score, score > 0), **matching_baselines(cells, rna, atac, match, seed=seed)},
            match,
            kind,
        ),
        **_retrieval(model, cells, sampled, batch_size, progress, seed),
        "translation": _translation(model, cells, translated, batch_size, progress, seed),
    }
    return {
        "model": "crossrec",
        "mode": "published",
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
    model: CrossRec, cells: MultiomeGraphs, sampled: Int64, batch_size: int, progress: bool, seed: int
) -> dict[str, dict[str, Any]]:
    """Retrieval of partners among sampled cells of all types, and of the cell's own type."""
    scores = {
        "crossrec": _all_pairs(model, cells, sampled, batch_size, progress),
        "gene_activity": activity_scores(cells, sampled),
        "cca": cca_scores(cells, sampled, seed=seed),
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
        figures["crossrec"]["scored_by"] = "matching logits of all n x n pairs"  # type: ignore[assignment]
    return tasks


@torch.no_grad()
def _match_scores(
    model: CrossRec, pairs: MultiomeGraphs, batch_size: int, progress: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_], tuple[Int64, Int64]]:
    scores, truth = [], []
    for batch in tqdm(GraphLoader(pairs, batch_size, cis=False), desc="matching", disable=not progress):
        scores.append(_margin(model, batch))
        truth.append(batch[CELL][MATCH].numpy() > 0)
    return np.concatenate(scores), np.concatenate(truth), pairs.pairs_of(range(len(pairs)))


@torch.no_grad()
def _all_pairs(
    model: CrossRec, graphs: MultiomeGraphs, cells: Int64, batch_size: int, progress: bool
) -> NDArray[np.float64]:
    n = len(cells)
    scores = np.empty(n * n)
    for begin in tqdm(range(0, n * n, batch_size), desc="retrieval", disable=not progress):
        pair = np.arange(begin, min(begin + batch_size, n * n))
        batch = graphs.batch_of_pairs(cells[pair // n], cells[pair % n], cis=False)
        scores[pair] = _margin(model, batch)
    return scores.reshape(n, n)


def _margin(model: CrossRec, batch: Any) -> NDArray[np.float64]:
    logits = model(batch).logits.double()
    margin: NDArray[np.float64] = (logits[:, 1] - logits[:, 0]).numpy()
    return margin


def _translation(
    model: CrossRec, cells: MultiomeGraphs, which: Int64, batch_size: int, progress: bool, seed: int
) -> dict[str, Any]:
    """Compare the model's counts and the baselines with the expression of cells, a batch at a time."""
    n_genes = len(cells.genes)
    methods: dict[str, Translator] = {
        "crossrec": CrossRecTranslator(model, cells),
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
    return found


@dataclass(frozen=True)
class CrossRecTranslator:
    """The published translation: a gene's score is the number of open peaks that pass for it."""

    model: CrossRec
    graphs: MultiomeGraphs

    @torch.no_grad()
    def predict(self, cells: Int64) -> Translation:
        """Translate cells (row numbers)."""
        counts = self.model.translate(self.graphs.batch_of_pairs(cells, cells, cis=False)).numpy()
        return Translation(counts.astype(np.float32), counts > self.model.config.on_above, None)


@dataclass(frozen=True)
class AllZero:
    """Predicts that no gene is on."""

    n_genes: int

    def predict(self, cells: Int64) -> Translation:
        """Translate cells (row numbers)."""
        zero = np.zeros((len(cells), self.n_genes), np.float32)
        return Translation(zero, zero > 0, zero)
