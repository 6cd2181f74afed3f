"""The main job on a simulated experiment, from start to end."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any, Final

from ..generators.build import BuildOptions, build
from ..generators.simulate import simulate
from ..graphs.errors import InputError
from ..interpret.report import write_report
from ..train import run
from .jobs import Job, create_folder
from .maps import map_run
from .predict import predict_run

_DEMO: Final = "DEMO"  # marks a folder that a later demo may replace


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
    """Run the main job on a simulated experiment: simulate, build, train, evaluate, predict, map, report.

    CrossRec is trained for the map, HitAnno for the cell types.

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
    ``out``, ``seconds``, and what training, prediction, map and report return.
    """
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
    types = run(Job(dataset, out / "annotator", "hitanno", seed=seed), progress=progress)
    maps = map_run(
        model,
        dataset,
        out / "maps",
        truth=files.links,
        truth_kind="links",
        motifs=files.meme,
        gtf=files.gtf,
        progress=progress,
    )
    report = write_report([out / "maps", model, out / "annotator"], out / "report.html")
    seconds = round(time.monotonic() - start, 1)
    return {
        "out": str(out),
        "seconds": seconds,
        "metrics": metrics,
        "annotation": types,
        "predicted": predicted,
        "map": maps,
        "report": report,
    }


def _clear_demo(out: Path) -> None:
    """Remove the folder of an earlier demo; anything else there is the user's."""
    if (out / _DEMO).is_file():
        shutil.rmtree(out)
    elif out.exists():
        raise InputError(f"{out} exists and no demo made it. Choose another --out.")
