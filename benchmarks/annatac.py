"""What does annATAC cost against the same function written plainly? Time and memory of a training step.

16,656 islands and the token that is appended, sizes l; a step is forward and backward, without the optimizer.
Both sides have the same weights and the same cells:

alone
    fine-tuning on one cell, published mode (the main case)
batch_4
    the same on 4 cells at once, on both sides
pretraining
    masked pre-training on one cell, published mode; the plain side tells the values of all tokens, as published
default, default_l, default_all
    fine-tuning on 32 cells in default mode: another function, which reads the open islands alone, beside the
    plain published step of one cell. At its own sizes; at sizes l, of 4 cells; and at its own sizes over all
    islands that hold peaks, as it is by default

Times are seconds a cell. A cell has 16,657 tokens where published, its open islands by default. Outputs, losses
and gradients are compared first (but in default mode). Each side runs in a process of its own; the timed runs
alternate, and medians are given. Memory is growth over the loaded model and inputs.

Cells are cells of pbmc_mosim40. Its peaks lie in 88,484 islands, of which 10,694 hold a transcription start site
(GENCODE 43); these and the 5,962 others that are open in most cells are taken: 5,436 of 16,656 are open in a mean
cell, and 8,384 of all. Without that data, islands are drawn: as many are open, with the same values.
``tss_islands`` and ``open_islands`` tell what was read.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anndata as ad
import numpy as np
import pandas as pd
import torch
from dense_annatac import DenseAnnAtac
from measure import Waiting, Worker
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch_geometric.data import Batch
from two_sides import SteppingSide, check, command_line, compare, serve_side, start, tell

from scweave.generators.genomes.gtf import read_genes
from scweave.graphs.collate import assemble
from scweave.graphs.schema import ATAC, GENE, PEAK, SOURCE
from scweave.models.annatac_config import SIZES
from scweave.models.annatac_published import AnnAtacConfig, PublishedAnnAtac, PublishedMaskedIslands
from scweave.models.annotation.island_places import IslandPlaces
from scweave.models.annotation.islands import Islands
from scweave.models.layers.profiles import Profiles

DATA = Path(os.environ.get("SCWEAVE_DATA", Path(__file__).parents[2] / "shared" / "data"))
CELLS, GTF = DATA / "pbmc_mosim40_atac.h5ad", DATA / "genome/hg38_gencode43_genes.gtf.gz"
ISLAND = 5_000  # bp
TYPES = 9
ALL, OPEN = (
    88_484,
    {"chosen": 0.326, "all": 0.0947},
)  # islands with peaks, and the share that is open in a cell
VALUES = (0.17, 0.52, 0.025, 0.18, 0.105)  # shares of the open islands that have 1 to 5, as in real cells
TOLERANCE = {"outputs": 1e-4, "gradients": 1e-3}  # float32, relative to the largest
COMPARED = 512  # drawn numbers of each gradient

Values = NDArray[np.int64]  # (cells, islands)
Mode = Literal["published", "pretraining", "default", "default_l"]
Which = Literal["chosen", "all"]


@dataclass(frozen=True)
class Case:
    """Cells on both sides, what ours does with them, and over which islands.

    The plain side takes the chosen islands; it pre-trains where ours does.
    """

    cells: int
    plain_cells: int
    mode: Mode
    islands: Which = "chosen"

    @property
    def compared(self) -> bool:
        """Whether both sides are the same function."""
        return not self.mode.startswith("default")

    def of(self, side: str) -> tuple[int, Mode, Which]:
        """Return cells, mode and islands of a side."""
        if side == "ours":
            return self.cells, self.mode, self.islands
        return self.plain_cells, self.mode if self.compared else "published", "chosen"


CASES = {
    "alone": Case(1, 1, "published"),
    "batch_4": Case(4, 4, "published"),
    "pretraining": Case(1, 1, "pretraining"),
    "default": Case(32, 1, "default"),
    "default_l": Case(4, 1, "default_l"),
    "default_all": Case(32, 1, "default", "all"),
}
FULL, QUICK = (16_656, 5), (500, 2)  # islands, and how often a step is timed


def real_cells() -> tuple[Values, NDArray[np.bool_]]:
    """Return all islands of 40 real cells, (cells, islands), and which of these islands hold a start site."""
    data, genes = ad.read_h5ad(CELLS), read_genes(GTF)
    peaks = data.var_names.to_series().str.extract(r"^(.+):(\d+)-\d+$").set_axis(["chrom", "start"], axis=1)
    bins, names = pd.factorize(_bins(peaks["chrom"], peaks["start"].astype(int)))
    islands = Islands(len(names), ISLAND)
    islands.of_peak = torch.from_numpy(bins)
    islands.n_peaks = torch.from_numpy(np.bincount(bins).astype(np.float32))[None]
    counts = sparse.csr_matrix(data.X, dtype=np.float32)
    parts = (torch.from_numpy(part) for part in (counts.indices.astype(np.int64), counts.data, counts.indptr))
    values = islands.read(Profiles(*parts)).dense(len(names)).numpy().astype(np.int64)
    return values, names.isin(_bins(genes["chrom"], genes["tss"]))


def _bins(chrom: pd.Series, start: pd.Series) -> pd.Series:
    return chrom.astype(str) + ":" + (start // ISLAND).astype(int).astype(str)


def cells_of(n_islands: int) -> tuple[dict[Which, Values], int | None]:
    """Return chosen and all islands of cells, and how many of those chosen hold a start site.

    Fewer islands than there are, of both, are drawn. Cells are random without the data.
    """
    rng = np.random.default_rng(0)
    n_all = n_islands * ALL // FULL[0]
    if not (CELLS.is_file() and GTF.is_file()):
        cells: dict[Which, Values] = {
            which: rng.choice(6, (40, n), p=[1 - OPEN[which], *(OPEN[which] * p for p in VALUES)])
            for which, n in (("chosen", n_islands), ("all", n_all))
        }
        return cells, None
    values, starts = real_cells()
    order = np.lexsort(
        [-(values > 0).sum(0), ~starts]
    )  # those with a start site first, of each the most open
    some, every = rng.permutation(order[: FULL[0]])[:n_islands], rng.permutation(ALL)[:n_all]
    return {"chosen": values[:, np.sort(some)], "all": values[:, np.sort(every)]}, int(starts[some].sum())


def make_batch(values: Values) -> Batch:
    """Lay cells side by side as graphs, each island being a peak."""
    cell, peak = values.nonzero()
    no_genes = np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(len(values), np.int64)
    peaks = peak.astype(np.int64), values[cell, peak].astype(np.float32), (values > 0).sum(1)
    attributes: dict[str, dict[str, Tensor]] = {GENE: {}, PEAK: {}}
    cells = {ATAC: torch.arange(len(values))}
    batch = assemble(cells, no_genes, peaks, attributes=attributes, cis=None, n_peaks=values.shape[1])
    batch[SOURCE] = torch.tensor(0)
    return batch


def make_model(mode: Mode, values: Values) -> Any:
    """Make an untrained model whose islands are the peaks in order."""
    torch.manual_seed(0)
    n = values.shape[1]
    model: Any
    if mode == "published":
        model = PublishedAnnAtac(
            n, TYPES, AnnAtacConfig(head_dropout=0.0)
        )  # so that both sides can be compared
    elif mode == "pretraining":
        model = PublishedMaskedIslands(n, AnnAtacConfig())
    else:
        from scweave.models.annatac import AnnAtac, OpenAnnAtacConfig

        known = {field.name for field in fields(OpenAnnAtacConfig)}
        sizes = {name: size for name, size in SIZES["l"].items() if name in known and mode == "default_l"}
        model = AnnAtac(n, TYPES, OpenAnnAtacConfig(**sizes))
    model.islands.bin.copy_(torch.arange(n))
    model.place([pd.DataFrame({"chrom": "chr1", "start": np.arange(n) * ISLAND})], ["chr1"])
    openness = torch.from_numpy((values > 0).mean(0).astype(np.float32))
    model.encoder.settle(IslandPlaces(torch.randn(n, model.config.width), openness, model.config.width))
    return model


@dataclass(frozen=True)
class Work:
    """Forward to the loss of cells, and their logits."""

    loss: Callable[[], Tensor]
    outputs: Callable[[], Tensor]


def our_work(model: Any, mode: Mode, values: Values) -> Work:
    """By scweave."""
    batch, codes = make_batch(values), torch.arange(len(values)) % TYPES
    if mode == "pretraining":
        return Work(lambda: model.loss(batch)["loss"], lambda: model.ask(batch)[1])
    if mode.startswith("default"):
        model.evidence.fit([model.islands(batch)], codes.numpy())
    return Work(lambda: model.loss(batch, codes)["loss"], lambda: model(batch).logits)


def plain_work(model: Any, mode: Mode, values: Values) -> Work:
    """Written plainly."""
    dense, codes = DenseAnnAtac(model), torch.arange(len(values)) % TYPES
    if mode == "published":
        tokens = torch.from_numpy(np.pad(values, ((0, 0), (0, 1))))
        return Work(lambda: dense.annotation_loss(tokens, codes), lambda: dense.annotate(tokens))
    with torch.no_grad():
        masked, _ = model.ask(make_batch(values))
    shown = masked.islands
    tokens = shown.dense(values.shape[1] + 1).long()
    asked = torch.zeros_like(tokens, dtype=torch.bool)
    asked[shown.cell[masked.asked], shown.ids[masked.asked]] = True
    return Work(lambda: dense.masked_loss(tokens, asked, masked.truth), lambda: dense.tell(tokens)[asked])


class Side(SteppingSide):
    """One side of one case.

    Parameters
    ----------
    side
        ``ours`` or ``reference``.
    case
        A name in ``CASES``.
    file
        `Values` of cells.
    """

    def __init__(self, side: str, case: str, file: str) -> None:
        cells, mode, which = CASES[case].of(side)
        values, make = np.load(file)[which], our_work if side == "ours" else plain_work
        self.model = make_model(mode, values)
        self.work = make(self.model, mode, values[np.arange(cells) % len(values)])
        few = values[:2, :64]  # loads the code that both sides need, so that it is no one's memory
        make(make_model(mode, few), mode, few).loss().backward()

    def step(self) -> None:
        """One forward and backward."""
        self.model.zero_grad()
        self.work.loss().backward()

    def results(self) -> dict[str, list[list[float]]]:
        """Loss, logits, and some of each parameter's gradient with its length."""
        self.model.zero_grad()
        loss = self.work.loss()
        loss.backward()
        with torch.no_grad():
            outputs = self.work.outputs()
        gradients = [p.grad.flatten() for p in self.model.parameters() if p.grad is not None]
        self.model.zero_grad()
        return {
            "outputs": [[loss.item()], outputs.flatten().tolist()],
            "gradients": [[float(g.norm()), *g[_drawn(len(g))].tolist()] for g in gradients],
        }


