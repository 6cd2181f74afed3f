"""The pipeline from files to a graph dataset: plan, copy the counts, fit on training cells, store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from tqdm.auto import tqdm

from ..graphs.csr import CsrRows, CsrWriter
from ..graphs.schema import ATAC, FITTED, RNA, SPLITS
from ..graphs.store import Store, StoreWriter, checksum
from ..graphs.whole import refuse_existing, versions
from .attributes import highly_variable
from .files.counts import Modality, Name
from .options import BuildOptions
from .plan import BuildInputs, Plan, plan_build

__all__ = ["BuildOptions", "BuildReport", "build"]

_CHUNK = 256  # cells in memory at a time: their counts fit the processor's cache


@dataclass(frozen=True)
class BuildReport:
    """What a build made or would make: sizes of the dataset, and notes for its reader.

    Attributes
    ----------
    path
        The dataset.
    sizes
        Numbers of cells, genes, peaks and pairs.
    notes
        What was chosen, dropped, filled or found, a line each.
    cost
        Of a dry run: estimated ``nonzeros``, ``disk_bytes`` and ``memory_bytes``.
    """

    path: Path
    sizes: dict[str, int]
    notes: list[str] = field(default_factory=list)
    cost: dict[str, int] | None = None

    def lines(self) -> list[str]:
        """Notes and sizes for a terminal."""
        sizes = ", ".join(f"{value:,} {name}" for name, value in self.sizes.items())
        if self.cost is None:
            return [*self.notes, f"{self.path}: {sizes}"]
        values, disk, memory = (self.cost[key] for key in ("nonzeros", "disk_bytes", "memory_bytes"))
        return [
            *self.notes,
            f"{self.path} would hold {sizes}",
            f"about {values:,} non-zeros, {disk / 1e6:,.0f} MB on disk; building takes {memory / 1e9:.1f} GB of memory",
        ]


def build(
    inputs: Sequence[Path],
    out: Path,
    *,
    gtf: Path | None = None,
    fasta: Path | None = None,
    loops: Path | None = None,
    labels_file: Path | None = None,
    like: Path | None = None,
    options: BuildOptions | None = None,
    dry_run: bool = False,
    progress: bool = True,
) -> BuildReport:
    """Make a graph dataset from an RNA/ATAC experiment, or from one of the two alone.

    Cells are split before anything is fitted; highly variable genes are found on training cells.
    Counts stream through in chunks, so memory does not grow with the number of cells beyond their
    tables. A build that is killed leaves only a hidden folder ``.NAME.partial-PID`` beside ``out``,
    which the next build of that name removes.

    Parameters
    ----------
    inputs
        One .h5mu, one or two .h5ad in any order, a 10x .h5, or a 10x mtx folder.
    out
        Folder to create.
    gtf, fasta
        Gene annotation (optional for one modality alone, or where ``var`` places the genes), and DNA
        (optional): a record a chromosome, or a record a peak.
    loops
        BEDPE whose loops become prior edges too.
    labels_file
        TSV or CSV of barcodes and their labels.
    like
        Dataset whose genes, peaks, prior and fitted attributes the new one takes.
    options
        See `BuildOptions`.
    dry_run
        Write nothing: tell what would be made and its cost, after all checks but those of every count.
    progress
        Show bars while counts stream.

    Raises
    ------
    InputError
        Anything wrong with the input; nothing is left at ``out``.
    """
    options = options or BuildOptions()
    given = BuildInputs.of(inputs, gtf, fasta, loops, labels_file, like)
    if dry_run:
        refuse_existing(Path(out))
        plan = plan_build(given, options, progress=progress)
        return BuildReport(Path(out), plan.sizes, plan.notes, plan.cost(_CHUNK))
    with StoreWriter(Path(out)) as writer:
        plan = plan_build(given, options, scratch=writer.scratch, progress=progress)
        plan.layout.write(writer)
        rna, atac = (_stream(writer, plan, name, progress) for name in get_args(Name))
        cells = _finish_cells(plan, rna, atac)
        writer.table("cells", cells)
        writer.table("genes", pd.concat([plan.layout.genes, _fitted(plan, rna, plan.main.split)], axis=1))
        writer.table("pairs", plan.main.pairs)
        _write_folds(writer, plan, rna, progress)
        fingerprint = writer.finish(_manifest(plan, given))
        writer.config(
            {
                "arguments": _arguments(given, out, options),
                "seed": options.seed,
                "dataset": fingerprint,
                "versions": versions(),
            }
        )
    return BuildReport(Path(out), plan.sizes, plan.notes)


def _stream(writer: StoreWriter, plan: Plan, name: Name, progress: bool) -> CsrRows:
    """Copy the counts of one modality into the dataset; one that was not measured has no counts."""
    n_columns = len(plan.layout.genes if name == RNA else plan.layout.peaks)
    with closing(writer.csr(name, n_columns)) as matrix:
        if name in plan.rows:
            _copy(matrix, plan.experiment.modalities[name], plan, progress)
        else:
            matrix.append(_no_counts(len(plan.cells), n_columns))
    return writer.rows(name, n_columns)


def _no_counts(n_cells: int, n_columns: int) -> sparse.csr_matrix:
    none = np.zeros(0, dtype=np.int32)
    return sparse.csr_matrix((none, none, np.zeros(n_cells + 1, dtype=np.int32)), shape=(n_cells, n_columns))


def _copy(matrix: CsrWriter, modality: Modality, plan: Plan, progress: bool) -> None:
    """Stream the rows of one modality, each feature's counts to its stored column."""
    rows, columns = plan.rows[modality.name], plan.layout.columns[modality.name]
    with tqdm(total=len(rows), desc=modality.name, unit="cell", disable=not progress) as bar:
        for chunk in modality.chunks(rows, size=_CHUNK):
            matrix.append(_moved(chunk, columns, matrix.n_columns))
            bar.update(chunk.shape[0])


