"""The part of a report on a study: its picture, and a table of every setting."""

from __future__ import annotations

from typing import Any

from ...graphs.errors import InputError
from .markup import escape, facts, folded, notes, number, picture
from .metrics_part import metrics_tables, spread_of, title, value_of
from .sources import STUDY, Source


def study_part(source: Source) -> str:
    """Return the part of a page on one study."""
    content = source.json(STUDY)
    told = {name: content.get(name) for name in ("study", "model", "mode", "split", "repeats", "seed")}
    drawing = source.folder / "study.png"
    shown = picture(drawing, f"Figures of the study {told['study']}", wide=True) if drawing.is_file() else ""
    try:
        settings = [_setting(entry, str(told["model"])) for entry in content["settings"]]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{source.folder / STUDY} does not hold a study as this version writes them ({error!r}). Run it again."
        ) from error
    lines = [str(line) for line in content.get("notes", ())]
    return facts(told) + notes(lines) + shown + "<h3>Settings</h3>" + "".join(settings)


def _setting(entry: dict[str, Any], model: str) -> str:
    repeats = f"mean ± sd of {entry['repeats']} repeats" if entry.get("repeats", 1) > 1 else "one repeat"
    cells = entry.get("training_cells")
    size = "" if cells is None else f", {cells:,} training cells"
    told = f"<p>{escape(repeats)}{escape(size)}</p>" + notes(
        _against_best(entry.get("against_best_baseline", {}))
    )
    return folded(str(entry["setting"]), told + metrics_tables({"model": model, **entry}))


def _against_best(tests: dict[str, Any]) -> list[str]:
    """Say of each task how far the model is from the best baseline."""
    return [
        f"{title(task)}: {test['metric']} differs by {number(value_of(test['difference']))}"
        f"{spread_of(test['difference'])} from {title(test['baseline'])}, the best baseline"
        f" ({test['better']} is better; p {number(test.get('p'))} over repeats)"
        for task, test in tests.items()
    ]