def _drawn(n: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))[:COMPARED]


def largest_difference(ours: list[list[float]], reference: list[list[float]]) -> float:
    """Largest difference of numbers, relative to the largest number of their row."""
    pairs = [(np.array(mine), np.array(other)) for mine, other in zip(ours, reference, strict=True)]
    return max(float(np.abs(mine - other).max() / np.abs(other).max()) for mine, other in pairs)


def agree(case: str, ours: Worker, reference: Worker) -> dict[str, float]:
    """Compare the results of both sides, where they are the same function."""
    if not CASES[case].compared:
        return {}
    mine, other = ours.ask("results"), reference.ask("results")
    return check(case, {name: largest_difference(mine[name], other[name]) for name in TOLERANCE}, TOLERANCE)


class Plain:
    """Processes of the plain side: cases that ask the same of it share one."""

    def __init__(self, stack: ExitStack, options: list[str]) -> None:
        self.stack, self.options = stack, options
        self.started: dict[tuple[int, Mode, Which], Worker] = {}

    def of(self, case: str) -> Worker:
        """Return the process for a case."""
        asked = CASES[case].of("reference")
        if asked not in self.started:
            worker = start(__file__, "reference", case, self.options)
            self.started[asked] = self.stack.enter_context(worker)
        return self.started[asked]


