"""What a study found, as tables that fit a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from .terminal import show_table

Content = Mapping[str, Any]
Figures = Mapping[str, Any]  # metric -> mean and sd

_SETTLING: Final = "macro_f1"  # the figure whose baselines and tests are printed; files hold all
_FIGURES: Final = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "kappa",
    "jaccard_micro",
    "jaccard_weighted",
)
_NOVELTY: Final = {
    "auroc": "auroc",
    "average_precision": "avg prec",
    "called_novel": "called",
    "known_called_novel": "wrongly",
    "accuracy": "acc known",
}


def show_study(content: Content, out: Path) -> None:
    """Print tables of a study, its notes, and where its files are."""
    if "between_settings" not in content:
        _show_recommender(content)
    elif content["study"] == "leave-type-out":
        _show_types(content)
    else:
        _show_levels(content)
    for note in content["notes"]:
        print(note)
    print(f"written: {out}")


def _show_recommender(content: Content) -> None:
    """Print a table a task: what settles it, a row a setting, the model before its baselines."""
    settings = content["settings"]
    for task, told in settings[0]["against_best_baseline"].items():
        methods = [content["model"], *settings[0]["baselines"][task]]
        rows = {
            entry["setting"]: {
                "cells": entry["training_cells"],
                methods[0]: _mean(entry.get(task, {}), told["metric"]),
                **{
                    name: _mean(own, told["metric"]) for name, own in entry["baselines"].get(task, {}).items()
                },
            }
            for entry in settings
        }
        title = f"{task}: {told['metric']}, {told['better']} is better; {content['split']} cells"
        _show(title, ["cells", *methods], rows)


def _show_levels(content: Content) -> None:
    """Print figures against shares or noise: a column a setting."""
    settings = {_percent(entry["setting"]): entry for entry in content["settings"]}
    model, names = content["model"], list(settings)
    what = "labels shuffled" if content["study"] == "label-noise" else "labels"
    shown = {name: {key: _spread(e["annotation"], name) for key, e in settings.items()} for name in _FIGURES}
    told = {"training cells": {key: entry["training_cells"] for key, entry in settings.items()}}
    if content["study"] == "label-noise":
        told["labels changed"] = {key: f"{e['changed_train']:.1%}" for key, e in settings.items()}
    print(f"{model} on {content['split']} cells, {_repeats(content)}; columns: {what}")
    _show("", names, {**told, **shown})
    _show(f"{_SETTLING} beside baselines", names, _beside(content, settings))
    _show(f"{_SETTLING}: p against", names, _tests(content, settings))
    if content["between_settings"]:
        _show(f"{_SETTLING}: p between", names[:-1], _between(content, settings))


def _beside(content: Content, settings: Mapping[str, Figures]) -> dict[str, dict[str, Any]]:
    model, first = content["model"], next(iter(settings.values()))
    rows = {model: {key: _spread(entry["annotation"]) for key, entry in settings.items()}}
    if "from_scratch" in first:
        rows = {f"{model}, pre-trained": rows[model]}
        rows[f"{model}, from scratch"] = {
            key: _spread(entry["from_scratch"]["annotation"]) for key, entry in settings.items()
        }
    for name in first["baselines"]["annotation"]:
        rows[name] = {
            key: _spread(entry["baselines"]["annotation"].get(name, {})) for key, entry in settings.items()
        }
    return rows


def _tests(content: Content, settings: Mapping[str, Figures]) -> dict[str, dict[str, Any]]:
    first, rows = next(iter(settings.values())), {}
    if "pretraining_gain" in first:
        rows["from scratch"] = {
            key: _p(entry["pretraining_gain"]["annotation"]) for key, entry in settings.items()
        }
    for name in first["against_baselines"]["annotation"]:
        rows[name] = {
            key: _p(entry["against_baselines"]["annotation"].get(name, {})) for key, entry in settings.items()
        }
    return rows


def _between(content: Content, settings: Mapping[str, Figures]) -> dict[str, dict[str, Any]]:
    """A row a setting, a column an earlier one."""
    rows: dict[str, dict[str, Any]] = {name: {} for name in list(settings)[1:]}
    for test in content["between_settings"]:
        if test["metric"] == _SETTLING:
            rows[_percent(test["setting"])][_percent(test["other"])] = _number(test["p"])
    return rows


def _show_types(content: Content) -> None:
    """Print novelty: a row a type for the model, then a row a method for the mean of the types."""
    settings = {str(entry["setting"]).removeprefix("without "): entry for entry in content["settings"]}
    rows = {
        name: {"cells": _count(entry["novelty"]), **_novelty(entry["novelty"])}
        for name, entry in settings.items()
    }
    print(f"{content['model']}, trained without the type: {_repeats(content)}")
    _show("", ["cells", *_NOVELTY.values()], rows)
    last = content["settings"][-1]
    methods = {content["model"]: last["novelty"], **last["baselines"]["novelty"]}
    found = {name: _novelty(figures) for name, figures in methods.items()}
    for name, against in last["against_baselines"]["novelty"].items():
        found[name]["p"] = _p(against, "auroc")
    print(f"{last['setting']}; p: its auroc against that of {content['model']}")
    _show("", [*_NOVELTY.values(), "p"], found)


def _show(title: str, columns: list[str], rows: dict[str, dict[str, Any]]) -> None:
    """Print a table, in as many pieces below each other as the terminal needs: cut figures say nothing."""
    if title:
        print(title)
    room = Console().width - 1 - max(map(len, rows))
    piece: list[str] = []
    for column in columns:
        if piece and sum(_width(each, rows) for each in [*piece, column]) > room:
            show_table("", piece, rows)
            piece = []
        piece.append(column)
    show_table("", piece, rows)


def _width(column: str, rows: dict[str, dict[str, Any]]) -> int:
    found = [row.get(column, "-") for row in rows.values()]
    told = [f"{each:.3f}" if isinstance(each, float) else str(each) for each in found]
    return 1 + max(map(len, [column, *told]))


def _repeats(content: Content) -> str:
    n = content["repeats"]
    return "one repeat" if n == 1 else f"mean ± sd of {n} repeats"


def _novelty(figures: Figures) -> dict[str, Any]:
    return {short: _spread(figures, name, 2) for name, short in _NOVELTY.items()}


def _count(figures: Figures) -> str:
    mean = _mean(figures, "n")
    return "-" if mean is None else f"{mean:,.0f}"


def _spread(figures: Figures, metric: str = _SETTLING, digits: int = 3) -> str | None:
    found = figures.get(metric)
    if found is None:
        return None
    return f"{found['mean']:.{digits}f}" + ("" if found["sd"] is None else f"±{found['sd']:.{digits}f}")


def _p(tests: Figures, metric: str = _SETTLING) -> str:
    return _number(tests[metric]["p"]) if metric in tests else "-"


def _number(p: float | None) -> str:
    if p is None:
        return "-"
    return "<.001" if p < 0.001 else f"{p:.3f}"


def _percent(setting: str) -> str:
    return f"{100 * float(setting):.3g} %"


def _mean(figures: Figures, metric: str) -> float | None:
    return figures[metric]["mean"] if metric in figures else None
