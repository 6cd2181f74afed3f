"""Every model by name and mode: its classes, and how it is usually trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from ..graphs.errors import InputError
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

DEFAULT: Final = "default"
Task = Literal["recommendation", "annotation"]


@dataclass(frozen=True)
class Kind:
    """A mode of a model.

    Attributes
    ----------
    model, config
        Classes of the model and of its settings.
    task
        ``recommendation`` trains on pairs, ``annotation`` on labelled cells.
    epochs, patience, batch_size, lr, weight_decay
        How it is usually trained; no epochs: it is fitted as it is made.
    """

    model: Any
    config: type
    task: Task
    epochs: int = 0
    patience: int = 10
    batch_size: int = 256
    lr: float = 1e-3
    weight_decay: float = 0.0


KINDS: Final[dict[str, dict[str, Kind]]] = {
    "crossrec": {
        "default": Kind(CisCrossRec, CisConfig, "recommendation", 100, 10, 512, 2e-3, 1e-2),
        "published": Kind(CrossRec, CrossRecConfig, "recommendation", 100, 10, 32, 5e-4, 1e-5),
    },
    "hitanno": {
        "default": Kind(HitAnno, SentenceConfig, "annotation", 50, 8, 64, 1e-2, 0.3),
        "published": Kind(PublishedHitAnno, HitAnnoConfig, "annotation", 20, 3, 64, 1e-4, 0.0),
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


def kind_of(model: str, mode: str = DEFAULT) -> Kind:
    """Look a model up.

    Raises
    ------
    InputError
        There is no such model, or it has no such mode.
    """
    if model not in KINDS:
        raise InputError(f"--model {model}: this version has {', '.join(KINDS)}. Choose one of them.")
    if mode not in KINDS[model]:
        raise InputError(f"--mode {mode}: {model} has {' and '.join(KINDS[model])}. Choose among them.")
    return KINDS[model][mode]
