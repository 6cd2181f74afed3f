"""scMoAnno, the published annotator: attention over the cells of a batch, then tokens of each cell; in two stages."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch_geometric.data import Batch

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from .annotation.model import Reading
from .annotation.paired_components import Pair, PairedComponents, most_components
from .layers.cross_attention import CrossAttention
from .layers.modality_tokens import cut, sinusoids
from .layers.transformer_block import TransformerBlock
from .scmoanno_config import ScMoAnnoConfig
from .scmoanno_model import PairAnnotator


class CellExchange(nn.Module):
    """f = ½x + ½attended: the cells of a batch ask each other, RNA of ATAC and ATAC of RNA, by the same weights.

    Parameters
    ----------
    width, heads
        Of the attention.
    attention
        ``cross``; ``self``: RNA asks RNA, and ATAC ATAC.

    Shapes
    ------
    (cells, width) for each modality, in and out.
    """

    def __init__(self, width: int, heads: int, attention: str) -> None:
        super().__init__()
        self.attention, self.asks = CrossAttention(width, heads), attention

    def forward(self, rna: Tensor, atac: Tensor) -> tuple[Tensor, Tensor]:
        """Exchange."""
        of_rna, of_atac = (atac, rna) if self.asks == "cross" else (rna, atac)
        return self._half(rna, of_rna), self._half(atac, of_atac)

    def _half(self, x: Tensor, context: Tensor) -> Tensor:
        return (x + self.attention.between(x[None], context[None])[0]) / 2


class PublishedStage(PairAnnotator):
    """What both stages of the published mode are made of.

    Where one modality of a cell is missing, the other stands in for it.
    """

    mode: ClassVar[str] = "published"
    reads_alone: ClassVar[bool] = False
    at_once: ClassVar[int] = 64
    config: ScMoAnnoConfig

    @classmethod
    def fit_components(cls, graphs: MultiomeGraphs, config: ScMoAnnoConfig, seed: int) -> PairedComponents:
        """Fit as many components as both modalities have, at most ``width``, and such that heads divide them."""
        unit, most = config.unit, min(most_components(graphs))
        width = min(config.width, most) // unit * unit
        if not width:
            raise InputError(
                f"{graphs.root} has at most {most} components in both modalities, fewer than the"
                f" attention heads need ({unit}). Set heads, encoder_heads and second_heads lower, or take more cells."
            )
        return PairedComponents.fitted(
            graphs, width, config.peaks, variable_peaks=config.variable_peaks, seed=seed
        )

    def make_parts(self, width: int) -> None:
        """Make attention over cells and a transformer block a modality."""
        config = self.config
        self.gap = min(config.gap, width)
        asks = config.first and config.attention != "none"
        self.exchange = CellExchange(width, config.heads, config.attention) if asks else None
        self.encoders = nn.ModuleList(self._block() for _ in range(2))
        self.positions: Tensor
        self.register_buffer("positions", sinusoids(-(-width // self.gap), self.gap), persistent=False)
        self.make_head()

    @abstractmethod
    def make_head(self) -> None:
        """Make what tells types."""

    def _block(self) -> TransformerBlock:
        config = self.config
        return TransformerBlock(
            self.gap, self.heads_of_encoder, config.hidden, dropout=config.dropout, activation=nn.ReLU
        )

    @property
    @abstractmethod
    def heads_of_encoder(self) -> int:
        """Attention heads over tokens."""

    def features(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """Return what a batch of cells makes of its components, (cells, width) of RNA and of ATAC."""
        has_rna, has_atac = pair.has[:, :1], pair.has[:, 1:]
        rna, atac = torch.where(has_rna, pair.rna, pair.atac), torch.where(has_atac, pair.atac, pair.rna)
        if self.exchange is None:
            return rna, atac
        found: tuple[Tensor, Tensor] = self.exchange(rna, atac)
        return found

    def encode(self, features: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the mean token of each modality, (cells, gap)."""
        rna, atac = (
            block(cut(x, self.gap) + self.positions).mean(1)
            for block, x in zip(self.encoders, features, strict=True)
        )
        return rna, atac

    def optimisers(self, lr: float, weight_decay: float) -> list[optim.Optimizer]:
        """Return Adam of what is trained."""
        trained = [p for p in self.parameters() if p.requires_grad]
        return [optim.Adam(trained, lr=lr, weight_decay=weight_decay, fused=True)]


class PublishedFeatures(PublishedStage):
    """Stage 1: one head tells types from RNA and from ATAC, each after asking the other.

    Attention is over the cells of a batch: see `PublishedScMoAnno`.
    """

    stage: ClassVar[str] = "first"

    @property
    def embedding_width(self) -> int:
        """Width of the mean of both modalities."""
        return self.gap

    @property
    def heads_of_encoder(self) -> int:
        """As set."""
        return self.config.encoder_heads

    def make_head(self) -> None:
        """Make the head that both modalities share."""
        self.head = nn.Linear(self.gap, self.n_types)

    def forward(self, batch: Batch) -> Reading:
        """Read cells: the logits are the mean of both modalities'."""
        rna, atac = self.encode(self.features(self.pair(batch)))
        return Reading((self.head(rna) + self.head(atac)) / 2, (rna + atac) / 2)

    def loss(self, batch: Batch, codes: Tensor) -> dict[str, Tensor]:
        """Return the sum of the losses of both modalities."""
        rna, atac = (self.head(x) for x in self.encode(self.features(self.pair(batch))))
        told = F.cross_entropy(rna, codes), F.cross_entropy(atac, codes)
        return {"loss": told[0] + told[1], "rna": told[0], "atac": told[1]}


class PublishedScMoAnno(PublishedStage):
    """Stage 2: types from 0.9 · RNA + 0.1 · ATAC of the features of stage 1.

    Described in scMoAnno.

    Warnings
    --------
    The attention of the published function is over the cells of a batch. What a cell is told to be depends on the
    cells that are read with it, so that labels change with their order; and stage 1 does not know which ATAC
    profile belongs to which RNA profile: shuffled ones give it the same features of RNA. The default mode attends within a
    cell. Use this one to compare, not to annotate.

    Parameters
    ----------
    components, n_types, config
        As of `PairAnnotator`; see `ScMoAnnoConfig`.
    """

    @property
    def embedding_width(self) -> int:
        """Width of the mean token, twice where they are side by side."""
        return self.gap * (2 if self.config.fusion == "direct" else 1)

    @property
    def heads_of_encoder(self) -> int:
        """As set."""
        return self.config.second_heads

    def make_head(self) -> None:
        """Make the head, and keep the features of stage 1 as they are."""
        self.head = nn.Linear(self.embedding_width, self.n_types)
        if self.exchange is not None and self.config.stages == "frozen":
            self.exchange.requires_grad_(False)

    def take_up(self, first: nn.Module) -> None:
        """Take the attention over cells."""
        own: Any = first
        if self.exchange is not None:
            self.exchange.load_state_dict(own.exchange.state_dict())

    def forward(self, batch: Batch) -> Reading:
        """Read cells."""
        features = self.features(self.pair(batch))
        rna, atac = self.encode(features)
        share = self.config.rna_share
        direct = self.config.fusion == "direct"
        embedding = torch.cat([rna, atac], 1) if direct else share * rna + (1 - share) * atac
        return Reading(self.head(embedding), embedding)
