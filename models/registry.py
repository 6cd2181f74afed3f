"""Every model by name and mode: its classes, and how it is usually trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ..graphs.errors import InputError
from .annatac import AnnAtac, MaskedOpenIslands, OpenAnnAtacConfig, OpenIslandConfig
from .annatac_config import OPEN_SIZES, SIZES, IslandConfig
from .annatac_published import AnnAtacConfig, PublishedAnnAtac, PublishedMaskedIslands
from .annotation.closed_form import (
    CentroidAnnotator,
    FeatureConfig,
    KnnAnnotator,
    LogregAnnotator,
    MajorityAnnotator,
    SvmAnnotator,
)
from .annotation.networks import CnnAnnotator, MlpAnnotator, NetworkConfig
from .crossrec import CrossRec, CrossRecConfig
from .crossrec_cis import CisConfig, CisCrossRec
from .hitanno import HitAnno, SentenceConfig
from .hitanno_published import HitAnnoConfig, PublishedHitAnno
from .scmoanno import ScMoAnno, TokenFeatures
from .scmoanno_config import ScMoAnnoConfig, TokenConfig
from .scmoanno_published import PublishedFeatures, PublishedScMoAnno

DEFAULT: Final = "default"
SMALLEST_BATCH: Final = 8  # of few cells, unless a user chooses
Task = Literal["recommendation", "annotation", "pretraining"]


@dataclass(frozen=True)
class Kind:
    """A mode of a model.

    Attributes
    ----------
    model, config
        Classes of the model and of its settings.
    task
        ``recommendation`` trains on pairs, ``annotation`` on labelled cells, ``pretraining`` on cells.
    epochs, patience, batch_size, lr, weight_decay
        How it is usually trained; no epochs: it is fitted as it is made.
    clip
        Largest norm of a step's gradient.
    fewest_steps
        Of an epoch: few cells are read in smaller batches, of 8 cells at least.
    sizes
        Settings that ``--size s|m|l`` stands for.
    pretraining
        How it is trained on cells without labels beforehand, where it can be.
    first
        What is trained on the same cells before, of the same settings, where their ``first`` is true.
    """

    model: Any
    config: type
    task: Task
    epochs: int = 0
    patience: int = 10
    batch_size: int = 256
    lr: float = 1e-3
    weight_decay: float = 0.0
    clip: float | None = None
    fewest_steps: int = 0
    sizes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pretraining: Kind | None = None
    first: Kind | None = None

    def usual_batch(self, n_training: int) -> int:
        """Return the usual size of a batch for so many training pairs or cells."""
        most = n_training // self.fewest_steps if self.fewest_steps else self.batch_size
        return min(self.batch_size, max(most, SMALLEST_BATCH))


# How both stages of scMoAnno are trained.
_TOKENS: Final[dict[str, Any]] = {
    "epochs": 8,
    "patience": 8,
    "batch_size": 128,
    "lr": 2e-3,
    "weight_decay": 0.01,
    "clip": 1.0,
    "fewest_steps": 32,
}
_PUBLISHED_PAIRS: Final[dict[str, Any]] = {"epochs": 30, "patience": 5, "batch_size": 64, "lr": 1e-4}

KINDS: Final[dict[str, dict[str, Kind]]] = {
    "crossrec": {
        "default": Kind(CisCrossRec, CisConfig, "recommendation", 100, 10, 512, 2e-3, 1e-2),
        "published": Kind(CrossRec, CrossRecConfig, "recommendation", 100, 10, 32, 5e-4, 1e-5),
    },
    "hitanno": {
        "default": Kind(HitAnno, SentenceConfig, "annotation", 50, 8, 64, 1e-2, 0.3),
        "published": Kind(PublishedHitAnno, HitAnnoConfig, "annotation", 20, 3, 64, 1e-4, 0.0),
    },
    "annatac": {
        "default": Kind(
            AnnAtac,
            OpenAnnAtacConfig,
            "annotation",
            epochs=16,
            patience=8,
            batch_size=128,
            lr=2e-3,
            weight_decay=0.05,
            clip=1.0,
            fewest_steps=64,
            sizes=OPEN_SIZES,
            pretraining=Kind(
                MaskedOpenIslands,
                OpenIslandConfig,
                "pretraining",
                epochs=8,
                patience=8,
                batch_size=128,
                lr=2e-3,
                weight_decay=0.01,
                clip=1.0,
                fewest_steps=64,
                sizes=OPEN_SIZES,
            ),
        ),
        "published": Kind(
            PublishedAnnAtac,
            AnnAtacConfig,
            "annotation",
            epochs=30,
            patience=5,
            batch_size=16,
            lr=1e-4,
            clip=1.0,
            sizes=SIZES,
            pretraining=Kind(
                PublishedMaskedIslands,
                IslandConfig,
                "pretraining",
                epochs=20,
                patience=3,
                batch_size=16,
                lr=1e-4,
                clip=1.0,
                sizes=SIZES,
            ),
        ),
    },
    "scmoanno": {
        "default": Kind(
            ScMoAnno,
            TokenConfig,
            "annotation",
            **_TOKENS,
            first=Kind(TokenFeatures, TokenConfig, "annotation", **_TOKENS),
        ),
        "published": Kind(
            PublishedScMoAnno,
            ScMoAnnoConfig,
            "annotation",
            **_PUBLISHED_PAIRS,
            first=Kind(PublishedFeatures, ScMoAnnoConfig, "annotation", **_PUBLISHED_PAIRS),
        ),
    },
    **{
        model.kind: {DEFAULT: Kind(model, FeatureConfig, "annotation")}
        for model in (MajorityAnnotator, CentroidAnnotator, KnnAnnotator, LogregAnnotator, SvmAnnotator)
    },
    **{
        model.kind: {DEFAULT: Kind(model, NetworkConfig, "annotation", 50, 5, 128, 1e-3, 1e-4)}
        for model in (MlpAnnotator, CnnAnnotator)
    },
}


def kind_of(model: str, mode: str = DEFAULT, stage: str = "train") -> Kind:
    """Look a model up, in the stage ``train``, ``pretrain`` or ``first``.

    Raises
    ------
    InputError
        There is no such model, or it has no such mode or stage.
    """
    if model not in KINDS:
        raise InputError(f"--model {model}: this version has {', '.join(KINDS)}. Choose one of them.")
    if mode not in KINDS[model]:
        raise InputError(f"--mode {mode}: {model} has {' and '.join(KINDS[model])}. Choose among them.")
    kind = KINDS[model][mode]
    if stage == "first" and kind.first is not None:
        return kind.first
    if stage != "pretrain":
        return kind
    if kind.pretraining is None:
        able = [name for name, modes in KINDS.items() if any(k.pretraining for k in modes.values())]
        raise InputError(f"--stage pretrain: {model} has none. Choose {' or '.join(able)}, or leave it out.")
    return kind.pretraining
