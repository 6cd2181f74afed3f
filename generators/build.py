"""The pipeline from files to a graph dataset: read, place on the genome, split, stream, pair, store."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
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
from .attributes import highly_variable
from .genome import Genome, harmonise
from .pairs import make_pairs, split_cells
from .peak_names import peak_table
from .prior import window_edges
from .read import Experiment, Modality, read

_CHUNK = 1024  # cells in memory at a time
_MISSING = {"", "nan", "NaN", "NA", "None", "<NA>"}


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
    """

    labels: str | None = None
    donor: str | None = None
    window: int | Literal["chromosome"] = 250_000
    layer: str | None = None
    min_placed: float = 0.3
    ratio: float = 1.0
    n_top: int = 2000
    seed: int = 0


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
    Counts stream through in chunks, so memory does not grow with the number of cells.

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
        layout = _lay_out(experiment, _genome(gtf, fasta), options, notes)
        cells, keep = _cells(experiment, options, notes)
        for modality, rows, order in (
            (experiment.rna, experiment.rows_rna, layout.gene_order),
            (experiment.atac, experiment.rows_atac, layout.peak_order),
        ):
            _stream(writer, modality, rows[keep], order, progress)
        _count_features(cells, writer.rows(RNA, len(layout.genes)), writer.rows(ATAC, len(layout.peaks)))
        train = np.flatnonzero(cells["split"] == SPLITS[0])
        genes = _with_variability(writer.rows(RNA, len(layout.genes)), train, layout.genes, options, notes)
        pairs = make_pairs(
            cells["split"].to_numpy(object), cells["cell_type"], ratio=options.ratio, seed=options.seed
        )
        for name, frame in (("cells", cells), ("genes", genes), ("peaks", layout.peaks), ("pairs", pairs)):
            writer.table(name, frame)
        prior = _write_prior(writer, layout, options)
        if layout.genome.fasta is not None:
            writer.array("sequences", _sequences(layout))
        sources = [Path(path) for path in (*inputs, gtf, fasta) if path is not None]
        writer.finish(_manifest(experiment, layout, cells, prior, options, sources, notes))
    sizes = {"cells": len(cells), "genes": len(genes), "peaks": len(layout.peaks), "pairs": len(pairs)}
    return BuildReport(Path(out), sizes, notes)


@dataclass(frozen=True)
class _Layout:
    """Genes and peaks in stored order, and where each came from."""

    genome: Genome
    chromosomes: list[str]
    genes: pd.DataFrame
    peaks: pd.DataFrame
    gene_order: NDArray[np.int64]
    peak_order: NDArray[np.int64]


def _genome(gtf: Path | None, fasta: Path | None) -> Genome:
    if gtf is None:
        raise InputError(
            "no gene annotation given, so no gene has a place. Pass --gtf (GENCODE or Ensembl, plain or gzip)."
        )
    return Genome(gtf, fasta)


def _lay_out(experiment: Experiment, genome: Genome, options: BuildOptions, notes: list[str]) -> _Layout:
    var = experiment.rna.var
    ids = next((var[c] for c in ("gene_ids", "gene_id") if c in var), None)
    genes, placement = genome.place_genes(var.index, None if ids is None else pd.Index(ids))
    genes.insert(0, "gene", var.index.astype(str))
    notes.append(str(placement))
    share = placement.placed / max(len(genes), 1)
    if share < options.min_placed:
        lost = genes.loc[genes["chrom"].isna(), "gene"].head(3)
        raise InputError(
            f"the GTF names {placement.placed:,} of {len(genes):,} genes ({share:.0%}; the file has "
            f"{', '.join(lost)} …; the GTF has {', '.join(genome.genes['symbol'].head(3))} …), fewer than "
            f"--min-placed {options.min_placed:g}. Pass the GTF of this genome, or lower --min-placed."
        )
    atac = experiment.atac
    peaks = peak_table(atac.var, list(atac.var.index.astype(str)))
    spelled = harmonise(list(peaks["chrom"].unique()), genome.chromosomes)
    notes.extend(genome.check_peaks(peaks, spelled))
    peaks["chrom"] = [spelled[name] or name for name in peaks["chrom"]]
    chromosomes = sorted({*peaks["chrom"], *genes["chrom"].dropna()}, key=_natural)
    code = {name: i for i, name in enumerate(chromosomes)}
    gene_chrom = genes["chrom"].map(code).fillna(len(code)).to_numpy(np.int64)
    gene_order = np.lexsort((genes["tss"].fillna(0).to_numpy(np.int64), gene_chrom))
    peak_order = np.lexsort((peaks["end"], peaks["start"], peaks["chrom"].map(code)))
    return _Layout(
        genome,
        chromosomes,
        genes.iloc[gene_order].reset_index(drop=True),
        peaks.iloc[peak_order].reset_index(drop=True),
        gene_order,
        peak_order,
    )


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort chr2 before chr10."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part
    ]


