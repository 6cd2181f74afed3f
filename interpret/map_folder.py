"""Regulatory maps: which peaks a model links to which genes in each cell type, as a table or a folder."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.schema import Split
from ..graphs.whole import new_folder, versions, write_json
from ..models.annotation.model import AnnotatorModel
from ..models.annotation.pretraining import PretrainingModel
from ..models.checkpoint import LoadedModel, load_model, open_for
from .attention import LinkingModel
from .evidence.candidates import MapScores, candidate_pairs
from .evidence.comparison import Comparison, compare
from .evidence.truth import TRUTH_KINDS, locate, read_truth
from .figures.whole import draw_map, draw_recovery
from .links.table import CellLinkShards, LinkWriter, link_frame
from .links.tally import MapTally
from .links.type_links import NO_LABEL, type_links
from .peaks.peak_maps import write_peak_map

LINKS, CELL_LINKS = "links.parquet", "cells"
MAP_FIGURE, RECOVERY_FIGURE = "map.png", "recovery.png"


def cell_type_map(
    model: LinkingModel, graphs: MultiomeGraphs, *, batch_size: int = 64, progress: bool = True
) -> pd.DataFrame:
    """Return the links of every cell type as one table.

    Parameters
    ----------
    model
        With ``attention``, in evaluation mode.
    graphs
        Cells to describe (``view="cells"``), all or a subset.
    batch_size
        Cells a batch.
    progress
        Show a bar over the cells.

    Returns
    -------
    The columns of `link_table.COLUMNS`, sorted by cell type, then descending score. What
    score and effect are, `TypeLinks` says.

    Raises
    ------
    InputError
        No cells, or a model without attention.

    Examples
    --------
    >>> links = cell_type_map(model, graphs)  # doctest: +SKIP
    >>> links[links["gene"] == "Gad1"].head()  # doctest: +SKIP
    """
    pieces = type_links(model, graphs, batch_size=batch_size, progress=progress)
    frames = [frame for piece in pieces for frame in piece.frames(graphs)]
    if not frames:
        nothing = np.zeros(0, np.int64)
        return link_frame(graphs, nothing, nothing, score=np.zeros(0), cell_type=NO_LABEL, n_cells=nothing)
    return pd.concat(frames, ignore_index=True)


def write_maps(
    run: Path,
    dataset: Path,
    out: Path,
    *,
    per: str = "cell-type",
    split: str | None = None,
    truth: Path | None = None,
    truth_kind: str | None = None,
    batch_size: int = 64,
    progress: bool = True,
) -> dict[str, Any]:
    """Map a dataset with a trained model into a new folder.

    An annotator's map is that of `peak_maps.write_peak_map`. A recommender's has ``links.parquet`` (a row a link and cell type), ``map.png`` and ``config.json``; with
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
        Folder to create; it appears whole or not at all.
    per
        What to write; see above.
    split
        Only the cells of this split; all cells when None.
    truth, truth_kind
        Table of true links, and its kind (``links``).
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
    with new_folder(Path(out)) as folder:
        loaded = load_model(Path(run))
        graphs, _ = open_for(loaded, dataset, split=cast(Split | None, split))
        summary = _write(loaded, graphs, folder, per, truth, truth_kind, batch_size, progress)
        arguments = {"run": str(run), "dataset": str(dataset), "per": per, "split": split}
        if truth is not None:
            arguments |= {"truth": str(truth), "truth_kind": truth_kind or TRUTH_KINDS[0]}
        config = {
            "arguments": {**arguments, "batch_size": batch_size},
            "cells": "all cells" if split is None else f"the cells of the {split} split",
            "model": loaded.manifest,
            "dataset_fingerprint": graphs.fingerprint,
            "versions": versions(),
        }
        write_json(folder / "config.json", config)
    return summary


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
    if per not in ("cell-type", "cell"):
        raise InputError(f"no map per {per!r}. Choose cell-type or cell.")
    tally, scores, known = MapTally(graphs), None, None
    if truth is not None:  # a truth that does not fit shall not cost a pass over the cells
        scores = MapScores(candidate_pairs(graphs))
        known = locate(truth, scores.candidates, graphs)
    shards = CellLinkShards(folder / CELL_LINKS, graphs) if per == "cell" else None
    on_cells = None if shards is None else shards.add
    with LinkWriter(folder / LINKS) as writer, shards or nullcontext():
        for piece in type_links(model, graphs, batch_size=batch_size, progress=progress, on_cells=on_cells):
            for frame in piece.frames(graphs):
                writer.write(frame)
            tally.add(piece)
            if scores is not None:
                scores.add(piece.gene, piece.peak, piece.score)
    comparison = None if scores is None or known is None else compare(scores, known, graphs)
    return _conclude(folder, graphs, tally, comparison)


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
