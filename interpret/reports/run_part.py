"""The part of a report on a trained model: what it is, how it learnt, and how well it does beside baselines."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any, Final

from ...graphs.errors import InputError
from .curves import curves
from .markup import facts, folded, notes, picture
from .metrics_part import annotation_details, metrics_tables
from .sources import METRICS, MODEL, Source, count_rows, read_table

_PICTURES: Final = {  # those of metrics_figures that the page does not draw itself
    "reliability.png": "How often the model is right, against how sure it is",
    "umap.png": "Embedding of the held-out cells",
    "alluvial.png": "True types against told types",
}
_WEIGHTS: Final = "model.safetensors"
_HIDDEN: Final = ("dataset", "out", "model", "mode", "seed", "fold")  # arguments told elsewhere


def run_part(source: Source) -> str:
    """Return the part of a page on one run, or on the runs of all folds."""
    metrics, manifest = source.json(METRICS), source.json(MODEL)
    history = source.folder / "history.csv"
    parts = [_summary(source, metrics, manifest)]
    if history.is_file():
        parts.append(f"<h3>Training</h3>{curves(read_table(history, ['epoch']))}")
    if metrics:
        folds = f", mean ± sd of {metrics['folds']} folds" if "folds" in metrics else ""
        told = f"On the {metrics.get('split', 'held-out')} cells{folds}; the best of each column is bold."
        parts.append(f"<h3>Metrics beside baselines</h3>{notes([told, *_strings(metrics.get('notes'))])}")
        parts += [_guarded(source.folder / METRICS, metrics), _figures(source.folder / "metrics_figures")]
    else:
        parts.append(notes(["No metrics.json: the run has not been measured, or is not done."]))
    return "".join(parts)


def _guarded(path: Path, metrics: dict[str, Any]) -> str:
    """Draw the metrics, or say that the file is not what `scweave train` writes."""
    try:
        return metrics_tables(metrics) + annotation_details(metrics)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} does not hold metrics as this version writes them ({error!r}). Evaluate the run again."
        ) from error


def _summary(source: Source, metrics: dict[str, Any], manifest: dict[str, Any]) -> str:
    arguments = source.config.get("arguments", {})
    told = {
        "model": manifest.get("kind") or metrics.get("model") or arguments.get("model"),
        "mode": manifest.get("mode") or metrics.get("mode"),
        "genome": manifest.get("genome"),
        "fold": manifest.get("fold"),
        "folds": metrics.get("folds"),
        "cell types": len(manifest.get("cell_types", ())) or None,
        "parameters": metrics.get("cost", {}).get("parameters"),
        "operations a cell": metrics.get("cost", {}).get("flops_per_cell"),
        "stored numbers (weights and tables)": _stored(source.folder / _WEIGHTS),
        "data set": arguments.get("dataset"),
        "data set fingerprint": source.config.get("dataset", {}).get("fingerprint")
        or manifest.get("dataset"),
        "seed": source.config.get("seed"),
    }
    used = {name: value for name, value in arguments.items() if name not in _HIDDEN}
    return "".join(
        [
            facts({**told, **_features(source)}),
            notes(_strings(manifest.get("notes"))),
            folded("Arguments of the training", facts(used)),
            folded("Settings of the model", facts(manifest.get("config", {}))),
            folded("Versions", facts(source.config.get("versions", {}))),
        ]
    )


def _features(source: Source) -> dict[str, int]:
    """Count what the run's model reads, as its kept features say."""
    files = {name: source.folder / "features" / f"{name}.parquet" for name in ("genes", "peaks")}
    return {name: count_rows(path) for name, path in files.items() if path.is_file()}


def _stored(path: Path) -> int | None:
    """Count the floating-point numbers of a safetensors file by its header; None where there is no file."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        told = [entry for name, entry in header.items() if name != "__metadata__"]
        return sum(int(math.prod(one["shape"])) for one in told if one["dtype"].startswith(("F", "BF")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise InputError(f"{path} is no whole safetensors file ({error}). Train the model again.") from error


def _figures(folder: Path) -> str:
    drawn = [picture(folder / name, words) for name, words in _PICTURES.items() if (folder / name).is_file()]
    return f'<div class="pictures">{"".join(drawn)}</div>' if drawn else ""


def _strings(content: Any) -> list[str]:
    return [str(line) for line in content] if isinstance(content, list) else []
