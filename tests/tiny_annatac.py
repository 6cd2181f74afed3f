"""Small runs of annATAC, on two experiments of one genome that share neither cells nor peaks."""

from __future__ import annotations

import gzip
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scweave.commands import evaluate as evaluate_command
from scweave.commands.jobs import Job
from scweave.generators.build import BuildOptions, build
from scweave.generators.simulate import simulate
from scweave.models.annotation import closed_form
from scweave.models.annotation.closed_form import FeatureConfig
from scweave.models.registry import kind_of
from scweave.train import run

MODES = ["published", "default"]
TINY = ("width=8", "layers=1", "heads=2", "head_width=4", "hidden=8", "slots=4")
ISLAND = 5000


@dataclass(frozen=True)
class Experiments:
    """Files of two experiments.

    Attributes
    ----------
    rna, atac
        Of the cells of the first, labelled.
    other
        ATAC of other cells, with other peaks and chromosomes called 1, 2, 3.
    gtf, plain_gtf
        Genes, with chromosomes as the first and as the second calls them.
    """

    rna: AnnData
    atac: AnnData
    other: AnnData
    gtf: Path
    plain_gtf: Path


@pytest.fixture(scope="module", autouse=True)
def quick():
    """One baseline and no pictures, which have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        few = {"centroid_lsi": ("centroid", FeatureConfig("lsi"))}
        patch.setattr(closed_form, "baseline_configs", lambda _: few)
        patch.setattr(evaluate_command, "write_figures", lambda *_, **__: None)
        yield


def make_experiments(folder: Path) -> Experiments:
    files = simulate(folder / "all.h5mu", cells=330, genes=60, peaks=600, types=4, seed=1, progress=False)
    rna, atac = (mudata.read_h5ad(files.h5mu, name) for name in ("rna", "atac"))
    measured = np.asarray(rna.X.sum(1) > 0).ravel() & np.asarray(atac.X.sum(1) > 0).ravel()
    rna, atac = rna[measured], atac[measured]
    with gzip.open(files.gtf, "rt") as read, gzip.open(folder / "plain.gtf.gz", "wt") as write:
        write.writelines(line.removeprefix("chr") for line in read)
    other = spelled(moved(atac[200:300]), "")
    return Experiments(rna[:200].copy(), atac[:200].copy(), other, files.gtf, folder / "plain.gtf.gz")


def places(atac: AnnData) -> pd.DataFrame:
    """Columns chrom, start, end of peaks."""
    found = pd.Series(atac.var_names).str.extract(r"(?P<chrom>\w+):(?P<start>\d+)-(?P<end>\d+)")
    return found.astype({"start": int, "end": int})


def with_peaks(atac: AnnData, counts, peaks: pd.DataFrame) -> AnnData:
    """The same cells with other peaks, which only their names tell."""
    names = peaks["chrom"] + ":" + peaks["start"].astype(str) + "-" + peaks["end"].astype(str)
    return AnnData(counts, obs=atac.obs.copy(), var=pd.DataFrame(index=names.to_numpy()), uns=dict(atac.uns))


def moved(atac: AnnData) -> AnnData:
    """Every ninth peak left out, the others moved."""
    kept = np.arange(atac.n_vars) % 9 > 0
    peaks = places(atac)[kept]
    peaks[["start", "end"]] += 7
    return with_peaks(atac, atac.X[:, kept], peaks)


def halved(atac: AnnData) -> AnnData:
    """Every peak as two in the same island, with the counts of the whole each, in another order."""
    peaks = places(atac)
    middle = (peaks["start"] + peaks["end"]) // 2
    middle = middle.where(middle // ISLAND == peaks["start"] // ISLAND, peaks["start"] + 1)
    first, second = peaks.assign(end=middle), peaks.assign(start=middle)
    order = np.random.default_rng(0).permutation(2 * atac.n_vars)
    columns = np.tile(np.arange(atac.n_vars), 2)[order]
    return with_peaks(atac, atac.X[:, columns], pd.concat([first, second]).iloc[order])


def spelled(atac: AnnData, prefix: str) -> AnnData:
    """Chromosomes with another prefix."""
    peaks = places(atac)
    return with_peaks(atac, atac.X, peaks.assign(chrom=prefix + peaks["chrom"].str.removeprefix("chr")))


def file_of(data: AnnData, path: Path) -> Path:
    data.write_h5ad(path)
    return path


def built(folder: Path, *files: AnnData, gtf: Path, labels: str | None = "cell_type", **options) -> Path:
    """Build a dataset in ``folder``, which is made."""
    folder.mkdir()
    paths = [file_of(data, folder / f"{i}.h5ad") for i, data in enumerate(files)]
    chosen = BuildOptions(labels=labels, **{"seed": 1, **options})
    build(paths, folder / "dataset", gtf=gtf, options=chosen, progress=False)
    return folder / "dataset"


def job(mode: str, dataset: Path, out: Path, *further: Path, resume: bool = False, settings=(), **options):
    """Run a small job: fine-tuned models take their sizes from what they begin with."""
    sizes = () if options.get("init") else TINY
    usual = {"epochs": 1, "patience": 50, "lr": 3e-3, "batch_size": 32, "seed": 2}
    asked = Job(
        dataset,
        out,
        "annatac",
        mode,
        **{**usual, **options},
        settings=(*sizes, *settings),
        further=further,
    )
    return run(asked, resume=resume, progress=False)


def without_chance(mode: str, stage: str) -> tuple[str, ...]:
    """Settings with which a step does not depend on random numbers."""
    known = {field.name for field in fields(kind_of("annatac", mode, stage).config)}
    chance = {"dropout", "summary_dropout", "head_dropout", "thinning"}
    return tuple(f"{name}=0" for name in sorted(known & chance))


def call(capsys, monkeypatch, *arguments) -> tuple[int, str, str]:
    """Run a command; give its status and what it printed."""
    from scweave.cli import main

    monkeypatch.setattr(sys, "argv", ["scweave", *map(str, arguments)])
    status = 0
    try:
        main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    printed = capsys.readouterr()
    return status, printed.out, printed.err