def compare_case(case: str, plain: Plain, file: Path, repeats: int) -> dict[str, float]:
    """Run one case on both sides; times are seconds a cell."""
    (our_cells, _, which), (plain_cells, _, _) = CASES[case].of("ours"), CASES[case].of("reference")
    with start(__file__, "ours", case, plain.options) as ours:
        items = our_cells, plain_cells
        found = compare(ours, plain.of(case), partial(agree, case), repeats=repeats, items=items)
    values = np.load(file)
    plain_tokens = values["chosen"].shape[1] + 1
    opened = float((values[which][np.arange(our_cells) % len(values[which])] > 0).sum() / our_cells)
    return {
        **found,
        "ours_cells_per_s": 1 / found["ours_s"],
        "ours_tokens_per_s": (plain_tokens if CASES[case].compared else opened) / found["ours_s"],
        "reference_tokens_per_s": plain_tokens / found["reference_s"],
    }


def main() -> None:
    parser = command_line(__doc__, quick="500 islands, each timed twice")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of each side")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="run these only")
    parser.add_argument("--file", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.worker:
        serve_side(Side(*arguments.worker, arguments.file), "results")
        return
    n_islands, repeats = QUICK if arguments.quick else FULL
    cells, n_starts = cells_of(n_islands)
    with tempfile.TemporaryDirectory() as folder, Waiting() as waiting, ExitStack() as stack:
        np.savez(file := Path(folder) / "cells.npz", chosen=cells["chosen"], all=cells["all"])
        plain = Plain(stack, ["--file", str(file), "--threads", str(arguments.threads)])
        rows = {case: compare_case(case, plain, file, repeats) for case in arguments.cases}
    about = {
        "cells": "random" if n_starts is None else "pbmc_mosim40",
        "islands": n_islands,
        "tss_islands": n_starts,
        "open_islands": {which: round(float((v > 0).sum(1).mean())) for which, v in cells.items()},
        "threads": arguments.threads,
        "waiting_for_cores": waiting.share,
    }
    tell(rows, "alone", about, what="a cell", as_json=arguments.json)


if __name__ == "__main__":
    main()
