"""Evaluate a trained CrossRec on held-out cells, every figure beside its baselines on the same cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.loader import GraphLoader
from ..graphs.schema import CELL, MATCH, Split
from .baselines import ExpressedShare, activity_retrieval, expressed_share, matching_baselines
from .crossrec import CrossRec
from .metrics import (
    Figures,
    chance_retrieval,
    error_metrics,
    matching_metrics,
    mean_or_none,
    ranking_metrics,
    retrieval_metrics,
    row_pearson,
)

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
    translation, by_baseline = _translation(model, cells, translated, batch_size, progress)
    return {
        "model": "crossrec",
        "mode": "published",
        "split": split,
        "fold": graphs.fold,
        "matching": {**matching_metrics(score, score > 0, match), "n": len(match)},
        "retrieval": {
            **retrieval_metrics(_all_pairs(model, cells, sampled, batch_size, progress)),
            "scored_by": "matching logits of all n x n pairs",
        },
        "translation": translation,
        "baselines": {
            "matching": matching_baselines(cells, rna, atac, match, seed=seed),
            "retrieval": {
                "chance": chance_retrieval(len(sampled)),
                "gene_activity": activity_retrieval(cells, sampled),
            },
            "translation": by_baseline,
        },
    }


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


@torch.no_grad()
def _translation(
    model: CrossRec, graphs: MultiomeGraphs, cells: Int64, batch_size: int, progress: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compare counts and baselines with the expression of ``cells``, a batch of cells at a time."""
    share, n_types = expressed_share(graphs), len(graphs.cell_types)
    n_genes = len(graphs.genes)
    seen = np.zeros((2, 0))  # silent and expressed genes by count
    errors, expressed = 0.0, np.zeros((n_types + 1, n_genes))
    correlations: dict[str, list[NDArray[np.float64]]] = {"crossrec": [], "gene_mean": [], "type_mean": []}
    step = max(1, min(batch_size, 2**24 // n_genes))
    for begin in tqdm(range(0, len(cells), step), desc="translation", disable=not progress):
        some = cells[begin : begin + step]
        batch = graphs.batch_of_pairs(some, some, cis=False)
        counts = model.translate(batch)
        truth = model.expression(batch, torch.ones(len(some), dtype=torch.bool)).numpy()
        on, integer = truth > 0, counts.numpy().astype(np.int64)
        seen = _add_histogram(seen, integer, on)
        errors += float(((integer > model.config.on_above) != on).sum())
        code = graphs.cell_type_codes[some] % (n_types + 1)
        np.add.at(expressed, code, on)
        log = np.log1p(truth)
        correlations["crossrec"].append(row_pearson(integer, log))
        correlations["gene_mean"].append(row_pearson(np.tile(share.overall, (len(some), 1)), log))
        correlations["type_mean"].append(row_pearson(share.by_type[code], log))
    pearson = {name: mean_or_none(np.concatenate(parts)) for name, parts in correlations.items()}
    ours = {
        **ranking_metrics(np.arange(seen.shape[1], dtype=np.float64), seen[1], seen[0]),
        "pearson": pearson["crossrec"],
        **error_metrics(errors, len(cells) * n_genes),
        "n_cells": len(cells),
    }
    codes = graphs.cell_type_codes[cells] % (n_types + 1)
    return ours, _baselines(share, expressed, np.bincount(codes, minlength=n_types + 1), pearson)


def _add_histogram(seen: NDArray[np.float64], counts: Int64, on: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Add (cells, genes) counts to the histograms of silent and expressed genes."""
    width = max(seen.shape[1], int(counts.max()) + 1)
    more = (
        np.bincount((counts + on * width).ravel(), minlength=2 * width).reshape(2, width).astype(np.float64)
    )
    more[:, : seen.shape[1]] += seen
    return more


def _baselines(
    share: ExpressedShare, expressed: NDArray[np.float64], cells_of: Int64, pearson: dict[str, float | None]
) -> dict[str, Any]:
    """Translation by no gene at all, by each gene's share of training cells, and by its share within the type."""
    silent = cells_of[:, None] - expressed
    total = float(cells_of.sum() * expressed.shape[1])
    zero = {**ranking_metrics(np.zeros(1), expressed.sum()[None], silent.sum()[None]), "pearson": None}
    overall = np.broadcast_to(share.overall, expressed.shape)
    return {
        "all_zero": {**zero, **error_metrics(float(expressed.sum()), total)},
        "gene_mean": _from_share(overall, expressed, silent, pearson["gene_mean"]),
        "type_mean": {
            **_from_share(share.by_type, expressed, silent, pearson["type_mean"]),
            "oracle": "uses the labels of the held-out cells",
        },
    }


def _from_share(
    share: NDArray[np.float64],
    expressed: NDArray[np.float64],
    silent: NDArray[np.float64],
    pearson: float | None,
) -> Figures:
    wrong = np.where(share > 0.5, silent, expressed).sum()
    return {
        **ranking_metrics(share.ravel(), expressed.ravel(), silent.ravel()),
        "pearson": pearson,
        **error_metrics(float(wrong), float((expressed + silent).sum())),
    }
