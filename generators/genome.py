"""A genome as two explicit files: genes from a GTF, DNA and chromosome lengths from a FASTA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.bases import Anchor
from ..graphs.chromosomes import harmonise
from ..graphs.errors import InputError
from ..graphs.messages import few
from ..graphs.schema import SEQUENCE_LENGTH
from .genomes.dna import PeakDna, read_peak_dna
from .genomes.fasta import read_lengths
from .genomes.gtf import no_genes, read_genes, strip_version
from .genomes.placement import Placement, place_genes

__all__ = ["Genome", "Placement", "strip_version"]


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
        return place_genes(self.genes, names, ids)

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
        anchor: Anchor = "centre",
    ) -> PeakDna:
        """DNA of every peak: a window of `length` bases and the GC content of the whole peak.

        Chromosomes are read once, in order and in slices, whatever the order of the peaks.

        Parameters
        ----------
        chrom
            Chromosome of each peak, spelled as in the FASTA (see :func:`harmonise`).
        start, end
            0-based half-open, int64, shape (peaks,).
        length
            Bases a peak.
        anchor
            ``centre``: the window ``[c - length // 2, c - length // 2 + length)`` around the middle
            ``c = (start + end) // 2``, with the DNA beside the peak where that is shorter. ``start``:
            the first bases of the peak, N beyond its end. N outside the chromosome in both.

        Returns
        -------
        PeakDna
            ``sequences`` uint8, shape (peaks, length), 0 A, 1 C, 2 G, 3 T, 4 anything else; ``gc``
            float32, shape (peaks,), NaN where the peak has no called base.

        Raises
        ------
        InputError
            If there is no FASTA, or it lacks a chromosome of the peaks.
        """
        if self.fasta is None:
            raise InputError("peak sequences need DNA, and this genome has none. Pass --fasta.")
        names = np.asarray(chrom, dtype=object)
        start, end = np.asarray(start, dtype=np.int64), np.asarray(end, dtype=np.int64)
        return read_peak_dna(self.fasta, names, start, end, length=length, anchor=anchor)

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
