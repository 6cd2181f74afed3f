"""Train any model on any graph dataset: `python train.py DATASET --model crossrec --out RUN`, or `scweave train`."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.graphs.schema import MODALITIES, Split
from scweave.graphs.store import MANIFEST
from scweave.graphs.whole import refuse_existing, versions, write_json
from scweave.models.checkpoint import FEATURES, check_features, check_unseen, load_model, open_for
from scweave.models.evaluation import evaluate
from scweave.models.prediction import write_predictions
from scweave.models.recommender import kind_of
from scweave.models.settings import parse_settings
from scweave.models.studies import run_study
from scweave.models.study_plan import SHARES, Study, check_study, plan
from scweave.models.training import TrainOptions, fit

_DEMO = "DEMO"  # marks a folder that a later demo may replace


@dataclass(frozen=True)
class Job:
    """One training run as asked for on the command line."""

    dataset: Path
    out: Path
    model: str
    mode: str = "default"
    epochs: int = 100
    batch_size: int | None = None  # None: what the mode is usually trained with
    lr: float | None = None
    patience: int = 10
    devices: int = 1
    precision: str = "32-true"
    settings: tuple[str, ...] = ()
    seed: int = 0
    fold: int | None = None

    def options(self) -> TrainOptions:
        """Return what the training loop needs."""
        kind = kind_of(self.mode)
        return TrainOptions(
            epochs=self.epochs,
            batch_size=kind.batch_size if self.batch_size is None else self.batch_size,
            lr=kind.lr if self.lr is None else self.lr,
            weight_decay=kind.weight_decay,
            patience=self.patience,
            precision=self.precision,
            seed=self.seed,
        )


def run(job: Job, *, resume: bool = False, progress: bool = True) -> dict[str, Any]:
    """Train, then evaluate the best weights on the test cells; everything lands in ``job.out``.

    Parameters
    ----------
    job
        What to train.
    resume
        Go on with an interrupted run of the same job; ``epochs`` may be larger than before.
    progress
        Show bars.

    Returns
    -------
    The content of ``metrics.json``.

    Raises
    ------
    InputError
        Before anything is written: unknown model or setting, a dataset that cannot be trained on, a
        folder in use.
    """
    _check_model(job)
    config, options = parse_settings(job.settings, job.mode), job.options()
    graphs = MultiomeGraphs(job.dataset, fold=job.fold)
    graphs.require(MODALITIES, job.model)
    for split in get_args(Split):
        _check_pairs(graphs, split)
    description = _describe(job, graphs)
    if resume:
        _check_same(job.out, description)
    elif job.out.exists():
        raise InputError(f"{job.out} exists already. Go on with --resume, or choose another --out.")
    create_folder(job.out)
    write_json(job.out / "config.json", description)
    try:
        fit(job.dataset, job.out, config, options, fold=job.fold, resume=resume, progress=progress)
    except InputError:
        if not resume:
            shutil.rmtree(job.out, ignore_errors=True)
        raise
    return evaluate_run(job.out, job.dataset, job.out / "metrics.json", seed=job.seed, progress=progress)


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
    graphs = open_for(loaded, dataset)
    if split not in get_args(Split):
        raise InputError(f"--split {split}: choose one of {', '.join(get_args(Split))}.")
    check_unseen(run, loaded, graphs, split)  # type: ignore[arg-type]
    for needed in ("train", split):  # baselines are fitted on training pairs
        _check_pairs(graphs, needed)
    _check_place(out)
    metrics = evaluate(
        loaded.model,
        graphs,
        split=split,  # type: ignore[arg-type]
        retrieval_cells=retrieval_cells,
        translation_cells=translation_cells,
        seed=seed,
        progress=progress,
    )
    write_json(out, metrics)
    return metrics


def predict_run(
    run: Path,
    query: Sequence[Path],
    out: Path,
    *,
    layer: str | None = None,
    min_placed: float = 0.3,
    batch_size: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Predict cells that need no labels with a trained model, and write them as AnnData.

    Parameters
    ----------
    run
        Folder of the trained model.
    query
        One dataset folder with the model's genes and peaks; or the files of an experiment as `build` takes
        them, one modality alone included, whose genes and peaks are mapped onto the model's.
    out
        File to write; see `write_predictions`.
    layer
        Layer of the files that holds the counts; X when None.
    min_placed
        Smallest share of the model's genes and peaks that the files must have.
    batch_size
        Cells at a time; by default what suits the model.
    progress
        Show bars.

    Returns
    -------
    ``out``, ``cells``, ``genes``, ``predicted``: name of each part -> what it is, and ``notes`` on how
    the files were read.

    Raises
    ------
    InputError
        ``out`` exists or cannot be written, no model, or a query that does not fit it.
    """
    run, query, out = Path(run), [Path(path) for path in query], Path(out)
    refuse_existing(out)
    _check_place(out)
    if out.suffix != ".h5ad":
        raise InputError(f"{out}: predictions are written as .h5ad. Pass {out.stem}.h5ad.")
    loaded = load_model(run)
    with _like_model(run, query, out, layer, min_placed, progress) as (dataset, notes):
        graphs = MultiomeGraphs(dataset)
        check_features(loaded, graphs)
        summary = write_predictions(loaded, graphs, out, batch_size=batch_size, progress=progress)
    return {**summary, "notes": notes}


