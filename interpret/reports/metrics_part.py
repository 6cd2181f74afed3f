"""Metrics as tables: the model beside every baseline, the best of each column marked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from .markup import escape, folded, number, table

LOWER: Final = frozenset({"mae", "rmse", "log_mae", "log_rmse", "ece", "foscttm", "known_called_novel"})
HIGHER: Final = frozenset(
    {
        *("accuracy", "balanced_accuracy", "macro_f1", "f1", "kappa", "nmi", "ari", "purity", "rare_recall"),
        *("jaccard_micro", "jaccard_weighted", "novelty_auroc", "confidence_auroc", "masked_accuracy"),
        *(
            "masked_macro_f1",
            "precision",
            "precision_pos",
            "precision_neg",
            "recall",
            "recall_pos",
            "recall_neg",
        ),
        *(
            "recall@1",
            "recall@5",
            "recall@10",
            "mrr",
            "auroc",
            "auprc",
            "average_precision",
            "early_precision",
        ),
        *("precision_at_recall_0.1", "precision_at_recall_0.25", "precision_at_recall_0.5", "matched_auroc"),
        *("pearson", "gene_pearson"),
    }
)
ORACLE: Final = "oracle"  # why a baseline is no competitor
Figures = Mapping[str, Any]


def metrics_tables(metrics: Figures, *, level: int = 4) -> str:
    """Return a table a task of a metrics file, or of a setting of a study.

    Parameters
    ----------
    metrics
        ``baselines``: task -> name -> figures, beside the model's own figures of each task.
    level
        Of the headings.
    """
    parts = []
    for task, baselines in metrics.get("baselines", {}).items():
        rows = {str(metrics.get("model", "model")): metrics.get(task, {}), **baselines}
        parts.append(f"<h{level}>{escape(title(task))}</h{level}>{method_table(rows)}")
    return "".join(parts)


def title(task: str) -> str:
    """Return a name of a task or figure as words."""
    return task.replace("_", " ")


def method_table(rows: Mapping[str, Figures]) -> str:
    """Return figures of some methods, the first being the model; arrows tell which direction is better."""
    columns = [
        name for name in dict.fromkeys(key for row in rows.values() for key in row) if _drawn(rows, name)
    ]
    same = {name: next(iter(rows.values())).get(name) for name in columns if _alike(rows, name)}
    shown = [name for name in columns if name not in same]
    best = {name: best_methods(rows, name) for name in shown}
    body = []
    for i, (method, row) in enumerate(rows.items()):
        cells = [_method(method, row, own=i == 0)]
        cells += [_figure(row.get(name), best=method in best[name]) for name in shown]
        body.append(cells)
    told = "; ".join(
        f"{escape(title(name))} {number(_counted(value_of(value)))}" for name, value in same.items()
    )
    text = next((str(row["scored_by"]) for row in rows.values() if "scored_by" in row), "")
    caption = "; ".join(part for part in (told, escape(text) and f"scored by {escape(text)}") if part)
    return table(["method", *map(_heading, shown)], body, caption=caption, name="metrics")


def best_methods(rows: Mapping[str, Figures], name: str) -> set[str]:
    """Return the methods whose figure is best; none where no direction is known, nor those that know the answer."""
    if name not in HIGHER | LOWER:
        return set()
    values = {
        method: value
        for method, row in rows.items()
        if ORACLE not in row and (value := value_of(row.get(name))) is not None
    }
    if len(values) < 2:
        return set()
    top = (min if name in LOWER else max)(values.values())
    return {
        method for method, value in values.items() if math.isclose(value, top, rel_tol=1e-9, abs_tol=1e-12)
    }


def value_of(value: Any) -> float | int | None:
    """Return the number of a figure, or its mean over folds or repeats; None where it has none."""
    if isinstance(value, Mapping):
        value = value.get("mean", value.get("value"))
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def spread_of(value: Any) -> str:
    """Return what is known of a figure's spread, as text."""
    if not isinstance(value, Mapping):
        return ""
    deviation = value.get("std", value.get("sd"))
    return "" if deviation is None else f" ± {number(float(deviation))}"


