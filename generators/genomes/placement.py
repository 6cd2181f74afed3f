"""Genes of an experiment found in an annotation, by Ensembl id and by symbol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .chromosomes import is_scaffold
from .gtf import GENE_COLUMNS, strip_version


@dataclass(frozen=True)
class Placement:
    """How the genes of an experiment were found in the GTF.

    Attributes
    ----------
    placed, unplaced
        Genes with and without a place.
    by_id, by_symbol
        How the placed ones were found.
    ambiguous
        Placed by an id or symbol that the GTF has several times.
    shared
        Genes whose place another gene of the experiment has, too.
    """

    placed: int
    unplaced: int
    by_id: int
    by_symbol: int
    ambiguous: int
    shared: int

    def __str__(self) -> str:
        return (
            f"{self.placed:,} of {self.placed + self.unplaced:,} genes placed ({self.by_id:,} by id,"
            f" {self.by_symbol:,} by symbol, {self.ambiguous:,} of them by a name that the GTF repeats)"
        )


def place_genes(
    genes: pd.DataFrame, names: Sequence[str] | pd.Index, ids: Sequence[str] | pd.Index | None
) -> tuple[pd.DataFrame, Placement]:
    """Find `names` and `ids` among the genes of a GTF; `Genome.place_genes` says how."""
    wanted = pd.Series(list(names), dtype=object).astype(str)
    own_ids = wanted if ids is None else pd.Series(list(ids), dtype=object).astype(str)
    own_ids = strip_version(own_ids)
    ranked = _by_preference(genes)
    rows = _lookup(own_ids, ranked["gene_id"])
    if ids is not None:
        rows = np.where(rows < 0, _lookup(strip_version(wanted), ranked["gene_id"]), rows)
    by_symbol = np.where(rows < 0, _lookup(wanted, ranked["symbol"]), -1)
    rows = np.where(rows < 0, by_symbol, rows)
    table = _take(ranked, rows, own_ids, wanted if ids is not None else None)
    return table, _placement(ranked, rows, by_symbol)


def _by_preference(genes: pd.DataFrame) -> pd.DataFrame:
    """Genes in the order in which they win a disputed name."""
    scaffold = is_scaffold(genes["chrom"].tolist())
    coding = (genes["biotype"] == "protein_coding").to_numpy()
    chromosome = pd.factorize(genes["chrom"])[0]
    order = np.lexsort((genes["start"].to_numpy(), chromosome, ~coding, scaffold))
    return genes.iloc[order].reset_index(drop=True)


def _lookup(wanted: pd.Series[str], names: pd.Series[str]) -> NDArray[np.int64]:
    """Row of the first gene of that name, -1 where there is none."""
    first = ~names.duplicated().to_numpy()
    found = pd.Index(names[first]).get_indexer(pd.Index(wanted))
    return np.where(found >= 0, np.flatnonzero(first)[found], -1) if first.any() else found.astype(np.int64)


def _take(
    ranked: pd.DataFrame, rows: NDArray[np.int64], ids: pd.Series[str], symbols: pd.Series[str] | None
) -> pd.DataFrame:
    table = ranked.reindex(rows).reset_index(drop=True)  # row -1 does not exist: all missing
    placed = rows >= 0
    table["gene_id"] = table["gene_id"].where(placed, ids) if symbols is None else ids
    table["symbol"] = table["symbol"].where(placed, ids) if symbols is None else symbols
    for name in ("chrom", "strand"):
        values = table[name].to_numpy(dtype=object)
        values[pd.isna(values)] = None
        table[name] = values
    table["biotype"] = table["biotype"].astype(object).where(placed, "")
    return table.astype({"start": "Int64", "end": "Int64", "tss": "Int64"})[list(GENE_COLUMNS)]


def _placement(ranked: pd.DataFrame, rows: NDArray[np.int64], by_symbol: NDArray[np.int64]) -> Placement:
    placed, symbol = int((rows >= 0).sum()), int((by_symbol >= 0).sum())
    taken = pd.Series(rows[rows >= 0])
    twice_id = ranked["gene_id"].duplicated(keep=False).to_numpy()
    twice_symbol = ranked["symbol"].duplicated(keep=False).to_numpy()
    used_symbol, used_id = rows[by_symbol >= 0], rows[(rows >= 0) & (by_symbol < 0)]
    return Placement(
        placed=placed,
        unplaced=len(rows) - placed,
        by_id=placed - symbol,
        by_symbol=symbol,
        ambiguous=int(twice_symbol[used_symbol].sum() + twice_id[used_id].sum()),
        shared=int(taken.duplicated(keep=False).sum()),
    )
