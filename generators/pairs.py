"""Pair RNA with ATAC profiles inside each split of the cells, so that nothing leaks."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.errors import InputError
from ..graphs.schema import SPLITS

Negatives = Literal["easy", "hard", "both"]
Drawn = tuple[NDArray[np.int64], NDArray[np.int64]]  # cells whose RNA, and cells whose ATAC


def make_pairs(
    split: NDArray[np.object_],
    cell_type: pd.Series[str],
    *,
    negatives: Negatives = "easy",
    ratio: float = 1.0,
    seed: int = 0,
) -> pd.DataFrame:
    """Pair profiles inside each split: every cell with itself, and negatives.

    A negative is the RNA of one cell beside the ATAC of another: of another type (easy) or of the same
    type (hard). Where no cell is labelled, it is any other cell (random). A negative is never a
    positive. All cells that can take part give their RNA equally often, give or take one, and
    partners are drawn with replacement: no pair is twice among the easy, or among the hard ones,
    unless a cell takes part twice (a ratio above 1).

    Parameters
    ----------
    split
        (cells,) from `split_cells`; a split without cells gives no pairs.
    cell_type
        (cells,) labels, None where unknown; such cells take part in positives only.
    negatives
        ``easy``, ``hard`` (cells that are alone of their type in the split take no part), or ``both``,
        half of each (the odd one is easy).
    ratio
        Negatives for each labelled cell of the split, rounded over the split; 0 gives positives only.
    seed
        Decides the draw.

    Returns
    -------
    Table with columns rna, atac (rows of cells), match (1, 0), kind (positive, easy, hard, random),
    split.

    Raises
    ------
    InputError
        ``negatives`` is unknown, or a split cannot have them: easy ones need labelled cells of two
        types, hard ones two labelled cells of one type, and without labels a split needs two cells.
    """
    if negatives not in get_args(Negatives):
        raise InputError(f"--negatives is {negatives}. Pass one of: {', '.join(get_args(Negatives))}.")
    rng = np.random.default_rng([seed, 1])
    codes = _codes(cell_type)
    frames = []
    for name in SPLITS:
        own = np.flatnonzero(split == name)
        frames.append(_frame((own, own), 1, "positive", name))
        if ratio > 0 and len(own):
            drawn = _draw(codes, own, negatives, ratio, rng, name)
            frames += [_frame(pairs, 0, kind, name) for kind, pairs in drawn.items()]
    return pd.concat(frames, ignore_index=True)


def no_pairs() -> pd.DataFrame:
    """Return the table of an experiment without pairs: of one modality."""
    nothing = np.empty(0, np.int64)
    return _frame((nothing, nothing), 0, "", "")


def _codes(cell_type: pd.Series[str]) -> NDArray[np.int64]:
    """Number the types by name, whatever holds them; -1 where unknown."""
    codes, _ = pd.factorize(cell_type.astype(object).to_numpy(), sort=True)
    return codes.astype(np.int64)


def _draw(
    codes: NDArray[np.int64],
    own: NDArray[np.int64],
    negatives: Negatives,
    ratio: float,
    rng: np.random.Generator,
    split: str,
) -> dict[str, Drawn]:
    """Draw the negatives of one split, by kind."""
    if codes.max() < 0:  # no cell is labelled
        _check_unlabelled(split, len(own), negatives)
        return {"random": _of_other_type(own, np.arange(len(own)), round(ratio * len(own)), rng)}
    cells = own[codes[own] >= 0]
    cells = cells[np.argsort(codes[cells], kind="stable")]
    total = round(ratio * len(cells))
    hard = {"easy": 0, "hard": total, "both": total // 2}[negatives]
    drawn = {}
    if negatives != "hard":
        _check_easy(split, codes, cells)
        drawn["easy"] = _of_other_type(cells, codes[cells], total - hard, rng)
    if negatives != "easy":
        sizes = np.bincount(codes[cells])
        paired = cells[sizes[codes[cells]] > 1]
        _check_hard(split, len(cells), len(paired))
        drawn["hard"] = _of_same_type(paired, codes[paired], hard, rng)
    return drawn


def _of_other_type(
    cells: NDArray[np.int64], codes: NDArray[np.int64], count: int, rng: np.random.Generator
) -> Drawn:
    """Draw ATAC cells uniformly among those of another type, without rejection; cells come by type."""
    first, sizes = _blocks(codes)
    rna = _in_turn(len(cells), count, rng)
    draw = rng.integers(0, len(cells) - sizes[rna])
    draw += np.where(draw >= first[rna], sizes[rna], 0)  # past the own type
    return cells[rna], cells[draw]


def _of_same_type(
    cells: NDArray[np.int64], codes: NDArray[np.int64], count: int, rng: np.random.Generator
) -> Drawn:
    """Draw ATAC cells uniformly among the others of the same type; cells come by type."""
    first, sizes = _blocks(codes)
    rna = _in_turn(len(cells), count, rng)
    step = rng.integers(1, sizes[rna])  # around the type, never back to the cell itself
    return cells[rna], cells[first[rna] + (rna - first[rna] + step) % sizes[rna]]


def _blocks(codes: NDArray[np.int64]) -> Drawn:
    """Where the type of each cell begins among the sorted cells, and its number of cells."""
    sizes = np.bincount(codes)
    return (np.cumsum(sizes) - sizes)[codes], sizes[codes]


def _in_turn(n_cells: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Every cell equally often, give or take one."""
    return np.resize(rng.permutation(n_cells), count)


def _check_unlabelled(split: str, n_cells: int, negatives: Negatives) -> None:
    if negatives != "easy":
        raise InputError(
            f"--negatives {negatives} needs labels, and no cell has one. Pass --labels or --labels-file, or leave out"
            " --negatives: without labels a negative is any other cell."
        )
    if n_cells < 2:
        raise InputError(
            f"the {split} split has {n_cells} cell only, so it has no negative pairs. Pass more cells, or --ratio 0."
        )


def _check_easy(split: str, codes: NDArray[np.int64], cells: NDArray[np.int64]) -> None:
    if codes.max() == 0:
        raise InputError(
            f"all {(codes == 0).sum():,} labelled cells are of one type, so there are no easy negatives. Pass another"
            " --labels column, --negatives hard, or leave out --labels."
        )
    if len(np.unique(codes[cells])) < 2:
        raise InputError(
            f"the {split} split has labelled cells of fewer than two types, so it has no easy negatives. Pass more"
            " cells, --negatives hard, another --labels or --donor column, or leave out --labels."
        )


def _check_hard(split: str, n_labelled: int, n_paired: int) -> None:
    if not n_paired:
        raise InputError(
            f"the {split} split has no two cells of one type ({n_labelled:,} labelled cells), so it has no hard"
            " negatives. Pass more cells, --negatives easy, or a --labels column with fewer types."
        )


def _frame(pairs: Drawn, match: int, kind: str, split: str) -> pd.DataFrame:
    table = pd.DataFrame({"rna": pairs[0].astype(np.int32), "atac": pairs[1].astype(np.int32)})
    return table.assign(match=np.int8(match), kind=kind, split=split)