@contextmanager
def _like_model(
    run: Path, query: list[Path], out: Path, layer: str | None, min_placed: float, progress: bool
) -> Iterator[tuple[Path, list[str]]]:
    """Give a dataset as it is; build files into one beside ``out`` that is always removed."""
    if len(query) == 1 and (query[0] / MANIFEST).is_file():
        if layer is not None:
            raise InputError(f"--layer {layer}: {query[0]} is a dataset, which has no layers. Leave it out.")
        yield query[0], []
        return
    from scweave.generators.build import BuildOptions, build  # heavy, and not needed for a dataset

    options = BuildOptions(discovery=True, layer=layer, min_placed=min_placed)
    try:
        place = TemporaryDirectory(prefix=f".{out.name}.query-", dir=out.parent)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}. Choose another --out.") from error
    with place as folder:
        report = build(query, Path(folder) / "query", like=run / FEATURES, options=options, progress=progress)
        yield report.path, report.notes


def study_run(
    job: Job,
    name: str,
    *,
    shares: Sequence[float] | None = None,
    types: Sequence[str] = (),
    repeats: int = 3,
    resume: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a model many times over, on less data or without a cell type; everything lands in ``job.out``.

    Parameters
    ----------
    job
        What each training does; its seed is that of the first repeat.
    name, shares, types, repeats
        See `Study`.
    resume
        Keep the trainings that an interrupted study has finished; there may be more shares or repeats now.
    progress
        Show a bar.

    Returns
    -------
    The content of ``study.json``.

    Raises
    ------
    InputError
        Before anything is written: as `run`, and for shares or types that cannot be studied.
    """
    from scweave.generators.restrict import restrict  # heavy, and not needed to train

    check_study(name, shares, types)
    _check_model(job)
    config = parse_settings(job.settings, job.mode)
    study = Study(name, job.dataset, config, job.options(), repeats, tuple(shares or SHARES), tuple(types))
    graphs = MultiomeGraphs(job.dataset)
    graphs.require(MODALITIES, job.model)
    for split in get_args(Split):
        _check_pairs(graphs, split)
    plan(study)
    description = _describe(job, graphs)
    description["arguments"] |= {
        "study": name,
        "shares": list(study.shares),
        "types": list(types),
        "repeats": repeats,
    }
    if resume:
        _check_same(job.out, description, free=("out", "dataset", "shares", "repeats"))
    else:
        refuse_existing(job.out)
    create_folder(job.out)
    write_json(job.out / "config.json", description)
    return run_study(study, job.out, restrict, progress=progress)


def demo_run(
    out: Path,
    *,
    cells: int = 2000,
    genes: int = 500,
    peaks: int = 5000,
    epochs: int = 40,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Run the main job on a simulated experiment: simulate, build, train, evaluate, predict, map.

    Parameters
    ----------
    out
        Folder to create; one that an earlier demo made is replaced.
    cells, genes, peaks
        Of the simulation.
    epochs
        Training epochs at most.
    seed
        Decides every random choice.
    progress
        Show bars.

    Returns
    -------
    ``out``, ``seconds``, and what training, prediction and map return.
    """
    from scweave.generators.build import BuildOptions, build  # heavy, and not needed to train
    from scweave.generators.simulate import simulate
    from scweave.interpret.maps import write_maps

    start = time.monotonic()
    _clear_demo(out)
    create_folder(out)
    (out / _DEMO).write_text("made by `scweave demo`, which replaces this folder when it runs again\n")
    files = simulate(
        out / "simulated.h5mu", cells=cells, genes=genes, peaks=peaks, seed=seed, progress=progress
    )
    options = BuildOptions(labels="cell_type", seed=seed)
    dataset, model = out / "dataset", out / "run"
    build([files.h5mu], dataset, gtf=files.gtf, fasta=files.fasta, options=options, progress=progress)
    metrics = run(Job(dataset, model, "crossrec", epochs=epochs, seed=seed), progress=progress)
    predicted = predict_run(model, [dataset], out / "predictions.h5ad", progress=progress)
    maps = write_maps(model, dataset, out / "maps", truth=files.links, truth_kind="links", progress=progress)
    seconds = round(time.monotonic() - start, 1)
    return {"out": str(out), "seconds": seconds, "metrics": metrics, "predicted": predicted, "map": maps}


def _clear_demo(out: Path) -> None:
    """Remove the folder of an earlier demo; anything else there is the user's."""
    if (out / _DEMO).is_file():
        shutil.rmtree(out)
    elif out.exists():
        raise InputError(f"{out} exists and no demo made it. Choose another --out.")


def _check_place(out: Path) -> None:
    if out.is_dir() or (out.parent.is_dir() and not os.access(out.parent, os.W_OK)):
        raise InputError(
            f"cannot write {out}: it is a folder, or in one you may not write to. Choose another --out."
        )
    if not out.parent.is_dir():
        raise InputError(f"cannot write {out}: {out.parent} is no folder. Create it or choose another --out.")


def _check_model(job: Job) -> None:
    if job.model != "crossrec":
        raise InputError(f"--model {job.model}: this version has crossrec. Pass --model crossrec.")
    if job.devices != 1:
        raise InputError(f"--devices {job.devices}: this version trains on one device. Leave the option out.")


def _check_pairs(graphs: MultiomeGraphs, split: str) -> None:
    """Refuse a split in which nothing tells matches from others."""
    pairs = graphs.store.table("pairs")
    found = pairs.loc[pairs["split"] == split, "match"]
    if found.nunique() < 2:
        what = "no pairs" if found.empty else "no negative pairs" if found.all() else "no positive pairs"
        raise InputError(
            f"{graphs.root} has {what} in its {split} split (--discovery and --ratio 0 build such datasets)."
            " A map can be made of it; to train or evaluate, build it with negatives in every split."
        )


def _describe(job: Job, graphs: MultiomeGraphs) -> dict[str, Any]:
    arguments = {
        name: str(value) if isinstance(value, Path) else value for name, value in asdict(job).items()
    }
    used = {name: getattr(job.options(), name) for name in ("batch_size", "lr")}
    return {
        "arguments": {**arguments, **used, "settings": list(job.settings)},
        "seed": job.seed,
        "dataset": {"path": str(job.dataset), "fingerprint": graphs.fingerprint},
        "versions": versions(),
    }


def _check_same(
    out: Path, description: dict[str, Any], free: Sequence[str] = ("epochs", "out", "dataset")
) -> None:
    """Refuse to resume another job than the one that was interrupted."""
    file = out / "config.json"
    if not file.is_file():
        raise InputError(f"{out} holds no run to resume. Train without --resume.")
    try:
        before = json.loads(file.read_text())
        unknown = set(before["arguments"]) - set(description["arguments"])
        fingerprint = before["dataset"]["fingerprint"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is not of a run that can be resumed. Choose another --out.") from error
    if unknown:
        raise InputError(
            f"{out} holds the result of another command (its {file.name} has {', '.join(sorted(unknown))}). "
            "Choose another --out."
        )
    changed = [
        f"{name} was {before['arguments'].get(name)} and is {value}"
        for name, value in description["arguments"].items()
        if name not in free and before["arguments"].get(name) != value
    ]
    if fingerprint != description["dataset"]["fingerprint"]:
        changed.append("the dataset is another one")
    if changed:
        raise InputError(
            f"{out} cannot be resumed: {'; '.join(changed)}. Give the arguments of its config.json."
        )


def create_folder(out: Path) -> None:
    """Make a folder for results, or say why it cannot be made."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}. Choose another --out.") from error


if __name__ == "__main__":
    from scweave.cli import main

    sys.argv.insert(1, "train")
    main()
