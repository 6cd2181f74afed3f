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
from .evidence.candidates import MapScores, candidate_pairs
from .evidence.comparison import Comparison, compare
from .evidence.truth import TRUTH_KINDS, locate, read_truth
from .figures.whole import draw_map, draw_recovery
from .links.link_nulls import AffineModel, LinkNulls
from .links.nodes import expression, gene_table, openness, peak_table
from .links.shards import CellLinkShards
from .links.table import LinkTables, LinkWriter
from .links.tally import MapTally
from .links.type_links import cells_by_type, type_links
from .peaks.peak_maps import write_peak_map

LINKS, CELL_LINKS, TYPES, GENES, PEAKS = (
    "links.parquet",
    "cells",
    "types.parquet",
    "genes.parquet",
    "peaks.parquet",
)
OPENNESS, EXPRESSION = "openness.parquet", "expression.parquet"
MAP_FIGURE, RECOVERY_FIGURE = "map.png", "recovery.png"
PER: Final = ("cell-type", "cell")


def write_maps(
    run: Path,
    dataset: Path,
    out: Path,
    *,
    per: str = "cell-type",
    split: str | None = None,
    truth: Path | None = None,
    truth_kind: str | None = None,
    resume: bool = False,
    batch_size: int = 64,
    progress: bool = True,
) -> dict[str, Any]:
    """Map a dataset with a trained model into a new folder.

    An annotator's map is that of `peak_maps.write_peak_map`. A recommender's has ``links.parquet`` (a row a link
    and cell type), ``types.parquet``, ``genes.parquet``, ``peaks.parquet``, ``openness.parquet``,
    ``expression.parquet``, ``map.png``, ``summary.json`` and ``config.json``, which `RegulatoryMap` reads; with
    ``per="cell"`` also ``cells/part-*.parquet`` (a row a link and cell); with a truth also
    ``recovery.json`` and ``recovery.png``. A map describes data rather than judging a model, so by
    default it is of all cells, those of the training split included.

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
        File of known regulation, and its kind; see `evidence.truth`.
    resume
        Go on with an interrupted map of single cells.
    batch_size
        Cells a batch.
    progress
        Show a bar over the cells.

    Returns
    -------
    ``cells``, ``links``, ``genes``, ``peaks`` (numbers; genes and peaks that have a link),
    ``cell_types``: name -> ``cells, links``; with a truth ``recovery``, see `evidence.recovery`.

    Raises
    ------
    InputError
        ``out`` exists or cannot be written, the model is not of this dataset, or the truth is unfit.
    """
    if truth is None and truth_kind is not None:
        raise InputError(
            f"--truth-kind {truth_kind}: there is no --truth. Pass the table of true links, too."
        )
    if resume and per != "cell":
        raise InputError(f"--resume: a map per {per} is made in one go. Leave it out, or pass --per cell.")
    refuse_existing(Path(out))
    loaded = load_model(Path(run))
    graphs, _ = open_for(loaded, dataset, split=cast(Split | None, split))
    arguments: dict[str, Any] = {"run": str(run), "dataset": str(dataset), "per": per, "split": split}
    if truth is not None:
        arguments |= {"truth": str(truth), "truth_kind": truth_kind or TRUTH_KINDS[0]}
    config = {
        "arguments": {**arguments, "batch_size": batch_size},
        "cells": "all cells" if split is None else f"the cells of the {split} split",
        "model": loaded.manifest,
        "dataset_fingerprint": graphs.fingerprint,
        "versions": versions(),
    }
    cells = {"batch_size": batch_size, "split": split}  # what decides the links of single cells
    job = {**cells, "dataset": graphs.fingerprint, "model": weights_checksum(Path(run))}
    with _folder(Path(out), job, per, resume) as folder:
        summary = _write(loaded, graphs, folder, per, truth, truth_kind, batch_size, progress)
        write_json(folder / "summary.json", summary)
        write_json(folder / "config.json", config)
    return summary


def _folder(out: Path, job: dict[str, Any], per: str, resume: bool) -> AbstractContextManager[Path]:
    """A map of single cells takes long: what is done of it is kept."""
    return resumable_folder(out, job, resume=resume) if per == "cell" else new_folder(out)


