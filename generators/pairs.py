"""Split the cells first; then pair RNA with ATAC profiles inside each split, so that nothing leaks."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.errors import InputError
from ..graphs.schema import SPLITS

_SHARE = 0.1  # of the cells, for validation and for test


def split_cells(
    cell_type: pd.Series[str], *, donor: pd.Series[str] | None = None, seed: int = 0
) -> tuple[NDArray[np.object_], list[str]]:
    """Assign every cell to train (80 %), validation (10 %) or test (10 %).

    Without donors, cells are split within each type; of a type with fewer cells than splits the
    first cell trains and the second, if any, is held out, for test and validation in turn. With
    three donors or more, whole donors make up the test and the validation cells, and the largest
    one always trains; of two donors the smaller is the test donor and validation cells come from
    the other.

    Parameters
    ----------
    cell_type
        (cells,) labels, None where unknown (unlabelled cells are split as a type of their own).
    donor
        (cells,) names, if the split is by donor.
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
        Fewer cells than splits, a split without cells, one donor, or cells without a donor.
    """
    if len(cell_type) < len(SPLITS):
        raise InputError(
            f"{len(cell_type)} cells cannot be split into {', '.join(SPLITS)}. Pass at least {len(SPLITS)} cells."
        )
    rng = np.random.default_rng([seed, 0])
    if donor is None:
        split, report = _within_types(cell_type, rng, SPLITS)
    else:
        split, report = _by_donor(cell_type, donor, rng)
    _check_splits(split)
    unseen = sorted(set(cell_type.dropna()) - set(cell_type[split == SPLITS[0]].dropna()))
    if unseen:
        report.append(f"types without training cells: {', '.join(unseen)}")
    return split, report


def make_pairs(
    split: NDArray[np.object_], cell_type: pd.Series[str], *, ratio: float = 1.0, seed: int = 0
) -> pd.DataFrame:
    """Pair profiles inside each split: every cell with itself, and easy negatives.

    An easy negative is the RNA of one cell beside the ATAC of a cell of another type. Where no
    cell is labelled, it is any other cell.

    Parameters
    ----------
    split
        (cells,) from `split_cells`.
    cell_type
        (cells,) labels, None where unknown; such cells take part in positives only.
    ratio
        Negatives for each positive.
    seed
        Decides the draw.

    Returns
    -------
    Table with columns rna, atac (rows of cells), match (1, 0), kind (positive, easy, random), split.

    Raises
    ------
    InputError
        A split has labelled cells of fewer than two types, or, without labels, one cell.
    """
    rng = np.random.default_rng([seed, 1])
    codes = pd.Categorical(cell_type).codes.astype(np.int64)
    labelled = codes >= 0
    kind = "easy" if labelled.any() else "random"
    if not labelled.any():
        codes, labelled = np.arange(len(split)), np.ones(len(split), dtype=bool)
    frames = []
    for name in SPLITS:
        own = np.flatnonzero(split == name)
        frames.append(_frame(own, own, 1, "positive", name))
        if ratio > 0:
            usable = own[labelled[own]]
            if len(np.unique(codes[usable])) < 2:
                raise InputError(_no_negatives(name, kind, len(usable)))
            rna, atac = _of_other_type(usable, codes[usable], round(ratio * len(usable)), rng)
            frames.append(_frame(rna, atac, 0, kind, name))
    return pd.concat(frames, ignore_index=True)


def _within_types(
    cell_type: pd.Series[str], rng: np.random.Generator, parts: tuple[str, ...]
) -> tuple[NDArray[np.object_], list[str]]:
    """Split the cells of each type by chance; tell which types are too small for that."""
    codes, names = pd.factorize(cell_type.fillna(""), sort=True)
    sizes = np.bincount(codes, minlength=len(names))
    order = np.lexsort((rng.random(len(codes)), codes))
    rank = np.empty(len(codes), np.int64)
    rank[order] = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    held = np.maximum(1, np.round(sizes * _SHARE)).astype(np.int64)  # cells a held-out part
    part = np.maximum(len(parts) - 1 - rank // held[codes], 0)
    small = sizes < len(parts)
    part[small[codes]] = 0
    second = order[small[codes[order]] & (rank[order] == 1)]
    part[second] = len(parts) - 1 - np.arange(len(second)) % (len(parts) - 1)
    few = ", ".join(str(name) or "(unlabelled)" for name in names[small])
    report = [f"types with fewer cells than splits, training first: {few}"] if few else []
    return np.array(parts, dtype=object)[part], report


def _by_donor(
    cell_type: pd.Series[str], donor: pd.Series[str], rng: np.random.Generator
) -> tuple[NDArray[np.object_], list[str]]:
    if donor.isna().any():
        raise InputError(
            f"{donor.isna().sum():,} of {len(donor):,} cells have no donor. Fill the column or leave out --donor."
        )
    sizes = donor.astype(str).value_counts().sort_index()
    if len(sizes) < 2:
        raise InputError(f"one donor only ({sizes.index[0]}): cannot split by donor. Leave out --donor.")
    split = np.full(len(donor), SPLITS[0], dtype=object)
    if len(sizes) == 2:
        test = [str(sizes.idxmin())]
        rest = np.flatnonzero(donor.astype(str) != test[0])
        split[rest], report = _within_types(cell_type.iloc[rest].reset_index(drop=True), rng, SPLITS[:2])
        where = "validation cells: of the other donor"
    else:
        test, validation = _held_donors(sizes, rng)
        split[donor.astype(str).isin(validation)] = SPLITS[1]
        where, report = f"validation donors: {', '.join(validation)}", []
    split[donor.astype(str).isin(test)] = SPLITS[2]
    return split, [f"test donors: {', '.join(test)}; {where}", *report]


def _held_donors(sizes: pd.Series[int], rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Take whole donors in random order until each held-out part has its share of the cells."""
    free = list(rng.permutation(sizes.index[sizes.index != sizes.idxmax()].to_numpy()))
    test: list[str] = []
    validation: list[str] = []
    for part, reserve in ((test, 1), (validation, 0)):
        while len(free) > reserve and sizes[part].sum() < _SHARE * sizes.sum():
            part.append(str(free.pop()))
    return test, validation


