"""scMoAnno, the default mode: attention over the tokens of a cell, never over cells; either modality may be missing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn, optim
from torch_geometric.data import Batch

from ..graphs.dataset import MultiomeGraphs
from .annotation.model import Reading
from .annotation.paired_components import Pair, PairedComponents, most_components
from .annotation.schedules import warm_restarts
from .layers.evidence_trust import EvidenceTrust
from .layers.pair_evidence import PairEvidence
from .layers.pair_tokens import PairEncoder, PairExchange, PairTokens
from .layers.profiles import Profiles
from .scmoanno_config import TokenConfig
from .scmoanno_model import PairAnnotator

Int64 = NDArray[np.int64]
Two = tuple[Tensor, Tensor]  # of RNA and of ATAC
Evidence = Two | tuple[()]  # nothing where it is switched off

_RISE = 0.5  # epochs in which the learning rate rises
_TRUST = 10  # times the learning rate, of so few numbers


class TokenStage(PairAnnotator):
    """What both stages of the default mode are made of: tokens of components and of evidence, and their exchange."""

    config: TokenConfig

    def __init__(self, components: PairedComponents, n_types: int, config: TokenConfig) -> None:
        super().__init__(components, n_types, config)
        n_genes, n_peaks = len(components.rna.table), len(components.atac.table)
        self.evidence = (
            PairEvidence(n_genes, n_peaks, n_types, smoothing=config.smoothing) if config.evidence else None
        )
        self.importance: Tensor
        self.register_buffer("importance", torch.ones(n_types))

    @classmethod
    def fit_components(cls, graphs: MultiomeGraphs, config: TokenConfig, seed: int) -> PairedComponents:
        """Fit as many components as are asked for and one modality has; those that the other lacks are 0."""
        width = max(min(config.width, max(most_components(graphs))), 1)
        return PairedComponents.fitted(graphs, width, config.peaks, seed=seed)

    def make_parts(self, width: int) -> None:
        """Make tokens and their exchange."""
        config = self.config
        self.tokens = PairTokens(
            width, min(config.gap, width), config.dim, beside=self.n_types * config.evidence
        )
        self.exchange = PairExchange(
            config.dim, config.heads, config.hidden, attention=config.attention, dropout=config.dropout
        )
        self.make_head()

    @abstractmethod
    def make_head(self) -> None:
        """Make what tells types."""

    def adopt(self, graphs: MultiomeGraphs, codes: Int64) -> None:
        """Weigh types, and count evidence."""
        weight = np.bincount(codes, minlength=self.n_types) ** -float(self.config.balance or 0)
        self.importance.copy_(torch.from_numpy(weight / weight[codes].mean()))
        if self.evidence is not None:
            cells, _ = graphs.pairs_of(range(len(graphs)))
            left_out = self.evidence.fit(graphs.rna_rows, graphs.atac_rows, cells, codes)
            self.weigh_evidence(left_out, torch.from_numpy(codes))

    def weigh_evidence(self, left_out: Two, codes: Tensor) -> None:
        """Begin with how much evidence deserves, given that of training cells without themselves."""

    def features(self, pair: Pair, evidence: Evidence) -> Two:
        """Return the tokens of both modalities after their exchange, (cells, tokens, dim) each."""
        found: Two = self.exchange(*self.tokens(pair.parts, pair.has, evidence))
        return found

    def told(self, batch: Batch) -> Evidence:
        """Return the evidence of cells that were not trained on; nothing where it is switched off."""
        if self.evidence is None:
            return ()
        found: Two = self.evidence(Profiles.genes(batch), Profiles.peaks(batch))
        return found

    def training_view(self, batch: Batch, codes: Tensor) -> tuple[Pair, Evidence]:
        """Return training cells, of some of which one modality is hidden, and the evidence without themselves."""
        pair = self.pair(batch)
        drawn = torch.rand(len(pair.has), device=pair.has.device)[:, None]
        half = self.config.modality_dropout / 2
        hidden = torch.cat([drawn < half, drawn >= 1 - half], 1) & pair.has.all(1, keepdim=True)
        pair = pair.without(hidden)
        if self.evidence is None:
            return pair, ()
        with torch.no_grad():
            return pair, self.evidence.leave_one_out(Profiles.genes(batch), Profiles.peaks(batch), codes)

    def make_first_head(self) -> nn.Sequential:
        """Make the head of stage 1, which both modalities share."""
        config = self.config
        return nn.Sequential(nn.Dropout(config.head_dropout), nn.Linear(config.dim, self.n_types))

    def first_losses(self, head: nn.Module, features: Two, codes: Tensor) -> Two:
        """Return the losses of stage 1, of RNA's tokens and of ATAC's."""
        rna, atac = (self.told_loss(head(x.mean(1)), codes) for x in features)
        return rna, atac

    def told_loss(self, logits: Tensor, codes: Tensor) -> Tensor:
        """Return the mean loss of cells, each weighed by its type."""
        smoothing = self.config.label_smoothing
        each = F.cross_entropy(logits, codes, reduction="none", label_smoothing=smoothing)
        return (each * self.importance[codes]).mean()

    def score(self, figures: Mapping[str, float]) -> float:
        """Return minus the mean of both losses: macro-F1 of few rare cells says less than how likely they are."""
        return -(figures["loss"] + figures["balanced_loss"]) / 2

    def optimisers(self, lr: float, weight_decay: float) -> list[optim.Optimizer]:
        """Return AdamW of what is trained."""
        named = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        trust = [p for name, p in named if name.startswith("trust.")]
        others = [p for name, p in named if not name.startswith("trust.")]
        groups: list[dict[str, Any]] = [{"params": others}]
        if trust:
            groups.append({"params": trust, "lr": _TRUST * lr, "weight_decay": 0.0})
        return [optim.AdamW(groups, lr=lr, weight_decay=weight_decay, fused=True)]

    def lr_factor(self, epoch: float) -> float:
        """Anneal, and restart."""
        return warm_restarts(epoch, cycle=self.config.cycle, warmup=_RISE)


class TokenFeatures(TokenStage):
    """Stage 1: one head tells types from the tokens of RNA and from those of ATAC."""

    stage: ClassVar[str] = "first"

    @property
    def embedding_width(self) -> int:
        """Width of the mean of both modalities."""
        return self.config.dim

    def make_head(self) -> None:
        """Make the head that both modalities share."""
        self.head = self.make_first_head()

    def forward(self, batch: Batch) -> Reading:
        """Read cells: the logits are the mean of both modalities'."""
        rna, atac = (x.mean(1) for x in self.features(self.pair(batch), self.told(batch)))
        return Reading((self.head(rna) + self.head(atac)) / 2, (rna + atac) / 2)

    def loss(self, batch: Batch, codes: Tensor) -> dict[str, Tensor]:
        """Return the sum of the losses of both modalities."""
        rna, atac = self.first_losses(self.head, self.features(*self.training_view(batch, codes)), codes)
        return {"loss": rna + atac, "rna": rna, "atac": atac}