def _moved(chunk: sparse.csr_matrix, columns: NDArray[np.int64], n_columns: int) -> sparse.csr_matrix:
    """Give (cells, features) counts their stored columns; those of features that share one add up."""
    to = columns[chunk.indices]
    indptr = chunk.indptr
    data = chunk.data
    if (kept := to >= 0).sum() < len(to):
        indptr = np.concatenate([[0], np.cumsum(kept)])[indptr]
        to, data = to[kept], data[kept]
    moved = sparse.csr_matrix((data, to.astype(np.int32), indptr), shape=(chunk.shape[0], n_columns))
    moved = moved.tocsc().tocsr()  # sorts the columns of each row, four times faster than sorting does
    moved.sum_duplicates()
    return moved


def _finish_cells(plan: Plan, rna: CsrRows, atac: CsrRows) -> pd.DataFrame:
    """Add split and number of features of each cell; tell which cells lost all of them on the way."""
    cells = plan.cells.assign(
        split=plan.main.split, n_genes=np.diff(rna.indptr), n_peaks=np.diff(atac.indptr)
    )
    for name, column in ((RNA, "n_genes"), (ATAC, "n_peaks")):
        bare = int((cells[column] == 0).sum())
        if name in plan.modalities and bare:
            plan.notes.append(
                f"{bare:,} of {len(cells):,} cells have no {name.upper()} count in a stored feature"
            )
    return cells


def _write_folds(writer: StoreWriter, plan: Plan, rna: CsrRows, progress: bool) -> None:
    for k, fold in enumerate(tqdm(plan.folds, desc="folds", disable=not (progress and plan.folds))):
        writer.fold_table(k, "cells", pd.DataFrame({"split": fold.split}))
        writer.fold_table(k, "genes", _fitted(plan, rna, fold.split))
        writer.fold_table(k, "pairs", fold.pairs)


def _fitted(plan: Plan, rows: CsrRows, split: NDArray[np.object_]) -> pd.DataFrame:
    """Return the attributes of variability: as given, or else fitted on the training cells of a split."""
    given, n_genes = plan.layout.fitted, len(plan.layout.genes)
    missing = [name for name in FITTED if name not in given]
    train = np.flatnonzero(split == SPLITS[0])
    if not missing:
        return given[list(FITTED)]
    if RNA not in plan.modalities or len(train) == 0:
        return given.reindex(columns=list(FITTED)).assign(highly_variable=False)

    def chunks() -> Iterator[sparse.csr_matrix]:
        for begin in range(0, len(train), _CHUNK):
            yield rows.matrix(train[begin : begin + _CHUNK])

    table, note = highly_variable(chunks, n_genes=n_genes, n_top=plan.options.n_top)
    if split is plan.main.split:
        plan.notes.append(f"{', '.join(missing)} fitted on {len(train):,} training cells")
        plan.notes.extend([] if note is None else [note])
    return pd.concat([given, table[missing]], axis=1)[list(FITTED)]


def _arguments(given: BuildInputs, out: Path, options: BuildOptions) -> dict[str, Any]:
    files = {**asdict(given.genome), "labels_file": given.labels_file, "like": given.like}
    return {"inputs": list(given.experiment), "out": out, **files, **asdict(options)}


def _manifest(plan: Plan, given: BuildInputs) -> dict[str, Any]:
    layout = plan.layout
    return {
        "genome": plan.layout.genome,
        "modalities": plan.modalities,
        "chromosomes": layout.chromosomes,
        "chromosome_lengths": layout.lengths,
        "cell_types": sorted(plan.cells["cell_type"].dropna().unique()),
        "prior": layout.prior,
        "folds": len(plan.folds),
        "options": asdict(plan.options),
        "like": None if given.like is None else Store(given.like).fingerprint,
        "sources": [
            {"name": path.name, "bytes": path.stat().st_size, "checksum": checksum(path)}
            for path in given.files()
        ],
        "notes": plan.notes,
    }
