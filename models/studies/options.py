"""How the trainings of a study are trained."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Final

from ...graphs.dataset import MultiomeGraphs
from ..registry import Kind
from ..train_options import TrainOptions
from .study import TRAIN, Study, Training, pretraining_of

_SMALLEST_BATCH: Final = {"recommendation": 32, "annotation": 8}  # pairs or cells
_USUAL: Final = ("epochs", "patience", "batch_size", "lr", "weight_decay", "clip")


def options_of(study: Study, training: Training) -> TrainOptions:
    """Seed the repeat; small shares take small batches, or they would be measured after fewer steps."""
    usual = study.options
    size = min(max(round(training.share * usual.batch_size), smallest_batch(study)), usual.batch_size)
    return replace(usual, seed=usual.seed + training.repeat, batch_size=size)


def smallest_batch(study: Study) -> int:
    """Return the size of batches below which no share gets."""
    return _SMALLEST_BATCH[study.kind.task]


def pretraining_job(study: Study, repeat: int) -> tuple[Kind, Any, TrainOptions]:
    """Return what is pre-trained, its settings (those that the model shares with it) and its usual training."""
    kind = pretraining_of(study.kind)
    assert kind is not None
    shared = {
        field.name: getattr(study.config, field.name)
        for field in fields(kind.config)
        if hasattr(study.config, field.name)
    }
    usual = {name: getattr(kind, name) for name in _USUAL}
    sets = [MultiomeGraphs(path, split=TRAIN) for path in (study.dataset, *study.unlabelled)]
    usual["batch_size"] = kind.usual_batch(sum(map(len, sets)))
    if study.pretrain_epochs is not None:
        usual["epochs"] = study.pretrain_epochs
    seed = study.options.seed + repeat
    return kind, kind.config(**shared), replace(study.options, **usual, seed=seed)
