"""Measure a trained model on one split of a dataset, beside its baselines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.schema import Split
from ..graphs.whole import write_json
from ..interpret.figures.annotation_plots import write_figures
from ..models.annotation.baseline_store import run_baselines
from ..models.annotation.evaluation import evaluate_annotator
from ..models.annotation.masked_evaluation import evaluate_masked
from ..models.annotation.model import AnnotatorModel
from ..models.annotation.pretraining import PretrainingModel
from ..models.checkpoint import LoadedModel, check_unseen, load_model, open_for
from ..models.evaluation import evaluate
from .jobs import check_pairs, check_place, create_folder


def evaluate_run(
    run: Path,
    dataset: Path,
    out: Path,
    *,
    split: str = "test",
    retrieval_cells: int = 200,
    translation_cells: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Evaluate a trained model on one split of a dataset and write the figures as JSON."""
    loaded = load_model(run)
    graphs, notes = open_for(loaded, dataset)
    if split not in get_args(Split):
        raise InputError(f"--split {split}: choose one of {', '.join(get_args(Split))}.")
    chosen = cast(Split, split)
    check_unseen(run, loaded, graphs, chosen)
    check_place(out)
    if isinstance(loaded.model, PretrainingModel):
        metrics = evaluate_masked(loaded.model, [graphs], split=chosen, progress=progress)
        metrics["notes"] = _notes(metrics["notes"], loaded, graphs, notes)
        write_json(out, metrics)
        return metrics
    if isinstance(loaded.model, AnnotatorModel):
        return _evaluate_annotator(loaded, run, graphs, out, chosen, notes, seed=seed, progress=progress)
    for needed in ("train", split):  # baselines are fitted on training pairs
        check_pairs(graphs, needed)
    metrics = evaluate(
        loaded.model,
        graphs,
        split=chosen,
        retrieval_cells=retrieval_cells,
        translation_cells=translation_cells,
        seed=seed,
        progress=progress,
    )
    write_json(out, metrics)
    return metrics


def evaluate_all(run: Path, datasets: Sequence[Path], out: Path, *, progress: bool = True) -> dict[str, Any]:
    """Evaluate a model that was pre-trained on several data sets on the test cells of all."""
    loaded = load_model(run)
    metrics = evaluate_masked(loaded.model, [MultiomeGraphs(path) for path in datasets], progress=progress)
    write_json(out, metrics)
    return metrics


def _evaluate_annotator(
    loaded: LoadedModel,
    run: Path,
    graphs: MultiomeGraphs,
    out: Path,
    split: Split,
    notes: list[str],
    *,
    seed: int,
    progress: bool,
) -> dict[str, Any]:
    """Write the figures, and pictures of them into a folder beside."""
    baselines = run_baselines(run, loaded, graphs, seed=seed, progress=progress)
    judged = evaluate_annotator(loaded.model, graphs, baselines, split=split, progress=progress)
    judged.metrics["notes"] = _notes(judged.metrics["notes"], loaded, graphs, notes)
    pictures = out.with_name(f"{out.stem}_figures")
    create_folder(pictures)
    write_json(out, judged.metrics)
    write_figures(
        pictures,
        confusion=judged.metrics["annotation"]["confusion"],
        reliability=judged.reliability(),
        embedding=judged.embedding,
        names=judged.names.tolist(),
        seed=seed,
    )
    return judged.metrics


def _notes(
    trained: Sequence[str], loaded: LoadedModel, graphs: MultiomeGraphs, evaluated: Sequence[str]
) -> list[str]:
    """Join what was met in training, which says so where another data set is evaluated, and what was met in this."""
    own = graphs.fingerprint == loaded.manifest["dataset"]
    told = trained if own else [f"training: {note}" for note in trained]
    return list(dict.fromkeys([*told, *evaluated]))
