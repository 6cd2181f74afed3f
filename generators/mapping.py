"""A query experiment in the genes and peaks of a reference dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.chromosomes import harmonise
from ..graphs.errors import InputError
from ..graphs.messages import few
from .genome import strip_version
from .genomes.columns import unknown
from .genomes.intervals import overlaps


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """Which feature of a reference each feature of a query is.

    Attributes
    ----------
    columns
        int64, shape (query features,): feature of the reference, or -1 where it has none.
    n_reference
        Features of the reference.
    what
        ``genes`` or ``peaks``.
    doubled
        Query genes left out because another one is the same gene of the reference.
    unmapped, uncovered
        Names of the first few features of the query, and of the reference, without a counterpart.
    """

    columns: NDArray[np.int64]
    n_reference: int
    what: str
    doubled: int = 0
    unmapped: tuple[str, ...] = ()
    uncovered: tuple[str, ...] = ()

    @property
    def mapped(self) -> int:
        """Query features that have a counterpart."""
        return int((self.columns >= 0).sum())

    @property
    def covered(self) -> int:
        """Reference features that have a counterpart."""
        return len(np.unique(self.columns[self.columns >= 0]))

    def __str__(self) -> str:
        more = f"; {self.doubled:,} more left out as second copies" if self.doubled else ""
        return (
            f"{_share(self.mapped, len(self.columns))} {self.what} of the query mapped onto"
            f" {_share(self.covered, self.n_reference)} {self.what} of the reference{more}"
        )

    def require(self, least: float) -> None:
        """Refuse a query that shares too little with the reference.

        Parameters
        ----------
        least
            Smallest share of the reference's features that the query must have, 0 to 1.

        Raises
        ------
        InputError
            If the query has less.
        """
        if self.covered < least * self.n_reference or (least > 0 and self.n_reference == 0):
            raise InputError(
                f"the query has {_share(self.covered, self.n_reference)} {self.what} of the reference, fewer"
                f" than --min-placed {least:g} (only in the query: {few(self.unmapped) or 'none'}; only in the"
                f" reference: {few(self.uncovered) or 'none'}). Is this the same genome and annotation? Pass a"
                " query that is, or lower --min-placed."
            )


def map_genes(names: Sequence[str], ids: Sequence[str] | None, reference: pd.DataFrame) -> FeatureMap:
    """Find the genes of a query in a reference: by id (version stripped) first, then by name or symbol.

    Of several query genes that are one gene of the reference, one found by id wins, then the first.

    Parameters
    ----------
    names
        Names of the query's genes, which may themselves be ids.
    ids
        Their ids in the same order, where the query has them.
    reference
        Columns ``gene`` (name), ``gene_id`` and ``symbol``.
    """
    wanted = pd.Series(list(names), dtype=object).astype(str)
    known = strip_version(reference["gene_id"].astype(str))
    by_id = _find(strip_version(wanted), known)
    if ids is not None:
        own = _find(strip_version(pd.Series(list(ids), dtype=object).astype(str)), known)
        by_id = np.where(own >= 0, own, by_id)
    by_name = _find(wanted, reference["gene"].astype(str))
    by_name = np.where(by_name >= 0, by_name, _find(wanted, reference["symbol"].astype(str)))
    found = np.where(by_id >= 0, by_id, by_name)
    columns = _one_each(found, by_id >= 0)
    doubled = int((found >= 0).sum() - (columns >= 0).sum())
    return _feature_map(columns, "genes", wanted, reference["gene"], doubled)


def map_peaks(peaks: pd.DataFrame, reference: pd.DataFrame) -> FeatureMap:
    """Find for each peak of a query the peak of a reference with which it shares most bases.

    Ties go to the first of the reference. Several query peaks may be one peak of the reference:
    their counts add up.

    Parameters
    ----------
    peaks, reference
        Columns ``peak`` (name), ``chrom``, ``start``, ``end`` (0-based half-open); chromosomes may
        be spelled differently, and peaks of one table may overlap each other.
    """
    spelled = harmonise(list(peaks["chrom"].unique()), list(reference["chrom"].unique()))
    query, other = overlaps(peaks.assign(chrom=peaks["chrom"].astype(object).map(spelled)), reference)
    start, end = (table.to_numpy(dtype=np.int64) for table in (peaks["start"], peaks["end"]))
    first = np.maximum(start[query], reference["start"].to_numpy(dtype=np.int64)[other])
    last = np.minimum(end[query], reference["end"].to_numpy(dtype=np.int64)[other])
    order = np.lexsort((other, first - last, query))
    at, best = np.unique(query[order], return_index=True)
    columns = np.full(len(peaks), -1, dtype=np.int64)
    columns[at] = other[order][best]
    return _feature_map(columns, "peaks", peaks["peak"], reference["peak"])


def _find(wanted: pd.Series[str], names: pd.Series[str]) -> NDArray[np.int64]:
    """Row of the first feature of that name, -1 where there is none or the name says nothing."""
    rows = np.flatnonzero(~names.duplicated().to_numpy() & ~unknown(names))
    found = pd.Index(names.iloc[rows]).get_indexer(pd.Index(wanted))
    return np.append(rows, -1)[found]  # -1 takes the last


def _one_each(found: NDArray[np.int64], preferred: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Keep one query gene for each gene of the reference."""
    order = np.argsort(~preferred, kind="stable")
    order = order[found[order] >= 0]
    _, first = np.unique(found[order], return_index=True)
    columns = np.full(len(found), -1, dtype=np.int64)
    columns[order[first]] = found[order[first]]
    return columns


def _feature_map(
    columns: NDArray[np.int64], what: str, names: pd.Series[str], reference: pd.Series[str], doubled: int = 0
) -> FeatureMap:
    missed = np.ones(len(reference), dtype=bool)
    missed[columns[columns >= 0]] = False
    unmapped, uncovered = (
        tuple(str(name) for name in side[lost].iloc[:4])  # the fourth tells `few` that there are more
        for side, lost in ((names, columns < 0), (reference, missed))
    )
    return FeatureMap(columns, len(reference), what, doubled, unmapped, uncovered)


def _share(count: int, total: int) -> str:
    return f"{count:,} of {total:,} ({count / max(total, 1):.1%})"
