"""DNA of the stored peaks: from var, from a FASTA with a record a peak, or from the chromosomes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..graphs.chromosomes import harmonise
from .features import Features
from .genomes.dna import PeakDna
from .genomes.peak_fasta import read_peak_fasta
from .given import given_dna
from .options import BuildOptions
from .read import Experiment


def stored_dna(
    experiment: Experiment,
    features: Features,
    order: NDArray[np.int64],
    *,
    options: BuildOptions,
    notes: list[str],
) -> PeakDna | None:
    """Read the DNA of peaks.

    Parameters
    ----------
    experiment
        Its ATAC ``var`` wins where it has a column ``dna_sequence``.
    features
        Peaks in the order of their file, and the FASTA.
    order
        int64: which of them are stored, in which order.
    options
        How many bases, and from where.
    notes
        Where the DNA comes from is appended.

    Returns
    -------
    In stored order; None where there is no DNA (or no peak).
    """
    if "atac" not in experiment.modalities:
        return None
    length, anchor = options.sequence_length, options.sequence_from
    given = given_dna(experiment.modalities["atac"].var, length=length, anchor=anchor, notes=notes)
    if given is not None:
        if features.genome.fasta is not None or features.peak_fasta is not None:
            notes.append("dna_sequence of var wins over the FASTA")
        return PeakDna(given.sequences[order], given.gc[order])
    if features.peak_fasta is not None:
        named = features.peaks.assign(chrom=features.given)
        dna = read_peak_fasta(features.peak_fasta, named, length=length, anchor=anchor, notes=notes)
        notes.append(f"DNA of {len(order):,} peaks from {features.peak_fasta.name}, a record each")
        return PeakDna(dna.sequences[order], dna.gc[order])
    genome = features.genome
    if genome.fasta is None:
        return None
    peaks = features.peaks.iloc[order]
    spelled = harmonise(list(peaks["chrom"].unique()), list(genome.lengths))
    names = peaks["chrom"].map({name: own or name for name, own in spelled.items()}).to_numpy(object)
    notes.append(f"DNA of {len(peaks):,} peaks from {genome.fasta.name}: {_described(length, options)}")
    return genome.sequences(
        names, peaks["start"].to_numpy(), peaks["end"].to_numpy(), length=length, anchor=anchor
    )


def _described(length: int, options: BuildOptions) -> str:
    if options.sequence_from == "start":
        return f"the first {length} bases of each"
    return f"{length} bases around the centre of each"
