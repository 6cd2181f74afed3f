"""What a study of CrossRec trains: on which cells, how often, and what is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.schema import SPLITS
from .registry import Kind
from .study_results import ALL_TYPES
from .train_options import TrainOptions

Bools = NDArray[np.bool_]
Int64 = NDArray[np.int64]

STUDIES: Final = ("fractions", "leave-type-out")
SHARES: Final = (0.05, 0.1, 0.25, 0.5, 1.0)
SMALLEST_BATCH: Final = 32  # pairs
_OF_ANNOTATORS = ("label-noise", "pretraining")
_FEWEST = 10  # training cells that a model can be fitted on
_JUDGED = 20  # test cells of a type that is left out without being asked for
TRAIN: Final = SPLITS[0]
TEST: Final = SPLITS[2]


@dataclass(frozen=True)
class Study:
    """What is studied, on which dataset, with which model.

    Attributes
    ----------
    name
        ``fractions`` or ``leave-type-out``.
    dataset
        Dataset with pairs.
    kind, config, options
        Model and training choices; repeat r trains with ``options.seed + r``.
    repeats
        Trainings a setting, each with its own seed and subset.
    shares
        Of the training cells (``fractions``).
    types
        Cell types to leave out (``leave-type-out``); those with at least 20 test cells when empty.
    """

    name: str
    dataset: Path
    kind: Kind
    config: Any
    options: TrainOptions
    repeats: int = 3
    shares: tuple[float, ...] = SHARES
    types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_study(self.name)
        if self.repeats < 1:
            raise InputError(f"--repeats {self.repeats}: must be positive.")
        if not self.shares or not all(0 < share <= 1 for share in self.shares):
            told = ",".join(map(str, self.shares))
            raise InputError(f"--shares {told}: choose numbers above 0 and up to 1, like 0.1,0.5,1.0.")


def check_study(name: str, shares: Sequence[float] | None = None, types: Sequence[str] = ()) -> None:
    """Refuse a study that there is not, or what does not belong to it."""
    if name in _OF_ANNOTATORS:
        raise InputError(
            f"study {name} needs a model that annotates cells, and this version has crossrec only."
            f" Choose {' or '.join(STUDIES)}."
        )
    if name not in STUDIES:
        raise InputError(f"study {name}: choose {' or '.join(STUDIES)}.")
    if shares and name != "fractions":
        raise InputError(f"--shares belongs to the study fractions. Leave it out of {name}.")
    if types and name != "leave-type-out":
        raise InputError(f"--types belongs to the study leave-type-out. Leave it out of {name}.")


def parse_shares(text: str | None) -> tuple[float, ...] | None:
    """Split ``0.1,0.5`` from the command line."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--shares {text}: choose numbers above 0 and up to 1, like 0.1,0.5,1.0.") from None


@dataclass(frozen=True)
class Training:
    """One training of a study.

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
    share
        Of the training cells.
    judged
        Types on whose test cells alone the model is evaluated, one after the other; none: on all test cells.
    """

    name: str
    setting: str
    repeat: int
    keep: Bools
    share: float = 1.0
    judged: tuple[str, ...] = ()


def plan(study: Study) -> tuple[list[Training], list[str]]:
    """List the trainings of a study, small ones first, and what a reader of its figures should know.

    Raises
    ------
    InputError
        A share of too few cells, or a type that cannot be left out.
    """
    cells = MultiomeGraphs(study.dataset).cells
    return _plan_shares(study, cells) if study.name == "fractions" else _plan_types(study, cells)


