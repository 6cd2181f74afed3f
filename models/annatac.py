"""annATAC, corrected: a cell is its open islands, read beside what these say of types one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn, optim
from torch_geometric.data import Batch

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from .annatac_config import IslandConfig
from .annatac_model import IslandAnnotator
from .annatac_pretraining import MaskedIslands
from .annotation.islands import MOST
from .annotation.masking import Masked, mask_among_closed
from .annotation.model import NOVEL_BELOW, Reading, vocabulary
from .annotation.schedules import warm_restarts
from .layers.open_islands import OpenIslands
from .layers.profiles import Profiles
from .layers.type_evidence import TypeEvidence

Floats = NDArray[np.float64]

_FIRST_EPOCHS: Final = 0.5  # in which the learning rate rises


@dataclass(frozen=True)
class OpenIslandConfig(IslandConfig):
    """What both stages of the corrected annATAC share.

    Attributes
    ----------
    pools, channels, summary
        See `OpenIslands`.
    summary_dropout
        Before the summary.
    pretrain_cycle
        Epochs of the first cycle of the learning rate in pre-training; see ``cycle``.
    """

    tss: bool = False
    width: int = 64
    layers: int = 1
    heads: int = 2
    head_width: int = 16
    hidden: int = 64
    slots: int = 16
    dropout: float = 0.1
    pools: int = 4
    channels: int = 4
    summary: int = 128
    summary_dropout: float = 0.5
    pretrain_cycle: int = 8

    fewest_layers: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for good, problem in (
            (self.pools > 0, f"pools={self.pools}: must be positive"),
            (self.channels > 0, f"channels={self.channels}: must be positive"),
            (self.summary > 0, f"summary={self.summary}: must be positive"),
            (0 <= self.summary_dropout < 1, f"summary_dropout={self.summary_dropout}: choose 0 to below 1"),
            (self.pretrain_cycle >= 0, f"pretrain_cycle={self.pretrain_cycle}: must not be negative"),
        ):
            if not good:
                raise InputError(f"--set {problem}.")

    def encoder(self) -> dict[str, Any]:
        """Return what the encoder is made of."""
        own = {
            name: getattr(self, name)
            for name in ("pools", "channels", "summary", "summary_dropout", "dropout")
        }
        return {**self.sizes(), **own}


@dataclass(frozen=True)
class OpenAnnAtacConfig(OpenIslandConfig):
    """What can be chosen of the corrected annATAC, in addition to what its stages share.

    Attributes
    ----------
    cycle
        Epochs of the first cycle of the learning rate, which restarts in cycles twice as long; 0: constant.
    evidence
        Whether the counted evidence of open islands joins the logits.
    smoothing
        Of the evidence; see `TypeEvidence`.
    head_dropout
        Before the logits.
    thinning
        Largest share of its islands that a training cell loses in a step.
    balance
        Power of 1 / cells with which types weigh in the loss: 0 as they are, 1 all alike.
    label_smoothing
        Share of the loss that asks for all types alike.
    novel_below
        Confidence below which a cell is said to be of a novel type.
    """

    cycle: int = 16
    evidence: bool = True
    smoothing: float = 0.1
    head_dropout: float = 0.3
    thinning: float = 0.5
    balance: float = 0.5
    label_smoothing: float = 0.05
    novel_below: float = NOVEL_BELOW

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = ("head_dropout", "thinning", "label_smoothing")
        for good, problem in (
            (self.cycle >= 0, f"cycle={self.cycle}: must not be negative"),
            (1e-6 <= self.smoothing <= 1e6, f"smoothing={self.smoothing}: choose a number from 1e-6 to 1e6"),
            (0 <= self.balance <= 1, f"balance={self.balance}: choose a number from 0 to 1"),
            (0 <= self.novel_below <= 1, f"novel_below={self.novel_below}: choose a number from 0 to 1"),
            *(
                (0 <= getattr(self, n) < 1, f"{n}={getattr(self, n)}: choose a number from 0 to below 1")
                for n in shares
            ),
        ):
            if not good:
                raise InputError(f"--set {problem}.")


class MaskedOpenIslands(MaskedIslands):
    """Pre-training on open islands: which of the islands that are hidden are open, and how much.

    Most open islands have value 1, and a token is there because its island is open: to ask for its value asks
    for little. So closed islands are hidden beside as many open ones. What is told is the product of an
    island's token and of the cell's summary, so that the summary learns too.
    """

    config: OpenIslandConfig
    encoder: OpenIslands

    def __init__(self, n_islands: int, config: OpenIslandConfig) -> None:
        super().__init__(n_islands, config)
        self.encoder.positions.requires_grad_()
        self.cell = nn.Linear(config.summary, config.width)
        self.classifier = nn.Linear(config.width, MOST + 1)

    def make_encoder(self, n_islands: int) -> OpenIslands:
        """Make the encoder."""
        return OpenIslands(n_islands, **self.config.encoder())

    def hide(self, islands: Profiles, draw: Tensor) -> Masked:
        """Hide open islands and as many closed ones."""
        return mask_among_closed(islands, draw, self.openness(), share=self.config.mask)

    def openness(self) -> Tensor:
        """Return how often islands are open, (islands,)."""
        return self.counted[:, 1:].sum(1)

    def tell(self, masked: Masked) -> Tensor:
        """Return the logits of the values asked for."""
        summary, tokens = self.encoder.encode(masked.islands, asked=masked.asked)
        of_cell = self.cell(summary.relu())[masked.islands.cell[masked.asked]]
        told: Tensor = self.classifier(tokens * of_cell)
        return told

    def guesses(self, ids: Tensor) -> dict[str, Tensor]:
        """Return what training cells alone say: an island is open if it is more often than the mean one."""
        often = self.openness().double()
        own = (self.counted[:, 1:].argmax(1) + 1) * (often > often.mean())
        majority = self.counted[:, 1:].sum(0).argmax() + 1
        return {"majority": majority.expand_as(ids), "island": own[ids]}

    def optimisers(self, lr: float, weight_decay: float) -> list[optim.Optimizer]:
        """Return AdamW of all parameters."""
        return [optim.AdamW(self.parameters(), lr=lr, weight_decay=weight_decay, fused=True)]

    def lr_factor(self, epoch: float) -> float:
        """Anneal, and restart."""
        return warm_restarts(epoch, cycle=self.config.pretrain_cycle, warmup=_FIRST_EPOCHS)


class AnnAtac(IslandAnnotator):
    """Logits from the summary of a cell's open islands, plus the counted evidence of each.

    The evidence of a training cell leaves out the cell itself (`TypeEvidence`), so that its weight is learned
    on what new cells have.
    """

    config: OpenAnnAtacConfig
    encoder: OpenIslands

    def __init__(self, n_islands: int, n_types: int, config: OpenAnnAtacConfig) -> None:
        super().__init__(n_islands, n_types, config)
        self.evidence = TypeEvidence(n_islands, n_types, smoothing=config.smoothing)
        self.trust = nn.Parameter(torch.zeros(()), requires_grad=config.evidence)

    @property
    def embedding_width(self) -> int:
        """Width of the summary."""
        return self.config.summary

    def make_encoder(self, n_islands: int) -> OpenIslands:
        """Make the encoder."""
        return OpenIslands(n_islands, **self.config.encoder())

    def make_head(self, n_islands: int, n_types: int) -> nn.Sequential:
        """Make what reads the summary."""
        return nn.Sequential(nn.Dropout(self.config.head_dropout), nn.Linear(self.config.summary, n_types))

    def weigh(self, share: Floats) -> Floats:
        """Return 1 / shareᵇ, b being ``balance``."""
        return share**-self.config.balance

    def adopt(self, graphs: MultiomeGraphs) -> None:
        """Count the evidence of labelled training cells, where it is read."""
        if not self.config.evidence:
            return
        _, codes = vocabulary(graphs)
        _, cells = graphs.pairs_of(range(len(graphs)))
        self.evidence = TypeEvidence(len(self.islands), len(self.cell_types), smoothing=self.config.smoothing)
        self.evidence.fit(map(self.islands.read, Profiles.chunks(graphs.atac_rows, cells)), codes)

    def _logits(self, islands: Profiles, evidence: Tensor | None) -> tuple[Tensor, Tensor]:
        embedding = self.encoder(islands).relu()
        logits = self.head(embedding)
        return logits if evidence is None else logits + F.softplus(self.trust) * evidence, embedding

    def forward(self, batch: Batch) -> Reading:
        """Read cells; the embedding is the summary."""
        islands = self.islands(batch)
        return Reading(*self._logits(islands, self.evidence(islands) if self.config.evidence else None))

    def loss(self, batch: Batch, codes: Tensor) -> dict[str, Tensor]:
        """Return the loss of training cells: every one of them was counted as evidence."""
        islands = self.islands(batch)
        with torch.no_grad():
            evidence = self.evidence.leave_one_out(islands, codes) if self.config.evidence else None
        logits, _ = self._logits(_thinned(islands, self.config.thinning), evidence)
        smoothing = self.config.label_smoothing
        each = F.cross_entropy(logits, codes, reduction="none", label_smoothing=smoothing)
        return {"loss": (each * self.importance[codes]).mean(), "told": each.mean()}

    def score(self, figures: Mapping[str, float]) -> float:
        """Return minus the mean of both losses: macro-F1 of few rare cells says less than how likely they are."""
        return -(figures["loss"] + figures["balanced_loss"]) / 2

    def optimisers(self, lr: float, weight_decay: float) -> list[optim.Optimizer]:
        """Return AdamW of what is trained."""
        trained = [p for p in self.parameters() if p.requires_grad]
        return [optim.AdamW(trained, lr=lr, weight_decay=weight_decay, fused=True)]

    def lr_factor(self, epoch: float) -> float:
        """Anneal, and restart."""
        return warm_restarts(epoch, cycle=self.config.cycle, warmup=_FIRST_EPOCHS)


def _thinned(islands: Profiles, most: float) -> Profiles:
    """Drop a share of the islands of each cell, drawn anew up to ``most``."""
    device = islands.ids.device
    share = most * torch.rand(len(islands), device=device)
    kept = torch.rand(len(islands.ids), device=device) >= share[islands.cell]
    sizes = torch.bincount(islands.cell[kept], minlength=len(islands))
    return Profiles(islands.ids[kept], islands.counts[kept], F.pad(sizes.cumsum(0), (1, 0)))
