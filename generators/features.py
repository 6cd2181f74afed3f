"""Genes and peaks of an experiment, each in the order of its file, with a place on one genome."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.chromosomes import harmonise, one_spelling
from ..graphs.errors import InputError
from ..graphs.messages import few
from .genome import Genome
from .genomes.chromosomes import check_build, is_scaffold
from .genomes.peak_fasta import is_peak_fasta
from .genomes.peak_names import peak_table
from .given import place_genes
from .options import BuildOptions
from .read import Experiment

_PEAK_COLUMNS = {"peak": object, "chrom": object, "start": np.int64, "end": np.int64}


@dataclass(frozen=True)
class GenomeFiles:
    """What tells where genes and peaks lie and which DNA they have; all of it optional.

    Attributes
    ----------
    gtf
        Gene annotation.
    fasta
        DNA: a record a chromosome, or a record a peak.
    loops
        BEDPE of known or predicted loops, for the prior.
    """

    gtf: Path | None = None
    fasta: Path | None = None
    loops: Path | None = None


@dataclass(frozen=True)
class Features:
    """Genes and peaks in the order of their files.

    Attributes
    ----------
    genome
        Annotation, and DNA where the FASTA holds chromosomes.
    peak_fasta
        The FASTA where it holds a record a peak instead.
    genes
        ``gene, gene_id, symbol, chrom, start, end, tss, strand, biotype``; of the GTF where there is no RNA.
    peaks
        ``peak, chrom, start, end``; chromosomes spelled as in the GTF.
    given
        Chromosome of each peak as its file spells it.
    kept
        bool (peaks,): not on a scaffold that is dropped.
    """

    genome: Genome
    peak_fasta: Path | None
    genes: pd.DataFrame
    peaks: pd.DataFrame
    given: pd.Series[str]
    kept: NDArray[np.bool_]


def place_features(
    experiment: Experiment, files: GenomeFiles, *, build: str | None, options: BuildOptions, notes: list[str]
) -> Features:
    """Place the genes and peaks of an experiment on its genome.

    Parameters
    ----------
    experiment
        One or both modalities.
    files
        Annotation and DNA.
    build
        Genome build that the experiment declares, such as mm10.
    options
        Scaffolds, and how many features must find a place.
    notes
        What was placed, taken, filled, renamed or dropped is appended, a line each.

    Raises
    ------
    InputError
        Too few genes or peaks find a place, peaks do not parse, or the genome is another one.
    """
    peaks = _read_peaks(experiment, notes)
    own_dna = files.fasta is not None and is_peak_fasta(files.fasta, peaks)
    genome = Genome(files.gtf, None if own_dna else files.fasta)
    if genome.fasta is not None:
        check_build(build, genome.lengths, genome.fasta.name)
    genes = _genes(experiment, genome, options, notes)
    given = peaks["chrom"]
    peaks = peaks.assign(chrom=_spelled(peaks, genes, genome, options, notes))
    kept = _keep_scaffolds(genes, peaks, options, notes)
    return Features(genome, files.fasta if own_dna else None, genes, peaks, given, kept)


def _read_peaks(experiment: Experiment, notes: list[str]) -> pd.DataFrame:
    if "atac" not in experiment.modalities:
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in _PEAK_COLUMNS.items()})
    var = experiment.modalities["atac"].var
    return peak_table(var, var.index.tolist(), notes=notes)


def _genes(experiment: Experiment, genome: Genome, options: BuildOptions, notes: list[str]) -> pd.DataFrame:
    if "rna" not in experiment.modalities:
        return _annotated_genes(genome, notes)
    rna = experiment.modalities["rna"]
    genes, placed = place_genes(rna.var, genome, notes=notes)
    share = placed / max(len(genes), 1)
    alone = "atac" not in experiment.modalities
    if genome.gtf is None and placed == 0:
        if not alone:
            raise InputError(
                f"no gene annotation given, and {rna.path.name} does not say where its genes lie, so no gene"
                " has a place. Pass --gtf (GENCODE or Ensembl, plain or gzip)."
            )
        notes.append("no gene annotation: genes have no place (RNA alone needs none)")
    elif share < options.min_placed:
        lost = few(genes.loc[genes["chrom"].isna(), "gene"])
        raise InputError(
            f"{placed:,} of {len(genes):,} genes have a place ({share:.0%}), fewer than --min-placed"
            f" {options.min_placed:g} (the file has {lost}; the GTF has {few(genome.genes['symbol'])})."
            " Pass the GTF of this genome, or lower --min-placed."
        )
    return genes


def _annotated_genes(genome: Genome, notes: list[str]) -> pd.DataFrame:
    """Genes of the GTF, for an experiment without RNA: named by symbol, or by id where symbols repeat."""
    if genome.gtf is None:
        notes.append("ATAC alone, no gene annotation: there are no genes")
    genes = genome.genes.copy()
    repeated = genes["symbol"].duplicated(keep=False)
    genes.insert(0, "gene", genes["symbol"].where(~repeated, genes["gene_id"]).astype(object))
    genes = genes.drop_duplicates("gene", ignore_index=True)
    if len(genes):
        notes.append(f"ATAC alone: {len(genes):,} genes of the GTF, without expression")
    return genes.astype({"start": "Int64", "end": "Int64", "tss": "Int64"})


def _spelled(
    peaks: pd.DataFrame, genes: pd.DataFrame, genome: Genome, options: BuildOptions, notes: list[str]
) -> NDArray[np.object_]:
    """Chromosomes of the peaks as the annotation (or what places the genes) spells them; refuse another genome's."""
    used, of_genes = list(peaks["chrom"].unique()), list(genes["chrom"].dropna().unique())
    one_spelling(of_genes)
    one_spelling(used)
    if not genome.chromosomes:
        found = harmonise(used, of_genes)
        return peaks["chrom"].map({name: found[name] or name for name in used}).to_numpy(object)
    spelled = harmonise(used, genome.chromosomes)
    notes.extend(genome.check_peaks(peaks, spelled))
    known = peaks["chrom"].map(spelled).notna()
    if genome.chromosomes and len(peaks):
        if known.mean() < options.min_placed:
            raise InputError(
                f"{known.sum():,} of {len(peaks):,} peaks ({known.mean():.0%}) are on chromosomes of the genome,"
                f" fewer than --min-placed {options.min_placed:g} (peaks: {few(peaks['chrom'][~known].unique())};"
                f" genome: {few(genome.chromosomes)}). Pass the files of the peaks' genome, or lower --min-placed."
            )
        notes.append(f"{known.sum():,} of {len(peaks):,} peaks placed on chromosomes of the genome")
    return peaks["chrom"].map({name: spelled[name] or name for name in used}).to_numpy(object)


