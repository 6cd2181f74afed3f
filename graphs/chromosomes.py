"""Names of chromosomes and of genome builds: which of two spellings mean the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import pandas as pd

from .errors import InputError
from .messages import few

_BUILD_NAMES: Final = {
    "hg19": r"hg19|grch37|b37|hs37(?:d5)?",
    "hg38": r"hg38|grch38|hs38(?:d1)?",
    "chm13": r"chm13|hs1|t2t",
    "mm9": r"mm9|ncbim37|mgscv37",
    "mm10": r"mm10|grcm38",
    "mm39": r"mm39|grcm39",
}


def harmonise(names: Sequence[str], reference: Sequence[str]) -> dict[str, str | None]:
    """Spell chromosome names as a reference does.

    An exact match comes first; otherwise the prefix ``chr`` and the spelling of the mitochondrion
    (M, MT, chrM) are ignored, and UCSC scaffolds are matched by the accession in their name
    (``chr1_KI270706v1_random`` is ``KI270706.1``).

    Parameters
    ----------
    names
        Chromosome names, repeated or not.
    reference
        Names to map onto.

    Returns
    -------
    dict
        Name to the reference's spelling, or to None where it has no counterpart.

    Raises
    ------
    InputError
        If two of `names` are one chromosome of the reference.
    """
    unique = pd.Series(pd.unique(pd.Series(list(names), dtype=object)), dtype=object).astype(str)
    known = pd.Series(list(dict.fromkeys(reference)), dtype=object).astype(str)
    by_key = pd.Series(known.to_numpy(), index=_key(known))
    by_key = by_key[~by_key.index.duplicated()]
    found = _key(unique).map(by_key)
    found = found.where(~unique.isin(known), unique)
    twice = found.duplicated(keep=False) & found.notna()
    if twice.any():
        raise InputError(
            f"one chromosome has two names ({few(unique[twice])} are all {found[twice].iloc[0]})."
            " Rename them so that each chromosome has one name."
        )
    return {str(a): None if pd.isna(b) else str(b) for a, b in zip(unique, found, strict=True)}


def one_spelling(names: Sequence[str]) -> None:
    """Refuse names of which two are one chromosome, such as ``1`` and ``chr1``.

    Parameters
    ----------
    names
        Chromosome names, repeated or not.

    Raises
    ------
    InputError
        Names the two.
    """
    unique = pd.Series(pd.unique(pd.Series(list(names), dtype=object)), dtype=object).astype(str)
    twice = _key(unique).duplicated(keep=False)
    if twice.any():
        same = unique[_key(unique) == _key(unique[twice]).iloc[0]]
        raise InputError(
            f"one chromosome has two names ({few(same)}). Rename them so that each chromosome has one name."
        )


def build_name(name: str) -> str:
    """Short name of a genome build (``GRCh38``, ``GRCh38.p13`` and ``hg38`` are hg38).

    Parameters
    ----------
    name
        As files and users write it.

    Returns
    -------
    str
        hg19, hg38, chm13, mm9, mm10 or mm39 where `name` holds one of these builds, else `name` in
        lower case.
    """
    lower = name.strip().lower()
    found = [
        build
        for build, spellings in _BUILD_NAMES.items()
        if re.search(rf"(?<![a-z0-9])(?:{spellings})(?![0-9])", lower)
    ]
    return found[0] if len(found) == 1 else lower


def _key(names: pd.Series[str]) -> pd.Series[str]:
    key = names.str.replace(r"^(?:chr[0-9A-Za-z]+_)([A-Z]+[0-9]+)v([0-9]+)(?:_.*)?$", r"\1.\2", regex=True)
    key = key.str.replace(r"^chr", "", case=False, regex=True)
    return key.mask(key.str.upper() == "M", "MT")
