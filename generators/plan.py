"""What a build will make, known before any count is written: features, cells, splits, pairs, and its cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.chromosomes import build_name
from ..graphs.csr import smallest_unsigned
from ..graphs.errors import InputError
from ..graphs.schema import ATAC, FITTED, MODALITIES, SPLITS
from .cells import cell_table
from .features import GenomeFiles
from .files.counts import Name
from .files.tenx import tenx_files
from .layout import Layout, lay_out
from .options import BuildOptions
from .pairs import make_pairs, no_pairs
from .presets import preset_named
from .read import Experiment, read
from .reference import lay_out_like, options_like
from .splits import fold_splits, split_cells

_PROGRAM = 600_000_000  # bytes of libraries and buffers, as measured on SNARE and on whole PBMC cells
_PACKED = 6  # times that parquet packs a table of text
_CHUNK_VALUE = 60  # bytes that a stored value of a chunk takes while it is copied


@dataclass(frozen=True)
class BuildInputs:
    """The files of a build.

    Attributes
    ----------
    experiment
        One .h5mu, one or two .h5ad, a 10x .h5, or a 10x mtx folder.
    genome
        Annotation, DNA and loops.
    labels_file
        TSV or CSV of barcodes and their labels.
    like
        Dataset whose genes and peaks the new one shall have.
    """

    experiment: Sequence[Path]
    genome: GenomeFiles = field(default_factory=GenomeFiles)
    labels_file: Path | None = None
    like: Path | None = None

    @classmethod
    def of(
        cls,
        experiment: Sequence[Path],
        gtf: Path | None,
        fasta: Path | None,
        loops: Path | None,
        labels_file: Path | None,
        like: Path | None,
    ) -> BuildInputs:
        """Take paths as texts too."""
        genome = (None if path is None else Path(path) for path in (gtf, fasta, loops))
        others = (None if path is None else Path(path) for path in (labels_file, like))
        return cls([Path(path) for path in experiment], GenomeFiles(*genome), *others)

    def files(self) -> list[Path]:
        """All single files, for their checksums; of a 10x folder those that are read."""
        given = (*self.experiment, self.genome.gtf, self.genome.fasta, self.genome.loops, self.labels_file)
        paths = [path for path in given if path is not None]
        return [file for path in paths for file in (tenx_files(path) if path.is_dir() else [path])]


@dataclass(frozen=True)
class Division:
    """One way to divide the cells: splits, and pairs inside them."""

    split: NDArray[np.object_]
    pairs: pd.DataFrame


@dataclass(frozen=True)
class Plan:
    """All that is decided before counts are copied.

    Attributes
    ----------
    experiment, layout
        What is read, and how features are stored.
    cells
        Table of cells without splits.
    rows
        For each modality int64 (cells,): their rows in its file.
    main, folds
        The ordinary division, and the folds.
    options
        With the preset's choices filled in.
    notes
        What a reader should know, a line each.
    """

    experiment: Experiment
    layout: Layout
    cells: pd.DataFrame
    rows: dict[Name, NDArray[np.int64]]
    main: Division
    folds: list[Division]
    options: BuildOptions
    notes: list[str]

    @property
    def modalities(self) -> list[str]:
        """Those measured, in the order of the schema."""
        return [name for name in MODALITIES if name in self.experiment.modalities]

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of cells, genes, peaks and pairs."""
        return {
            "cells": len(self.cells),
            "genes": len(self.layout.genes),
            "peaks": len(self.layout.peaks),
            "pairs": len(self.main.pairs),
        }

    def cost(self, chunk: int) -> dict[str, int]:
        """Estimate what the build takes.

        Parameters
        ----------
        chunk
            Cells copied at a time.

        Returns
        -------
        ``nonzeros`` (an upper bound where both modalities share a matrix or cells are dropped),
        ``disk_bytes`` of the dataset and ``memory_bytes`` of the build.
        """
        nonzeros, disk, widest = 0, 0, 0.0
        n_features = {"rna": len(self.layout.genes), "atac": len(self.layout.peaks)}
        for name, modality in self.experiment.modalities.items():
            share = len(self.cells) / max(len(modality.barcodes), 1)
            stored = int(modality.stored * share)
            nonzeros += stored
            disk += stored * (1 + smallest_unsigned(n_features[name]).itemsize) + 8 * len(self.cells)
            widest = max(widest, stored / max(len(self.cells), 1))
        layout = self.layout
        frames = sum(int(frame.memory_usage(deep=True).sum()) for frame in (layout.genes, layout.peaks))
        arrays = 0 if layout.sequences is None else layout.sequences.nbytes
        arrays += 0 if layout.edges is None else layout.edges.peak.nbytes + layout.edges.distance.nbytes
        tables = int(self.cells.memory_usage(deep=True).sum()) + 20 * len(self.main.pairs)
        memory = _PROGRAM + frames + arrays + 3 * tables + int(widest * chunk * _CHUNK_VALUE)
        side = sum(10 * len(fold.pairs) + len(self.cells) for fold in self.folds)
        disk += arrays + frames // _PACKED + side
        return {"nonzeros": nonzeros, "disk_bytes": disk, "memory_bytes": memory}


