"""How well are cell types told from ATAC alone? HitAnno in both modes, annATAC, and parts of them, beside every baseline.

Real data from $SCWEAVE_DATA (or --data): SNARE-seq of the mouse cortex with 15 and with 23 types, divided by cell and
by batch, and NeurIPS bone marrow A by cell. A seed decides division, initial weights and order. All methods are fitted
on the same training cells, choose what they choose on the same validation cells, and are judged on the same test cells;
a type that no training cell has counts for novelty alone. The baselines come with hitanno_default. With --transfer, instead: train on one PBMC experiment and
annotate another with other peaks, both ways, and with its types named as those of the first.
Mean and standard deviation over the seeds (with n - 1).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from scweave.generators.build import BuildOptions, build
from scweave.graphs.dataset import MultiomeGraphs
from scweave.models.annotation.baseline_store import run_baselines
from scweave.models.annotation.evaluation import evaluate_annotator
from scweave.models.annotator import Annotator

METRICS = ("macro_f1", "accuracy", "balanced_accuracy", "kappa", "ece", "confidence_auroc", "novelty_auroc")
DATA = Path(os.environ.get("SCWEAVE_DATA", Path(__file__).parents[2] / "shared" / "data"))
Figures = dict[str, dict[str, float | None]]  # method -> metric -> value

# Method -> model, mode, and what differs from its usual settings.
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
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
}
EVIDENCE = "default_evidence_alone"  # the default without its comparison: counted evidence, highest wins


@dataclass(frozen=True)
class Source:
    """One experiment and how it is divided."""

    name: str
    file: str
    labels: str
    gtf: str
    donor: str | None = None


MM10, HG38 = "genome/mm10_gencode_genes.gtf.gz", "genome/hg38_gencode43_genes.gtf.gz"
SNARE = "snareseq_mouse_cortex_atac.h5ad"
SOURCES = (
    Source("snare15/cell", SNARE, "cell_type_coarse", MM10),
    Source("snare15/batch", SNARE, "cell_type_coarse", MM10, "batch"),
    Source("snare23/cell", SNARE, "cell_type", MM10),
    Source("snare23/batch", SNARE, "cell_type", MM10, "batch"),
    Source("bmmcA/cell", "bmmc_starterA_atac.h5ad", "cell_type", HG38),
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


def one_seed(task: tuple[Source, int], data: Path, models: tuple[str, ...]) -> Figures:
    """Build, train and judge."""
    source, seed = task
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = BuildOptions(labels=source.labels, donor=source.donor, seed=seed)
        build([data / source.file], folder / "data", gtf=data / source.gtf, options=options, progress=False)
        return judge_all(folder, folder / "data", folder / "data", models, seed, source.name)


def judge_all(
    folder: Path, dataset: Path, judged: Path, models: tuple[str, ...], seed: int, told: str
) -> Figures:
    """Train every model on a dataset and judge it, and the baselines, on the test cells of the same or another."""
    found: Figures = {}
    for method in models:
        kind, mode, settings = MODELS[method]
        begin = time.perf_counter()
        annotator = Annotator(kind, mode=mode, settings=settings, seed=seed)
        annotator.fit(dataset, run=folder / method)
        spent = time.perf_counter() - begin
        baselines: dict[str, Any] = {}
        if method == "hitanno_default":
            trained = MultiomeGraphs(dataset)
            baselines = run_baselines(folder / method, annotator.loaded, trained, seed=seed, progress=False)
            baselines[EVIDENCE] = evidence_alone(folder / method)
        graphs = MultiomeGraphs(judged)
        metrics = evaluate_annotator(annotator.loaded.model, graphs, baselines, progress=False).metrics
        found[method] = {**{name: metrics["annotation"][name] for name in METRICS}, "seconds": spent}
        for name, figures in metrics["baselines"]["annotation"].items():
            found[name] = {metric: figures[metric] for metric in METRICS}
        print(
            f"{told} seed {seed}: {method} {spent:.0f} s, {_line(found[method])}", file=sys.stderr, flush=True
        )
    return found


def evidence_alone(run: Path) -> Any:
    """Return HitAnno whose comparison lets the evidence pass as it is."""
    model = Annotator.load(run).loaded.model
    n_types = len(model.cell_types)
    with torch.no_grad():
        model.comparison.map.bias.zero_()
        model.comparison.map.weight.zero_()
        model.comparison.map.weight[:, :n_types] = torch.eye(n_types)
    return model


def _line(figures: dict[str, float | None]) -> str:
    return ", ".join(
        f"{name} {figures[name]:.3f}" for name in ("macro_f1", "accuracy") if figures[name] is not None
    )


def transfer(task: tuple[str, str, int], data: Path, models: tuple[str, ...]) -> Figures:
    """Train on one experiment and judge on all cells of another, whose peaks are mapped by overlap."""
    source, query, seed = task
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {side: renamed(data / f"pbmc_{side}_atac.h5ad", folder) for side in (source, query)}
        options = BuildOptions(labels="cell_type", unlabelled=("nan",), seed=seed)
        build([files[source]], folder / "data", gtf=data / HG38, options=options, progress=False)
        like = BuildOptions(labels="cell_type", unlabelled=("nan",), discovery=True, min_placed=0.01)
        build([files[query]], folder / "query", like=folder / "data", options=like, progress=False)
        return judge_all(folder, folder / "data", folder / "query", models, seed, f"{source} to {query}")


def renamed(file: Path, folder: Path) -> Path:
    """Copy an experiment with its types under the names that both share."""
    data = ad.read_h5ad(file)
    data.obs["cell_type"] = data.obs["cell_type"].astype(str).replace(SHARED_NAMES)
    data.write_h5ad(folder / file.name)
    return folder / file.name


def summarise(seeds: list[Figures]) -> dict[str, dict[str, dict[str, float]]]:
    """Return metric -> method -> mean and standard deviation of the seeds in which it is defined."""
    names = list(dict.fromkeys(metric for found in seeds for own in found.values() for metric in own))
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for metric in names:
        for method in seeds[0]:
            values = [v for found in seeds if (v := found[method].get(metric)) is not None]
            if values:
                spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
                summary.setdefault(metric, {})[method] = {"mean": float(np.mean(values)), "std": spread}
    return summary


def show(title: str, summary: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print a table, the best macro-F1 first."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("")
    for metric in summary:
        table.add_column(metric, justify="right")
    best = summary["macro_f1"]
    for method in sorted(best, key=lambda name: -best[name]["mean"]):
        cells = [summary[metric].get(method) for metric in summary]
        table.add_row(method, *("-" if c is None else f"{c['mean']:.3f} ± {c['std']:.3f}" for c in cells))
    Console(width=160).print(table)


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
    parser.add_argument("--models", default=",".join(MODELS), help="a,b of " + ", ".join(MODELS))
    parser.add_argument("--transfer", action="store_true", help="from one PBMC experiment to another")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--quick", action="store_true", help="bone marrow alone, one seed")
    parser.add_argument("--json", action="store_true", help="print one line")
    options = parser.parse_args(arguments)
    if unknown := set(options.models.split(",")) - set(MODELS):
        parser.error(f"no model {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    if not options.data.is_dir():
        parser.error(f"no data in {options.data}: set SCWEAVE_DATA, or pass --data")
    if options.quick:
        options.seeds, options.only = 1, "bmmcA"
    return options


def main() -> None:
    """Run the chosen data sets and print their tables."""
    options = parse()
    models = tuple(options.models.split(","))
    if options.transfer:
        ways = (("mosim40", "simba100"), ("simba100", "mosim40"))
        tasks: list[Any] = [(*way, seed) for way in ways for seed in range(options.seeds)]
        names = [f"pbmc_{source}/{query}" for source, query, _ in tasks]
        work: Any = partial(transfer, data=options.data, models=models)
    else:
        chosen = [source for source in SOURCES if options.only in source.name]
        tasks = [(source, seed) for source in chosen for seed in range(options.seeds)]
        names = [source.name for source, _ in tasks]
        work = partial(one_seed, data=options.data, models=models)
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
        found = pd.Series(list(pool.map(work, tasks)), index=names)
    results = {name: summarise(found[[name]].tolist()) for name in dict.fromkeys(names)}
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