def _write(
    loaded: LoadedModel,
    graphs: MultiomeGraphs,
    folder: Path,
    per: str,
    truth: Path | None,
    truth_kind: str | None,
    batch_size: int,
    progress: bool,
) -> dict[str, Any]:
    """Write the links of a recommender, or the peaks that an annotator attends to."""
    if isinstance(loaded.model, AnnotatorModel):
        if truth is not None:
            raise InputError(f"--truth: {loaded.model.kind} tells no links to compare with. Leave it out.")
        return write_peak_map(loaded.model, graphs, folder, per=per, batch_size=batch_size, progress=progress)
    if isinstance(loaded.model, PretrainingModel):
        raise InputError(
            f"this {loaded.model.kind} was trained without labels, so there is no map of it. Train hitanno or crossrec."
        )
    known = None if truth is None else read_truth(truth, truth_kind)
    _check_links(loaded)
    return write_map(
        loaded.model, graphs, folder, per=per, truth=known, batch_size=batch_size, progress=progress
    )


def _check_links(loaded: LoadedModel) -> None:
    """Refuse a model whose links were not trained; those of the published mode learn from matching, too."""
    if loaded.model.mode == "default" and not loaded.model.config.alpha:
        raise InputError(
            "the model was trained without expression (alpha=0), so its links mean nothing. Train it with alpha > 0."
        )


def write_map(
    model: LinkingModel,
    graphs: MultiomeGraphs,
    folder: Path,
    *,
    per: str = "cell-type",
    truth: pd.DataFrame | None = None,
    batch_size: int = 64,
    progress: bool = True,
) -> dict[str, Any]:
    """Write all but ``config.json`` into a folder that exists; see `write_maps`."""
    if per not in PER:
        raise InputError(f"no map per {per!r}. Choose {' or '.join(PER)}.")
    tally, scores, known = MapTally(graphs), None, None
    if truth is not None:  # a truth that does not fit shall not cost a pass over the cells
        scores = MapScores(candidate_pairs(graphs))
        known = locate(truth, scores.candidates, graphs)
    write_nodes(graphs, folder)
    nulls = LinkNulls(model, graphs) if isinstance(model, AffineModel) else None
    shards = CellLinkShards(folder / CELL_LINKS, graphs) if per == "cell" else None
    named = LinkTables(graphs)
    with LinkWriter(folder / LINKS) as writer, shards or nullcontext():
        for piece in type_links(
            model, graphs, batch_size=batch_size, progress=progress, nulls=nulls, shards=shards
        ):
            for table in piece.tables(named):
                writer.write(table)
            tally.add(piece)
            if scores is not None:
                scores.add(piece.gene, piece.peak, piece.score)
    comparison = None if scores is None or known is None else compare(scores, known, graphs)
    return _conclude(folder, graphs, tally, comparison)


def write_nodes(graphs: MultiomeGraphs, folder: Path) -> None:
    """Write where genes and peaks lie, and how the cells of each type express and open them."""
    groups = cells_by_type(graphs)
    cells = pd.DataFrame(
        {"cell_type": [name for name, _ in groups], "cells": np.array([len(c) for _, c in groups])}
    )
    cells.to_parquet(folder / TYPES, index=False)
    gene_table(graphs).to_parquet(folder / GENES, index=False)
    peak_table(graphs).to_parquet(folder / PEAKS, index=False)
    openness(graphs, groups).reset_index(drop=True).to_parquet(folder / OPENNESS, index=False)
    expression(graphs, groups).reset_index(drop=True).to_parquet(folder / EXPRESSION, index=False)


def _conclude(
    folder: Path, graphs: MultiomeGraphs, tally: MapTally, comparison: Comparison | None
) -> dict[str, Any]:
    """Draw the figures, write the recovery, and return the summary."""
    summary, genes = tally.summary(), tally.telling_genes()
    known = None
    if comparison is not None:
        summary["recovery"], known = comparison.summary(), comparison.known(graphs, genes)
        write_json(folder / "recovery.json", summary["recovery"])
        draw_recovery(folder / RECOVERY_FIGURE, comparison)
    cells = {name: kind["cells"] for name, kind in summary["cell_types"].items()}
    draw_map(folder / MAP_FIGURE, folder / LINKS, graphs, genes=genes, cells=cells, known=known)
    return summary
