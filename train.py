"""Train any model on any graph dataset: `python train.py DATASET --model crossrec --out RUN`, or `scweave train`."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scweave.commands.jobs import Job


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
        Unknown model or setting, a dataset that cannot be trained on, a folder in use: nothing is left of the
        run then.
    """
    # As long as nothing is trained, `--help` has no need of them.
    from scweave.commands.evaluate import evaluate_all, evaluate_run
    from scweave.commands.jobs import check_same, check_trainable, create_folder, describe
    from scweave.graphs.errors import InputError
    from scweave.graphs.whole import write_json
    from scweave.models.training import fit

    config, options = job.config(), job.options()
    graphs = check_trainable(job)
    description = describe(job, graphs)
    if resume:
        check_same(job.out, description)
    elif job.out.exists():
        raise InputError(f"{job.out} exists already. Go on with --resume, or choose another --out.")
    create_folder(job.out)
    write_json(job.out / "config.json", description)
    try:
        fit(
            job.kind,
            job.datasets if job.kind.task == "pretraining" else job.dataset,
            job.out,
            config,
            options,
            fold=job.fold,
            resume=resume,
            init=job.init,
            progress=progress,
        )
    except InputError:
        if not resume and not any(job.out.rglob("state.json")):  # finished epochs can be resumed
            shutil.rmtree(job.out, ignore_errors=True)
        raise
    if job.further:
        return evaluate_all(job.out, job.datasets, job.out / "metrics.json", progress=progress)
    return evaluate_run(job.out, job.dataset, job.out / "metrics.json", seed=job.seed, progress=progress)


if __name__ == "__main__":
    from scweave.cli import main

    sys.argv.insert(1, "train")
    main()
