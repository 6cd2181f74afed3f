"""Figures of cell-type annotation: every one of them from the confusion matrix, confidence and novelty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...graphs.errors import InputError
from ..metrics import Figures, mean_or_none, ranking_metrics

Floats = NDArray[np.floating[Any]]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

BINS: Final = 15
RARE: Final = 0.02  # types of a smaller share of cells are rare


def annotation_metrics(
    probabilities: Floats,
    codes: Int64,
    cell_types: Sequence[str],
    *,
    confidence: Floats | None = None,
    novelty: Floats | None = None,
    rare: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return how well the likeliest types agree with the truth.

    Cells of types outside the vocabulary count for ``novelty_auroc`` and ``n_unknown`` alone.

    Parameters
    ----------
    probabilities
        (cells, types).
    codes
        (cells,) place of each cell's true type in ``cell_types``; −1 for a type that is not there.
    cell_types
        The vocabulary.
    confidence
        (cells,) from 0 to 1; the largest probability where it is not given.
    novelty
        (cells,) larger for stranger cells.
    rare
        Which types are rare; those of less than 2 % of the judged cells when None.

    Returns
    -------
    Ready for JSON, None where a figure is undefined. Scalars first: ``accuracy``, ``balanced_accuracy``,
    ``macro_f1`` (over types that cells have or were told to have), ``kappa`` (Cohen's), ``jaccard_micro``,
    ``jaccard_weighted``, ``rare_recall`` (mean over rare types that cells have), ``ece`` (expected calibration error, 15 bins), ``novelty_auroc`` (unknown against
    known types), ``confidence_auroc`` (right against wrong), ``n`` cells judged and ``n_unknown``. Then
    ``per_type`` (``precision, recall, f1, n``), ``rare_types`` and ``confusion`` (``types``; ``counts``, truth x predicted).

    Raises
    ------
    InputError
        Shapes disagree, a code is outside the vocabulary, or a probability is not finite.
    """
    _check(probabilities, codes, cell_types)
    known = codes >= 0
    truth, told = codes[known], probabilities[known].argmax(1)
    counts = confusion_counts(truth, told, len(cell_types))
    sure = (probabilities.max(1) if confidence is None else confidence)[known].astype(np.float64)
    right = truth == told
    chosen = rare_types(counts.sum(1), cell_types) if rare is None else [t for t in cell_types if t in rare]
    return {
        **agreement(counts),
        "rare_recall": rare_recall(counts, cell_types, chosen),
        "ece": calibration_error(reliability(sure, right)),
        "novelty_auroc": None if novelty is None else _auroc(novelty, ~known),
        "confidence_auroc": _auroc(sure, right),
        "n": len(truth),
        "n_unknown": len(codes) - len(truth),
        "per_type": per_type(counts, cell_types),
        "rare_types": chosen,
        "confusion": {"types": list(cell_types), "counts": counts.tolist()},
    }


def confusion_counts(truth: Int64, predicted: Int64, n_types: int) -> Int64:
    """Count the cells of each true type (rows) and predicted type (columns), (types, types)."""
    places = truth * n_types + predicted
    return np.bincount(places, minlength=n_types * n_types).reshape(n_types, n_types).astype(np.int64)


def agreement(counts: Int64) -> Figures:
    """Return the figures that a confusion matrix (truth x predicted) holds; None for one without cells."""
    hits, support, told = counts.diagonal(), counts.sum(1), counts.sum(0)
    n, right = int(counts.sum()), int(hits.sum())
    either = support + told - hits
    jaccard = _ratio(hits, either)
    by_chance = float(support @ told) / n**2 if n else 1.0
    return {
        "accuracy": right / n if n else None,
        "balanced_accuracy": mean_or_none(_ratio(hits, support)),
        "macro_f1": mean_or_none(_ratio(2 * hits, support + told)),
        "kappa": (right / n - by_chance) / (1 - by_chance) if by_chance < 1 else None,
        "jaccard_micro": right / (2 * n - right) if n else None,
        "jaccard_weighted": float(np.nansum(jaccard * support) / n) if n else None,
    }


