"""Which cells train, validate and test: one split, or K folds; by cell within each type, or by donor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.errors import InputError
from ..graphs.schema import SPLITS

Divided = tuple[NDArray[np.object_], list[str]]  # the split of each cell, and what a reader should know
Types = tuple[NDArray[np.int64], list[str]]  # of each cell, and their names

TRAIN, VALIDATION, TEST = SPLITS
_ONE_IN: Final = 10  # one cell in ten validates, and one is tested


def split_cells(
    cell_type: pd.Series[str],
    *,
    donor: pd.Series[str] | None = None,
    test_donors: Sequence[str] = (),
    seed: int = 0,
) -> Divided:
    """Assign every cell to train (80 %), validation (10 %) or test (10 %).

    Without donors, cells are split within each type; of a type with fewer cells than splits the
    first cell trains and the second, if any, is held out, for test and validation in turn. With
    donors, whole donors are tested: those named, else the smaller of two, else as many as it takes,
    by chance. Of the other donors the largest trains, and further whole donors validate; where there
    is no further one, cells of that donor do.

    Parameters
    ----------
    cell_type
        (cells,) labels, None where unknown (unlabelled cells are split as a type of their own).
    donor
        (cells,) names, if the split is by donor.
    test_donors
        Names of the donors to test; chosen by size and chance when empty.
    seed
        Decides the draw.

    Returns
    -------
    split
        (cells,) names of splits.
    report
        What a reader should know, a line each: donors held out, small types, types that no
        training cell has.

    Raises
    ------
    InputError
        Fewer cells than splits, a split without cells, one donor, cells without a donor, or donors to
        test that are unknown or that leave none to train.
    """
    if len(cell_type) < len(SPLITS):
        raise InputError(
            f"{len(cell_type)} cells cannot be split into {', '.join(SPLITS)}. Pass at least {len(SPLITS)} cells."
        )
    rng = np.random.default_rng([seed, 0])
    codes, names = _types(cell_type)
    if donor is None:
        if test_donors:
            raise InputError(f"--test-donors {','.join(test_donors)} needs donors. Pass --donor COLUMN.")
        split, report = _within_types(codes, names, rng, SPLITS)
    else:
        sizes, test = _tested(donor, test_donors, rng)
        split, report = _around(test, donor, sizes, (codes, names), rng)
    _check_splits(split, "")
    return split, report + _unseen(codes, names, split)


def fold_splits(
    cell_type: pd.Series[str], *, donor: pd.Series[str] | None = None, folds: int, seed: int = 0
) -> list[Divided]:
    """Split the cells K times, so that every cell is tested exactly once.

    Without donors, the cells of each type are dealt to the test parts in turn, so that the parts of
    a type, and of all cells, differ by one cell at most. With donors, whole donors are dealt, the
    largest first, each to the part with fewest cells. Of the other cells of a fold, 10 % of all
    cells validate: within each type, where at least one cell trains, or by donor as in `split_cells`.

    Parameters
    ----------
    cell_type, donor
        As in `split_cells`.
    folds
        K, 2 or more.
    seed
        Decides the draw.

    Returns
    -------
    A split and a report for each fold, see `split_cells`; types too small to be in every part of
    every fold are told with the first one only.

    Raises
    ------
    InputError
        Fewer than 2 folds, fewer cells or donors than folds, cells without a donor, or a fold that
        has no validation cells.
    """
    if not 2 <= folds <= len(cell_type):
        raise InputError(
            f"--folds is {folds} for {len(cell_type):,} cells. Pass 2 or more, and at most the number of cells."
        )
    codes, names = _types(cell_type)
    rng = np.random.default_rng([seed, 3])
    if donor is not None:
        return _donor_folds(donor, (codes, names), folds, rng)
    part = np.empty(len(codes), np.int64)
    part[np.lexsort((rng.random(len(codes)), codes))] = np.arange(len(codes)) % folds
    made = []
    for fold in range(folds):
        split = np.where(part == fold, TEST, TRAIN).astype(object)
        _validate(split, codes, np.bincount(codes), rng)
        _check_splits(split, f" of fold {fold}")
        made.append((split, _too_small(codes, names, folds) if fold == 0 else []))
    return made


def _types(cell_type: pd.Series[str]) -> Types:
    """Number the types by name, whatever holds them; unlabelled cells are the first type if any."""
    known = cell_type.astype(object)
    codes, names = pd.factorize(known.where(known.notna(), "").to_numpy(), sort=True)
    return codes.astype(np.int64), [str(name) or "(unlabelled)" for name in names]


def _ranks(codes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Place of each cell in a random order of the cells of its type."""
    sizes = np.bincount(codes)
    rank = np.empty(len(codes), np.int64)
    order = np.lexsort((rng.random(len(codes)), codes))
    rank[order] = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank


