"""What does HitAnno cost against the same function over all tokens? Time and memory of a training step.

Both sides have the same weights and the same cells: 9 cell types of 2,000 marker peaks each, 5 % of them open.
Cells are cells of pbmc_mosim40 over randomly drawn peaks, thinned to 5 % on average, so that peaks and cells
differ as real ones do (random ones without that data). A step is forward and backward, without the optimizer:

batch_32
    32 cells, ours; the dense transformer reads one of them at a time (the main case; seconds a cell)
alone
    one cell on both sides

Logits, losses and gradients of both sides are compared first. Each side runs in a process of its own; the
timed runs alternate, and medians are given. Memory is growth over the loaded model and inputs.

--epoch and --scale measure whole trainings and annotations instead, of both modes: see `hitanno_epoch`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import hitanno_epoch
import numpy as np
import torch
import torch.nn.functional as F
from measure import Waiting, Worker
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch_geometric.data import Batch
from two_sides import SteppingSide, check, command_line, compare, serve_side, start, tell

from dense_hitanno import DenseHitAnno
from scweave.graphs.collate import assemble
from scweave.graphs.schema import GENE, PEAK
from scweave.models.hitanno_published import HitAnnoConfig, PublishedHitAnno

DATA = Path(os.environ.get("SCWEAVE_DATA", Path(__file__).parents[2] / "shared" / "data"))
CELLS = DATA / "pbmc_mosim40_atac.h5ad"
OPEN = 0.05  # of the marker peaks of a cell
TOLERANCE = {"outputs": 1e-4, "gradients": 1e-3}  # float32, relative to the largest


@dataclass(frozen=True)
class Size:
    """Types, marker peaks of each, and how often a step is timed."""

    types: int
    per_type: int
    repeats: int

    @property
    def peaks(self) -> int:
        """Marker peaks of all types."""
        return self.types * self.per_type


CHECKED = 2  # cells whose results are compared
FULL, QUICK = Size(9, 2_000, repeats=5), Size(9, 300, repeats=3)
CASES = {"batch_32": 32, "alone": 1}
Step = Callable[[], tuple[Tensor, Tensor]]  # -> logits, loss


def make_model(size: Size) -> PublishedHitAnno:
    """Make an untrained model whose tokens are the peaks in order."""
    torch.manual_seed(0)
    pointers = torch.arange(size.types + 1) * size.per_type
    config = HitAnnoConfig(dropout=0.0, token_dropout=0.0)  # so that both sides can be compared
    return PublishedHitAnno(torch.arange(size.peaks), pointers, torch.zeros(size.peaks), config)


def open_peaks(size: Size, n_cells: int) -> NDArray[np.bool_]:
    """Draw cells, (cells, peaks)."""
    rng = np.random.default_rng(0)
    if not CELLS.is_file():
        return rng.random((n_cells, size.peaks)) < OPEN
    counts = sparse.csr_matrix(ad.read_h5ad(CELLS).X)
    seen = counts[:, np.sort(rng.permutation(counts.shape[1])[: size.peaks])].toarray() > 0
    drawn = seen[rng.integers(0, len(seen), n_cells)]
    return drawn & (rng.random(drawn.shape) < OPEN / seen.mean())


def make_batch(opened: NDArray[np.bool_]) -> Batch:
    """Lay cells side by side as graphs."""
    _, peak = opened.nonzero()
    no_genes = np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(len(opened), np.int64)
    peaks = peak.astype(np.int64), np.ones(len(peak), np.float32), opened.sum(1)
    return assemble({}, no_genes, peaks, attributes={GENE: {}, PEAK: {}}, cis=None, n_peaks=opened.shape[1])


def our_step(model: PublishedHitAnno, opened: NDArray[np.bool_]) -> Step:
    """Forward to the loss of cells, by scweave."""
    batch, codes = make_batch(opened), torch.arange(len(opened)) % len(model.sets)
    return lambda: _loss(model(batch).logits, codes)


def dense_step(model: PublishedHitAnno, opened: NDArray[np.bool_]) -> Step:
    """Forward to the loss of cells, over all tokens."""
    dense, tokens = DenseHitAnno(model), torch.from_numpy(opened.astype(np.int64))
    codes = torch.arange(len(opened)) % len(model.sets)
    return lambda: _loss(dense(tokens), codes)


def _loss(logits: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    return logits, F.cross_entropy(logits, codes)


class Side(SteppingSide):
    """One side of one case.

    Parameters
    ----------
    side
        ``ours`` or ``reference``.
    case
        A name in ``CASES``.
    size
        See `Size`.
    """

    def __init__(self, side: str, case: str, size: Size) -> None:
        self.model, ours = make_model(size), side == "ours"
        make = our_step if ours else dense_step
        opened = open_peaks(size, CASES[case])
        self.forward = make(self.model, opened if ours else opened[:1])
        self.checked = make(self.model, opened[:CHECKED])
        warm = Size(2, 8, repeats=1)  # loads the code that both sides need, so that it is no one's memory
        make(make_model(warm), open_peaks(warm, 1))()[1].backward()

    def step(self) -> tuple[Tensor, Tensor]:
        """One forward and backward."""
        self.model.zero_grad()
        logits, loss = self.forward()
        loss.backward()
        return logits.detach(), loss.detach()

    def results(self) -> dict[str, list[float]]:
        """Loss and logits of the first cells, and the length of each parameter's gradient."""
        self.model.zero_grad()
        logits, loss = self.checked()
        loss.backward()
        lengths = [0.0 if p.grad is None else float(p.grad.norm()) for p in self.model.parameters()]
        self.model.zero_grad()
        alone = logits if len(logits) < CHECKED else self.forward()[0][: len(logits)]  # read among all others
        return {
            "outputs": [loss.item(), *logits.flatten().tolist()],
            "batch": alone.flatten().tolist(),
            "gradients": lengths,
        }