class ScMoAnno(TokenStage):
    """Stage 2: types from the tokens of stage 1, fused as a gate learns, plus the counted evidence of both modalities.

    Described in scMoAnno. A cell is read alone: attention is over its own tokens, RNA's asking ATAC's and the
    other way round. Learned tokens stand for a modality that is missing, which training hides from some
    cells, so that RNA, ATAC or both are read by the same weights.

    Parameters
    ----------
    components, n_types, config
        As of `PairAnnotator`; see `TokenConfig`.
    """

    @property
    def embedding_width(self) -> int:
        """Width of the tokens, twice where both modalities stand side by side."""
        return self.config.dim * (2 if self.config.fusion == "direct" else 1)

    def make_head(self) -> None:
        """Make encoder, gate and head, which begins with adding nothing to the evidence."""
        config = self.config
        self.encoder = PairEncoder(config.dim, config.heads, config.hidden, dropout=config.dropout)
        self.gate = nn.Linear(2 * config.dim, 1)
        last = nn.Linear(self.embedding_width, self.n_types)
        for layer in (self.gate, last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.head = nn.Sequential(nn.Dropout(config.head_dropout), last)
        self.trust = EvidenceTrust().requires_grad_(config.evidence)
        self.linear = nn.Linear(self.components.width, self.n_types, bias=False) if config.linear else None
        if self.linear is not None:
            nn.init.zeros_(self.linear.weight)
        self.first_head = self.make_first_head()
        frozen = [self.tokens, self.exchange] if config.stages == "frozen" else []
        beside = config.stages in ("together", "unfrozen")
        for part in (*frozen, *([] if beside else [self.first_head])):
            part.requires_grad_(False)

    def weigh_evidence(self, left_out: Two, codes: Tensor) -> None:
        """Begin with the weights under which evidence alone tells training cells best."""
        self.trust.fit(left_out, lambda logits: self.told_loss(logits, codes))

    def take_up(self, first: nn.Module) -> None:
        """Take tokens, their exchange, and the head that reads them."""
        own: Any = first
        self.tokens.load_state_dict(own.tokens.state_dict())
        self.exchange.load_state_dict(own.exchange.state_dict())
        self.first_head.load_state_dict(own.head.state_dict())

    def _read(self, pair: Pair, evidence: Evidence, features: Two) -> Reading:
        rna, atac = (x.mean(1) for x in self.encoder(*features))
        embedding = self._fused(rna, atac, pair.has)
        logits = self.head(embedding)
        if self.evidence is not None:
            logits = logits + self.trust(evidence, pair.has)
        if self.linear is not None:
            logits = logits + self.linear(pair.rna * pair.has[:, :1])
        return Reading(logits, embedding)

    def _fused(self, rna: Tensor, atac: Tensor, has: Tensor) -> Tensor:
        """Weigh both modalities, (cells, dim) each; one that is missing weighs nothing."""
        both = torch.cat([rna, atac], 1)
        if self.config.fusion == "direct":
            return both
        share = torch.where(has.all(1, keepdim=True), self.gate(both).sigmoid(), has[:, :1].to(rna.dtype))
        return share * rna + (1 - share) * atac

    def forward(self, batch: Batch) -> Reading:
        """Read cells."""
        pair, evidence = self.pair(batch), self.told(batch)
        return self._read(pair, evidence, self.features(pair, evidence))

    def loss(self, batch: Batch, codes: Tensor) -> dict[str, Tensor]:
        """Return the loss of training cells, beside those of stage 1 where it is trained too."""
        pair, evidence = self.training_view(batch, codes)
        features = self.features(pair, evidence)
        told = self.told_loss(self._read(pair, evidence, features).logits, codes)
        if self.config.stages not in ("together", "unfrozen"):
            return {"loss": told}
        rna, atac = self.first_losses(self.first_head, features, codes)
        return {"loss": told + self.config.first_weight * (rna + atac), "told": told}
