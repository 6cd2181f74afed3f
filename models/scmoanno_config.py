"""What can be chosen of scMoAnno."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

from ..graphs.errors import InputError
from .annotation.paired_components import OfPeaks
from .layers.pair_tokens import Attention

Stages = Literal["together", "frozen", "unfrozen", "second"]
PublishedStages = Literal["frozen", "unfrozen", "second"]
Fusion = Literal["learned", "direct"]
PublishedFusion = Literal["fixed", "direct"]

_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "peaks": get_args(OfPeaks),
    "attention": get_args(Attention),
}


_FEW: Final = 1_000  # training cells, of which a linear map learns more than a transformer


def check_choices(config: Any, stages: Sequence[str], fusions: Sequence[str]) -> None:
    """Refuse words that are no choice, and numbers outside of their range."""
    for name, choices in {**_CHOICES, "stages": tuple(stages), "fusion": tuple(fusions)}.items():
        if getattr(config, name) not in choices:
            raise InputError(f"--set {name}={getattr(config, name)}: choose {', '.join(choices)}.")
    for name in ("width", "gap", "heads", "hidden"):
        if not getattr(config, name) > 0:
            raise InputError(f"--set {name}={getattr(config, name)}: must be positive.")
    if not 0 <= config.dropout < 1:
        raise InputError(f"--set dropout={config.dropout}: choose a number from 0 to below 1.")


@dataclass(frozen=True)
class ScMoAnnoConfig:
    """What can be chosen of the published mode; the values are the published ones.

    Attributes
    ----------
    width
        Principal components of each modality; fewer where the training cells have fewer.
    gap
        Width of the tokens into which they are cut; with ``gap`` = ``width`` there is one.
    heads, encoder_heads, second_heads
        Of attention over cells, and over tokens in stage 1 and in stage 2.
    hidden
        Width of the feed-forward layers.
    dropout
        Behind attention and feed-forward layers.
    rna_share
        Weight of RNA in stage 2; that of ATAC is the rest.
    peaks
        ``pca`` of log-normalised counts, or ``lsi``.
    variable_peaks
        PCA reads so many peaks, those that vary most; 0: all.
    stages
        ``frozen``: stage 2 leaves the attention of stage 1 as it is; ``unfrozen``: it goes on training it; ``second``:
        there is no stage 1, and stage 2 reads components.
    attention
        ``cross``: RNA asks ATAC and ATAC asks RNA; ``self``: each asks itself; ``none``.
    fusion
        ``fixed``: the weighted sum; ``direct``: both side by side.
    """

    width: int = 2048
    gap: int = 2048
    heads: int = 8
    encoder_heads: int = 16
    second_heads: int = 64
    hidden: int = 1024
    dropout: float = 0.1
    rna_share: float = 0.9
    peaks: OfPeaks = "pca"
    variable_peaks: int = 20_000
    stages: PublishedStages = "frozen"
    attention: Attention = "cross"
    fusion: PublishedFusion = "fixed"

    def __post_init__(self) -> None:
        check_choices(self, get_args(PublishedStages), get_args(PublishedFusion))
        if not min(self.encoder_heads, self.second_heads) > 0:
            raise InputError("--set encoder_heads and second_heads must be positive.")
        if not 0 <= self.rna_share <= 1:
            raise InputError(f"--set rna_share={self.rna_share}: choose a number from 0 to 1.")
        if self.gap < self.width and self.gap % math.lcm(self.encoder_heads, self.second_heads):
            raise InputError(
                f"--set gap={self.gap}: must be a multiple of encoder_heads={self.encoder_heads} and"
                f" second_heads={self.second_heads}."
            )
        if self.variable_peaks < 0:
            raise InputError(f"--set variable_peaks={self.variable_peaks}: must not be negative.")

    @property
    def first(self) -> bool:
        """Whether stage 1 is trained before stage 2."""
        return self.stages != "second"

    def settled(self, n_training: int) -> ScMoAnnoConfig:
        """Return the same: nothing is left open."""
        return self

    @property
    def unit(self) -> int:
        """What divides the width: the attention heads do."""
        return math.lcm(self.heads, self.encoder_heads, self.second_heads)


@dataclass(frozen=True)
class TokenConfig:
    """What can be chosen of the default mode.

    Attributes
    ----------
    width
        Components of each modality; the last are 0 where the training cells have fewer.
    gap
        Width of the pieces that become tokens.
    dim, heads, hidden
        Width of the tokens, attention heads, width of the feed-forward layers.
    dropout, head_dropout
        In transformer blocks, and before the heads.
    modality_dropout
        Share of training cells of which one modality is hidden, in each step anew.
    evidence, smoothing
        Whether counted evidence of genes and peaks is a token of its modality and is added to the logits; its
        smoothing.
    balance
        A cell weighs (cells of its type) to the power of minus this; None: 0.5, and 1 where there are fewer than
        1,000 training cells.
    linear
        Whether a linear map of the components of RNA is added to the logits; None: where there are fewer than
        1,000 training cells.
    label_smoothing
        Of the loss.
    peaks
        Components of peaks: ``lsi`` or ``pca``.
    stages
        ``together``: both stages are trained at once; ``frozen``: stage 1 is trained first, and stage 2 leaves its
        tokens and exchange as they are; ``unfrozen``: stage 2 goes on training them; ``second``: without the
        losses of stage 1.
    first_weight
        Weight of the losses of stage 1 where they are trained beside that of stage 2.
    attention
        ``cross``: RNA asks ATAC and ATAC asks RNA; ``self``: each asks itself; ``none``.
    fusion
        ``learned``: a gate weighs both modalities of each cell; ``direct``: both side by side.
    cycle
        Epochs of the first cosine cycle of the learning rate.
    """

    width: int = 256
    gap: int = 32
    dim: int = 64
    heads: int = 4
    hidden: int = 128
    dropout: float = 0.2
    head_dropout: float = 0.3
    modality_dropout: float = 0.2
    evidence: bool = True
    smoothing: float = 0.1
    balance: float | None = None
    linear: bool | None = None
    label_smoothing: float = 0.05
    peaks: OfPeaks = "lsi"
    stages: Stages = "together"
    first_weight: float = 0.5
    attention: Attention = "cross"
    fusion: Fusion = "learned"
    cycle: int = 8

    def __post_init__(self) -> None:
        check_choices(self, get_args(Stages), get_args(Fusion))
        if self.dim < 1 or self.dim % self.heads:
            raise InputError(f"--set dim={self.dim}: must be a multiple of heads={self.heads}.")
        for name in ("head_dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"--set {name}={getattr(self, name)}: choose a number from 0 to below 1.")
        for name in ("modality_dropout", "balance"):
            if not 0 <= (getattr(self, name) or 0) <= 1:
                raise InputError(f"--set {name}={getattr(self, name)}: choose a number from 0 to 1.")
        if not 0 < self.smoothing < math.inf:
            raise InputError(f"--set smoothing={self.smoothing}: must be positive and finite.")
        if not 0 <= self.first_weight < math.inf:
            raise InputError(f"--set first_weight={self.first_weight}: must be finite and not negative.")
        if self.cycle < 0:
            raise InputError(f"--set cycle={self.cycle}: must not be negative; 0 for a constant rate.")

    @property
    def first(self) -> bool:
        """Whether stage 1 is trained before stage 2."""
        return self.stages in ("frozen", "unfrozen")

    def settled(self, n_training: int) -> TokenConfig:
        """Choose what is left open by the number of training cells."""
        few = n_training < _FEW
        return replace(
            self,
            balance=(1.0 if few else 0.5) if self.balance is None else self.balance,
            linear=few if self.linear is None else self.linear,
        )