def _check_splits(split: NDArray[np.object_]) -> None:
    for name in SPLITS:
        if not (split == name).any():
            raise InputError(
                f"the {name} split has no cells ({len(split):,} cells in all): the types or donors are too small"
                " to be divided. Pass more cells, or leave out --labels or --donor."
            )


def _no_negatives(split: str, kind: str, n_cells: int) -> str:
    if kind == "random":
        return f"the {split} split has {n_cells} cell only, so it has no negative pairs. Pass more cells."
    return (
        f"the {split} split has labelled cells of fewer than two types, so it has no easy negatives. Pass more"
        " cells, another label or donor column, or leave out --labels."
    )


def _of_other_type(
    cells: NDArray[np.int64], codes: NDArray[np.int64], count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw ATAC cells uniformly among those of another type, without rejection."""
    order = np.argsort(codes, kind="stable")
    cells, codes = cells[order], codes[order]
    sizes = np.bincount(codes)
    first = np.cumsum(sizes) - sizes
    rna = np.resize(rng.permutation(len(cells)), count)
    draw = rng.integers(0, len(cells) - sizes[codes[rna]])
    draw += np.where(draw >= first[codes[rna]], sizes[codes[rna]], 0)
    return cells[rna], cells[draw]


def _frame(
    rna: NDArray[np.int64], atac: NDArray[np.int64], match: int, kind: str, split: str
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "rna": rna.astype(np.int32),
            "atac": atac.astype(np.int32),
            "match": np.int8(match),
            "kind": kind,
            "split": split,
        }
    )
