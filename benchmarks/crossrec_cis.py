"""What does the corrected CrossRec cost at real size? A step beside the same layer over dense matrices, and an epoch.

Cells are those of benchmarks/build.py: pbmc_mosim40 (10x PBMC Multiome, 36,601 genes x 108,377 peaks)
resampled and thinned, built with the default window prior; the peaks' DNA is random. A step is forward and
backward without the optimizer.

expression (the main case)
    expression from links, to the negative binomial likelihood: 32 cells at once, in seconds a cell, against
    every gene beside every peak of its chromosome, dense, one cell at a time. Likelihoods are compared first.
expression_1
    the same for one cell on both sides: without what 32 cells share
whole_step_32, whole_step_512
    the whole loss of 32 or 512 pairs (encoders, retrieval, classifier, expression, DNA), in seconds a pair
    and pairs a second; no reference

Each side runs in a process of its own; the timed runs alternate, and medians are given. Memory is growth over
the loaded model and inputs. ``--epoch`` trains 10,000 cells for one epoch instead, as `scweave train` does, and
says where the time goes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import torch
from build import data_folder, write_pair
from measure import PeakMemory, Waiting, Worker, alternate, seconds, serve
from torch import Tensor

from dense_cis import DenseExpression
from scweave.generators.build import BuildOptions, build
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.loader import GraphLoader
from scweave.models.crossrec_cis import CisConfig, CisCrossRec
from scweave.models.layers.profiles import Profiles

_CELLS = {False: 1_000, True: 200}
_EPOCH_CELLS = {False: 10_000, True: 200}
_BATCH = 32
_TOLERANCE = 1e-4  # of the likelihood, float32
_LETTERS = np.frombuffer(b"ACGT", np.uint8)


def make_dataset(folder: Path, n_cells: int) -> Path:
    """Build resampled cells with window edges, and random DNA as long as each peak."""
    write_pair(folder, n_cells)
    names = ad.read_h5ad(folder / "atac.h5ad", backed="r").var_names
    rng = np.random.default_rng(0)
    with (folder / "peaks.fa").open("wb") as file:
        for name in names:
            start, end = (int(part) for part in name.rsplit(":", 1)[-1].rsplit("-", 2)[-2:])
            file.write(
                b">" + name.encode() + b"\n" + _LETTERS[rng.integers(0, 4, end - start)].tobytes() + b"\n"
            )
    gtf = data_folder() / "genome" / "hg38_gencode43_genes.gtf.gz"
    build(
        [folder / "rna.h5ad", folder / "atac.h5ad"],
        folder / "dataset",
        gtf=gtf,
        fasta=folder / "peaks.fa",
        options=BuildOptions(labels="cell_type"),
        progress=False,
    )
    return folder / "dataset"


class Side:
    """One side of one case, loaded: what a worker process holds.

    Parameters
    ----------
    side
        ``ours`` or ``reference``.
    case
        ``expression_N`` (cells) or ``whole_N`` (pairs).
    dataset
        See `make_dataset`.
    """

    def __init__(self, side: str, case: str, dataset: Path) -> None:
        graphs = MultiomeGraphs(dataset, view="pairs", split="train")
        torch.manual_seed(0)
        self.model = CisCrossRec.from_graphs(graphs, CisConfig(token_dropout=0.0, dropout=0.0))
        with torch.no_grad():  # attention that is not uniform
            self.model.expression.attention.query.normal_(0, 0.3)
            assert self.model.expression.attention.bias is not None
            self.model.expression.attention.bias.normal_()
        self.graphs = graphs
        kind, number = case.split("_")
        self.step = getattr(self, f"_{side}_{kind}")(int(number))

    def growth_mb(self) -> float:
        """Peak memory of two steps over the loaded side."""
        with PeakMemory() as memory:
            self.step()
            self.step()
        return memory.growth_mb

    def seconds(self) -> float:
        """Time of a step."""
        return seconds(self.step, at_least=0.5)

    def loss(self) -> float:
        """Mean likelihood of the first cell."""
        return float(self.first().detach())

    def _cells(self, n: int) -> tuple[Profiles, Profiles]:
        cells = np.flatnonzero((self.graphs.cells["split"] == "train").to_numpy())[:n]
        return Profiles.of(self.graphs.rna_rows, cells), Profiles.of(self.graphs.atac_rows, cells)

    def _likelihood(
        self, rates: Callable[[Tensor, Profiles, Tensor], Tensor], n: int
    ) -> Callable[[], Tensor]:
        rna, atac = self._cells(n)
        counts = rna.dense(self.model.edges.n_genes)
        offset = self.model.depth(self.model.atac.depths(atac))

        def forward() -> Tensor:
            links = rates(self.model.keys(), atac, self.model.places(atac))
            return self.model.likelihood.loss(links + offset, counts)

        return forward

    def _ours_expression(self, n: int) -> Callable[[], None]:
        self.first = self._likelihood(self.model.expression, 1)
        return self._with_gradients(self._likelihood(self.model.expression, n))

    def _reference_expression(self, _: int) -> Callable[[], None]:
        dense = DenseExpression(self.model, self.graphs.genes.chrom, self.graphs.peaks.chrom)
        self.first = self._likelihood(dense, 1)
        return self._with_gradients(self.first)

    def _ours_whole(self, n: int) -> Callable[[], None]:
        batch = next(iter(GraphLoader(self.graphs, n, shuffle=True, seed=0, cis=False)))
        return self._with_gradients(lambda: self.model.loss(batch)["loss"])

    def _with_gradients(self, forward: Callable[[], Tensor]) -> Callable[[], None]:
        def step() -> None:
            self.model.zero_grad()
            forward().backward()

        return step


def compare(dataset: Path, quick: bool) -> dict[str, dict[str, float]]:
    """Run all cases; times are seconds a cell or a pair."""
    cases = (("ours", "expression_32"), ("reference", "expression_1"), ("ours", "expression_1"))
    workers = [Worker(__file__, ["--worker", side, case, str(dataset)]) for side, case in cases]
    with workers[0], workers[1], workers[2]:
        growth = [worker.ask("growth_mb") for worker in workers]
        losses = [worker.ask("loss") for worker in workers]
        difference = abs(losses[0] - losses[1]) / abs(losses[1])
        if not difference <= _TOLERANCE:
            sys.exit(f"the likelihoods of the two sides differ by {difference:.1e}: {losses}.")
        times = alternate(workers, 2 if quick else 5)
    our_s, reference_s = statistics.median(times[0]) / _BATCH, statistics.median(times[1])
    alone_s = statistics.median(times[2])
    rows = {
        "expression_1": {"ours_s": alone_s, "reference_s": reference_s, "speedup": reference_s / alone_s},
        "expression": {
            "ours_s": our_s,
            "reference_s": reference_s,
            "speedup": reference_s / our_s,
            "ours_peak_mb": growth[0],
            "reference_peak_mb": growth[1],
            "outputs_difference": difference,
        },
    }
    for pairs in (32,) if quick else (32, 512):
        with Worker(__file__, ["--worker", "ours", f"whole_{pairs}", str(dataset)]) as ours:
            memory = ours.ask("growth_mb")
            step_s = statistics.median(ours.ask("seconds") for _ in range(3))
        rows[f"whole_step_{pairs}"] = {
            "ours_s": step_s / pairs,
            "pairs_per_s": pairs / step_s,
            "ours_peak_mb": memory,
        }
    return rows


def epoch(dataset: Path, run: Path) -> dict[str, float]:
    """Train for one epoch as `scweave train` does; minutes of each part."""
    from scweave.models.registry import kind_of
    from scweave.models.training import TrainOptions, fit

    kind = kind_of("crossrec")
    options = TrainOptions(1, kind.batch_size, kind.lr, kind.weight_decay)
    run.mkdir()
    graphs = MultiomeGraphs(dataset, view="pairs", split="train")
    with PeakMemory() as memory:
        fit_s = seconds(lambda: fit(kind, dataset, run, CisConfig(), options, progress=False))
    start_s = seconds(lambda: CisCrossRec.from_graphs(graphs, CisConfig()))
    cells = int((graphs.cells["split"] == "train").sum())
    return {
        "ours_s": fit_s,
        "minutes": fit_s / 60,
        "start_minutes": start_s / 60,
        "training_cells": cells,
        "cells_per_s": cells / (fit_s - start_s),
        "pairs_per_s": len(graphs) / (fit_s - start_s),
        "peak_mb": memory.growth_mb,
        **profile(graphs, kind.batch_size),
    }


def profile(graphs: MultiomeGraphs, size: int) -> dict[str, float]:
    """Seconds of the parts of one step, each forward and backward on its own."""
    torch.manual_seed(0)
    model = CisCrossRec.from_graphs(graphs, CisConfig())
    loader = iter(GraphLoader(graphs, size, shuffle=True, seed=0, cis=False))
    batch = next(loader)
    rna, atac = Profiles.genes(batch), Profiles.peaks(batch)
    counts, offset = rna.dense(model.edges.n_genes), model.depth(model.atac.depths(atac))
    some = torch.arange(min(model.config.sequence_peaks, model.edges.n_peaks))
    assert model.dna is not None
    assert model.trans is not None
    dna, trans = model.dna, model.trans
    z = model.encode(model.atac, atac).detach()
    parts: dict[str, Callable[[], Any]] = {
        "read": lambda: next(loader),
        "encoders": lambda: (model.encode(model.rna, rna) + model.encode(model.atac, atac)).sum().backward(),
        "attention": lambda: model.expression.weights(model.keys()).sum().backward(),
        "links": lambda: model.expression(model.keys(), atac, model.places(atac)).sum().backward(),
        "likelihood": lambda: model.likelihood.loss(
            offset.expand_as(counts).requires_grad_(), counts
        ).backward(),
        "trans": lambda: trans(z).sum().backward(),
        "dna": lambda: dna.read(some).sum().backward(),
    }
    return {f"{name}_s": seconds(work) for name, work in parts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--quick", action="store_true", help="fewer cells and repeats")
    parser.add_argument("--epoch", action="store_true", help="train 10,000 cells for one epoch")
    parser.add_argument("--worker", nargs=3, metavar=("SIDE", "CASE", "DATASET"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        side, case, dataset = arguments.worker
        loaded = Side(side, case, Path(dataset))
        serve({name: getattr(loaded, name) for name in ("growth_mb", "loss", "seconds")})
        return
    with tempfile.TemporaryDirectory() as folder, Waiting() as waiting:
        cells = (_EPOCH_CELLS if arguments.epoch else _CELLS)[arguments.quick]
        made = make_dataset(Path(folder), cells)
        if arguments.epoch:
            found: dict[str, Any] = dict(epoch(made, Path(folder) / "run"))
        else:
            rows = compare(made, arguments.quick)
            found = {**rows.pop("expression"), "cases": rows}
    found |= {"threads": torch.get_num_threads(), "waiting_for_cores": waiting.share}
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:20}{value}")


if __name__ == "__main__":
    main()
