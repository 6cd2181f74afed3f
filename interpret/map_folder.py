"""A folder of maps: which peaks a model links to which genes in each cell type, and how far that can be believed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.schema import Split
from ..graphs.whole import new_folder, refuse_existing, resumable_folder, versions, write_json
from ..models.annotation.model import AnnotatorModel
from ..models.annotation.pretraining import PretrainingModel
from ..models.checkpoint import LoadedModel, load_model, open_for, weights_checksum
from .attention import LinkingModel
from .evidence.map_truth import BindingTruth, LinkTruth, open_truth
from .evidence.truth_tables import TRUTH_KINDS
from .figures.whole import draw_binding, draw_map, draw_recovery
from .links.link_nulls import AffineModel, LinkNulls
from .links.map_tables import EXPRESSION, GENES, LINKS, OPENNESS, PEAKS, TYPES
from .links.nodes import expression, gene_table, openness, peak_table
from .links.shards import CellLinkShards
from .links.table import LinkTables, LinkWriter
from .links.tally import MapTally
from .links.type_links import cells_by_type, type_links
from .motifs.context import PeakContext
from .peaks.peak_maps import attends_to_peaks, write_peak_map
from .peaks.predicted_types import write_predicted_markers

CELL_LINKS: Final = "cells"
MAP_FIGURE, RECOVERY_FIGURE, BINDING_FIGURE = "map.png", "recovery.png", "binding.png"
RECOVERY, BINDING, SUMMARY = "recovery.json", "binding.json", "summary.json"
PER: Final = ("cell-type", "cell")
NO_GC: Final = "the dataset has no DNA: null peaks are matched on accessibility, not on GC content"


def write_maps(
    run: Path,
    dataset: Path,
    out: Path,
    *,
    per: str = "cell-type",
    split: str | None = None,
    truth: Path | None = None,
    truth_kind: str | None = None,
    context: PeakContext | None = None,
    resume: bool = False,
    batch_size: int = 64,
    progress: bool = True,
) -> dict[str, Any]:
    """Map a dataset with a trained model into a new folder.

    An annotator's map is that of `peak_maps.write_peak_map`, where it attends to peaks, and that of
    `predicted_types.write_predicted_markers`. A recommender's has ``links.parquet`` (a row a link
    and cell type), ``types.parquet``, ``genes.parquet``, ``peaks.parquet``, ``openness.parquet``,
    ``expression.parquet``, ``map.png``, ``summary.json`` and ``config.json``, which `RegulatoryMap` reads; with
    ``per="cell"`` also ``cells/part-*.parquet`` (a row a link and cell); with a truth also
    ``recovery.json`` and ``recovery.png`` (of links) or ``binding.json`` and ``binding.png`` (of a factor's
    binding); with a context what `PeakContext.write` tells of the peaks of each type. A map describes data
    rather than judging a model, so by default it is of all cells, those of the training split included.

    Parameters
    ----------
    run
        Folder of the trained model.
    dataset
        Folder of the graph dataset.
    out
        Folder to create; it appears whole or not at all. A map of single cells that was interrupted
        leaves what was done beside it.
    per
        What to write; see above.
    split
        Only the cells of this split; all cells when None.
    truth, truth_kind
        File of known regulation, and its kind; see `evidence.map_truth.open_truth`.
    context
        Motifs to look for, and genes to tell where peaks lie.
    resume
        Go on with an interrupted map of single cells.
    batch_size
        Cells a batch.
    progress
        Show a bar over the cells.

    Returns
    -------
    ``cells``, ``links``, ``genes``, ``peaks`` (numbers; genes and peaks that have a link),
    ``cell_types``: name -> ``cells, links``; with a truth ``recovery``, see `comparison.recovery`, or
    ``binding``, see `tf_binding.compare_binding`; with a context what it found.

    Raises
    ------
    InputError
        ``out`` exists or cannot be written, the model is not of this dataset, or the truth is unfit.
    """
    if truth is None and truth_kind is not None:
        raise InputError(
            f"--truth-kind {truth_kind}: there is no --truth. Pass the table of true links, too."
        )
    refuse_existing(Path(out))
    loaded = load_model(Path(run))
    graphs, _ = open_for(loaded, dataset, split=cast(Split | None, split))
    arguments: dict[str, Any] = {"run": str(run), "dataset": str(dataset), "per": per, "split": split}
    if truth is not None:
        arguments |= {"truth": str(truth), "truth_kind": truth_kind or TRUTH_KINDS[0]}
    if context is not None:
        context.check(graphs)
        arguments |= context.files
    config = {
        "arguments": {**arguments, "batch_size": batch_size},
        "cells": "all cells" if split is None else f"the cells of the {split} split",
        "model": loaded.manifest,
        "dataset_fingerprint": graphs.fingerprint,
        "versions": versions(),
    }
    cells = {"batch_size": batch_size, "split": split}  # what decides the links of single cells
    job = {**cells, "dataset": graphs.fingerprint, "model": weights_checksum(Path(run))}
    keeps = per == "cell" and not isinstance(loaded.model, AnnotatorModel)
    if resume and not keeps:
        raise InputError("--resume: only crossrec's map of single cells is made in parts. Leave it out.")
    with _folder(Path(out), job, resume=resume, keeps=keeps) as folder:
        known = None if truth is None else _truth(truth, truth_kind, loaded, graphs)
        options: dict[str, Any] = {"per": per, "batch_size": batch_size, "progress": progress}
        if isinstance(loaded.model, AnnotatorModel):
            summary = write_annotator_map(loaded.model, graphs, folder, context=context, **options)
        else:
            _check_links(loaded)
            summary = write_map(loaded.model, graphs, folder, truth=known, context=context, **options)
        write_json(folder / SUMMARY, summary)
        write_json(folder / "config.json", config)
    return summary


def _truth(
    path: Path, kind: str | None, loaded: LoadedModel, graphs: MultiomeGraphs
) -> LinkTruth | BindingTruth:
    """Read what a map is compared with, before any work: what does not fit shall not cost a pass over the cells."""
    if isinstance(loaded.model, AnnotatorModel):
        raise InputError(f"--truth: {loaded.model.kind} tells no links to compare with. Leave it out.")
    return open_truth(Path(path), kind, graphs)


def _folder(out: Path, job: dict[str, Any], *, resume: bool, keeps: bool) -> AbstractContextManager[Path]:
    """Links of single cells take long: what is done of them is kept."""
    return resumable_folder(out, job, kept=CELL_LINKS, resume=resume) if keeps else new_folder(out)


def _check_links(loaded: LoadedModel) -> None:
    """Refuse a model whose links were not trained; those of the published mode learn from matching, too."""
    if isinstance(loaded.model, PretrainingModel):
        raise InputError(
            f"this {loaded.model.kind} was trained without labels, so there is no map of it. Train hitanno or crossrec."
        )
    if loaded.model.mode == "default" and not loaded.model.config.alpha:
        raise InputError(
            "the model was trained without expression (alpha=0), so its links mean nothing. Train it with alpha > 0."
        )


def write_annotator_map(
    model: AnnotatorModel,
    graphs: MultiomeGraphs,
    folder: Path,
    *,
    per: str = "cell-type",
    context: PeakContext | None = None,
    batch_size: int = 64,
    progress: bool = True,
) -> dict[str, Any]:
    """Write what an annotator attends to, where it attends to peaks, and the peaks of the types it tells."""
    _check_per(per)
    summary: dict[str, Any] = {}
    if attends_to_peaks(model):
        summary = write_peak_map(model, graphs, folder, per=per, batch_size=batch_size, progress=progress)
    elif per == "cell":
        raise InputError(f"--per cell: {model.kind} attends to no peaks. Leave it out, or train hitanno.")
    markers = write_predicted_markers(
        model, graphs, folder, context or PeakContext(), batch_size=batch_size, progress=progress
    )
    return markers | {"marker_peaks": markers["peaks"]} | summary


def write_map(
    model: LinkingModel,
    graphs: MultiomeGraphs,
    folder: Path,
    *,
    per: str = "cell-type",
    truth: LinkTruth | BindingTruth | None = None,
    context: PeakContext | None = None,
    batch_size: int = 64,
    progress: bool = True,
) -> dict[str, Any]:
    """Write all of a recommender's map but ``config.json`` into a folder that exists; see `write_maps`."""
    _check_per(per)
    tally, named = MapTally(graphs), LinkTables(graphs)
    opened = write_nodes(graphs, folder)
    nulls = LinkNulls(model, graphs) if isinstance(model, AffineModel) else None
    shards = CellLinkShards(folder / CELL_LINKS, graphs) if per == "cell" else None
    with LinkWriter(folder / LINKS) as writer, shards or nullcontext():
        for piece in type_links(
            model, graphs, batch_size=batch_size, progress=progress, nulls=nulls, shards=shards
        ):
            for table in piece.tables(named):
                writer.write(table)
            tally.add(piece)
            if truth is not None:
                truth.add(piece)
    summary, genes, known = tally.summary(), tally.telling_genes(), None
    notes = [] if nulls is None or nulls.has_gc else [NO_GC]
    if context is not None:
        summary |= context.write(folder, graphs, tally.top_peaks(), progress=progress)
    summary["notes"] = notes + summary.get("notes", [])
    if isinstance(truth, BindingTruth):
        summary["binding"] = _write_binding(truth, graphs, opened, folder)
    elif truth is not None:
        comparison = truth.compare(graphs)
        summary["recovery"], known = comparison.summary(), comparison.known(graphs, genes)
        write_json(folder / RECOVERY, summary["recovery"])
        draw_recovery(folder / RECOVERY_FIGURE, comparison)
    cells = {name: kind["cells"] for name, kind in summary["cell_types"].items()}
    draw_map(folder / MAP_FIGURE, folder / LINKS, graphs, genes=genes, cells=cells, known=known)
    return summary


