"""Names that a user gives, found among those there are; others are refused with the nearest ones."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

import numpy as np
import pandas as pd

from ...graphs.errors import InputError
from ...graphs.messages import few

_COMPARED = 50_000  # names at most: difflib takes some 20 µs a name


def check_names(wanted: str | Iterable[str], known: Iterable[str], what: str) -> list[str]:
    """Return names that are all known, each once, in the order given.

    Parameters
    ----------
    wanted
        One name, or several.
    known
        Names there are.
    what
        What they name, for the message: ``gene``.

    Raises
    ------
    InputError
        Tells the first unknown name, and those nearest to it, or some of those there are.

    Examples
    --------
    >>> check_names("B", ["A", "B"], "cell type")
    ['B']
    """
    names = list(dict.fromkeys([wanted] if isinstance(wanted, str) else wanted))
    there = pd.Index(list(known), dtype=object)
    for name in names:
        if name not in there:
            raise InputError(f"the map has no {what} {name!r}. {_advice(name, there)}")
    return names


def gene_names(wanted: str | Iterable[str], genes: pd.DataFrame) -> list[str]:
    """Return the names of genes given by name, or by a symbol that one gene alone has.

    Parameters
    ----------
    wanted
        One name or symbol, or several.
    genes
        Table with ``gene, symbol``.

    Raises
    ------
    InputError
        As in `check_names`.
    """
    unique = genes[~genes["symbol"].duplicated(keep=False) & genes["symbol"].notna()]
    by_symbol = dict(zip(unique["symbol"], unique["gene"], strict=True))
    named = {**by_symbol, **{name: name for name in genes["gene"]}}
    names = check_names(wanted, named, "gene")
    return list(dict.fromkeys(named[name] for name in names))


def _advice(name: object, there: pd.Index[str]) -> str:
    if not len(there):
        return "It has none."
    lower = str(name).casefold()
    spellings: dict[str, str] = {}
    for known in there[np.argsort([abs(len(known) - len(lower)) for known in there])[:_COMPARED]]:
        spellings.setdefault(known.casefold(), known)
    near = [spellings[found] for found in get_close_matches(lower, spellings, n=3)]
    return f"Near it: {', '.join(near)}." if near else f"There are {few(there)}."
