"""Figures of matching, retrieval and translation, exact on weighted tables of scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

Floats = NDArray[np.float64]
Figures = dict[str, float | None]


def matching_metrics(score: Floats, predicted: NDArray[np.bool_], match: NDArray[np.bool_]) -> Figures:
    """Accuracy, precision and recall of both classes, and AUROC of pairs.

    Parameters
    ----------
    score
        (pairs,) larger for likelier matches.
    predicted, match
        (pairs,) prediction and truth.
    """
    precision, recall, _, _ = precision_recall_fscore_support(
        match, predicted, labels=[True, False], zero_division=0.0
    )
    return {
        "accuracy": float((predicted == match).mean()),
        "precision_pos": float(precision[0]),
        "precision_neg": float(precision[1]),
        "recall_pos": float(recall[0]),
        "recall_neg": float(recall[1]),
        "auroc": _auroc(match, score, None),
    }


def retrieval_metrics(scores: Floats) -> Figures:
    """Retrieval of each cell's partner among n candidates, averaged over both directions.

    Parameters
    ----------
    scores
        (n, n): row = RNA cell, column = ATAC cell, larger for likelier matches; the diagonal is the truth.

    Returns
    -------
    recall@1, recall@5, recall@10, mrr (ties count half), foscttm (fraction of cells scored closer than the
    true match; 0.5 by chance) and n.
    """
    n = len(scores)
    rank = np.concatenate([_rank_of_truth(scores), _rank_of_truth(scores.T)])
    return {
        "recall@1": float((rank <= 1).mean()),
        "recall@5": float((rank <= 5).mean()),
        "recall@10": float((rank <= 10).mean()),
        "mrr": float((1 / rank).mean()),
        "foscttm": float(((rank - 1) / max(n - 1, 1)).mean()),
        "n": n,
    }


def mean_figures(each: list[Figures], weights: list[int]) -> Figures:
    """Average figures of several blocks of cells (types), weighted by their cells; ``n`` adds up."""
    names = [name for name in each[0] if name != "n"]
    means = {name: float(np.average([float(f[name] or 0) for f in each], weights=weights)) for name in names}
    return {**means, "n": sum(weights), "types": len(each)}


def chance_retrieval(n: int) -> Figures:
    """What random scores give on average among n candidates."""
    harmonic = sum(1 / i for i in range(1, n + 1))
    recall = {f"recall@{k}": min(k / n, 1.0) for k in (1, 5, 10)}
    return {**recall, "mrr": harmonic / n, "foscttm": 0.5, "n": n}


def ranking_metrics(scores: Floats, positives: Floats, negatives: Floats) -> Figures:
    """AUROC and AUPRC of weighted scores: ``positives[i]`` true and ``negatives[i]`` false items share score i."""
    label = np.repeat([True, False], len(scores))
    weight = np.concatenate([positives, negatives]).astype(np.float64)
    keep = weight > 0
    both, label, weight = np.tile(scores, 2)[keep], label[keep], weight[keep]
    if label.all() or not label.any():
        return {"auroc": None, "auprc": None}
    return {
        "auroc": _auroc(label, both, weight),
        "auprc": float(average_precision_score(label, both, sample_weight=weight)),
    }


def row_pearson(predicted: NDArray[Any], truth: NDArray[Any]) -> Floats:
    """Pearson correlation of each row; NaN where either row is constant.

    Parameters
    ----------
    predicted, truth
        (cells, genes).
    """
    a, b = (x - x.mean(1, keepdims=True) for x in (predicted.astype(np.float64), truth.astype(np.float64)))
    scale = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    product = (a * b).sum(1)
    rows: Floats = np.divide(product, scale, out=np.full(len(a), np.nan), where=scale > 0)
    return rows


def mean_or_none(values: Floats) -> float | None:
    """Mean of the values that are defined, None where none is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None


def _rank_of_truth(scores: Floats) -> Floats:
    ranks: Floats = rankdata(-scores, axis=1)
    own: Floats = ranks.diagonal()
    return own


def _auroc(label: NDArray[np.bool_], score: Floats, weight: Floats | None) -> float | None:
    if label.all() or not label.any():
        return None
    return float(roc_auc_score(label, score, sample_weight=weight))