def _write_binding(
    truth: BindingTruth, graphs: MultiomeGraphs, opened: pd.DataFrame, folder: Path
) -> dict[str, Any]:
    found = truth.compare(graphs, {name: opened[name].to_numpy(np.float64) for name in map(str, opened)})
    write_json(folder / BINDING, found)
    draw_binding(folder / BINDING_FIGURE, found)
    return found


def _check_per(per: str) -> None:
    if per not in PER:
        raise InputError(f"no map per {per!r}. Choose {' or '.join(PER)}.")


def write_nodes(graphs: MultiomeGraphs, folder: Path) -> pd.DataFrame:
    """Write where genes and peaks lie, and how the cells of each type express and open them; return the latter."""
    groups = cells_by_type(graphs)
    cells = pd.DataFrame(
        {"cell_type": [name for name, _ in groups], "cells": np.array([len(c) for _, c in groups])}
    )
    cells.to_parquet(folder / TYPES, index=False)
    gene_table(graphs).to_parquet(folder / GENES, index=False)
    peak_table(graphs).to_parquet(folder / PEAKS, index=False)
    expression(graphs, groups).reset_index(drop=True).to_parquet(folder / EXPRESSION, index=False)
    opened = openness(graphs, groups)
    opened.reset_index(drop=True).to_parquet(folder / OPENNESS, index=False)
    return opened
