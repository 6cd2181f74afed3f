"""Study a model: train it many times over, on less data, wrong labels or without a cell type."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..generators.restrict import relabel, restrict
from ..graphs.dataset import MultiomeGraphs
from ..graphs.whole import refuse_existing, write_json
from ..models.studies.options import pretraining_job
from ..models.studies.plan import plan
from ..models.studies.run import run_study
from ..models.studies.study import Study, check_options
from ..models.training import check_unlabelled
from .jobs import Job, check_same, check_trainable, create_folder, describe

_MAY_GROW = ("out", "dataset", "shares", "repeats")  # what a resumed study may have otherwise


def study_run(
    job: Job,
    name: str,
    *,
    shares: Sequence[float] | None = None,
    noise: Sequence[float] | None = None,
    types: Sequence[str] = (),
    pretrain_epochs: int | None = None,
    unlabelled: Sequence[Path] = (),
    repeats: int = 3,
    resume: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a model many times over, and compare it with its baselines; everything lands in ``job.out``.

    Parameters
    ----------
    job
        What each training does; its seed is that of the first repeat.
    name, shares, noise, types, pretrain_epochs, unlabelled, repeats
        See `Study`.
    resume
        Keep the trainings that an interrupted study has finished; there may be more shares, noise or repeats now.
    progress
        Show a bar.

    Returns
    -------
    The content of ``study.json``.

    Raises
    ------
    InputError
        Before anything is written: as `run`, and for what cannot be studied.
    """
    kind = job.kind
    study = Study(
        name,
        job.dataset,
        kind,
        job.config(),
        job.options(),
        repeats,
        tuple(shares or ()),
        tuple(noise or ()),
        tuple(types),
        pretrain_epochs,
        tuple(unlabelled),
    )
    check_options(
        name, shares=shares, noise=noise, types=types, pretrain_epochs=pretrain_epochs, unlabelled=unlabelled
    )
    graphs = check_trainable(job)
    if unlabelled:
        pretraining, config, _ = pretraining_job(study, 0)
        check_unlabelled(pretraining, config, [graphs, *map(MultiomeGraphs, unlabelled)])
    graphs.require(getattr(kind.model, "modalities", ()), job.model)
    plan(study)
    description = describe(job, graphs)
    description["arguments"] |= {
        "study": name,
        "shares": list(study.levels),
        "types": list(types),
        "pretrain_epochs": pretrain_epochs,
        "unlabelled": [MultiomeGraphs(path).fingerprint for path in unlabelled],
        "repeats": repeats,
    }
    if resume:
        check_same(job.out, description, free=_MAY_GROW)
    else:
        refuse_existing(job.out)
    create_folder(job.out)
    write_json(job.out / "config.json", description)
    write = restrict if kind.task == "recommendation" else relabel
    return run_study(study, job.out, write, progress=progress)
