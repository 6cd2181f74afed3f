"""The stored order of genes and peaks: by chromosome and position, under one naming of chromosomes."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.errors import InputError
from .dna import few
from .genome import Genome, harmonise
from .peak_names import peak_table
from .read import Experiment


@dataclass(frozen=True)
class Layout:
    """Genes and peaks in stored order, and where each came from.

    Attributes
    ----------
    genome
        Annotation and DNA.
    chromosomes
        Names in stored order, spelled as in the GTF where it has them.
    genes, peaks
        Tables sorted by (chromosome, TSS), unplaced genes last, and by (chromosome, start, end).
    gene_order, peak_order
        int64: column of each stored gene or peak in its matrix.
    """

    genome: Genome
    chromosomes: list[str]
    genes: pd.DataFrame
    peaks: pd.DataFrame
    gene_order: NDArray[np.int64]
    peak_order: NDArray[np.int64]

    def sequences(self) -> NDArray[np.uint8]:
        """DNA of the stored peaks; see `Genome.sequences`."""
        spelled = harmonise(list(self.peaks["chrom"].unique()), list(self.genome.lengths))
        names = np.array([spelled[name] or name for name in self.peaks["chrom"]], dtype=object)
        return self.genome.sequences(names, self.peaks["start"].to_numpy(), self.peaks["end"].to_numpy())

    def lengths(self) -> dict[str, int]:
        """Length in bp of the chromosomes that the FASTA has."""
        spelled = harmonise(self.chromosomes, list(self.genome.lengths))
        return {name: self.genome.lengths[own] for name, own in spelled.items() if own is not None}


def lay_out(experiment: Experiment, genome: Genome, *, min_placed: float, notes: list[str]) -> Layout:
    """Place genes and peaks on the genome and sort them.

    Parameters
    ----------
    experiment
        Features of both modalities.
    genome
        Annotation; the peaks' chromosomes take its spelling.
    min_placed
        Smallest share of genes that the GTF must name.
    notes
        How many genes and peaks found a place, and renamed chromosomes, are appended, a line each.

    Raises
    ------
    InputError
        The GTF names too few genes, peaks do not parse, or genes and peaks are of different genomes.
    """
    genes = _place_genes(experiment.rna.var, genome, min_placed, notes)
    peaks = peak_table(experiment.atac.var, experiment.atac.var.index.tolist())
    spelled = harmonise(list(peaks["chrom"].unique()), genome.chromosomes)
    notes.extend(genome.check_peaks(peaks, spelled))
    peaks["chrom"] = [spelled[name] or name for name in peaks["chrom"]]
    chromosomes = sorted({*peaks["chrom"], *genes["chrom"].dropna()}, key=_natural)
    rank = {name: i for i, name in enumerate(chromosomes)}
    gene_rank = genes["chrom"].map(rank).fillna(len(rank)).to_numpy(np.int64)
    gene_order = np.lexsort((genes["tss"].fillna(0).to_numpy(np.int64), gene_rank))
    peak_order = np.lexsort((peaks["end"], peaks["start"], peaks["chrom"].map(rank)))
    return Layout(
        genome,
        chromosomes,
        genes.iloc[gene_order].reset_index(drop=True),
        peaks.iloc[peak_order].reset_index(drop=True),
        gene_order,
        peak_order,
    )


def _place_genes(var: pd.DataFrame, genome: Genome, min_placed: float, notes: list[str]) -> pd.DataFrame:
    ids = next((var[column] for column in ("gene_ids", "gene_id") if column in var), None)
    genes, placement = genome.place_genes(var.index, None if ids is None else pd.Index(ids))
    genes.insert(0, "gene", var.index.astype(str))
    share = placement.placed / max(len(genes), 1)
    if share < min_placed:
        raise InputError(
            f"the GTF names {placement.placed:,} of {len(genes):,} genes ({share:.0%}), fewer than --min-placed"
            f" {min_placed:g} (the file has {few(genes.loc[genes['chrom'].isna(), 'gene'])}; the GTF has"
            f" {few(genome.genes['symbol'])}). Pass the GTF of this genome, or lower --min-placed."
        )
    notes.append(str(placement))
    return genes


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort chr2 before chr10."""
    parts = [part for part in re.split(r"([0-9]+)", name) if part]
    return [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts]
