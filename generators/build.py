"""The pipeline from files to a graph dataset: read, place on the genome, split, stream, pair, store."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from tqdm.auto import tqdm

from ..graphs.csr import CsrRows
from ..graphs.errors import InputError
from ..graphs.schema import ATAC, RNA, SPLITS
from ..graphs.store import StoreWriter, checksum
from ..graphs.whole import versions
from .attributes import highly_variable
from .cells import cell_table
from .genome import Genome
from .layout import Layout, lay_out
from .pairs import make_pairs
from .prior import window_edges
from .read import Experiment, Modality, read

_CHUNK = 1024  # cells in memory at a time


@dataclass(frozen=True)
class BuildOptions:
    """What a build may choose.

    Attributes
    ----------
    labels, donor
        Columns of ``obs``: cell types, and donors to split by.
    window
        Reach of the prior peak-gene edges around the TSS in bp, or ``chromosome``.
    layer
        Layer that holds the counts; X when None.
    min_placed
        Smallest share of genes that the GTF must name.
    ratio
        Negative pairs for each positive one.
    n_top
        Highly variable genes to mark.
    seed
        Decides splits and pairs.

    Raises
    ------
    InputError
        A number is out of its range.
    """

    labels: str | None = None
    donor: str | None = None
    window: int | Literal["chromosome"] = 250_000
    layer: str | None = None
    min_placed: float = 0.3
    ratio: float = 1.0
    n_top: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.window == "chromosome" if isinstance(self.window, str) else self.window >= 0):
            raise InputError(f"--window is {self.window}. Pass a number of bp, 0 or more, or 'chromosome'.")
        if not 0 <= self.min_placed <= 1:
            raise InputError(f"--min-placed is {self.min_placed:g}. Pass a share of genes from 0 to 1.")
        if not 0 <= self.ratio < math.inf:
            raise InputError(f"--ratio is {self.ratio:g}. Pass 0 or more negative pairs for each positive.")
        if self.n_top < 1 or self.seed < 0:
            raise InputError(f"n_top is {self.n_top}, seed {self.seed}. Pass n_top >= 1 and seed >= 0.")


@dataclass(frozen=True)
class BuildReport:
    """What a build made: sizes of the dataset and notes for its reader."""

    path: Path
    sizes: dict[str, int]
    notes: list[str] = field(default_factory=list)


def build(
    inputs: Sequence[Path],
    out: Path,
    *,
    gtf: Path | None = None,
    fasta: Path | None = None,
    options: BuildOptions | None = None,
    progress: bool = True,
) -> BuildReport:
    """Make a graph dataset from a paired RNA/ATAC experiment.

    Cells are split before anything is fitted; highly variable genes are found on training cells.
    Counts stream through in chunks, so memory does not grow with the number of cells beyond their
    tables. A build that is killed leaves only a hidden folder ``.NAME.partial-PID`` beside ``out``,
    which the next build of that name removes.

    Parameters
    ----------
    inputs
        One .h5mu, or the RNA and the ATAC .h5ad in any order.
    out
        Folder to create.
    gtf, fasta
        Gene annotation, and DNA (optional).
    options
        See `BuildOptions`.
    progress
        Show a bar while counts stream.

    Raises
    ------
    InputError
        Anything wrong with the input; nothing is left at ``out``.
    """
    options = options or BuildOptions()
    with StoreWriter(Path(out)) as writer:
        experiment = read(inputs, layer=options.layer)
        notes = list(experiment.report)
        layout = lay_out(experiment, _genome(gtf, fasta), min_placed=options.min_placed, notes=notes)
        cells, kept = cell_table(
            experiment, labels=options.labels, donor=options.donor, seed=options.seed, notes=notes
        )
        pairs = make_pairs(
            cells["split"].to_numpy(object), cells["cell_type"], ratio=options.ratio, seed=options.seed
        )
        prior = _write_static(writer, layout, options)
        _stream(writer, experiment.rna, experiment.rows_rna[kept], layout.gene_order, progress)
        _stream(writer, experiment.atac, experiment.rows_atac[kept], layout.peak_order, progress)
        rna, atac = writer.rows(RNA, len(layout.genes)), writer.rows(ATAC, len(layout.peaks))
        _count_features(cells, rna, atac)
        genes = _with_variability(rna, cells, layout.genes, options, notes)
        for name, frame in (("cells", cells), ("genes", genes), ("pairs", pairs)):
            writer.table(name, frame)
        sources = [Path(path) for path in (*inputs, gtf, fasta) if path is not None]
        arguments = {"inputs": list(inputs), "out": out, "gtf": gtf, "fasta": fasta, **asdict(options)}
        writer.config({"arguments": arguments, "seed": options.seed, "versions": versions()})
        writer.finish(_manifest(experiment, layout, cells, prior, options, sources, notes))
    sizes = {"cells": len(cells), "genes": len(genes), "peaks": len(layout.peaks), "pairs": len(pairs)}
    return BuildReport(Path(out), sizes, notes)


def _genome(gtf: Path | None, fasta: Path | None) -> Genome:
    if gtf is None:
        raise InputError(
            "no gene annotation given, so no gene has a place. Pass --gtf (GENCODE or Ensembl, plain or gzip)."
        )
    return Genome(gtf, fasta)


def _stream(
    writer: StoreWriter, modality: Modality, rows: NDArray[np.int64], order: NDArray[np.int64], progress: bool
) -> None:
    """Copy the counts of one modality into the dataset, columns in stored order."""
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    bar = tqdm(total=len(rows), desc=modality.name, unit="cell", disable=not progress)
    with bar, closing(writer.csr(modality.name, len(order))) as matrix:
        for chunk in modality.chunks(rows, size=_CHUNK):
            moved = sparse.csr_matrix((chunk.data, rank[chunk.indices], chunk.indptr), shape=chunk.shape)
            matrix.append(moved)
            bar.update(chunk.shape[0])


def _count_features(cells: pd.DataFrame, rna: CsrRows, atac: CsrRows) -> None:
    """Add the features of each cell; a cell that stored nothing but zeros shows only now."""
    cells["n_genes"], cells["n_peaks"] = np.diff(rna.indptr), np.diff(atac.indptr)
    empty = (cells["n_genes"] == 0) | (cells["n_peaks"] == 0)
    if empty.any():
        raise InputError(
            f"{empty.sum():,} cells store zeros only in one modality ({', '.join(cells['barcode'][empty][:3])} …). "
            "Call X.eliminate_zeros() and save the file again."
        )


def _with_variability(
    rows: CsrRows, cells: pd.DataFrame, genes: pd.DataFrame, options: BuildOptions, notes: list[str]
) -> pd.DataFrame:
    """Add the attributes of variability, fitted on training cells only."""
    train = np.flatnonzero(cells["split"] == SPLITS[0])

    def chunks() -> Iterator[sparse.csr_matrix]:
        for begin in range(0, len(train), _CHUNK):
            yield rows.matrix(train[begin : begin + _CHUNK])

    table, note = highly_variable(chunks, n_genes=len(genes), n_top=options.n_top)
    if note is not None:
        notes.append(note)
    return pd.concat([genes, table], axis=1)


def _write_static(writer: StoreWriter, layout: Layout, options: BuildOptions) -> dict[str, Any]:
    """Write what no count changes, so that it fails before the long work; tell which prior was made."""
    writer.table("peaks", layout.peaks)
    if layout.genome.fasta is not None:
        writer.array("sequences", layout.sequences())
    if options.window == "chromosome":
        return {"kind": "chromosome"}  # ranges of the sorted peaks: nothing to store
    edges = window_edges(layout.genes, layout.peaks, window=options.window)
    writer.array("cis_indptr", edges.indptr)
    writer.array("cis_peak", edges.peak)
    writer.array("cis_distance", edges.distance)
    return {"kind": "window", "bp": options.window, "edges": len(edges.peak)}


def _manifest(
    experiment: Experiment,
    layout: Layout,
    cells: pd.DataFrame,
    prior: dict[str, Any],
    options: BuildOptions,
    sources: list[Path],
    notes: list[str],
) -> dict[str, Any]:
    return {
        "genome": experiment.rna.genome or experiment.atac.genome,
        "chromosomes": layout.chromosomes,
        "chromosome_lengths": layout.lengths(),
        "cell_types": sorted(cells["cell_type"].dropna().unique()),
        "prior": prior,
        "options": asdict(options),
        "sources": [
            {"name": path.name, "bytes": path.stat().st_size, "checksum": checksum(path)} for path in sources
        ],
        "notes": notes,
    }
