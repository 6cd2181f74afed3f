"""Genes and exons of a GTF, on the chromosomes of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ...graphs.chromosomes import harmonise
from ...graphs.errors import InputError
from ...graphs.messages import few
from .gtf import read_genes, read_lines, strip_version

EXON_COLUMNS: Final = ("gene_id", "symbol", "chrom", "start", "end")
_FEWEST: Final = 0.3  # of a dataset's genes must lie where the GTF has them


@dataclass(frozen=True)
class Regions:
    """Where genes and their exons lie.

    Attributes
    ----------
    genes
        ``gene_id, symbol, chrom, start, end, tss, strand, biotype`` as `Genome.genes`.
    exons
        ``gene_id, symbol, chrom, start, end``, 0-based half-open, those of all transcripts, each once;
        no rows where the GTF has no exon lines.
    report
        What was left out or is not there, a line each.
    """

    genes: pd.DataFrame
    exons: pd.DataFrame
    report: tuple[str, ...] = ()

    def exons_of(self, genes: pd.DataFrame) -> pd.DataFrame:
        """Name the exons of a dataset's genes as the dataset does.

        Parameters
        ----------
        genes
            ``gene`` (its name) and ``gene_id`` or ``symbol``, and ``chrom``; ids go before symbols.

        Returns
        -------
        DataFrame
            ``gene, chrom, start, end``, sorted by gene (in the order given) and start.
        """
        order = pd.Series(np.arange(len(genes)), dtype=np.int64)
        found = np.full(len(self.exons), -1, np.int64)
        for column in ("gene_id", "symbol"):
            keys = genes[column if column in genes else "gene"].astype(object).astype(str)
            keys = strip_version(keys) + "\t" + genes["chrom"].astype(object).astype(str)
            row_of = pd.Series(order.to_numpy(), index=keys.to_numpy())
            row_of = row_of[~row_of.index.duplicated(keep=False)]
            own = (self.exons[column] + "\t" + self.exons["chrom"]).map(row_of).fillna(-1).to_numpy(np.int64)
            found = np.where(found < 0, own, found)
        kept = (
            self.exons[found >= 0].assign(row=found[found >= 0]).sort_values(["row", "start"], kind="stable")
        )
        names = genes["gene"].astype(object).to_numpy()[kept["row"].to_numpy()]
        return (
            kept[["chrom", "start", "end"]]
            .reset_index(drop=True)
            .assign(gene=names)[["gene", "chrom", "start", "end"]]
        )


def check_genes(regions: Regions, genes: pd.DataFrame, name: str) -> Regions:
    """Refuse the GTF of another species or build: chromosomes are named alike in most.

    Parameters
    ----------
    regions
        Of a GTF, on the dataset's chromosomes.
    genes
        The dataset's: ``gene`` (its name), ``chrom, start, end`` and, where known, ``gene_id, symbol``; null
        where a gene has no place.
    name
        Of the GTF.

    Returns
    -------
    Regions
        The same; its report says how many genes are missing or lie elsewhere, if any do.

    Raises
    ------
    InputError
        Fewer than 3 in 10 genes that have a place overlap a gene of that id or symbol in the GTF.
    """
    placed = genes[genes["chrom"].notna() & genes["start"].notna()].reset_index(drop=True)
    found = np.zeros(len(placed), bool)
    for column in ("gene_id", "symbol"):
        own = placed[[column if column in placed else "gene", "chrom", "start", "end"]].astype(object)
        own = own.set_axis(["name", "chrom", "start", "end"], axis=1).assign(row=np.arange(len(own)))
        own["name"] = strip_version(own["name"].astype(str))
        theirs = regions.genes[[column, "chrom", "start", "end"]].rename(columns={column: "name"})
        both = own.merge(theirs, on=["name", "chrom"], suffixes=("", "_gtf"))
        both = both[(both["start"] < both["end_gtf"]) & (both["start_gtf"] < both["end"])]
        found[both["row"].to_numpy(np.int64)] = True
    if len(found) and found.mean() < _FEWEST:
        raise InputError(
            f"{name} has {found.sum():,} of the dataset's {len(found):,} genes where they lie (dataset: "
            f"{few(placed['gene'])}; GTF: {few(regions.genes['symbol'])}): it is of another species or build. "
            "Pass the GTF that the dataset was built with."
        )
    if found.all():
        return regions
    told = f"{name} has {found.sum():,} of the dataset's {len(found):,} genes where they lie"
    return replace(regions, report=(*regions.report, told))


def read_regions(path: Path, chromosomes: Sequence[str] = ()) -> Regions:
    """Read the genes and exons of a GTF, plain or gzip.

    Parameters
    ----------
    path
        Gene annotation.
    chromosomes
        Names of the dataset: the tables spell chromosomes so, and leave out those that it has not. All
        stay as they are when empty.

    Raises
    ------
    InputError
        The file is missing, damaged, no GTF, holds no genes, or none on these chromosomes.
    """
    path = Path(path)
    genes, exons, report = read_genes(path), _exons(path), []
    if not len(exons):
        report.append(f"{path.name} has no exon lines: exons and introns cannot be told apart")
    if chromosomes:
        spelled = harmonise(list(genes["chrom"].unique()), list(chromosomes))
        if not any(spelled.values()):
            raise InputError(
                f"{path.name} and the dataset share no chromosome (GTF: {few(spelled)}; dataset: {few(chromosomes)})."
                " Pass the GTF that the dataset was built with."
            )
        other = int(genes["chrom"].map(spelled).isna().sum())
        if other:
            report.append(
                f"{other:,} of {len(genes):,} genes are on chromosomes without peaks or genes of the dataset"
            )
        genes, exons = _on(genes, spelled), _on(exons, spelled)
    return Regions(genes, exons, tuple(report))


def _exons(path: Path) -> pd.DataFrame:
    lines = read_lines(path, {"exon"})
    if lines.empty:
        empty = {name: pd.Series(dtype=object) for name in EXON_COLUMNS}
        return pd.DataFrame(empty).astype({"start": np.int64, "end": np.int64})
    gene_id = strip_version(lines["gene_id"].astype(str))
    symbol = lines["gene_name"].astype(str) if "gene_name" in lines else pd.Series("", index=lines.index)
    exons = pd.DataFrame({"gene_id": gene_id, "symbol": symbol.mask(symbol == "", gene_id)})
    exons["chrom"] = lines["seqname"].astype(object).astype(str)
    exons["start"] = lines["start"].to_numpy(np.int64) - 1  # GTF is 1-based closed
    exons["end"] = lines["end"].to_numpy(np.int64)
    wrong = (exons["start"] < 0) | (exons["start"] >= exons["end"])
    if wrong.any():
        raise InputError(
            f"{path.name}: {wrong.sum():,} exons have start < 1 or start > end. Correct the GTF."
        )
    return exons.drop_duplicates(ignore_index=True)


def _on(table: pd.DataFrame, spelled: dict[str, str | None]) -> pd.DataFrame:
    """Spell chromosomes as the dataset does; rows on others are left out."""
    named = table.assign(chrom=table["chrom"].map(spelled))
    return named[named["chrom"].notna()].reset_index(drop=True)