def rare_types(sizes: Int64, cell_types: Sequence[str]) -> list[str]:
    """Name the types that have less than 2 % of the cells, and one or more, given their numbers of cells."""
    rare = (sizes > 0) & (sizes < RARE * sizes.sum())
    return [name for name, is_rare in zip(cell_types, rare, strict=True) if is_rare]


def rare_recall(counts: Int64, cell_types: Sequence[str], rare: Sequence[str]) -> float | None:
    """Return the mean recall of rare types that cells have, from truth x predicted; None where none has."""
    which = [i for i, name in enumerate(cell_types) if name in rare]
    return mean_or_none(_ratio(counts.diagonal(), counts.sum(1))[which])


def per_type(counts: Int64, cell_types: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Return ``precision, recall, f1`` and ``n`` true cells of each type, from truth x predicted.

    Precision is None for a type that was never predicted, recall for one without cells, F1 for both.
    """
    hits, support, told = counts.diagonal(), counts.sum(1), counts.sum(0)
    columns = (_ratio(hits, told), _ratio(hits, support), _ratio(2 * hits, support + told))
    return {
        name: {
            **{
                key: _defined(values[i])
                for key, values in zip(("precision", "recall", "f1"), columns, strict=True)
            },
            "n": int(support[i]),
        }
        for i, name in enumerate(cell_types)
    }


def reliability(confidence: Floats, right: NDArray[np.bool_], bins: int = BINS) -> pd.DataFrame:
    """Compare confidence with accuracy, in bins of equal width (Guo et al., ICML 2017).

    Parameters
    ----------
    confidence
        (cells,) from 0 to 1.
    right
        (cells,) whether the predicted type is the true one.
    bins
        Number of bins; each holds its upper edge, the first both.

    Returns
    -------
    Table ``low, high, cells, confidence, accuracy`` with a row a bin; means are NaN in a bin without cells.
    """
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    cells = np.bincount(place, minlength=bins)
    sure = np.bincount(place, weights=confidence, minlength=bins)
    hits = np.bincount(place, weights=right, minlength=bins)
    means = {"confidence": _ratio(sure, cells), "accuracy": _ratio(hits, cells)}
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "cells": cells, **means})


def calibration_error(table: pd.DataFrame) -> float | None:
    """Return the mean gap between confidence and accuracy over cells of a reliability table; None without cells."""
    filled = table[table["cells"] > 0]
    if filled.empty:
        return None
    return float(np.average((filled["confidence"] - filled["accuracy"]).abs(), weights=filled["cells"]))


def _check(probabilities: Floats, codes: Int64, cell_types: Sequence[str]) -> None:
    if probabilities.shape != (len(codes), len(cell_types)):
        raise InputError(
            f"probabilities are {' x '.join(map(str, probabilities.shape))} for {len(codes)} cells and"
            f" {len(cell_types)} cell types. Pass a row a cell and a column a type."
        )
    if len(codes) and not -1 <= codes.min() <= codes.max() < len(cell_types):
        raise InputError(
            f"codes of cell types run from {codes.min()} to {codes.max()} for {len(cell_types)} types. Code types by"
            " their place in the vocabulary, and others as -1."
        )
    wrong = int((~np.isfinite(probabilities)).any(1).sum())
    if wrong:
        raise InputError(
            f"{wrong:,} of {len(codes):,} cells have probabilities that are not finite. Train again."
        )


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Float64:
    """Divide, NaN where the whole is 0."""
    share: Float64 = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return share


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _auroc(score: Floats, positive: NDArray[np.bool_]) -> float | None:
    """AUROC; None where there are no positives or no negatives."""
    return ranking_metrics(score.astype(np.float64), positive.astype(float), (~positive).astype(float))[
        "auroc"
    ]
