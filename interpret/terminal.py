"""Results as tables that fit a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .evidence.standing import NEARNESS, standing

ANNOTATION = "annotation"
# Of annotation's figures those that fit a terminal; the file holds all.
_ANNOTATION = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "rare_recall",
    "nmi",
    "ece",
    "novelty_auroc",
    "n",
)
_OF_FOLDS = ("accuracy", "balanced_accuracy", "macro_f1", "rare_recall")
_SHORT = {
    "precision_at_recall_": "prec@",
    "precision": "prec",
    "matched_auroc": "matched",
    "recall_": "rec_",
    "accuracy": "acc",
    "balanced": "bal",
    "novelty_auroc": "novelty",
}


def sizes_line(sizes: dict[str, int]) -> str:
    """Return sizes as one line: 2,000 cells, 500 genes."""
    return ", ".join(f"{value:,} {name}" for name, value in sizes.items())


def show_metrics(metrics: dict[str, Any], where: Path) -> None:
    """Print a table a task, the model above its baselines."""
    for task in metrics["baselines"]:
        rows = {metrics["model"]: metrics[task], **metrics["baselines"][task]}
        columns = [name for name, value in metrics[task].items() if _shown(value)]
        if task.startswith(ANNOTATION):
            columns = [name for name in columns if name in (_OF_FOLDS if "folds" in metrics else _ANNOTATION)]
        types = metrics.get("pooled", {}).get(task, metrics[task])
        if "per_type" in types and task == ANNOTATION:
            show_types(types["per_type"], types.get("rare_types", ()))
        folds = f", mean ± sd of {metrics['folds']} folds" if "folds" in metrics else ""
        show_table(f"{task}, {metrics['split']} cells{folds}", columns, rows)
    if "cost" in metrics:
        cost = metrics["cost"]
        print(f"{cost['parameters']:,} parameters, {cost['flops_per_cell']:,} operations a cell")
    for note in metrics.get("notes", ()):
        print(note)
    print(f"written: {where}")


def show_types(per_type: dict[str, dict[str, Any]], rare: Sequence[str] = ()) -> None:
    """Print how well each type is told, common types first, and rare ones apart."""
    rows = dict(sorted(per_type.items(), key=lambda item: -item[1]["n"]))
    columns = ["precision", "recall", "f1", "n"]
    common = {name: row for name, row in rows.items() if name not in rare}
    show_table("the model's figures of each type", columns, common)
    if rare:
        show_table(
            "of rare types, of less than 2 % of the labelled cells",
            columns,
            {name: rows[name] for name in rare},
        )


def show_table(title: str, columns: list[str], rows: dict[str, dict[str, Any]]) -> None:
    """Print a table that fits a terminal, its title in a line above: Rich would wrap it to a narrow table."""
    if title:
        print(title)
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(_short(column), justify="right", no_wrap=True)
    for name, values in rows.items():
        table.add_row(name, *(_number(values.get(column)) for column in columns))
    Console().print(table)


def _short(column: str) -> str:
    for long, short in _SHORT.items():
        column = column.replace(long, short)
    return column


def _shown(value: Any) -> bool:
    """Whether a figure is a number, or the mean of some."""
    return not isinstance(value, str | list | dict) or (isinstance(value, dict) and "mean" in value)


def _number(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return f"{value['mean']:.3f} ±{value['std']:.3f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def show_map(summary: dict[str, Any], out: Path) -> None:
    """Print what a map holds, and how it compares with known regulation; coverage comes first."""
    numbers = {name: value for name, value in summary.items() if isinstance(value, int)}
    print(sizes_line({name.replace("_", " "): value for name, value in numbers.items()}))
    for name, factors in summary.get("enriched", {}).items():
        print(f"motifs in peaks of {name}: {', '.join(factors)}")
    if "recovery" in summary:
        show_recovery(summary["recovery"])
    if "binding" in summary:
        show_binding(summary["binding"])
    for note in summary.get("notes", ()):
        print(note)
    print(f"written: {out}")


def show_recovery(recovery: dict[str, Any]) -> None:
    """Print how many known links could be found, and how well each method finds them."""
    coverage = recovery["coverage"]
    print(
        f"known links among the candidates: {coverage['in_candidates']:,} of {coverage['links']:,}; "
        f"true among the judged pairs: {recovery['true_pairs']:,} of {recovery['judged_pairs']:,}"
    )
    if not recovery["judged"]:
        print(recovery["reason"])
        return
    columns = ["auprc", "auroc", "matched_auroc", "early_precision", "precision_at_recall_0.1"]
    rows = {}
    for name, values in recovery["methods"].items():
        bounds = recovery["intervals"][name]["auprc"]
        told = "" if bounds is None else f"{bounds[0]:.3f}-{bounds[1]:.3f}"
        rows[name] = {"auprc": values["auprc"], "95 %": told, **{key: values[key] for key in columns[1:]}}
    show_table("recovery of known links", ["auprc", "95 %", *columns[1:]], rows)


def show_binding(binding: dict[str, Any]) -> None:
    """Print how like a factor's binding the map and accessibility are in each type, and what nearness alone reaches."""
    coverage = binding["coverage"]
    print(
        f"{coverage['bound_compared_peaks']:,} of {coverage['compared_peaks']:,} peaks near a gene are bound"
    )
    if not binding["judged"]:
        print(binding["reason"])
        return
    names = {"map": "map", "accessibility": "open"}
    rows = {
        cell_type: {
            **{
                f"{measure} {short}": found[kind][measure]["value"]
                for measure in ("pearson", "jaccard")
                for kind, short in names.items()
            },
            "p map": (found["map"]["jaccard"]["matched"] or {}).get("p"),
        }
        for cell_type, found in binding["cell_types"].items()
    }
    chance = binding["chance_jaccard"]
    show_table(
        f"likeness with binding (chance Jaccard {chance:.3f}; p: the map's Jaccard, among peaks as open)",
        list(next(iter(rows.values()))),
        rows,
    )
    near = binding.get("baselines", {}).get("nearness")
    if near is not None:
        told = ", ".join(
            f"{key.capitalize()} {_number(near[key]['value'])}" for key in ("pearson", "jaccard")
        )
        print(f"{NEARNESS}: {told}")
    print("\n".join(standing(binding)))


def show_demo(summary: dict[str, Any]) -> None:
    """Print what the demo found, and where to look."""
    out = Path(summary["out"])
    show_metrics(summary["metrics"], out / "run" / "metrics.json")
    show_metrics(summary["annotation"], out / "annotator" / "metrics.json")
    show_map(summary["map"], out / "maps")
    print(f"the demo took {summary['seconds']:.0f} s; look at {out}/report.html")