def plan_build(
    inputs: BuildInputs, options: BuildOptions, *, scratch: Path | None = None, progress: bool = False
) -> Plan:
    """Read what is small, check everything, and decide what a build will make.

    Parameters
    ----------
    inputs
        Files.
    options
        Choices.
    scratch
        Folder for matrices that must be transposed first; the system's when None.
    progress
        Show bars over what takes long.

    Raises
    ------
    InputError
        Anything wrong with the input.
    """
    if options.discovery and inputs.like is None and options.only != (ATAC,):  # peaks are told by their place
        raise InputError(
            "--discovery is for a model that is trained already: name the dataset it was trained on with --like."
        )
    experiment, options, genome, notes = _read(inputs, options, scratch, progress)
    if inputs.like is None:
        layout = lay_out(experiment, inputs.genome, build=genome, options=options, notes=notes)
    else:
        layout = lay_out_like(
            experiment, inputs.like, inputs.genome, build=genome, options=options, notes=notes
        )
        options = options_like(inputs.like, options)
    cells, kept = cell_table(
        experiment,
        labels=options.labels,
        donor=options.donor,
        batch=options.batch,
        labels_file=inputs.labels_file,
        unlabelled=options.unlabelled,
        cell_types=options.cell_types,
        notes=notes,
        progress=progress,
    )
    rows: dict[Name, NDArray[np.int64]] = {
        name: experiment.rows[name][kept] for name in experiment.modalities
    }
    main, folds = _divide(cells, options, paired=len(rows) == len(MODALITIES), notes=notes)
    if "rna" in rows and not options.discovery:
        _check_training(main, folds, layout)
    return Plan(experiment, layout, cells, rows, main, folds, options, notes)


def _read(
    inputs: BuildInputs, options: BuildOptions, scratch: Path | None, progress: bool
) -> tuple[Experiment, BuildOptions, str | None, list[str]]:
    """Read the experiment as the preset names things; tell which genome it is on."""
    preset = None if options.preset is None else preset_named(options.preset)
    experiment = read(
        inputs.experiment,
        layer=options.layer,
        feature_names=None if preset is None else preset.feature_names,
        renamed=None if preset is None else preset.renamed,
        only=options.only,
        scratch=scratch,
        progress=progress,
    )
    notes = list(experiment.report)
    if preset is None:
        return experiment, options, experiment.genome, notes
    _check_preset(experiment, preset.genome)
    notes.append(preset.size_note(*_found(experiment)))
    labelled = inputs.labels_file is not None
    options = options.filled_from(preset, list(experiment.obs.columns), labelled=labelled)
    return experiment, options, experiment.genome or preset.genome, notes


def _check_training(main: Division, folds: list[Division], layout: Layout) -> None:
    """Refuse a split whose training cells are too few for what must be fitted on them."""
    if set(FITTED) <= set(layout.fitted):
        return
    for division in (main, *folds):
        found = int((division.split == SPLITS[0]).sum())
        if found < 2:
            raise InputError(
                f"variable genes need at least two training cells; found {found}. Pass more cells."
            )


def _divide(
    cells: pd.DataFrame, options: BuildOptions, *, paired: bool, notes: list[str]
) -> tuple[Division, list[Division]]:
    """Split the cells first, then pair them inside each split."""
    labels = cells["cell_type"]
    donor = None if options.donor is None else cells["donor"]
    if options.discovery:
        split = np.full(len(cells), SPLITS[-1], dtype=object)
        notes.append(f"discovery: all {len(cells):,} cells are test cells, in positive pairs only")
        return Division(split, _pairs(split, labels, options, paired=paired)), []
    split, report = split_cells(labels, donor=donor, test_donors=options.test_donors, seed=options.seed)
    notes.extend(report)
    folds = []
    if options.folds:
        divided = fold_splits(labels, donor=donor, folds=options.folds, seed=options.seed)
        for k, (own, told) in enumerate(divided):
            notes.extend(f"fold {k}: {line}" for line in told)
            folds.append(Division(own, _fold_pairs(k, own, labels, options, paired=paired)))
    return Division(split, _pairs(split, labels, options, paired=paired)), folds


def _fold_pairs(
    fold: int, split: NDArray[np.object_], labels: pd.Series[str], options: BuildOptions, *, paired: bool
) -> pd.DataFrame:
    try:
        return _pairs(split, labels, options, paired=paired)
    except InputError as error:
        raise InputError(f"fold {fold} of {options.folds}: {error} Or lower --folds.") from error


def _pairs(
    split: NDArray[np.object_], labels: pd.Series[str], options: BuildOptions, *, paired: bool
) -> pd.DataFrame:
    if not paired:
        return no_pairs()
    ratio = 0.0 if options.discovery else options.ratio
    return make_pairs(split, labels, negatives=options.negatives, ratio=ratio, seed=options.seed)


def _found(experiment: Experiment) -> tuple[int, int, int]:
    sizes = {name: len(modality.var) for name, modality in experiment.modalities.items()}
    return len(experiment.barcodes), sizes.get("rna", 0), sizes.get("atac", 0)


def _check_preset(experiment: Experiment, build: str) -> None:
    found = experiment.genome
    if found is not None and build_name(found) != build_name(build):
        raise InputError(
            f"the preset is on {build}, but the files say {found} (uns['genome']). Choose another --preset, or none."
        )
