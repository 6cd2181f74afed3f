"""A genome as two explicit files: genes from a GTF, DNA and chromosome lengths from a FASTA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.errors import InputError
from ..graphs.schema import SEQUENCE_LENGTH
from .dna import few, read_lengths, read_sequences
from .gtf import GENE_COLUMNS, no_genes, read_genes, strip_version

__all__ = ["Genome", "Placement", "harmonise", "strip_version"]

_PRIMARY: Final = r"(?:[0-9]{1,2}[LR]?|[IVX]+|[WYZ]|MT)"


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


class Genome:
    """Genes, chromosome names, lengths and DNA; nothing is downloaded or guessed.

    Parameters
    ----------
    gtf
        Gene annotation, plain or gzip. Without gene lines, genes are derived from the others.
    fasta
        DNA, plain or bgzip; an index ``.fai`` is written beside it unless it is there.

    Attributes
    ----------
    genes
        DataFrame ``gene_id`` (version stripped), ``symbol``, ``chrom``, ``start``, ``end``
        (0-based half-open), ``strand`` ('+', '-' or None), ``tss`` (0-based), ``biotype``
        ('' where the GTF does not say); empty without a GTF.
    lengths
        Length of every sequence of the FASTA in bp; empty without a FASTA.

    Raises
    ------
    InputError
        If a file is missing, damaged, of another kind, or the two are of different genomes.
    """

    def __init__(self, gtf: Path | None = None, fasta: Path | None = None) -> None:
        self.gtf = None if gtf is None else Path(gtf)
        self.fasta = None if fasta is None else Path(fasta)
        self.genes = no_genes() if self.gtf is None else read_genes(self.gtf)
        self.lengths = {} if self.fasta is None else read_lengths(self.fasta)
        if self.gtf and self.fasta and not any(harmonise(self.chromosomes, list(self.lengths)).values()):
            raise InputError(
                f"{self.gtf.name} and {self.fasta.name} share no chromosome (GTF: {few(self.chromosomes)};"
                f" FASTA: {few(self.lengths)}). Pass files of one genome build."
            )

    @property
    def chromosomes(self) -> list[str]:
        """Chromosome names in file order: the GTF's, or the FASTA's where there is no GTF."""
        if self.gtf is None:
            return list(self.lengths)
        return [str(name) for name in self.genes["chrom"].unique()]

    def place_genes(
        self, names: Sequence[str] | pd.Index, ids: Sequence[str] | pd.Index | None = None
    ) -> tuple[pd.DataFrame, Placement]:
        """Find the genes of an experiment: by Ensembl id (version stripped) first, then by symbol.

        A symbol that the GTF has several times takes the gene on a primary chromosome, then the
        protein-coding one, then the first by position; such genes are counted.

        Parameters
        ----------
        names
            Feature names (symbols or ids), shape (genes,).
        ids
            Ensembl ids in the same order, if the experiment has them.

        Returns
        -------
        table
            ``gene_id, symbol, chrom, start, end, tss, strand, biotype``, aligned with `names`;
            ``chrom`` and ``strand`` None, coordinates missing, where the GTF has no such gene.
        report
            Counts of placed, unplaced and ambiguous genes.
        """
        wanted = pd.Series(list(names), dtype=object).astype(str)
        own_ids = wanted if ids is None else pd.Series(list(ids), dtype=object).astype(str)
        own_ids = strip_version(own_ids)
        ranked = _by_preference(self.genes)
        rows = _lookup(own_ids, ranked["gene_id"])
        if ids is not None:
            rows = np.where(rows < 0, _lookup(strip_version(wanted), ranked["gene_id"]), rows)
        by_symbol = np.where(rows < 0, _lookup(wanted, ranked["symbol"]), -1)
        rows = np.where(rows < 0, by_symbol, rows)
        table = _take(ranked, rows, own_ids, wanted if ids is not None else None)
        return table, _placement(ranked, rows, by_symbol)

    def check_peaks(self, peaks: pd.DataFrame, chromosome_map: Mapping[str, str | None]) -> list[str]:
        """Refuse peaks of another genome; tell how many are on chromosomes without genes.

        Parameters
        ----------
        peaks
            Columns ``peak``, ``chrom`` (the peaks' own spelling), ``start``, ``end``.
        chromosome_map
            From :func:`harmonise`, of the peaks' chromosomes onto :attr:`chromosomes`.

        Returns
        -------
        list of str
            Lines for the report.

        Raises
        ------
        InputError
            If no peak is on a known chromosome, or one ends past its chromosome's end.
        """
        known = peaks["chrom"].map(chromosome_map).notna().to_numpy()
        what = "GTF" if self.gtf is not None else "FASTA"
        used = list(peaks["chrom"].unique())
        if len(peaks) and self.chromosomes and not known.any():
            raise InputError(
                f"{len(peaks):,} of {len(peaks):,} peaks are on chromosomes the {what} does not name (peaks:"
                f" {few(used)}; {what}: {few(self.chromosomes)}). Pass the {what} of the peaks' genome, or"
                " rename the chromosomes."
            )
        self._check_ends(peaks, used)
        renamed = {a: b for a, b in chromosome_map.items() if b is not None and a != b}
        report = [f"chromosomes renamed: {few(f'{a} to {b}' for a, b in renamed.items())}"] if renamed else []
        if self.chromosomes and not known.all():
            names = few(name for name in used if chromosome_map.get(name) is None)
            report.append(
                f"{(~known).sum():,} of {len(peaks):,} peaks are on chromosomes the {what} does not name"
                f" ({names})"
            )
        return report

    def sequences(
        self,
        chrom: Sequence[str] | NDArray[np.object_],
        start: NDArray[np.int64],
        end: NDArray[np.int64],
        *,
        length: int = SEQUENCE_LENGTH,
    ) -> NDArray[np.uint8]:
        """DNA of every peak: its first `length` bases, N beyond the peak or the chromosome.

        Chromosomes are read once, in order and in slices, whatever the order of the peaks.

        Parameters
        ----------
        chrom
            Chromosome of each peak, spelled as in the FASTA (see :func:`harmonise`).
        start, end
            0-based half-open, int64, shape (peaks,).
        length
            Bases a peak.

        Returns
        -------
        uint8 array, shape (peaks, length)
            0 A, 1 C, 2 G, 3 T, 4 anything else.

        Raises
        ------
        InputError
            If there is no FASTA, or it lacks a chromosome of the peaks.
        """
        if self.fasta is None:
            raise InputError("peak sequences need DNA, and this genome has none. Pass --fasta.")
        names = np.asarray(chrom, dtype=object)
        start, end = np.asarray(start, dtype=np.int64), np.asarray(end, dtype=np.int64)
        return read_sequences(self.fasta, self.lengths, names, start, end, length)

    def _check_ends(self, peaks: pd.DataFrame, used: list[str]) -> None:
        if not self.lengths:
            return
        spelled = harmonise(used, list(self.lengths))
        sizes = {name: self.lengths[other] for name, other in spelled.items() if other is not None}
        limit = peaks["chrom"].map(sizes)
        past = (peaks["end"] > limit).to_numpy()
        if past.any():
            first = peaks.loc[past].iloc[0]
            size = sizes[first["chrom"]]
            raise InputError(
                f"{past.sum():,} of {len(peaks):,} peaks end past the end of their chromosome (for example"
                f" {first['peak']}: {first['chrom']} has {size:,} bp in {self.fasta and self.fasta.name})."
                " Wrong genome? Pass the FASTA of the build that the peaks were called on."
            )


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
    by_key = pd.Series(known.to_numpy(), index=_chromosome_key(known))
    by_key = by_key[~by_key.index.duplicated()]
    found = _chromosome_key(unique).map(by_key)
    found = found.where(~unique.isin(known), unique)
    twice = found.duplicated(keep=False) & found.notna()
    if twice.any():
        raise InputError(
            f"one chromosome has two names ({few(unique[twice])} are all {found[twice].iloc[0]})."
            " Rename them so that each chromosome has one name."
        )
    return {str(a): None if pd.isna(b) else str(b) for a, b in zip(unique, found, strict=True)}


def _chromosome_key(names: pd.Series[str]) -> pd.Series[str]:
    key = names.str.replace(r"^(?:chr[0-9A-Za-z]+_)([A-Z]+[0-9]+)v([0-9]+)(?:_.*)?$", r"\1.\2", regex=True)
    key = key.str.replace(r"^chr", "", case=False, regex=True)
    return key.mask(key.str.upper() == "M", "MT")


def _by_preference(genes: pd.DataFrame) -> pd.DataFrame:
    """Genes in the order in which they win a disputed name."""
    primary = _chromosome_key(genes["chrom"].astype(str)).str.fullmatch(_PRIMARY).to_numpy(dtype=bool)
    coding = (genes["biotype"] == "protein_coding").to_numpy()
    chromosome = pd.factorize(genes["chrom"])[0]
    order = np.lexsort((genes["start"].to_numpy(), chromosome, ~coding, ~primary))
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