def _drawn(rows: Mapping[str, Figures], name: str) -> bool:
    return name != "per_type" and any(value_of(row.get(name)) is not None for row in rows.values())


def _alike(rows: Mapping[str, Figures], name: str) -> bool:
    """Whether a figure describes the comparison rather than a method: n, types, n_cells."""
    values = {value_of(row.get(name)) for row in rows.values()}
    return len(values) == 1 and name not in HIGHER | LOWER


def _counted(value: float | int | None) -> float | int | None:
    """Return a mean of equal counts as the count it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _heading(name: str) -> str:
    arrow = "↓" if name in LOWER else "↑" if name in HIGHER else ""
    words = {"↓": "lower is better", "↑": "higher is better", "": ""}[arrow]
    return f'{escape(title(name))} <abbr title="{words}">{arrow}</abbr>' if arrow else escape(title(name))


def _method(method: str, row: Figures, *, own: bool) -> str:
    told = f' <abbr title="{escape(row[ORACLE])}">(knows the answer)</abbr>' if ORACLE in row else ""
    return (f"<b>{escape(title(method))}</b>" if own else escape(title(method))) + told


def _figure(value: Any, *, best: bool) -> str:
    known = value_of(value)
    text = escape(number(known) + (spread_of(value) if known is not None else ""))
    return f'<strong class="best">{text}</strong>' if best else text


def type_table(per_type: Mapping[str, Figures], rare: list[str]) -> str:
    """Return precision, recall and F1 of each type, the commonest first."""
    order = sorted(per_type.items(), key=lambda item: -(item[1].get("n") or 0))
    rows = [
        [
            escape(name) + (' <small class="tag">rare</small>' if name in rare else ""),
            number(row.get("n")),
            *(_bar(row.get(key)) for key in ("precision", "recall", "f1")),
        ]
        for name, row in order
    ]
    return table(["cell type", "cells", "precision ↑", "recall ↑", "F1 ↑"], rows, name="types")


def _bar(value: Any) -> str:
    known = value_of(value)
    if known is None:
        return "–"
    return f'<span class="bar" style="--share:{min(max(known, 0), 1):.4f}">{known:.3f}</span>'


def confusion_table(confusion: Mapping[str, Any]) -> str:
    """Return counts of true types (rows) against told ones, shaded by the share of the row."""
    types, counts = list(map(str, confusion["types"])), confusion["counts"]
    rows = []
    for name, row in zip(types, counts, strict=True):
        total = sum(row)
        cells = [
            _count(name, other, n, n / total if total else 0.0) for other, n in zip(types, row, strict=True)
        ]
        rows.append([escape(name), *cells, f'<span class="total">{total:,}</span>'])
    heads = [f'<span class="slant">{escape(name)}</span>' for name in types]
    caption = "Rows: true type. Columns: told type. Counts, shaded by the share of the row."
    return table(["true \\ told", *heads, "cells"], rows, caption=caption, name="confusion")


def _count(true: str, told: str, n: int, share: float) -> str:
    words = f"{n:,} cells of {true} told {told} ({share:.1%})"
    kind = "right" if true == told else "wrong"
    dark = " dark" if share > 0.55 else ""
    shown = f"{n:,}" if n else "·"
    return f'<span class="count {kind}{dark}" style="--share:{share:.3f}" data-tip="{escape(words)}">{shown}</span>'


def annotation_details(metrics: Figures) -> str:
    """Return the confusion matrix and figures of each type of every task that has them."""
    parts = []
    for task in metrics.get("baselines", {}):
        told = metrics.get("pooled", {}).get(task) or metrics.get(task, {})
        if "confusion" in told:
            parts.append(f"<h4>Confusion, {escape(title(task))}</h4>{confusion_table(told['confusion'])}")
        if "per_type" in told:
            rare = list(told.get("rare_types", ()))
            parts.append(folded(f"Figures of each type, {title(task)}", type_table(told["per_type"], rare)))
    return "".join(parts)
