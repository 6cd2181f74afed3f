"""Does a map find planted links? CrossRec beside what needs no model, on simulated experiments with known truth.

A seed is an experiment of the demo's size (2,000 cells, 500 genes, 5,000 peaks), simulated, built with
its DNA, and trained on anew. All methods score the same candidates, every peak within 250 kb of a
gene's TSS, as `scweave map --truth` does: a map by its largest score over cell types. Repressing links
are true links too. Mean and standard deviation over the seeds (with n - 1) of:

auprc, auroc
    areas under the curves of precision and recall, and of true and false positives
early_precision
    precision among as many of the best pairs as there are true ones
decoys_in_top
    share of these best pairs that are decoys: `coaccessible` with a causal peak (opened by the same TF),
    `nearer` to the TSS than one, or `both`; the three exclude each other

Methods whose names begin with default_ are the default mode with one part of it changed: see MODELS.
Early stopping may end a training before its epochs do, as in `scweave train`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from scweave.generators.build import BuildOptions, build
from scweave.generators.simulate import SimulatedFiles, simulate
from scweave.graphs.dataset import MultiomeGraphs
from scweave.interpret.evidence.candidates import Candidates, MapScores, candidate_pairs
from scweave.interpret.evidence.comparison import model_free, quality, share_of_top
from scweave.interpret.evidence.truth import locate, read_truth
from scweave.interpret.links.type_links import type_links
from scweave.models.checkpoint import load_model, open_for
from scweave.models.registry import kind_of
from scweave.models.settings import parse_settings
from scweave.models.training import TrainOptions, fit

# Method -> mode, and what differs from it.
MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "crossrec_default": ("default", ()),
    "crossrec_published": ("published", ()),
    "default_no_sequence": ("default", ("sequence=false",)),
    "default_no_distance": ("default", ("distance=false",)),
    "default_no_expression": ("default", ("alpha=0",)),
    "default_own_only": ("default", ("smooth=false",)),
    "default_smooth_only": ("default", ("own=false",)),
    "default_top_10": ("default", ("top=10",)),
    "default_two_heads": ("default", ("heads=2",)),
    "default_no_trans": ("default", ("trans=false",)),
}
MODEL_FREE = ("distance", "correlation", "linkpeaks", "accessibility", "random")
METHODS = (*MODELS, *MODEL_FREE)
METRICS = ("auprc", "early_precision", "auroc")
DECOYS = ("coaccessible", "nearer", "both")
Scores = dict[str, NDArray[np.float64]]
Figures = dict[str, dict[str, float]]  # method -> metric or kind of decoy -> value


@dataclass(frozen=True)
class Plan:
    """Size of an experiment, epochs of each mode, and the methods to judge."""

    cells: int
    genes: int
    peaks: int
    epochs: dict[str, int]
    methods: tuple[str, ...] = METHODS
    threads: int = 1


def one_seed(plan: Plan, seed: int) -> Figures:
    """Simulate, build, score by every method, and judge."""
    torch.set_num_threads(plan.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = simulate(
            folder / "simulated.h5mu",
            cells=plan.cells,
            genes=plan.genes,
            peaks=plan.peaks,
            seed=seed,
            progress=False,
        )
        options = BuildOptions(labels="cell_type", seed=seed)
        dataset = folder / "dataset"
        build([files.h5mu], dataset, gtf=files.gtf, fasta=files.fasta, options=options, progress=False)
        graphs = MultiomeGraphs(dataset)
        candidates = candidate_pairs(graphs)
        judge = make_judge(graphs, candidates, files)
        scores = {**model_free(candidates, graphs), "random": np.zeros(len(candidates))}
        found = {method: judge(scores[method]) for method in MODEL_FREE if method in plan.methods}
        for method in (method for method in MODELS if method in plan.methods):
            begin = time.perf_counter()
            found[method] = judge(map_scores(plan, method, dataset, candidates, seed))
            spent, auprc = time.perf_counter() - begin, found[method]["auprc"]
            print(f"seed {seed}: {method} {spent:.0f} s, AUPRC {auprc:.3f}", file=sys.stderr, flush=True)
    return {method: found[method] for method in plan.methods}


def map_scores(
    plan: Plan, method: str, dataset: Path, candidates: Candidates, seed: int
) -> NDArray[np.float64]:
    """Train as `scweave train` does, and give each candidate its largest score over cell types."""
    mode, settings = MODELS[method]
    kind = kind_of("crossrec", mode)
    options = TrainOptions(
        epochs=plan.epochs[mode],
        batch_size=kind.batch_size,
        lr=kind.lr,
        weight_decay=kind.weight_decay,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as run:
        fit(kind, dataset, Path(run), parse_settings(settings, kind.config), options, progress=False)
        loaded = load_model(Path(run))
        graphs, scores = open_for(loaded, dataset)[0], MapScores(candidates)
        for piece in type_links(loaded.model, graphs, progress=False):
            scores.add(piece.gene, piece.peak, piece.score)
    return scores.best


def make_judge(
    graphs: MultiomeGraphs, candidates: Candidates, files: SimulatedFiles
) -> Callable[[NDArray[np.float64]], dict[str, float]]:
    """Return what turns scores of the candidates into figures."""
    true = locate(read_truth(files.links), candidates, graphs).true
    table = pd.read_parquet(files.decoys)
    decoys = {kind: locate(table[table["kind"] == kind], candidates, graphs).true for kind in DECOYS}
    n = int(true.sum())

    def judge(score: NDArray[np.float64]) -> dict[str, float]:
        shares = {kind: share_of_top(marked, score, n) for kind, marked in decoys.items()}
        return {**quality(true, score), **shares}  # type: ignore[dict-item]  # some candidates are no links

    return judge


def summarise(runs: list[Figures]) -> dict[str, Any]:
    """Mean and standard deviation over seeds: metric -> method -> mean, std; decoys by kind."""

    def over_seeds(metric: str) -> dict[str, dict[str, float]]:
        values = {method: np.array([run[method][metric] for run in runs]) for method in runs[0]}
        return {
            method: {"mean": float(v.mean()), "std": float(v.std(ddof=1)) if len(v) > 1 else 0.0}
            for method, v in values.items()
        }

    return {
        **{metric: over_seeds(metric) for metric in METRICS},
        "decoys_in_top": {kind: over_seeds(kind) for kind in DECOYS},
        "seeds": len(runs),
    }


def show(summary: dict[str, Any]) -> None:
    """Print how well links are found, and which decoys are taken for links; a row a method, best AUPRC first."""
    order = sorted(summary["auprc"], key=lambda method: -summary["auprc"][method]["mean"])
    decoys = summary["decoys_in_top"]
    show_table(
        f"planted links, mean ± s.d. over seeds ({summary['seeds']})", order, {m: summary[m] for m in METRICS}
    )
    show_table("share of decoys among the best pairs", order, decoys)


def show_table(title: str, order: list[str], columns: dict[str, dict[str, dict[str, float]]]) -> None:
    table = Table(title=title, title_justify="left", box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for method in order:
        cells = (column[method] for column in columns.values())
        table.add_row(method, *(f"{cell['mean']:.3f} ± {cell['std']:.3f}" for cell in cells))
    Console().print(table)


def methods_of(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in METHODS]:
        raise argparse.ArgumentTypeError(f"no method {', '.join(unknown)}; there are {', '.join(METHODS)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--quick", action="store_true", help="one small seed, two epochs")
    parser.add_argument("--seeds", type=int, default=5, help="experiments (default 5)")
    parser.add_argument("--methods", type=methods_of, default=METHODS, help="some of them, by commas")
    parser.add_argument("--epochs", type=int, default=40, help="of the default mode (default 40)")
    parser.add_argument("--published-epochs", type=int, default=12, help="of the published mode (default 12)")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time (default 1)")
    arguments = parser.parse_args()
    seeds = 1 if arguments.quick else arguments.seeds
    jobs = max(1, min(arguments.jobs, seeds))
    threads = max(1, torch.get_num_threads() // jobs)
    epochs = {"default": arguments.epochs, "published": arguments.published_epochs}
    plan = Plan(2000, 500, 5000, epochs, arguments.methods, threads)
    if arguments.quick:
        plan = Plan(200, 60, 600, {"default": 2, "published": 2}, arguments.methods, threads)
    summary = summarise(run_seeds(plan, seeds, jobs))
    print(json.dumps(summary)) if arguments.json else show(summary)


def run_seeds(plan: Plan, seeds: int, jobs: int) -> list[Figures]:
    """Work on the seeds one after the other, or several at a time in processes of their own."""
    if jobs == 1:
        return [one_seed(plan, seed) for seed in range(seeds)]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(partial(one_seed, plan), range(seeds)))


if __name__ == "__main__":
    main()
