"""Links of one cell type beside those of another, of the same map or of another condition's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...graphs.errors import InputError
from .categories import categories_of, codes_of
from .selection import named

if TYPE_CHECKING:
    from ..maps import RegulatoryMap

Float64 = npt.NDArray[np.float64]

CONTRAST_COLUMNS: Final = (
    "gene", "peak", "chrom", "start", "end", "tss", "distance",
    "first", "second", "difference", "effect_difference",
)  # fmt: skip


def contrast(first: RegulatoryMap, first_type: str, second: RegulatoryMap, second_type: str) -> pd.DataFrame:
    """Return the links of two cell types, first less second; see `RegulatoryMap.difference`.

    Raises
    ------
    InputError
        The maps have no genes, or no peaks, in common.
    """
    genes, peaks = (_shared(getattr(first, of)[name], getattr(second, of)[name])
                    for of, name in (("genes", "gene"), ("peaks", "peak")))  # fmt: skip
    ours = _keyed(first.links[named(first.links, cell_type=[first_type])], genes, peaks)
    theirs = _keyed(second.links[named(second.links, cell_type=[second_type])], genes, peaks)
    both = pd.concat([ours, theirs])
    both = both[~both.index.duplicated()].sort_index()
    scores = [_filled(side["score"], both.index) for side in (ours, theirs)]
    effects = [_filled(side["effect"], both.index) for side in (ours, theirs)]
    key = both.index.to_numpy()
    table = both[["start", "end", "tss", "distance"]].assign(
        gene=categories_of(key // len(peaks), genes),
        peak=categories_of(key % len(peaks), peaks),
        chrom=_chromosomes(first.peaks, peaks, key % len(peaks)),
        first=scores[0],
        second=scores[1],
        difference=scores[0] - scores[1],
        effect_difference=effects[0] - effects[1],
    )
    order = np.argsort(-table["difference"].abs().to_numpy(), kind="stable")
    return table[list(CONTRAST_COLUMNS)].iloc[order].reset_index(drop=True)


def _shared(first: pd.Series[str], second: pd.Series[str]) -> pd.Index[str]:
    """Names that both have, in the order of the first."""
    names = first[first.isin(second)]
    if not len(names):
        raise InputError(
            f"the two maps have no {first.name} in common, so their links cannot be compared."
            " Map datasets with the same genes and peaks."
        )
    return pd.Index(names, dtype=object)


def _keyed(links: pd.DataFrame, genes: pd.Index[str], peaks: pd.Index[str]) -> pd.DataFrame:
    """Index links by gene · peaks + peak, those of other genes and peaks left out."""
    gene, peak = (
        names.get_indexer(links[column].cat.categories)[codes_of(links[column])]
        for column, names in (("gene", genes), ("peak", peaks))
    )
    known = (gene >= 0) & (peak >= 0)
    columns = links.loc[known, ["start", "end", "tss", "distance", "score", "effect"]]
    return columns.set_index(gene[known].astype(np.int64) * len(peaks) + peak[known])


def _filled(values: pd.Series[float], keys: pd.Index[int]) -> Float64:
    """Give a side's values at keys; absent links have 0, unless not known of any link of the side."""
    absent = np.nan if len(values) and values.isna().all() else 0.0
    return np.asarray(values.reindex(keys, fill_value=absent), np.float64)


def _chromosomes(table: pd.DataFrame, peaks: pd.Index[str], which: npt.NDArray[np.int64]) -> pd.Categorical:
    of_peak = table.set_index("peak")["chrom"].loc[peaks].to_numpy(object)
    return pd.Categorical(of_peak[which], categories=list(dict.fromkeys(of_peak)))
