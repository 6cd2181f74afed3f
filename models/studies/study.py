"""What is studied, what each training of a study is, and which studies there are for which model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...graphs.errors import InputError
from ...graphs.schema import SPLITS
from ..registry import KINDS, Kind
from ..train_options import TrainOptions

Bools = NDArray[np.bool_]
Labels = NDArray[np.object_]  # None where there is none

FRACTIONS: Final = "fractions"
LABEL_NOISE: Final = "label-noise"
LEAVE_TYPE_OUT: Final = "leave-type-out"
PRETRAINING: Final = "pretraining"
STUDIES: Final = (FRACTIONS, LABEL_NOISE, LEAVE_TYPE_OUT, PRETRAINING)
OF_RECOMMENDERS: Final = (FRACTIONS, LEAVE_TYPE_OUT)
CELL_SHARES: Final = (0.05, 0.1, 0.25, 0.5, 1.0)  # of training cells
LABEL_SHARES: Final = {FRACTIONS: (0.4, 0.6, 0.8, 1.0), PRETRAINING: (0.05, 0.1, 0.5, 1.0)}
NOISE: Final = (0.0, 0.05, 0.1, 0.15, 0.2)
TRAIN: Final = SPLITS[0]
VALIDATION: Final = SPLITS[1]
TEST: Final = SPLITS[2]


@dataclass(frozen=True)
class Study:
    """What is studied, on which dataset, with which model.

    Attributes
    ----------
    name
        One of `STUDIES`.
    dataset
        Dataset with pairs (recommenders) or labels (annotators).
    kind, config, options
        Model and training choices; repeat r trains with ``options.seed + r``.
    repeats
        Trainings a setting, each with its own seed and draw of cells.
    shares
        Of the training cells (recommenders) or of the labels of training and validation cells (annotators), for
        ``fractions`` and ``pretraining``; the usual ones when empty.
    noise
        Shares of the labels that are shuffled (``label-noise``); the usual ones when empty.
    types
        Cell types to leave out (``leave-type-out``); those with at least 20 test cells when empty.
    pretrain_epochs
        Of pre-training (``pretraining``); as usual for it when None.
    unlabelled
        Data sets whose cells join in pre-training.

    Raises
    ------
    InputError
        The model has no such study, or a number is out of its range.
    """

    name: str
    dataset: Path
    kind: Kind
    config: Any
    options: TrainOptions
    repeats: int = 3
    shares: tuple[float, ...] = ()
    noise: tuple[float, ...] = ()
    types: tuple[str, ...] = ()
    pretrain_epochs: int | None = None
    unlabelled: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        check_study(self.name, self.kind)
        if self.repeats < 1:
            raise InputError(f"--repeats {self.repeats}: a setting needs a training. Choose 1 or more.")
        if not all(0 < share <= 1 for share in self.shares):
            raise InputError(
                f"--shares {_told(self.shares)}: choose numbers above 0 and up to 1, like 0.1,0.5,1.0."
            )
        if not all(0 <= share < 1 for share in self.noise):
            raise InputError(f"--noise {_told(self.noise)}: choose numbers from 0 to below 1, like 0.05,0.1.")
        if self.pretrain_epochs is not None and self.pretrain_epochs < 1:
            raise InputError(f"--pretrain-epochs {self.pretrain_epochs}: choose 1 or more.")

    @property
    def levels(self) -> tuple[float, ...]:
        """What the settings of the study are numbers of, ascending: shares, or noise; none of types."""
        if self.name == LEAVE_TYPE_OUT:
            return ()
        if self.name == LABEL_NOISE:
            return tuple(sorted(set(self.noise or NOISE)))
        usual = CELL_SHARES if self.kind.task == "recommendation" else LABEL_SHARES[self.name]
        return tuple(sorted(set(self.shares or usual)))


def check_study(name: str, kind: Kind) -> None:
    """Refuse a study that there is not, or that the model cannot have.

    Raises
    ------
    InputError
        Says what to choose.
    """
    if name not in STUDIES:
        raise InputError(f"study {name}: choose {', '.join(STUDIES[:-1])} or {STUDIES[-1]}.")
    model = kind.model.kind
    if kind.task == "recommendation" and name not in OF_RECOMMENDERS:
        raise InputError(
            f"study {name} needs a model that annotates cells, and {model} does not."
            f" Choose {' or '.join(OF_RECOMMENDERS)}, or another --model."
        )
    if name == PRETRAINING and pretraining_of(kind) is None:
        able = [told for told, modes in KINDS.items() if any(map(pretraining_of, modes.values()))]
        choice = f"Choose --model {' or '.join(able)}" if able else "This version has none that is"
        raise InputError(f"study {name}: {model} is not pre-trained. {choice}.")


def pretraining_of(kind: Kind) -> Kind | None:
    """Return how a model is pre-trained; None where it is not."""
    return kind.pretraining


def check_options(
    name: str,
    *,
    shares: Sequence[float] | None = None,
    noise: Sequence[float] | None = None,
    types: Sequence[str] = (),
    pretrain_epochs: int | None = None,
    unlabelled: Sequence[Path] = (),
) -> None:
    """Refuse what belongs to another study.

    Raises
    ------
    InputError
        Names the option and its study.
    """
    for option, given, own in (
        ("--shares", shares, (FRACTIONS, PRETRAINING)),
        ("--noise", noise, (LABEL_NOISE,)),
        ("--types", types, (LEAVE_TYPE_OUT,)),
        ("--pretrain-epochs", pretrain_epochs, (PRETRAINING,)),
        ("--unlabelled", unlabelled, (PRETRAINING,)),
    ):
        if given and name not in own:
            told = f"the stud{'y' if len(own) == 1 else 'ies'} {' and '.join(own)}"
            raise InputError(f"{option} belongs to {told}. Leave it out of {name}.")


def parse_numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """Split ``0.1,0.5`` from the command line.

    Raises
    ------
    InputError
        Something there is no number.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} {text}: give numbers from 0 to 1 with commas, like 0.1,0.5.") from None


def _told(numbers: Sequence[float]) -> str:
    return ",".join(map(str, numbers))


@dataclass(frozen=True)
class Training:
    """One training of a study, or two on the same labels where pre-training is studied.

    Attributes
    ----------
    name
        Of its file among the finished ones.
    setting
        What the table calls it.
    repeat
        Number of the repeat.
    keep
        (cells,) which cells stay in their split.
    labels
        (cells,) what the training is told of them; None: what the dataset says.
    share
        Of the training cells or labels.
    judged
        Types on whose test cells alone a recommender is evaluated, one after the other (none: on all test
        cells); or the type that an annotator does not know.
    told
        Of the labels, for the figures.
    """

    name: str
    setting: str
    repeat: int
    keep: Bools
    labels: Labels | None = None
    share: float = 1.0
    judged: tuple[str, ...] = ()
    told: dict[str, float] | None = None

    @property
    def size(self) -> int:
        """Number of cells that are kept, and where labels are given, have one."""
        if self.labels is None:
            return int(self.keep.sum())
        return int((self.keep & (self.labels != None)).sum())  # noqa: E711  # each element
