"""Which chromosomes are scaffolds, and which build their lengths prove."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...graphs.chromosomes import build_name, harmonise
from ...graphs.errors import InputError

_PRIMARY: Final = (
    r"(?:[0-9]{1,2}[ABLR]?|LG[0-9]{1,2}|(?:group)?[IVX]+|[WYZ]|[XY][LR]|M|MT|mito|MtDNA|C|Pt"
    r"|(?!NC_007605)NC_[0-9]{6}(?:\.[0-9]+)?|CM[0-9]{6}(?:\.[0-9]+)?)"
)
_BUILD_LENGTHS: Final = {  # chromosomes 1 and 2
    "hg19": (249_250_621, 243_199_373),
    "hg38": (248_956_422, 242_193_529),
    "chm13": (248_387_328, 242_696_752),
    "mm9": (197_195_432, 181_748_087),
    "mm10": (195_471_971, 182_113_224),
    "mm39": (195_154_279, 181_755_017),
}


def is_scaffold(names: Sequence[str]) -> NDArray[np.bool_]:
    """Tell unplaced, random, alternative and patch scaffolds and decoys from chromosomes, by name.

    Chromosomes are, with or without ``chr`` and in any case: numbers (``1``; arms and halves ``2L``,
    ``2A``; ``LG1``), Roman numerals (``XIV``, ``groupI``), X, Y, Z, W (arms ``XL``), mitochondrion and
    plastid (``M``, ``MT``, ``Mito``, ``MtDNA``, ``C``, ``Pt``), and accessions of complete molecules
    (RefSeq ``NC_000001.11``, GenBank ``CM000663.2``) except the decoy virus NC_007605. Everything
    else is a scaffold.

    Parameters
    ----------
    names
        Chromosome names, repeated or not.

    Returns
    -------
    bool array, shape (names,)
    """
    codes, unique = pd.factorize(np.asarray(names, dtype=object))
    bare = pd.Series(unique, dtype=object).astype(str).str.replace(r"^chr", "", case=False, regex=True)
    primary = bare.str.fullmatch(_PRIMARY, case=False).to_numpy(dtype=bool)
    scaffold: NDArray[np.bool_] = ~primary[codes]
    return scaffold


def known_build(lengths: Mapping[str, int]) -> str | None:
    """Build whose chromosomes 1 and 2 are exactly as long as these.

    Parameters
    ----------
    lengths
        Length of each sequence in bp, by name.

    Returns
    -------
    str or None
        hg19, hg38, chm13, mm9, mm10 or mm39; None for others, or without chromosomes 1 and 2.
    """
    own = harmonise(["1", "2"], list(lengths))
    sizes = [None if (name := own[number]) is None else lengths[name] for number in ("1", "2")]
    for build, expected in _BUILD_LENGTHS.items():
        fits = [size in (None, right) for size, right in zip(sizes, expected, strict=True)]
        if all(fits) and any(sizes):
            return build
    return None


def check_build(declared: str | None, lengths: Mapping[str, int], fasta_name: str) -> None:
    """Refuse a FASTA whose lengths prove another build than the one that was declared.

    Parameters
    ----------
    declared
        Build of the peaks, as ``uns['genome']`` or a preset says it; None if unknown.
    lengths
        Length of each sequence of the FASTA in bp.
    fasta_name
        For the message.

    Raises
    ------
    InputError
        If both builds are known and differ.
    """
    found = known_build(lengths)
    if declared is None or found is None or build_name(declared) not in _BUILD_LENGTHS:
        return
    if build_name(declared) != found:
        raise InputError(
            f"the peaks are of {declared}, but chromosomes 1 and 2 of {fasta_name} are as long as those of"
            f" {found}. Pass the FASTA of {build_name(declared)}, or correct uns['genome']."
        )
