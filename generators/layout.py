"""The static part of a dataset: genes and peaks in stored order, with DNA and prior edges."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.chromosomes import harmonise
from ..graphs.collate import CisEdges
from ..graphs.store import StoreWriter
from .features import Features, GenomeFiles, place_features
from .files.counts import Name
from .given import fitted_attributes
from .options import BuildOptions
from .peak_dna import stored_dna
from .prior import prior_edges
from .read import Experiment

_Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """The static part of a dataset, and which stored column each feature of a file becomes.

    Attributes
    ----------
    genome
        Build of the genome, such as mm10, where it is known.
    chromosomes
        Names in stored order, spelled as in the GTF where it has them.
    lengths
        Length in bp of the chromosomes whose DNA is known.
    genes, peaks
        Tables sorted by (chromosome, TSS), unplaced genes last, and by (chromosome, start, end).
    columns
        For each modality, int64: stored column of each feature of its file, -1 where it is left out.
    fitted
        Attributes of the stored genes that need no fitting: the file has them, or another dataset.
    sequences
        uint8 (peaks, length), or None without DNA.
    prior
        What the prior is, for the manifest.
    edges
        Its edges, or None where the prior is the whole chromosome.
    """

    genome: str | None
    chromosomes: list[str]
    lengths: dict[str, int]
    genes: pd.DataFrame
    peaks: pd.DataFrame
    columns: dict[Name, _Int64]
    fitted: pd.DataFrame
    sequences: NDArray[np.uint8] | None
    prior: dict[str, Any]
    edges: CisEdges | None

    def write(self, writer: StoreWriter) -> None:
        """Write all but the genes, which may lack what is fitted."""
        writer.table("peaks", self.peaks)
        if self.sequences is not None:
            writer.array("sequences", self.sequences)
        if self.edges is not None:
            writer.array("cis_indptr", self.edges.indptr)
            writer.array("cis_peak", self.edges.peak)
            writer.array("cis_distance", self.edges.distance)


def lay_out(
    experiment: Experiment, files: GenomeFiles, *, build: str | None, options: BuildOptions, notes: list[str]
) -> Layout:
    """Place genes and peaks on the genome, sort them, and find DNA and prior edges; see `place_features`."""
    features = place_features(experiment, files, build=build, options=options, notes=notes)
    chromosomes = sorted(
        {*features.peaks["chrom"][features.kept], *features.genes["chrom"].dropna()}, key=_natural
    )
    rank = {name: i for i, name in enumerate(chromosomes)}
    gene_order, peak_order = _gene_order(features.genes, rank), _peak_order(features, rank)
    genes = features.genes.iloc[gene_order].reset_index(drop=True)
    peaks = features.peaks.iloc[peak_order].reset_index(drop=True)
    dna = stored_dna(experiment, features, peak_order, options=options, notes=notes)
    if dna is not None:
        peaks["gc"] = dna.gc
    prior, edges = prior_edges(
        genes, peaks, window=options.window, around=options.around, loops=files.loops, notes=notes
    )
    orders: dict[Name, _Int64] = {"rna": gene_order, "atac": peak_order}
    return Layout(
        build,
        chromosomes,
        _lengths(chromosomes, features),
        genes,
        peaks,
        {name: stored_columns(orders[name], len(m.var)) for name, m in experiment.modalities.items()},
        _fitted(experiment, gene_order, options, notes),
        None if dna is None else dna.sequences,
        prior,
        edges,
    )


def stored_columns(order: _Int64, n_features: int) -> _Int64:
    """Turn the feature of each stored column into the stored column of each feature, -1 where it has none."""
    columns = np.full(n_features, -1, dtype=np.int64)
    columns[order] = np.arange(len(order))
    return columns


def _gene_order(genes: pd.DataFrame, rank: dict[str, int]) -> _Int64:
    last = np.iinfo(np.int64).max  # a gene whose TSS is unknown comes behind the others of its chromosome
    by_chromosome = genes["chrom"].map(rank).fillna(len(rank)).to_numpy(np.int64)
    order: _Int64 = np.lexsort((genes["tss"].fillna(last).to_numpy(np.int64), by_chromosome))
    return order


def _peak_order(features: Features, rank: dict[str, int]) -> _Int64:
    kept = np.flatnonzero(features.kept)
    peaks = features.peaks.iloc[kept]
    keys = (peaks["end"], peaks["start"], peaks["chrom"].map(rank))
    order: _Int64 = kept[np.lexsort([key.to_numpy(np.int64) for key in keys])]
    return order


def _fitted(
    experiment: Experiment, gene_order: _Int64, options: BuildOptions, notes: list[str]
) -> pd.DataFrame:
    if options.refit or "rna" not in experiment.modalities:
        return pd.DataFrame(index=range(len(gene_order)))
    fitted = fitted_attributes(experiment.modalities["rna"].var, notes=notes)
    return fitted.iloc[gene_order].reset_index(drop=True)


def _lengths(chromosomes: list[str], features: Features) -> dict[str, int]:
    """Length in bp of the chromosomes that the FASTA has."""
    lengths = features.genome.lengths
    spelled = harmonise(chromosomes, list(lengths))
    return {name: lengths[own] for name, own in spelled.items() if own is not None}


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort chr2 before chr10."""
    parts = [part for part in re.split(r"([0-9]+)", name) if part]
    return [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts]
