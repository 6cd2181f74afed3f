"""The trainings of an annotator's studies: on fewer labels, on wrong ones, or without a cell type."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...graphs.errors import InputError
from .draws import nested_shares, shuffled
from .left_out import studied_types
from .options import smallest_batch
from .study import PRETRAINING, TEST, TRAIN, VALIDATION, Bools, Labels, Study, Training

Int64 = NDArray[np.int64]

_FEWEST = 10  # labelled training cells that a model can be fitted on
_T_TEST = (
    "p: two-sided paired t-test over repeats, which share their test cells; it tells what other labels and seeds would"
    " change, not other cells"
)


def plan_label_shares(study: Study, cells: pd.DataFrame) -> tuple[list[Training], list[str]]:
    """Train on shares of the labels, repeat by repeat.

    Raises
    ------
    InputError
        A share is of too few cells.
    """
    trainings = []
    for repeat in range(study.repeats):
        rng = np.random.default_rng([study.options.seed, repeat, 5])
        train, validation = (
            nested_shares(_codes(cells, split), study.levels, rng) for split in (TRAIN, VALIDATION)
        )
        for share, own, held_out in zip(study.levels, train, validation, strict=True):
            _check_share(share, int(own.sum()), _codes(cells, TRAIN))
            trainings.append(_on_labels(cells, own | held_out, share, repeat))
    notes = [
        "shares of the labels of training and validation cells, drawn within cell types (at least one of each), each"
        " inside the larger ones of its repeat; test cells are the same for all",
        "baselines are fitted on the same labels",
    ]
    if study.name == PRETRAINING:
        others = "".join(f" and of {path}" for path in study.unlabelled)
        notes.append(
            f"pre-trained once a repeat on all training cells{others} without their labels, and trained from there; from scratch:"
            " the same training from random weights"
        )
    if study.kind.epochs and study.options.batch_size > smallest_batch(study):
        notes.append(
            "epochs count passes over the share; a batch is as much smaller as the share is, so that all take about as"
            f" many steps (at least {smallest_batch(study)} cells a batch)"
        )
    return trainings, [*notes, _T_TEST]


def _on_labels(cells: pd.DataFrame, known: Bools, share: float, repeat: int) -> Training:
    """Describe a training on some labels; those of test cells stay, to be judged by."""
    labels = _labels(cells)
    labels[~known & (cells["split"] != TEST).to_numpy()] = None
    told = {"validation_cells": float((known & (cells["split"] == VALIDATION).to_numpy()).sum())}
    name = f"share-{share:g}-repeat-{repeat}"
    return Training(name, f"{share:g}", repeat, _all(cells), labels, share, told=told)


def _check_share(share: float, n: int, codes: Int64) -> None:
    whole = int((codes >= 0).sum())
    if n < _FEWEST:
        raise InputError(
            f"--shares {share:g}: {n} of {whole:,} labelled training cells are too few to train on."
            f" Choose shares of at least {_FEWEST / max(whole, 1):.2g}."
        )


def plan_noise(study: Study, cells: pd.DataFrame) -> tuple[list[Training], list[str]]:
    """Train on labels of which a share is shuffled among the cells that were chosen for it."""
    trainings = [
        _with_noise(cells, level, repeat, study.options.seed)
        for level in study.levels
        for repeat in range(study.repeats)
    ]
    return trainings, [
        "shares of the labels of training and validation cells that are shuffled among the chosen cells, so that as"
        " many as possible change; labels of test cells are true, and the same cells are judged at all levels",
        "cells chosen at a level are also chosen at higher ones of the repeat; baselines are fitted on the same labels",
        _T_TEST,
    ]


def _with_noise(cells: pd.DataFrame, level: float, repeat: int, seed: int) -> Training:
    truth, told = _labels(cells), {}
    labels = truth.copy()
    for place, split in enumerate((TRAIN, VALIDATION)):
        codes = _codes(cells, split)
        known = np.flatnonzero(codes >= 0)
        order = np.random.default_rng([seed, repeat, 6, place]).permutation(known)
        chosen = order[: round(level * len(known))]
        rng = np.random.default_rng([seed, repeat, 7, place, len(chosen)])
        names = np.array(sorted(set(truth[known])), dtype=object)
        labels[chosen] = names[shuffled(np.searchsorted(names, truth[chosen]), rng)]
        changed = (labels[known] != truth[known]).mean() if len(known) else 0.0
        told[f"changed_{split}"] = float(changed)
    return Training(f"noise-{level:g}-repeat-{repeat}", f"{level:g}", repeat, _all(cells), labels, told=told)


def plan_unseen_types(study: Study, cells: pd.DataFrame) -> tuple[list[Training], list[str]]:
    """Train without each type.

    Raises
    ------
    InputError
        A type cannot be left out.
    """
    types, notes = studied_types(study, cells)
    split, own = cells["split"].to_numpy(), cells["cell_type"].to_numpy()
    for name in types:
        _check_rest(cells[(own != name) & pd.notna(own)], name)
    trainings = [
        # A type's name need not be the name of a file.
        Training(
            f"without-{i}-repeat-{repeat}",
            f"without {name}",
            repeat,
            (split == TEST) | (own != name),
            _labels(cells),
            judged=(name,),
        )
        for repeat in range(study.repeats)
        for i, name in enumerate(types)
    ]
    return trainings, [
        *notes,
        "no cell of the type is in training or validation, neither for the model nor for baselines; novelty of its"
        " test cells against those of the known types",
        *(
            [
                "cells without a label stay in training, where models read them without it, and may be of the type"
            ]
            if (pd.isna(own) & (split == TRAIN)).any()
            else []
        ),
        "called novel: confidence below 0.5, of the type's cells and (wrongly) of the known types'",
    ]


def _check_rest(others: pd.DataFrame, name: str) -> None:
    for split in (TRAIN, VALIDATION, TEST):
        if not (others["split"] == split).any():
            raise InputError(
                f"--types {name}: without it no labelled {split} cell is left. Leave it out, or build the dataset with"
                " more cells."
            )


def _labels(cells: pd.DataFrame) -> Labels:
    found = cells["cell_type"].to_numpy(dtype=object, copy=True)
    found[pd.isna(found)] = None
    return found


def _codes(cells: pd.DataFrame, split: str) -> Int64:
    """Number the types of a split's cells; −1 for cells without a label and all others."""
    codes = pd.factorize(cells["cell_type"].to_numpy(), sort=True)[0]
    return np.where((cells["split"] == split).to_numpy(), codes, -1).astype(np.int64)


def _all(cells: pd.DataFrame) -> Bools:
    return np.ones(len(cells), bool)
