"""HitAnno, corrected: every type reads a sentence of the cell's open peaks, then the types are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, optim
from torch_geometric.data import Batch

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.schema import ATAC
from .annotation.calibration import Calibration
from .annotation.model import AnnotatorModel, Reading, vocabulary
from .annotation.peak_weights import PeakWeights
from .layers.profiles import Profiles
from .layers.type_comparison import TypeComparison
from .layers.type_evidence import TypeEvidence

Int64 = NDArray[np.int64]

_MARKERS: Final = 100  # of each type, as told to the user
_MOST: Final = 20_000  # training cells that scales are fitted on
_CHUNK: Final = 1024  # cells at a time


@dataclass(frozen=True)
class SentenceConfig:
    """What can be chosen of HitAnno.

    Attributes
    ----------
    smoothing
        Weight of the peaks' shares among all types in those of one type, in peaks.
    leave_one_out
        Whether the comparison learns from evidence that does not know the cell itself; without it, it learns to
        trust evidence that new cells do not have.
    depth
        Whether the comparison knows how many peaks are open.
    cell_layers
        Transformer blocks over the types of a cell, in addition to the linear map.
    dropout
        In the blocks.
    balance
        Power of 1 / cells with which types weigh in the loss: 0 as they are, 1 all alike.
    shrinkage
        Weight of the squared map in the loss, divided by the training cells.
    """

    smoothing: float = 0.1
    leave_one_out: bool = True
    depth: bool = True
    cell_layers: int = 0
    dropout: float = 0.2
    balance: float = 0.35
    shrinkage: float = 5.0

    def __post_init__(self) -> None:
        for good, problem in (
            (1e-6 <= self.smoothing <= 1e6, f"smoothing={self.smoothing}: choose a number from 1e-6 to 1e6"),
            (self.cell_layers >= 0, f"cell_layers={self.cell_layers}: must not be negative"),
            (0 <= self.dropout < 1, f"dropout={self.dropout}: choose a number from 0 to below 1"),
            (0 <= self.balance <= 1, f"balance={self.balance}: choose a number from 0 to 1"),
            (0 <= self.shrinkage < np.inf, f"shrinkage={self.shrinkage}: must not be negative"),
        ):
            if not good:
                raise InputError(f"--set {problem}.")


class HitAnno(AnnotatorModel):
    """Evidence of the open peaks for each type, compared across types.

    All open peaks are in the sentence of every type; closed ones, a hundred times as many, are not read. What a
    peak says for a type is counted, not trained (`TypeEvidence`); what is trained is how the types' evidence is
    weighed against each other at the depth of the cell (`TypeComparison`), on evidence of training cells
    that leaves out the cell itself.

    Parameters
    ----------
    n_peaks, n_types
        Sizes.
    config
        See `SentenceConfig`.

    Attributes
    ----------
    evidence, comparison
        The two levels.

    Shapes
    ------
    A step costs O(open peaks of all cells · types).
    """

    kind: ClassVar[str] = "hitanno"
    modalities = (ATAC,)
    config: SentenceConfig

    def __init__(self, n_peaks: int, n_types: int, config: SentenceConfig) -> None:
        super().__init__()
        self.config = config
        self.evidence = TypeEvidence(n_peaks, n_types, smoothing=config.smoothing)
        self.comparison = TypeComparison(n_types, blocks=config.cell_layers, dropout=config.dropout)
        self.scale: Tensor
        self.depth: Tensor
        self.importance: Tensor
        self.n_trained: Tensor
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("depth", torch.tensor([0.0, 1.0]))  # mean and spread of ln(1 + open peaks)
        self.register_buffer("importance", torch.ones(n_types))
        self.register_buffer("n_trained", torch.ones(()))
        self.calibration = Calibration(n_types, n_types)

    @classmethod
    def from_graphs(cls, graphs: MultiomeGraphs, config: SentenceConfig, *, seed: int = 0) -> Self:
        """Count the evidence of the labelled training cells given."""
        graphs.require(cls.modalities, "hitanno")
        types, codes = vocabulary(graphs)
        _, cells = graphs.pairs_of(range(len(graphs)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(len(graphs.peaks), len(types), config)
        model.cell_types = types
        model.evidence.fit(Profiles.chunks(graphs.atac_rows, cells), codes)
        sizes = np.bincount(codes, minlength=len(types))
        importance = (1.0 / sizes) ** config.balance
        model.importance.copy_(torch.from_numpy(importance / importance[codes].mean()))
        model.n_trained.fill_(len(cells))
        some = np.sort(np.random.default_rng([seed, 6]).permutation(len(cells))[:_MOST])
        model._fit_scales(graphs, cells[some], codes[some])
        return model

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: SentenceConfig, n_chrom: int) -> Self:
        """Make a model of the shapes that saved weights have."""
        del n_chrom
        n_peaks, n_types = tensors["evidence.table"].shape
        return cls(n_peaks, n_types, config)

    @torch.no_grad()
    def _fit_scales(
        self,
        graphs: MultiomeGraphs,
        cells: Int64,
        codes: Int64,
    ) -> None:
        """Measure depth and the spread of what the comparison will learn from."""
        found, depths = [], []
        for begin in range(0, len(cells), _CHUNK):
            some = Profiles.of(graphs.atac_rows, cells[begin : begin + _CHUNK])
            found.append(self._trained_on(some, torch.from_numpy(codes[begin : begin + _CHUNK])))
            depths.append(_depth(some))
        depth = torch.cat(depths)
        self.scale.fill_(torch.cat(found).std(correction=0).clamp_min(1e-6))
        self.depth.copy_(torch.stack([depth.mean(), depth.std(correction=0).clamp_min(1e-3)]))

    def _trained_on(self, profiles: Profiles, codes: Tensor) -> Tensor:
        """Return the evidence of training cells that the comparison learns from, (cells, types)."""
        if self.config.leave_one_out:
            return self.evidence.leave_one_out(profiles, codes)
        found: Tensor = self.evidence(profiles)
        return found

    def _compare(self, profiles: Profiles, evidence: Tensor) -> Tensor:
        depth = (_depth(profiles).to(evidence.dtype) - self.depth[0]) / self.depth[1]
        logits: Tensor = self.comparison(evidence / self.scale, depth * self.config.depth)
        return logits

    def forward(self, batch: Batch) -> Reading:
        """Read cells; the embedding is the evidence, in units of its spread."""
        profiles = Profiles.peaks(batch)
        evidence = self.evidence(profiles)
        logits = self._compare(profiles, evidence)
        return Reading(logits, evidence / self.scale)

    def loss(self, batch: Batch, codes: Tensor) -> dict[str, Tensor]:
        """Return the loss of training cells: every one of them was counted by `from_graphs`."""
        profiles = Profiles.peaks(batch)
        with torch.no_grad():
            evidence = self._trained_on(profiles, codes)
        each = F.cross_entropy(self._compare(profiles, evidence), codes, reduction="none")
        told = (each * self.importance[codes]).mean()
        shrunk = self.config.shrinkage / self.n_trained * self.comparison.penalty()
        return {"loss": told + shrunk, "told": told}

    def score(self, figures: Mapping[str, float]) -> float:
        """Return minus the mean of both losses: macro-F1 of few rare cells says less than how likely they are."""
        return -(figures["loss"] + figures["balanced_loss"]) / 2

    def optimisers(self, lr: float, weight_decay: float) -> list[optim.Optimizer]:
        """Let weights decay in the blocks alone: the map is shrunk by the loss."""
        mapped = list(self.comparison.map.parameters())
        known = {id(p) for p in mapped}
        others = [p for p in self.comparison.parameters() if id(p) not in known]
        groups = [{"params": mapped, "weight_decay": 0.0}, {"params": others, "lr": lr / 5}]
        return [optim.AdamW([g for g in groups if g["params"]], lr=lr, weight_decay=weight_decay)]

    def lr_factor(self, epoch: float) -> float:
        """Return the share of the learning rate, which falls slowly and does not ask how many epochs there will be."""
        return 1 / (1 + epoch / 5)

    @torch.no_grad()
    def attended_peaks(self, batch: Batch) -> PeakWeights:
        """Return what each open peak adds to the evidence of each type, in units of its spread; it may be negative."""
        profiles, n_types = Profiles.peaks(batch), len(self.cell_types)
        table = self.evidence.table - self.evidence.table.mean(1, keepdim=True)
        weight = (self.evidence.weights(profiles) / self.scale)[:, None] * table[profiles.ids]
        types = torch.arange(n_types, device=weight.device)
        return PeakWeights(
            profiles.cell.repeat_interleave(n_types),
            types.repeat(len(profiles.ids)),
            profiles.ids.repeat_interleave(n_types),
            weight.flatten(),
        )

    @torch.no_grad()
    def attended_types(self, batch: Batch) -> Tensor:
        """Return the softmax of the evidence over types, (cells, types)."""
        evidence: Tensor = self.evidence(Profiles.peaks(batch)) / self.scale
        return evidence.softmax(1)

    @torch.no_grad()
    def ranked_markers(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return type, peak and score of the peaks that add most to the evidence of a mean cell of the type."""
        scores = self.evidence.markers()
        best = scores.T.topk(min(_MARKERS, len(scores)), dim=1)
        types = torch.arange(len(best.indices), device=scores.device)[:, None].expand_as(best.indices)
        return types.flatten(), best.indices.flatten(), best.values.flatten()


def _depth(profiles: Profiles) -> Tensor:
    return torch.log1p(profiles.ptr.diff().float())
