"""A training job: what was asked for, whether it can be done, and what is written down of it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, get_args

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.schema import SPLITS, Split
from ..graphs.whole import versions
from ..models.annotation.model import labelled, vocabulary
from ..models.checkpoint import PRETRAIN, load_pretrained, pretrained_config, weights_checksum
from ..models.registry import Kind, kind_of
from ..models.settings import parse_settings
from ..models.train_options import TrainOptions
from ..models.training import check_several

FINETUNE: Final = "finetune"
STAGES: Final = (PRETRAIN, FINETUNE)
USUAL: Final = ("epochs", "patience", "batch_size", "lr")  # a model has usual values of them


@dataclass(frozen=True)
class Job:
    """One training run as asked for on the command line."""

    dataset: Path
    out: Path
    model: str
    mode: str = "default"
    epochs: int | None = None  # None: what the model is usually trained with, here and below
    batch_size: int | None = None
    lr: float | None = None
    patience: int | None = None
    devices: int = 1
    precision: str = "32-true"
    settings: tuple[str, ...] = ()
    seed: int = 0
    fold: int | None = None
    size: str | None = None
    stage: str = FINETUNE
    init: Path | None = None
    accumulate: int = 1
    further: tuple[Path, ...] = ()  # data sets beside the first, where a stage takes several

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise InputError(f"--stage {self.stage}: choose {' or '.join(STAGES)}.")
        if self.init is not None and self.stage != FINETUNE:
            raise InputError(
                "--init belongs to --stage finetune, which goes on with what was pre-trained. Leave it out."
            )
        check_several(len(self.datasets), self.fold, pretraining=self.stage == PRETRAIN)

    @property
    def datasets(self) -> tuple[Path, ...]:
        """All data sets."""
        return (self.dataset, *self.further)

    def options(self) -> TrainOptions:
        """Return what the training loop needs."""
        kind = self.kind
        chosen = {name: getattr(self, name) for name in USUAL}
        given = {name: value for name, value in chosen.items() if value is not None}
        if given and not kind.epochs:
            raise InputError(
                f"--{next(iter(given)).replace('_', '-')}: {self.model} is fitted at once. Leave it out."
            )
        if not kind.epochs and self.accumulate != 1:
            raise InputError(f"--accumulate: {self.model} is fitted at once. Leave it out.")
        if not kind.epochs and self.precision != "32-true":
            raise InputError(
                f"--precision: {self.model} is fitted at once, in double precision. Leave it out."
            )
        usual = {name: getattr(kind, name) for name in USUAL}
        if kind.fewest_steps and "batch_size" not in given:
            usual["batch_size"] = kind.usual_batch(self._n_training())
        return TrainOptions(
            **{**usual, "epochs": kind.epochs or 1, **given},
            weight_decay=kind.weight_decay,
            clip=kind.clip,
            precision=self.precision,
            devices=self.devices,
            accumulate=self.accumulate,
            seed=self.seed,
        )

    def _n_training(self) -> int:
        """Count the cells that are trained on."""
        graphs = [MultiomeGraphs(path, split="train", fold=self.fold) for path in self.datasets]
        return sum(len(some if self.stage == PRETRAIN else labelled(some)) for some in graphs)

    @property
    def kind(self) -> Kind:
        """The model's entry in the registry."""
        return kind_of(self.model, self.mode, self.stage)

    def config(self) -> Any:
        """Return the model's settings: of the run it begins with, of its size, and what was set beside."""
        if self.init is not None and self.kind.pretraining is None:
            raise InputError(
                f"--init: {self.model} ({self.mode} mode) has no pre-training to begin with. Leave it out."
            )
        given = {} if self.init is None else pretrained_config(self.init, self.model, self.mode)
        if self.size is not None:
            if self.size not in self.kind.sizes:
                told = ", ".join(self.kind.sizes) or "none"
                raise InputError(
                    f"--size {self.size}: sizes of {self.model} are: {told}. Choose one, or leave it out."
                )
            given |= self.kind.sizes[self.size]
        return parse_settings(self.settings, self.kind.config, given)


