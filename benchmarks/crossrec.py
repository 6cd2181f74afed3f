"""What does CrossRec cost against the same function over dense matrices? Time and memory of a training step.

Both sides have the same weights and the same pairs, of the size of a real 10x Multiome cell: 3,311
expressed genes and 17,888 open peaks, out of 20,771 genes and 169,180 peaks with 256 bp of sequence
on 29 chromosomes. How many ids the cells of a batch share is that of pbmc_mosim40 (for genes, fewer).
A step is forward and backward, projections and embeddings included, without the optimizer:

matching
    one pair (the main case), and a batch of 32 against the dense layer one pair at a time;
    the figures of the batch are seconds a pair
translation
    one pair: every gene against its open peaks, up to the 0/1 prediction that the loss reads

Logits, loss and gradients of both sides are compared first. Each side runs in a process of its own;
the timed runs alternate, and medians are given. Memory is growth over the loaded model and inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from measure import Waiting, Worker
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch
from two_sides import SteppingSide, check, command_line, compare, serve_side, start, tell

from dense_crossrec import DenseCrossRec
from scweave.graphs.collate import assemble
from scweave.graphs.schema import ACCESSIBILITY, CELL, EXPRESSION, GENE, ID, MATCH, PEAK, SEQUENCE_LENGTH
from scweave.models.crossrec import CrossRec, CrossRecConfig
from scweave.models.layers.node_features import NodeFeatures

# Mb of chr1 to chr22, X, Y, and five scaffolds: the share of genes and peaks on each chromosome.
_LENGTHS = (
    *(248.96, 242.19, 198.30, 190.21, 181.54, 170.81, 159.35, 145.14, 138.39, 133.80, 135.09, 133.28),
    *(114.36, 107.04, 101.99, 90.34, 83.26, 80.37, 58.62, 64.44, 46.71, 50.82, 156.04, 57.23),
    *(0.18, 0.17, 0.16, 0.15, 0.02),
)
# Spread of the log frequency of a feature: 32 cells of pbmc_mosim40 open 7.2 times the peaks of one
# cell, and this gives 7.0 at the size of that data.
_SPREAD = 1.9
TOLERANCE = {"outputs": 1e-4, "gradients": 1e-3}  # float32; the dense bias gradients sum 18,000 rows


@dataclass(frozen=True)
class Size:
    """Vocabularies, nodes a cell, and how often a step is timed."""

    genes: int
    peaks: int
    expressed: int
    open: int
    repeats: int
    batch_repeats: int


FULL = Size(20_771, 169_180, 3_311, 17_888, repeats=7, batch_repeats=3)
QUICK = Size(6_000, 40_000, 1_000, 5_000, repeats=3, batch_repeats=3)
Step = Callable[[], tuple[Tensor, Tensor]]  # -> outputs, loss
_TINY = (64, 256)  # nodes of the pair that warms a process up
CASES = {"matching": 1, "matching_batch_32": 32, "translation": 1}


def make_model(size: Size, rng: np.random.Generator) -> CrossRec:
    """Make an untrained model with random static attributes, chromosomes as in hg38."""
    torch.manual_seed(0)
    share = np.array(_LENGTHS) / sum(_LENGTHS)
    gene_chrom, peak_chrom = (
        torch.from_numpy(np.sort(rng.choice(len(share), n, p=share))) for n in (size.genes, size.peaks)
    )
    sequence = torch.from_numpy(rng.integers(0, 4, (size.peaks, SEQUENCE_LENGTH), dtype=np.uint8))
    return CrossRec(
        NodeFeatures(gene_chrom, len(share), 256, numbers=torch.rand(size.genes, 4)),
        NodeFeatures(peak_chrom, len(share), 256, sequence=sequence),
        CrossRecConfig(dropout=0.0),  # so that both sides can be compared
    )


def make_batch(size: Size, n_graphs: int, rng: np.random.Generator) -> Batch:
    """Lay cells side by side that draw features by a frequency of their own."""
    sides = []
    for n_features, n_nodes in ((size.genes, size.expressed), (size.peaks, size.open)):
        favour = rng.normal(0, _SPREAD, n_features)
        ids = np.concatenate([_draw(favour, n_nodes, rng) for _ in range(n_graphs)])
        counts = (1 + rng.poisson(1.3, len(ids))).astype(np.float32)
        sides.append((ids, counts, np.full(n_graphs, n_nodes)))
    match = torch.arange(n_graphs) % 2 == 0
    return assemble(
        {MATCH: match.float()}, *sides, attributes={GENE: {}, PEAK: {}}, cis=None, n_peaks=size.peaks
    )


def _draw(favour: NDArray[np.float64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw n distinct features, those that are favoured more often (exponential race), in order."""
    race = np.log(rng.exponential(size=len(favour))) - favour
    return np.sort(np.argpartition(race, n)[:n])


