"""Study a model: train it many times over, on less data or without a cell type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..generators.restrict import restrict
from ..graphs.errors import InputError
from ..graphs.whole import refuse_existing, write_json
from ..models.studies import run_study
from ..models.study_plan import SHARES, Study, check_study, plan
from .jobs import Job, check_same, check_trainable, create_folder, describe


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
    check_study(name, shares, types)
    if job.kind.task != "recommendation":
        raise InputError(f"--model {job.model}: this version studies crossrec. Pass --model crossrec.")
    config, options = job.config(), job.options()
    study = Study(
        name, job.dataset, job.kind, config, options, repeats, tuple(shares or SHARES), tuple(types)
    )
    graphs = check_trainable(job)
    plan(study)
    description = describe(job, graphs)
    description["arguments"] |= {
        "study": name,
        "shares": list(study.shares),
        "types": list(types),
        "repeats": repeats,
    }
    if resume:
        check_same(job.out, description, free=("out", "dataset", "shares", "repeats"))
    else:
        refuse_existing(job.out)
    create_folder(job.out)
    write_json(job.out / "config.json", description)
    return run_study(study, job.out, restrict, progress=progress)
