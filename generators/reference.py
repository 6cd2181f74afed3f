"""A query experiment in the genes and peaks of a dataset that exists: same ids, same prior, same fitted attributes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.chromosomes import build_name
from ..graphs.collate import CisEdges
from ..graphs.errors import InputError
from ..graphs.schema import FITTED
from ..graphs.store import Store
from .features import GenomeFiles
from .files.counts import Name
from .genomes.peak_names import peak_table
from .layout import Layout
from .mapping import FeatureMap, map_genes, map_peaks
from .options import BuildOptions
from .read import Experiment

# Options that the reference decides.
STATIC: Final = ("window", "around", "scaffolds", "sequence_length", "sequence_from", "refit")


def options_like(reference: Path, options: BuildOptions) -> BuildOptions:
    """Take over the options that the reference decides."""
    theirs = Store(reference).manifest["options"]
    return replace(options, **{name: theirs[name] for name in STATIC})


def lay_out_like(
    experiment: Experiment,
    reference: Path,
    files: GenomeFiles,
    *,
    build: str | None,
    options: BuildOptions,
    notes: list[str],
) -> Layout:
    """Express an experiment in the genes and peaks of a dataset.

    A query gene becomes the reference's gene of its id, else of its symbol; a query peak the
    reference's peak that it shares most bases with, and the counts of several add up.

    Parameters
    ----------
    experiment
        The query.
    reference
        Dataset folder.
    files
        Refused, as the reference brings them.
    build
        Genome build that the query declares.
    options
        ``min_placed`` is the smallest share of the reference's features that the query must have.
    notes
        Shares mapped are appended, a line each.

    Raises
    ------
    InputError
        Too little maps, the genomes differ, or files are given beside the reference.
    """
    _refuse_files(files, options)
    store = Store(reference)
    _check_same_build(build, store)
    genes, peaks = store.table("genes"), store.table("peaks")
    columns: dict[Name, NDArray[np.int64]] = {}
    for name, mapped in _maps(experiment, genes, peaks, notes).items():
        mapped.require(options.min_placed)
        notes.append(str(mapped))
        columns[name] = mapped.columns
    manifest = store.manifest
    fitted = [name for name in FITTED if name in genes]
    return Layout(
        build or manifest["genome"],
        manifest["chromosomes"],
        manifest["chromosome_lengths"],
        genes.drop(columns=fitted),
        peaks,
        columns,
        # What a reference without RNA calls fitted is empty: the query's training cells fit it.
        genes[fitted if "rna" in manifest["modalities"] else []],
        store.array("sequences") if store.has_array("sequences") else None,
        manifest["prior"],
        _edges(store),
    )


def _refuse_files(files: GenomeFiles, options: BuildOptions) -> None:
    given = [f"--{name}" for name in ("gtf", "fasta", "loops") if getattr(files, name) is not None]
    usual = BuildOptions()
    given += [
        f"--{name.replace('_', '-')}" for name in STATIC if getattr(options, name) != getattr(usual, name)
    ]
    if given:
        raise InputError(
            f"--like takes genes, peaks, DNA and prior from its dataset: leave out {', '.join(given)}."
        )


def _check_same_build(build: str | None, store: Store) -> None:
    theirs = store.manifest["genome"]
    if build and theirs and build_name(build) != build_name(theirs):
        raise InputError(
            f"the query is on {build}, but {store.path} is on {theirs}: peaks of two builds cannot be compared"
            " by position. Lift the query's peaks over, or choose another dataset for --like."
        )


def _maps(
    experiment: Experiment, genes: pd.DataFrame, peaks: pd.DataFrame, notes: list[str]
) -> dict[Name, FeatureMap]:
    maps: dict[Name, FeatureMap] = {}
    if "rna" in experiment.modalities:
        var = experiment.modalities["rna"].var
        ids = next((var[column] for column in ("gene_ids", "gene_id") if column in var), None)
        maps["rna"] = map_genes(var.index.tolist(), None if ids is None else ids.tolist(), genes)
    if "atac" in experiment.modalities:
        var = experiment.modalities["atac"].var
        maps["atac"] = map_peaks(peak_table(var, var.index.tolist(), notes=notes), peaks)
    return maps


def _edges(store: Store) -> CisEdges | None:
    if store.manifest["prior"]["kind"] == "chromosome":
        return None
    return CisEdges(*(store.array(f"cis_{part}") for part in ("indptr", "peak", "distance")))