def _keep_scaffolds(
    genes: pd.DataFrame, peaks: pd.DataFrame, options: BuildOptions, notes: list[str]
) -> NDArray[np.bool_]:
    """Count what lies on scaffolds; where they are dropped, tell which peaks stay and unplace the genes there."""
    gene_there = genes["chrom"].notna().to_numpy()
    gene_there[gene_there] = is_scaffold(genes["chrom"].dropna().tolist())
    peak_there = is_scaffold(peaks["chrom"].tolist())
    if not (peak_there.any() or gene_there.any()):
        return np.ones(len(peaks), dtype=bool)
    drop = options.scaffolds == "drop"
    done = "peaks dropped, genes kept without a place" if drop else "kept (--scaffolds drop leaves them out)"
    notes.append(f"{peak_there.sum():,} peaks and {gene_there.sum():,} genes are on scaffolds: {done}")
    if not drop:
        return np.ones(len(peaks), dtype=bool)
    if len(peaks) and peak_there.all():
        raise InputError(
            f"all {len(peaks):,} peaks are on scaffolds ({few(peaks['chrom'].unique())}). Leave out --scaffolds drop."
        )
    genes.loc[gene_there, ["chrom", "strand"]] = None
    genes.loc[gene_there, ["start", "end", "tss"]] = pd.NA
    return ~peak_there