def largest_difference(ours: list[float], reference: list[float]) -> float:
    """Largest difference of numbers, relative to each, or to a thousandth of the largest where that is more."""
    mine, other = np.array(ours), np.array(reference)
    return float((np.abs(mine - other) / np.maximum(np.abs(other), 1e-3 * np.abs(other).max())).max())


def differences(ours: Worker, reference: Worker) -> dict[str, float]:
    """Compare the results of both sides, those of cells read alone and among others."""
    mine, other = ours.ask("results"), reference.ask("results")
    n = min(len(mine["batch"]), len(other["outputs"]) - 1)
    outputs = mine["outputs"] + mine["batch"][:n], other["outputs"] + other["outputs"][1 : n + 1]
    return {
        "outputs": largest_difference(*outputs),
        "gradients": largest_difference(mine["gradients"], other["gradients"]),
    }


def compare_case(case: str, quick: bool) -> dict[str, float]:
    """Run one case on both sides; times are seconds a cell."""
    size, options = (QUICK, ["--quick"]) if quick else (FULL, [])

    def agree(ours: Worker, reference: Worker) -> dict[str, float]:
        return check(case, differences(ours, reference), TOLERANCE)

    with (
        start(__file__, "ours", case, options) as ours,
        start(__file__, "reference", case, options) as reference,
    ):
        return compare(ours, reference, agree, repeats=size.repeats, items=(CASES[case], 1))


def main() -> None:
    parser = command_line(__doc__, quick="300 marker peaks a type")
    parser.add_argument(
        "--epoch", action="store_true", help="train on 24,000 cells x 18,000 peaks for an epoch"
    )
    parser.add_argument("--scale", action="store_true", help="annotate 10,000 and 100,000 cells")
    arguments = parser.parse_args()
    if arguments.worker:
        serve_side(Side(*arguments.worker, QUICK if arguments.quick else FULL), "results")
        return
    with Waiting() as waiting:
        if arguments.epoch or arguments.scale:
            measured = hitanno_epoch.epoch if arguments.epoch else hitanno_epoch.scale
            found = measured(quick=arguments.quick)
        else:
            rows = {case: compare_case(case, arguments.quick) for case in CASES}
    machine = {"threads": torch.get_num_threads(), "waiting_for_cores": waiting.share}
    if arguments.epoch or arguments.scale:
        print(json.dumps({**found, **machine}))
        return
    cells = {"cells": "pbmc_mosim40" if CELLS.is_file() else "random"}
    tell(rows, "batch_32", {**cells, **machine}, what="a cell", as_json=arguments.json)


if __name__ == "__main__":
    main()
