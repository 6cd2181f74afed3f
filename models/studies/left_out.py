"""Which cell types a study leaves out."""

from __future__ import annotations

import pandas as pd

from ...graphs.errors import InputError
from .study import TEST, TRAIN, Study

_JUDGED = 20  # test cells of a type that is left out without being asked for


def studied_types(
    study: Study, cells: pd.DataFrame, *, fewest: int = 1, why: str = ""
) -> tuple[list[str], list[str]]:
    """Choose the types to leave out, and tell which are not.

    Parameters
    ----------
    study
        With the types that were asked for.
    cells
        Of the dataset.
    fewest
        Test cells that a type must have.
    why
        It must.

    Raises
    ------
    InputError
        There are too few types, or one that was asked for cannot be judged.
    """
    sizes = cells[cells["split"] == TEST]["cell_type"].value_counts()
    trained = cells[cells["split"] == TRAIN]["cell_type"].dropna().unique()
    if len(trained) < 3:
        raise InputError(
            f"{study.dataset} has training cells of {len(trained)} types; leaving one out needs three or more."
        )
    there = sorted(map(str, sizes.index))
    if unknown := [name for name in study.types if name not in there]:
        raise InputError(f"--types {unknown[0]}: no test cell is of that type. There are {', '.join(there)}.")
    if few := [name for name in study.types if sizes[name] < fewest]:
        raise InputError(f"--types {few[0]}: has one test cell; {why}. Leave it out.")
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