def _cells(
    experiment: Experiment, options: BuildOptions, notes: list[str]
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Return the table of kept cells with their splits, and which of the shared cells they are."""
    rna = experiment.rna.nonzeros(experiment.rows_rna)
    atac = experiment.atac.nonzeros(experiment.rows_atac)
    empty = (rna == 0) | (atac == 0)
    if empty.all():
        raise InputError("every cell is empty in one modality: there is nothing to build. Pass raw counts.")
    if empty.any():
        first = ", ".join(experiment.barcodes[empty][:3].astype(str))
        notes.append(f"{empty.sum():,} cells without counts in one modality dropped ({first} …)")
    keep = np.flatnonzero(~empty)
    obs = experiment.obs.iloc[keep].reset_index(drop=True)
    cells = pd.DataFrame({"barcode": experiment.barcodes[keep].astype(str)})
    cells["cell_type"] = _names(obs, options.labels, "--labels", notes)
    if options.labels is not None and cells["cell_type"].nunique() < 2:
        raise InputError(
            f"column {options.labels!r} has one cell type only ({cells['cell_type'].iloc[0]}). "
            "Choose another column or leave out --labels."
        )
    cells["donor"] = _names(obs, options.donor, "--donor", notes)
    donor = cells["donor"] if options.donor is not None else None
    cells["split"], report = split_cells(cells["cell_type"], donor=donor, seed=options.seed)
    notes.extend(report)
    return cells, keep


def _names(obs: pd.DataFrame, column: str | None, option: str, notes: list[str]) -> pd.Series[str]:
    """Return a column as names, None where missing; numbers and booleans become names."""
    if column is None:
        return pd.Series([None] * len(obs), dtype=object)
    if column not in obs:
        raise InputError(
            f"no column {column!r} in obs for {option}. The columns are: {', '.join(map(str, obs.columns)) or 'none'}."
        )
    values = obs[column].astype(object)
    missing = values.isna() | values.astype(str).isin(_MISSING)
    if missing.all():
        raise InputError(
            f"column {column!r} ({option}) is empty for all {len(obs):,} cells. Choose another column."
        )
    if missing.any():
        notes.append(
            f"{missing.sum():,} of {len(obs):,} cells have no value in {column!r}: kept as unlabelled"
        )
    if not values[~missing].map(lambda value: isinstance(value, str)).all():
        notes.append(
            f"column {column!r} holds {type(values[~missing].iloc[0]).__name__} values: read as names"
        )
    return values.astype(str).where(~missing, None)


def _stream(
    writer: StoreWriter, modality: Modality, rows: NDArray[np.int64], order: NDArray[np.int64], progress: bool
) -> None:
    """Copy the counts of one modality into the dataset, columns in stored order."""
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    matrix = writer.csr(modality.name, len(order))
    with tqdm(total=len(rows), desc=modality.name, unit="cell", disable=not progress) as bar:
        for chunk in modality.chunks(rows, size=_CHUNK):
            moved = sparse.csr_matrix((chunk.data, rank[chunk.indices], chunk.indptr), shape=chunk.shape)
            matrix.append(moved)
            bar.update(chunk.shape[0])
    matrix.close()


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
    rows: CsrRows, train: NDArray[np.int64], genes: pd.DataFrame, options: BuildOptions, notes: list[str]
) -> pd.DataFrame:
    def chunks() -> Iterator[sparse.csr_matrix]:
        for begin in range(0, len(train), _CHUNK):
            yield rows.matrix(train[begin : begin + _CHUNK])

    table, note = highly_variable(chunks, n_genes=len(genes), n_top=options.n_top)
    if note is not None:
        notes.append(note)
    return pd.concat([genes, table], axis=1)


def _write_prior(writer: StoreWriter, layout: _Layout, options: BuildOptions) -> dict[str, Any]:
    if options.window == "chromosome":
        return {"kind": "chromosome"}  # ranges of the sorted peaks: nothing to store
    edges = window_edges(layout.genes, layout.peaks, window=options.window)
    writer.array("cis_indptr", edges.indptr)
    writer.array("cis_peak", edges.peak)
    writer.array("cis_distance", edges.distance)
    return {"kind": "window", "bp": options.window, "edges": len(edges.peak)}


def _sequences(layout: _Layout) -> NDArray[np.uint8]:
    peaks, lengths = layout.peaks, list(layout.genome.lengths)
    spelled = harmonise(list(peaks["chrom"].unique()), lengths)
    names = np.array([spelled[name] or name for name in peaks["chrom"]], dtype=object)
    return layout.genome.sequences(names, peaks["start"].to_numpy(np.int64), peaks["end"].to_numpy(np.int64))


def _manifest(
    experiment: Experiment,
    layout: _Layout,
    cells: pd.DataFrame,
    prior: dict[str, Any],
    options: BuildOptions,
    sources: list[Path],
    notes: list[str],
) -> dict[str, Any]:
    spelled = harmonise(layout.chromosomes, list(layout.genome.lengths))
    return {
        "genome": experiment.rna.genome or experiment.atac.genome,
        "chromosomes": layout.chromosomes,
        "chromosome_lengths": {a: layout.genome.lengths[b] for a, b in spelled.items() if b is not None},
        "cell_types": sorted(cells["cell_type"].dropna().unique()),
        "prior": prior,
        "options": asdict(options),
        "sources": [
            {"name": path.name, "bytes": path.stat().st_size, "checksum": checksum(path)} for path in sources
        ],
        "notes": notes,
    }