def check_trainable(job: Job) -> MultiomeGraphs:
    """Open the dataset of a job, or say why the model cannot be trained on it; pre-training checks its own.

    Raises
    ------
    InputError
        A modality, pairs or labels that are not there, or a run to begin with that does not fit.
    """
    if job.kind.task == "recommendation":
        for name, usual in (("devices", 1), ("accumulate", 1)):
            if getattr(job, name) != usual:
                raise InputError(
                    f"--{name} {getattr(job, name)}: {job.model} compares the pairs of a whole batch, on one device."
                    " Leave the option out."
                )
        if job.precision.endswith("mixed"):
            raise InputError(f"--precision {job.precision}: {job.model} trains in 32-true or 64-true.")
    graphs = MultiomeGraphs(job.dataset, fold=job.fold)
    if job.kind.task == "recommendation":
        graphs.require(job.kind.model.modalities, job.model)
        for split in get_args(Split):
            check_pairs(graphs, split)
    elif job.kind.task == "annotation":
        check_labels(graphs)
        if job.init is not None:
            load_pretrained(job.init, graphs)
    return graphs


def check_pairs(graphs: MultiomeGraphs, split: str) -> None:
    """Refuse a split in which nothing tells matches from others."""
    pairs = graphs.store.table("pairs")
    found = pairs.loc[pairs["split"] == split, "match"]
    if found.nunique() < 2:
        what = "no pairs" if found.empty else "no negative pairs" if found.all() else "no positive pairs"
        raise InputError(
            f"{graphs.root} has {what} in its {split} split (--discovery and --ratio 0 build such datasets)."
            " A map can be made of it; to train or evaluate, build it with negatives in every split."
        )


def check_labels(graphs: MultiomeGraphs) -> None:
    """Refuse a dataset from whose labels nothing can be learnt or judged."""
    vocabulary(labelled(graphs.part(split="train")))
    for split in SPLITS[1:]:
        if not len(labelled(graphs.part(split=split))):
            raise InputError(
                f"{graphs.root} has no labelled cell in its {split} split. Build it with --labels COL, with more cells"
                " of known type."
            )


def check_place(out: Path) -> None:
    """Refuse a file that cannot be written."""
    if out.is_dir() or (out.parent.is_dir() and not os.access(out.parent, os.W_OK)):
        raise InputError(
            f"cannot write {out}: it is a folder, or in one you may not write to. Choose another --out."
        )
    if not out.parent.is_dir():
        raise InputError(f"cannot write {out}: {out.parent} is no folder. Create it or choose another --out.")


def describe(job: Job, graphs: MultiomeGraphs) -> dict[str, Any]:
    """Return what ``config.json`` says of a job."""
    arguments = {
        name: str(value) if isinstance(value, Path) else value for name, value in asdict(job).items()
    }
    arguments["further"] = list(map(str, job.further))
    used = {name: getattr(job.options(), name) for name in USUAL}
    return {
        "arguments": {**arguments, **used, "settings": list(job.settings)},
        "seed": job.seed,
        "init": None if job.init is None else weights_checksum(job.init),
        "dataset": {
            "path": ", ".join(map(str, job.datasets)),
            "fingerprint": "-".join(
                [graphs.fingerprint, *(MultiomeGraphs(d).fingerprint for d in job.further)]
            ),
        },
        "versions": versions(),
    }


def check_same(
    out: Path, description: dict[str, Any], free: Sequence[str] = ("epochs", "out", "dataset", "further")
) -> None:
    """Refuse to resume another job than the one that was interrupted."""
    file = out / "config.json"
    if not file.is_file():
        raise InputError(f"{out} holds no run to resume. Train without --resume.")
    try:
        before = json.loads(file.read_text())
        unknown = set(before["arguments"]) - set(description["arguments"])
        fingerprint = before["dataset"]["fingerprint"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is not of a run that can be resumed. Choose another --out.") from error
    if unknown:
        raise InputError(
            f"{out} holds the result of another command (its {file.name} has {', '.join(sorted(unknown))}). "
            "Choose another --out."
        )
    changed = [
        f"{name} was {before['arguments'].get(name)} and is {value}"
        for name, value in description["arguments"].items()
        if name not in free and before["arguments"].get(name) != value
    ]
    if fingerprint != description["dataset"]["fingerprint"]:
        changed.append("the dataset is another one")
    if before.get("init") != description.get("init"):
        changed.append("the run of --init is another one")
    if changed:
        raise InputError(
            f"{out} cannot be resumed: {'; '.join(changed)}. Give the arguments of its config.json."
        )


def create_folder(out: Path) -> None:
    """Make a folder for results, or say why it cannot be made."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}. Choose another --out.") from error
