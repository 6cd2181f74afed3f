"""A dataset of some of another's cells or labels: what was fitted is fitted anew, pairs stay inside the chosen cells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from ..graphs.csr import CsrRows
from ..graphs.errors import InputError
from ..graphs.restrict import replace_tables
from ..graphs.schema import FITTED, RNA, SPLITS
from ..graphs.store import Store
from .attributes import highly_variable
from .pairs import Negatives, make_pairs, no_pairs

_CHUNK = 1024


def restrict(
    dataset: Path,
    folder: Path,
    keep: NDArray[np.bool_],
    *,
    hard_test: bool = False,
    seed: int = 0,
) -> None:
    """Write a dataset in which cells that are not kept belong to no split, so that nothing reads them.

    Genes' means and variability are fitted anew on the training cells that stay, whoever fitted them before.
    A positive pair stays with its cell. The negatives of a split that lost cells are drawn anew among those
    that stay, by the rule of the dataset: if only pairs of two kept cells stayed, a tenth of the cells would
    keep a hundredth of the negatives.

    Parameters
    ----------
    dataset
        Dataset with pairs; its ordinary split is taken.
    folder
        Folder to create. Large arrays are linked, see `replace_tables`.
    keep
        (cells,) which cells stay in their split.
    hard_test
        Draw the test negatives within types, one for each cell, whatever the rule of the dataset.
    seed
        Decides the draw.

    Raises
    ------
    InputError
        A split has too few cells left for negatives.
    """
    store = Store(dataset)
    cells, pairs = store.table("cells"), store.table("pairs")
    before = cells["split"].to_numpy()
    split = _only(before, keep)
    rule = store.manifest["options"]
    usual: tuple[Negatives, float] = (rule.get("negatives", "easy"), float(rule.get("ratio", 1.0)))
    within_types: tuple[Negatives, float] = ("hard", 1.0)
    made = []
    for name in SPLITS:
        hard = hard_test and name == SPLITS[2]
        if hard or not keep[before == name].all():
            negatives, ratio = within_types if hard else usual
            own = _only(split, split == name)
            made.append(make_pairs(own, cells["cell_type"], negatives=negatives, ratio=ratio, seed=seed))
        else:
            made.append(pairs[pairs["split"] == name])
    tables = {
        "cells": cells.assign(split=split),
        "pairs": pd.concat(made, ignore_index=True),
        "genes": _fitted_anew(store, split),
    }
    replace_tables(store, folder, tables, notes=[f"{int(keep.sum()):,} of {len(keep):,} cells kept"])


def relabel(
    dataset: Path,
    folder: Path,
    labels: NDArray[np.object_],
    *,
    keep: NDArray[np.bool_] | None = None,
) -> None:
    """Write a dataset in which cells have other labels, or none, and some belong to no split.

    Counts and splits stay. It has no pairs, as the types of negatives would be others: it is for models that read
    cells. Genes' means and variability are fitted anew where training cells are not kept.

    Parameters
    ----------
    dataset
        Dataset; its ordinary split is taken.
    folder
        Folder to create. Large arrays are linked, see `replace_tables`.
    labels
        (cells,) types of the dataset's vocabulary, None for no label.
    keep
        (cells,) which cells stay in their split; all when None.

    Raises
    ------
    InputError
        A label is none of the dataset's types.
    """
    store = Store(dataset)
    cells = store.table("cells")
    told = pd.Series(labels, dtype=object).dropna()
    if strange := sorted(set(told) - set(store.manifest["cell_types"])):
        raise InputError(f"{dataset} has no cell type {strange[0]}. Give its cells labels of its own types.")
    split = cells["split"].to_numpy()
    tables = {"cells": cells.assign(cell_type=pd.array(labels, dtype=object)), "pairs": no_pairs()}
    if keep is not None and not keep.all():
        split = _only(split, keep)
        tables["cells"] = tables["cells"].assign(split=split)
        if RNA in store.manifest["modalities"]:
            tables["genes"] = _fitted_anew(store, split)
    replace_tables(store, folder, tables, notes=[f"{len(told):,} of {len(labels):,} cells labelled"])


def _only(split: NDArray[np.object_], some: NDArray[np.bool_]) -> NDArray[np.object_]:
    """The splits of some cells; the others are in none."""
    chosen = np.full(len(split), None, dtype=object)
    chosen[some] = split[some]
    return chosen


def _fitted_anew(store: Store, split: NDArray[np.object_]) -> pd.DataFrame:
    """The table of genes, with attributes that are fitted on the training cells of a split."""
    n_top = int(store.manifest["options"].get("n_top", 2000))
    fitted = _variability(store, np.flatnonzero(split == SPLITS[0]), n_top)
    return store.table("genes").assign(**{name: fitted[name].to_numpy() for name in FITTED})


def _variability(store: Store, train: NDArray[np.int64], n_top: int) -> pd.DataFrame:
    n_genes = len(store.table("genes"))
    rows: CsrRows = store.rows(RNA, n_genes)

    def chunks() -> Iterator[sparse.csr_matrix]:
        for begin in range(0, len(train), _CHUNK):
            yield rows.matrix(train[begin : begin + _CHUNK])

    return highly_variable(chunks, n_genes=n_genes, n_top=n_top)[0]
