"""How well, how fast and in how much memory are cell types told? All annotators and baselines on the same cells.

Real data from $SCWEAVE_DATA (or --data): SNARE-seq of the mouse cortex with 15 and with 23 types, and NeurIPS bone
marrow A; divided by cell in five folds (``fold``), by cell anew for each seed (``cell``), or by batch (``batch``). A
seed decides division, initial weights and order. All methods are fitted on the same training cells, choose what they
choose on the same validation cells, and are judged on the same test cells; a type that no training cell has counts for
novelty alone. scMoAnno reads both modalities, and is judged on RNA alone and on ATAC alone as well; `*_pca` and `*_logcounts` read
RNA, `*_both` both modalities, all others ATAC. Each method runs in a process of its own, of one thread: ``fit_s`` is the
time from the opened data set to the calibrated model (features included), ``cells_per_s`` that of telling the test
cells, ``peak_mb`` the growth of memory in fitting and telling. With --transfer, instead: train on one PBMC experiment and annotate
another with other peaks, both ways, and with its types named as those of the first.
Mean and standard deviation over seeds or folds (with n - 1).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import torch
from measure import PeakMemory
from rich.console import Console
from rich.table import Table

from scweave.generators.build import BuildOptions, build
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.schema import MODALITIES
from scweave.models.annotation.closed_form import baseline_configs
from scweave.models.annotation.evaluation import evaluate_annotator
from scweave.models.annotator import Annotator

METRICS = (
    "macro_f1",
    "accuracy",
    "balanced_accuracy",
    "rare_recall",
    "kappa",
    "ece",
    "confidence_auroc",
    "novelty_auroc",
    "nmi",
    "ari",
    "purity",
)
COSTS = ("fit_s", "cells_per_s", "peak_mb")
SHOWN = ("macro_f1", "accuracy", "balanced_accuracy", "rare_recall", *COSTS)
DATA = Path(os.environ.get("SCWEAVE_DATA", Path(__file__).parents[2] / "shared" / "data"))
Figures = dict[str, float | None]

# Method -> model, mode, and what differs from its usual settings.
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "scmoanno_default": ("scmoanno", "default", {}),
    "scmoanno_self": ("scmoanno", "default", {"attention": "self"}),
    "scmoanno_direct": ("scmoanno", "default", {"fusion": "direct"}),
    "scmoanno_no_stage_1": ("scmoanno", "default", {"stages": "second"}),
    "scmoanno_frozen": ("scmoanno", "default", {"stages": "frozen"}),
    "scmoanno_no_evidence": ("scmoanno", "default", {"evidence": False}),
    "scmoanno_no_modality_dropout": ("scmoanno", "default", {"modality_dropout": 0.0}),
    "scmoanno_published": ("scmoanno", "published", {}),
    "hitanno_default": ("hitanno", "default", {}),
    "default_in_sample": ("hitanno", "default", {"leave_one_out": False}),
    "default_no_depth": ("hitanno", "default", {"depth": False}),
    "default_no_balance": ("hitanno", "default", {"balance": 0.0}),
    "default_one_block": ("hitanno", "default", {"cell_layers": 1}),
    "hitanno_published": ("hitanno", "published", {}),
    "annatac_default": ("annatac", "default", {}),
    "annatac_no_blocks": ("annatac", "default", {"layers": 0}),
    "annatac_no_evidence": ("annatac", "default", {"evidence": False}),
    "annatac_tss": ("annatac", "default", {"tss": True}),
    "mlp": ("mlp", "default", {}),
    "cnn": ("cnn", "default", {}),
    **{
        name: (kind, "default", {"features": config.features})
        for name, (kind, config) in baseline_configs(MODALITIES).items()
    },
}
EVIDENCE = "default_evidence_alone"  # HitAnno without its comparison: counted evidence, highest wins
USUAL = (
    "scmoanno_default",
    "scmoanno_published",
    "hitanno_default",
    "annatac_default",
    "mlp",
    "cnn",
    *baseline_configs(MODALITIES),
)


@dataclass(frozen=True)
class Source:
    """One experiment and how it is divided: anew for each seed, or in folds."""

    name: str
    files: str
    labels: str
    gtf: str
    donor: str | None = None
    folds: int = 0


MM10, HG38 = "genome/mm10_gencode_genes.gtf.gz", "genome/hg38_gencode43_genes.gtf.gz"
SNARE, MARROW = "snareseq_mouse_cortex_{}.h5ad", "bmmc_starterA_{}.h5ad"
SOURCES = (
    Source("snare15/cell", SNARE, "cell_type_coarse", MM10),
    Source("snare15/batch", SNARE, "cell_type_coarse", MM10, "batch"),
    Source("snare15/fold", SNARE, "cell_type_coarse", MM10, folds=5),
    Source("snare23/cell", SNARE, "cell_type", MM10),
    Source("snare23/batch", SNARE, "cell_type", MM10, "batch"),
    Source("snare23/fold", SNARE, "cell_type", MM10, folds=5),
    Source("bmmcA/cell", MARROW, "cell_type", HG38),
    Source("bmmcA/fold", MARROW, "cell_type", HG38, folds=5),
)
# Types of both PBMC experiments by the names they share; the others keep theirs and are new to the other model.
SHARED_NAMES = {
    "CD4_TEM": "CD4 T",
    "Treg": "CD4 T",
    "CD4 Memory": "CD4 T",
    "CD4 Naive": "CD4 T",
    "Memory_B": "B",
    "B cells": "B",
    "cDC": "DC",
}


@dataclass(frozen=True)
class Trial:
    """One method on one division of one data set; cells of another are judged where ``judged`` is one."""

    name: str
    dataset: Path
    method: str
    seed: int
    fold: int | None = None
    judged: Path | None = None


def prepare(source: Source, seeds: int, data: Path, folder: Path) -> Iterator[tuple[Path, int, int | None]]:
    """Build the data set of each seed, or one with folds; give folder, seed and fold."""
    for seed in range(1 if source.folds else seeds):
        out = folder / f"{source.name.replace('/', '-')}-{seed}"
        options = BuildOptions(labels=source.labels, donor=source.donor, seed=seed, folds=source.folds)
        files = [data / source.files.format(name) for name in MODALITIES]
        build(files, out, gtf=data / source.gtf, options=options, progress=False)
        for fold in range(source.folds) if source.folds else (None,):
            yield out, seed, fold


def prepare_transfer(
    source: str, query: str, seeds: int, data: Path, folder: Path
) -> Iterator[tuple[Path, int, Path]]:
    """Build one PBMC experiment to learn from, and another whose peaks are mapped by overlap; ATAC alone."""
    files = {side: renamed(data / f"pbmc_{side}_atac.h5ad", folder) for side in (source, query)}
    for seed in range(seeds):
        out = folder / f"{source}-{query}-{seed}"
        options = BuildOptions(labels="cell_type", unlabelled=("nan",), seed=seed)
        build([files[source]], out, gtf=data / HG38, options=options, progress=False)
        like = BuildOptions(labels="cell_type", unlabelled=("nan",), discovery=True, min_placed=0.01)
        judged = folder / f"{out.name}-query"
        build([files[query]], judged, like=out, options=like, progress=False)
        yield out, seed, judged


def renamed(file: Path, folder: Path) -> Path:
    """Copy an experiment with its types under the names that both share."""
    data = ad.read_h5ad(file)
    data.obs["cell_type"] = data.obs["cell_type"].astype(str).replace(SHARED_NAMES)
    data.write_h5ad(folder / file.name)
    return folder / file.name


def judge(trial: Trial) -> dict[str, Figures]:
    """Train a method and judge it; in a process of its own."""
    torch.set_num_threads(1)
    kind, mode, settings = MODELS[trial.method]
    graphs = MultiomeGraphs(trial.judged or trial.dataset, fold=None if trial.judged else trial.fold)
    with tempfile.TemporaryDirectory() as name, PeakMemory() as memory:
        begin = time.perf_counter()
        annotator = Annotator(kind, mode=mode, settings=settings, seed=trial.seed)
        annotator.fit(trial.dataset, run=Path(name) / "run", fold=trial.fold)
        fitted = time.perf_counter()
        test = graphs.part(split="test")
        annotator.predict(test)
        told = time.perf_counter()
    model = annotator.loaded.model
    costs = {"fit_s": fitted - begin, "cells_per_s": len(test) / (told - fitted), "peak_mb": memory.growth_mb}
    found: dict[str, Figures] = {}
    models = {trial.method: model}
    if trial.method == "hitanno_default":
        models[EVIDENCE] = evidence_alone(deepcopy(model))
    for method, one in models.items():
        metrics = evaluate_annotator(one, graphs, {}, progress=False).metrics
        for task in metrics["baselines"]:
            own = method + task.removeprefix("annotation")
            found[own] = {name: metrics[task][name] for name in METRICS}
    found[trial.method] |= costs
    line = ", ".join(f"{name} {found[trial.method][name] or 0:.3f}" for name in SHOWN)
    print(f"{trial.name} {trial.seed} {trial.fold}: {trial.method} {line}", file=sys.stderr, flush=True)
    return found


def evidence_alone(model: Any) -> Any:
    """Let HitAnno's comparison pass the evidence as it is."""
    n_types = len(model.cell_types)
    with torch.no_grad():
        model.comparison.map.bias.zero_()
        model.comparison.map.weight.zero_()
        model.comparison.map.weight[:, :n_types] = torch.eye(n_types)
    return model


