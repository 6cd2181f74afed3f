"""The trainings of a recommender's studies: on some of the training cells, or without a cell type."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ...graphs.errors import InputError
from .draws import evenly_ordered
from .left_out import studied_types
from .options import smallest_batch
from .results import ALL_TYPES
from .study import TEST, TRAIN, Study, Training

_FEWEST = 10  # training cells that a model can be fitted on


def plan_cell_shares(study: Study, cells: pd.DataFrame) -> tuple[list[Training], list[str]]:
    """Train on shares of the training cells.

    Raises
    ------
    InputError
        A share is of too few cells.
    """
    split, everyone = cells["split"].to_numpy(), np.ones(len(cells), bool)
    train = np.flatnonzero(split == TRAIN)
    n, shares = len(train), study.levels
    if round(shares[0] * n) < _FEWEST:
        raise InputError(
            f"--shares {shares[0]:g}: {round(shares[0] * n)} of {n:,} training cells are too few to train on."
            f" Choose shares of at least {_FEWEST / n:.2g}."
        )
    codes = pd.factorize(cells["cell_type"].to_numpy()[train])[0]
    orders = [
        train[evenly_ordered(codes, np.random.default_rng([study.options.seed, repeat, 4]))]
        for repeat in range(study.repeats)
    ]
    trainings = []
    for share in shares:
        for repeat, order in enumerate(orders):
            keep = everyone & (split != TRAIN)
            keep[order[: round(share * n)]] = True
            name = f"share-{share:g}-repeat-{repeat}"
            trainings.append(Training(name, f"{share:g}", repeat, keep, share=share))
    return trainings, [
        "shares of the training cells, drawn within cell types, each inside the larger ones of its repeat",
        "validation and test cells are the same for all shares; baselines are fitted on the same training cells",
        "epochs count passes over the share; a batch is as much smaller as the share is, so that all take equally"
        f" many steps (at least {smallest_batch(study)} pairs a batch)",
    ]


def plan_cell_types(study: Study, cells: pd.DataFrame) -> tuple[list[Training], list[str]]:
    """Train without each type, and with all of them.

    Raises
    ------
    InputError
        A type cannot be left out.
    """
    types, notes = studied_types(study, cells, fewest=2, why="retrieval needs two")
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