def _plan_shares(study: Study, cells: pd.DataFrame) -> tuple[list[Training], list[str]]:
    split, everyone = cells["split"].to_numpy(), np.ones(len(cells), bool)
    n = int((split == TRAIN).sum())
    shares = sorted(set(study.shares))
    if round(shares[0] * n) < _FEWEST:
        raise InputError(
            f"--shares {shares[0]:g}: {round(shares[0] * n)} of {n:,} training cells are too few to train on."
            f" Choose shares of at least {_FEWEST / n:.2g}."
        )
    orders = [
        _nested(cells, np.random.default_rng([study.options.seed, repeat, 4]))
        for repeat in range(study.repeats)
    ]
    trainings = []
    for share in shares:
        for repeat, order in enumerate(orders):
            keep = everyone & (split != TRAIN)
            keep[order[: round(share * n)]] = True
            trainings.append(Training(f"share-{share:g}-repeat-{repeat}", f"{share:g}", repeat, keep, share))
    return trainings, [
        "shares of the training cells, drawn within cell types, each inside the larger ones of its repeat",
        "validation and test cells are the same for all shares; baselines are fitted on the same training cells",
        "epochs count passes over the share; a batch is as much smaller as the share is, so that all take equally"
        f" many steps (at least {SMALLEST_BATCH} pairs a batch)",
    ]


def _nested(cells: pd.DataFrame, rng: np.random.Generator) -> Int64:
    """Order the training cells so that every beginning holds types in the proportions of the whole."""
    train = np.flatnonzero((cells["split"] == TRAIN).to_numpy())
    codes = pd.factorize(cells["cell_type"].to_numpy()[train])[0]
    drawn = pd.Series(rng.random(len(train)))
    place = drawn.groupby(codes).rank(method="first") - drawn  # spreads each type's cells evenly, at random
    size = np.bincount(codes + 1)[codes + 1]
    order: Int64 = train[np.argsort(place.to_numpy() / size, kind="stable")]
    return order


def _plan_types(study: Study, cells: pd.DataFrame) -> tuple[list[Training], list[str]]:
    types, notes = _types(study, cells)
    split, own = cells["split"].to_numpy(), cells["cell_type"].to_numpy()
    everyone = np.ones(len(cells), bool)
    trainings = []
    for repeat in range(study.repeats):
        for i, name in enumerate(types):
            keep = (split == TEST) | (own != name)
            trainings.append(
                # A type's name need not be the name of a file.
                Training(f"without-{i}-repeat-{repeat}", f"without {name}", repeat, keep, judged=(name,))
            )
        trainings.append(
            Training(f"all-types-repeat-{repeat}", ALL_TYPES, repeat, everyone, judged=tuple(types))
        )
    return trainings, [
        *notes,
        "without: no cell of the type in training or validation, neither for the model nor for baselines; with: all"
        " types; both are evaluated on the type's test cells",
        "matching: the test pairs of the dataset in which a cell of the type takes part; matching_within_type: each of"
        " its cells beside another of its type",
    ]


def _types(study: Study, cells: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Choose the types to leave out, and tell which are not."""
    sizes = cells[cells["split"] == TEST]["cell_type"].value_counts()
    trained = cells[cells["split"] == TRAIN]["cell_type"].dropna().unique()
    if len(trained) < 3:
        raise InputError(
            f"{study.dataset} has training cells of {len(trained)} types; leaving one out needs three or more."
        )
    there = sorted(map(str, sizes.index))
    if unknown := [name for name in study.types if name not in there]:
        raise InputError(f"--types {unknown[0]}: no test cell is of that type. There are {', '.join(there)}.")
    if few := [name for name in study.types if sizes[name] < 2]:
        raise InputError(f"--types {few[0]}: has one test cell; retrieval needs two. Leave it out.")
    if study.types:
        return list(dict.fromkeys(study.types)), []
    chosen = [name for name in there if sizes[name] >= _JUDGED]
    if not chosen:
        raise InputError(
            f"no type has {_JUDGED} test cells. Name types with --types; there are {', '.join(there)}."
        )
    passed = [f"{name} ({sizes[name]})" for name in there if sizes[name] < _JUDGED]
    note = f"not studied, with fewer than {_JUDGED} test cells: {', '.join(passed)}"
    return chosen, [note] if passed else []