def summarise(repeats: Iterable[dict[str, Figures]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return metric -> method -> mean and standard deviation of the repeats in which it is defined."""
    values: dict[tuple[str, str], list[float]] = {}
    for found in repeats:
        for method, figures in found.items():
            for metric, value in figures.items():
                if value is not None:
                    values.setdefault((metric, method), []).append(value)
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for (metric, method), some in values.items():
        spread = float(np.std(some, ddof=1)) if len(some) > 1 else 0.0
        summary.setdefault(metric, {})[method] = {"mean": float(np.mean(some)), "std": spread}
    return summary


def show(title: str, summary: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print a table, the best macro-F1 first."""
    print(title)
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("")
    shown = [metric for metric in SHOWN if metric in summary]
    for metric in shown:
        table.add_column(metric, justify="right")
    best = summary["macro_f1"]
    for method in sorted(best, key=lambda name: -best[name]["mean"]):
        cells = [(metric, summary[metric].get(method)) for metric in shown]
        table.add_row(method, *(_cell(metric, found) for metric, found in cells))
    Console(width=160).print(table)


def _cell(metric: str, found: dict[str, float] | None) -> str:
    if found is None:
        return "-"
    return f"{found['mean']:,.0f}" if metric in COSTS else f"{found['mean']:.3f} ± {found['std']:.3f}"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the real data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--only", default="", help="only data sets whose name contains this, e.g. snare15/cell"
    )
    parser.add_argument("--models", default=",".join(USUAL), help="a,b of " + ", ".join(MODELS))
    parser.add_argument("--transfer", action="store_true", help="from one PBMC experiment to another")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--quick", action="store_true", help="bone marrow, two folds, few methods")
    parser.add_argument("--json", action="store_true", help="print one line")
    options = parser.parse_args(arguments)
    if options.quick:
        options.only, options.models = "bmmcA/fold", "scmoanno_default,hitanno_default,logreg_pca,logreg_both"
    options.models = options.models.split(",")
    if unknown := set(options.models) - set(MODELS):
        parser.error(f"no model {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    if not options.data.is_dir():
        parser.error(f"no data in {options.data}: set SCWEAVE_DATA, or pass --data")
    return options


def trials(options: argparse.Namespace, folder: Path) -> list[Trial]:
    """Build the data sets, and list what is to be done on them."""
    found = []
    if options.transfer:
        for source, query in (("mosim40", "simba100"), ("simba100", "mosim40")):
            for dataset, seed, judged in prepare_transfer(source, query, options.seeds, options.data, folder):
                found += [
                    Trial(f"pbmc_{source}/{query}", dataset, method, seed, judged=judged)
                    for method in options.models
                    if MODELS[method][0] != "scmoanno" and not method.endswith(("pca", "both", "logcounts"))
                ]
        return found
    for source in (source for source in SOURCES if options.only in source.name):
        for dataset, seed, fold in prepare(source, options.seeds, options.data, folder):
            if not (options.quick and fold and fold > 1):
                found += [Trial(source.name, dataset, method, seed, fold) for method in options.models]
    return found


def main() -> None:
    """Run the chosen data sets and print their tables."""
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        work = trials(options, Path(folder))
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(options.workers, context, max_tasks_per_child=1) as pool:
            found = list(pool.map(judge, work))
    results = {}
    for name in dict.fromkeys(trial.name for trial in work):
        results[name] = summarise(own for trial, own in zip(work, found, strict=True) if trial.name == name)
    if options.json:
        flat = {
            f"{name}/{metric}": own for name, summary in results.items() for metric, own in summary.items()
        }
        print(json.dumps({**flat, "seeds": options.seeds}))
        return
    for name, summary in results.items():
        show(name, summary)


if __name__ == "__main__":
    main()