def _within_types(
    codes: NDArray[np.int64], names: list[str], rng: np.random.Generator, parts: tuple[str, ...]
) -> Divided:
    """Split the cells of each type by chance; tell which types are too small for that."""
    sizes = np.bincount(codes, minlength=len(names))
    rank = _ranks(codes, rng)
    held = np.maximum(1, np.round(sizes / _ONE_IN)).astype(np.int64)  # cells a held-out part
    part = np.maximum(len(parts) - 1 - rank // held[codes], 0)
    small = (sizes > 0) & (sizes < len(parts))
    part[small[codes]] = 0
    second = np.flatnonzero(small[codes] & (rank == 1))
    second = second[np.argsort(codes[second])]  # one cell a type, in the order of their names
    part[second] = len(parts) - 1 - np.arange(len(second)) % (len(parts) - 1)
    few = ", ".join(names[at] for at in np.flatnonzero(small))
    report = [f"types with fewer cells than splits, training first: {few}"] if few else []
    return np.array(parts, dtype=object)[part], report


def _validate(
    split: NDArray[np.object_], codes: NDArray[np.int64], sizes: NDArray[np.int64], rng: np.random.Generator
) -> None:
    """Turn training cells of each type into validation cells, but never the last one of a type."""
    free = np.flatnonzero(split == TRAIN)
    left = np.bincount(codes[free], minlength=len(sizes))
    held = np.minimum(np.maximum(1, np.round(sizes / _ONE_IN)), left - 1)
    split[free[_ranks(codes[free], rng) < held[codes[free]]]] = VALIDATION


def _too_small(codes: NDArray[np.int64], names: list[str], folds: int) -> list[str]:
    sizes = np.bincount(codes)
    small = (sizes < folds) | (sizes - -(-sizes // folds) < 2)
    few = ", ".join(names[at] for at in np.flatnonzero(small))
    return (
        [f"types with too few cells for every part of {folds} folds, spread over them: {few}"] if few else []
    )


def _unseen(codes: NDArray[np.int64], names: list[str], split: NDArray[np.object_]) -> list[str]:
    absent = np.setdiff1d(codes, codes[split == TRAIN])
    told = ", ".join(names[at] for at in absent if names[at] != "(unlabelled)")
    return [f"types without training cells: {told}"] if told else []


def _donor_sizes(donor: pd.Series[str]) -> pd.Series[int]:
    """Count the cells of each donor, donors by name."""
    if donor.isna().any():
        raise InputError(
            f"{donor.isna().sum():,} of {len(donor):,} cells have no donor. Fill the column or leave out --donor."
        )
    sizes = donor.astype(object).astype(str).value_counts().sort_index()
    if len(sizes) < 2:
        raise InputError(f"one donor only ({sizes.index[0]}): cannot split by donor. Leave out --donor.")
    return sizes


def _tested(
    donor: pd.Series[str], named: Sequence[str], rng: np.random.Generator
) -> tuple[pd.Series[int], list[str]]:
    """Choose the donors to test; the largest one trains unless it is named."""
    sizes = _donor_sizes(donor)
    there = ", ".join(f"{name} ({count:,})" for name, count in sizes.items())
    unknown = [name for name in named if name not in sizes.index]
    if unknown:
        raise InputError(f"--test-donors {', '.join(unknown)}: no such donor. The donors are: {there}.")
    if len(set(named)) == len(sizes):
        raise InputError(f"--test-donors names every donor, so none is left to train: {there}. Name fewer.")
    if named:
        return sizes, sorted(set(named))
    if len(sizes) == 2:
        return sizes, [str(sizes.idxmin())]
    free = sizes.drop(sizes.idxmax())
    return sizes, _draw(free, sizes.sum() / _ONE_IN, len(free) - 1, rng)


def _draw(sizes: pd.Series[int], wanted: float, most: int, rng: np.random.Generator) -> list[str]:
    """Take whole donors in random order until they have the wanted number of cells."""
    order = rng.permutation(len(sizes))[:most]
    before = np.cumsum(sizes.to_numpy()[order]) - sizes.to_numpy()[order]
    return [str(name) for name in sizes.index[order[before < wanted]]]


def _around(
    test: list[str],
    donor: pd.Series[str],
    sizes: pd.Series[int],
    types: Types,
    rng: np.random.Generator,
) -> Divided:
    """Split the cells of the donors that are not tested: whole donors validate, or cells of the only one."""
    names = donor.astype(object).astype(str).to_numpy(object)
    split = np.full(len(names), TRAIN, dtype=object)
    split[np.isin(names, test)] = TEST
    rest = sizes.drop(test)
    report: list[str] = []
    if len(rest) > 1:
        free = rest.drop(rest.idxmax())
        validation = _draw(free, sizes.sum() / _ONE_IN, len(free), rng)
        split[np.isin(names, validation)] = VALIDATION
        where = f"validation donors: {', '.join(validation)}"
    else:
        own = split == TRAIN
        split[own], report = _within_types(types[0][own], types[1], rng, SPLITS[:2])
        where = "validation cells: of the other donor"
    return split, [f"test donors: {', '.join(test)}; {where}", *report]


def _donor_folds(donor: pd.Series[str], types: Types, folds: int, rng: np.random.Generator) -> list[Divided]:
    sizes = _donor_sizes(donor)
    if len(sizes) < folds:
        raise InputError(
            f"{len(sizes)} donors cannot be dealt to {folds} folds. Pass --folds {len(sizes)} or fewer, or leave out"
            " --donor."
        )
    made = []
    for fold, test in enumerate(_deal(sizes, folds, rng)):
        split, report = _around(test, donor, sizes, types, rng)
        _check_splits(split, f" of fold {fold}")
        made.append((split, report + _unseen(*types, split)))
    return made


def _deal(sizes: pd.Series[int], folds: int, rng: np.random.Generator) -> list[list[str]]:
    """Deal donors, the largest first and equal ones by chance, each to the part with fewest cells."""
    parts: list[list[str]] = [[] for _ in range(folds)]
    load = np.zeros(folds)
    shuffled = sizes.iloc[rng.permutation(len(sizes))]
    for name, count in shuffled.sort_values(ascending=False, kind="stable").items():
        lightest = int(load.argmin())
        parts[lightest].append(str(name))
        load[lightest] += count
    return [sorted(part) for part in parts]


def _check_splits(split: NDArray[np.object_], where: str) -> None:
    for name in SPLITS:
        if not (split == name).any():
            raise InputError(
                f"the {name} split{where} has no cells ({len(split):,} cells in all): the types or donors are too"
                " small to be divided. Pass more cells, or leave out --labels or --donor."
            )