def our_step(model: CrossRec, batch: Batch, case: str) -> Step:
    """Forward to the loss of a batch, by scweave."""
    if case != "translation":
        return lambda: _matching_loss(model(batch).logits, batch[CELL][MATCH])
    positive = batch[CELL][MATCH] > 0
    target, enough = model.expression(batch, positive), model.config.on_above
    return lambda: _translation_loss(model, model.translate(batch, positive, enough=enough), target)


def dense_step(model: CrossRec, batch: Batch, case: str) -> Step:
    """Forward to the loss of the first pair of a batch, dense."""
    dense = DenseCrossRec(model)
    genes, peaks = (slice(0, int(batch[node].ptr[1])) for node in (GENE, PEAK))
    open_peaks = batch[PEAK][ID][peaks], batch[PEAK][ACCESSIBILITY][peaks]
    expressed = batch[GENE][ID][genes], batch[GENE][EXPRESSION][genes]
    if case != "translation":
        return lambda: _matching_loss(dense(*expressed, *open_peaks), batch[CELL][MATCH][:1])
    target = torch.zeros(1, len(model.gene_features.chrom)).index_copy(1, expressed[0], expressed[1][None])
    return lambda: _translation_loss(model, dense.translate(*open_peaks)[None], target)


def _matching_loss(logits: Tensor, match: Tensor) -> tuple[Tensor, Tensor]:
    return logits, F.cross_entropy(logits, match.long())


def _translation_loss(model: CrossRec, counts: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    switched = model.switch(counts)
    return switched.mean(1), F.mse_loss(switched, target)


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
        rng = np.random.default_rng(0)
        self.model = make_model(size, rng)
        tiny = Size(size.genes, size.peaks, *_TINY, repeats=1, batch_repeats=1)
        batch = make_batch(size, CASES[case] if side == "ours" else 1, rng)
        make = our_step if side == "ours" else dense_step
        self.forward = make(self.model, batch, case)
        self._warm_up(make(self.model, make_batch(tiny, 1, rng), "matching"))

    def _warm_up(self, forward: Step) -> None:
        """Load the code that both sides need, so that it counts as no one's memory."""
        forward()[1].backward()
        self.model.zero_grad()

    def step(self) -> tuple[Tensor, Tensor]:
        """One forward and backward."""
        self.model.zero_grad()
        outputs, loss = self.forward()
        loss.backward()
        return outputs.detach(), loss.detach()

    def results(self) -> dict[str, list[float]]:
        """Loss and outputs (logits, or the share of genes on), and the length of each parameter's gradient."""
        outputs, loss = self.step()
        return {
            "outputs": [loss.item(), *outputs.flatten().tolist()],
            "gradients": [
                0.0
                if p.grad is None
                else float(p.grad.coalesce().values().norm() if p.grad.is_sparse else p.grad.norm())
                for p in self.model.parameters()
            ],
        }


def largest_difference(ours: list[float], reference: list[float], *, each: bool) -> float:
    """Largest difference of numbers, relative to each of them or to the largest of all."""
    mine, other = np.array(ours), np.array(reference)
    scale = np.abs(other) if each else np.abs(other).max()
    return float((np.abs(mine - other) / np.maximum(scale, 1e-6)).max())


def differences(ours: Worker, reference: Worker) -> dict[str, float]:
    """Compare the results of both sides."""
    mine, other = ours.ask("results"), reference.ask("results")
    return {name: largest_difference(mine[name], other[name], each=name == "gradients") for name in TOLERANCE}


def compare_case(case: str, quick: bool) -> dict[str, float]:
    """Run one case on both sides; times are seconds a pair."""
    pairs, size = CASES[case], QUICK if quick else FULL
    options = ["--quick"] if quick else []

    def agree(ours: Worker, reference: Worker) -> dict[str, float]:
        return check(case, differences(ours, reference), TOLERANCE) if pairs == 1 else {}

    with (
        start(__file__, "ours", case, options) as ours,
        start(__file__, "reference", case, options) as reference,
    ):
        repeats = size.repeats if case == "matching" else size.batch_repeats
        return compare(ours, reference, agree, repeats=repeats, items=(pairs, 1))


def main() -> None:
    arguments = command_line(__doc__, quick="a cell and vocabularies of about a third").parse_args()
    if arguments.worker:
        serve_side(Side(*arguments.worker, QUICK if arguments.quick else FULL), "results")
        return
    with Waiting() as waiting:
        rows = {case: compare_case(case, arguments.quick) for case in CASES}
    machine = {"threads": torch.get_num_threads(), "waiting_for_cores": waiting.share}
    tell(rows, "matching", machine, what="a pair", as_json=arguments.json)


if __name__ == "__main__":
    main()
