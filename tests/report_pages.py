"""Folders for reports, and what a page holds."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scweave.interpret.report import write_report

EVIL = '</script><script>window.hit=1</script><img src=x onerror="window.hit=1">'


class Tags(HTMLParser):
    """All tags of a page with their attributes, its text outside scripts, and JSON blocks by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.text, self.data, self._id = [], [], {}, None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._id = dict(attrs).get("id", "") if tag == "script" else None

    def handle_endtag(self, tag):
        self._id = None

    def handle_data(self, data):
        if self._id is None:
            self.text.append(data)
        elif self._id:
            self.data[self._id] = json.loads(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def decoded(column: dict[str, str]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(column["bytes"]), "<" + column["type"])


def write_run(folder: Path, *, model: str = "hitanno", notes: tuple[str, ...] = ()) -> Path:
    """A run as training leaves it, without its weights."""
    folder.mkdir()
    own = {"accuracy": 0.9, "ece": 0.04, "n": 30}
    own |= {
        "per_type": {
            "B": {"precision": None, "recall": 0.5, "f1": 0.6, "n": 10},
            "T": {"precision": 1.0, "recall": 1.0, "f1": 1.0, "n": 20},
        }
    }
    own["confusion"] = {"types": ["B", "T"], "counts": [[5, 5], [0, 20]]}
    baselines = {
        "majority": {"accuracy": 0.6, "ece": 0.01, "n": 30},
        "peeking": {"accuracy": 1.0, "ece": 0.0, "n": 30, "oracle": "uses labels"},
    }
    metrics = {
        "model": model,
        "mode": "default",
        "split": "test",
        "fold": None,
        "annotation": own,
        "notes": list(notes),
        "baselines": {"annotation": baselines},
    }
    config = {
        "arguments": {"dataset": "data/d", "model": model, "lr": 0.01, "settings": []},
        "seed": 7,
        "dataset": {"path": "data/d", "fingerprint": "feedbeef00000001"},
        "versions": {"python": "3"},
    }
    for name, content in {
        "config": config,
        "metrics": metrics,
        "model": {"kind": model, "mode": "default", "config": {"width": 64}},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "train_loss": [3.0, 2.0, 1.0],
            "validation_loss": [3.0, np.nan, 2.5],
            "validation_score": [0.1, 0.3, 0.2],
        }
    ).to_csv(folder / "history.csv", index=False)
    (folder / "metrics_figures").mkdir()
    Figure(figsize=(1, 1)).savefig(folder / "metrics_figures" / "reliability.png")
    return folder


def page_of(out: Path, *sources: Path, **options) -> Tags:
    write_report(sources, out, **options)
    return Tags(out.read_text(encoding="utf-8"))
