"""Predict cells with a trained model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from anndata import AnnData
from mudata import MuData, set_options

from ..generators.build import BuildOptions, build
from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.store import MANIFEST
from ..graphs.whole import refuse_existing
from ..models.annotation.model import AnnotatorModel
from ..models.annotator import Annotations, Annotator
from ..models.checkpoint import FEATURES, LoadedModel, adapt, load_model
from ..models.prediction import write_predictions
from ..models.predictors import check_novel_below, predictor_of
from .jobs import check_place


def predict_run(
    run: Path,
    query: Sequence[Path],
    out: Path,
    *,
    layer: str | None = None,
    min_placed: float = 0.3,
    batch_size: int | None = None,
    novel_below: float | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Predict cells that need no labels with a trained model, and write them as AnnData.

    Parameters
    ----------
    run
        Folder of the trained model.
    query
        One dataset folder with the model's genes and peaks; or the files of an experiment as `build` takes
        them, one modality alone included, whose genes and peaks are mapped onto the model's.
    out
        File to write; see `write_predictions`.
    layer
        Layer of the files that holds the counts; X when None.
    min_placed
        Smallest share of the model's genes and peaks (islands, where it reads these) that the files must have.
    batch_size
        Cells at a time; by default what suits the model.
    novel_below
        Of annotators: confidence below which a cell is said to be of a novel type, 0 for none; the model's own
        when None.
    progress
        Show bars.

    Returns
    -------
    ``out``, ``cells``, ``genes``, ``predicted``: name of each part -> what it is, and ``notes`` on how
    the files were read.

    Raises
    ------
    InputError
        A number out of its range, ``out`` exists or cannot be written, no model, or a query that does not fit it.
    """
    run, query, out = Path(run), [Path(path) for path in query], Path(out)
    _check_numbers(min_placed, novel_below, batch_size)
    refuse_existing(out)
    check_place(out)
    if out.suffix != ".h5ad":
        raise InputError(f"{out}: predictions are written as .h5ad. Pass {out.stem}.h5ad.")
    loaded = load_model(run)
    options = _query_options(loaded, layer, min_placed)
    with _like_model(run, query, out, options, progress) as (dataset, notes):
        graphs = MultiomeGraphs(dataset)
        # Says what is missing, before features are compared.
        predictor_of(loaded.model, graphs.modalities, novel_below=novel_below)
        with _named(dataset, query):
            notes = [*notes, *adapt(loaded, graphs, least_covered=min_placed)]
        summary = write_predictions(
            loaded,
            graphs,
            out,
            notes=notes,
            batch_size=batch_size,
            novel_below=novel_below,
            progress=progress,
        )
    return {**summary, "notes": notes}


def annotate(
    annotator: Annotator | Path | str,
    query: AnnData | MuData | Sequence[Path] | Path | str,
    *,
    layer: str | None = None,
    min_placed: float = 0.3,
    novel_below: float | None = None,
    progress: bool = False,
) -> Annotations:
    """Annotate cells of an experiment as it is; results go into the AnnData, or MuData, where one is given.

    Parameters
    ----------
    annotator
        A trained one, or the folder of its run.
    query
        AnnData of raw counts (``var["feature_types"]``, or peak names, tell what it holds), MuData, or files as
        `scweave build` takes them. Genes are mapped by name and peaks by overlap.
    layer, min_placed, novel_below
        As of `predict_run`.
    progress
        Show bars.

    Returns
    -------
    Label, confidence, novelty, probabilities and embedding of each cell.

    Raises
    ------
    InputError
        As `predict_run`.
    """
    _check_numbers(min_placed, novel_below)
    if not isinstance(annotator, Annotator):
        annotator = Annotator.load(annotator)
    with TemporaryDirectory(prefix="scweave-query-") as folder:
        files = _as_files(query, Path(folder))
        options = _query_options(annotator.loaded, layer, min_placed)
        dataset = Path(folder) / "dataset"
        like = None if annotator.loaded.model.reads_places else annotator.features
        report = build(files, dataset, like=like, options=options, progress=progress)
        with _named(dataset, []):
            found = annotator.predict(dataset, novel_below=novel_below, least_covered=min_placed)
        found.about["notes"] = found.about.get("notes", []) + _of_a_query(report.notes)
    for data in [query] if isinstance(query, AnnData | MuData) else []:
        found.write(data)
    return found


def _check_numbers(min_placed: float, novel_below: float | None, batch_size: int | None = None) -> None:
    """Refuse numbers out of their range before a query is read."""
    if not 0 <= min_placed <= 1:
        raise InputError(f"--min-placed {min_placed}: choose a share from 0 to 1.")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"--batch-size {batch_size}: choose 1 or more cells.")
    check_novel_below(novel_below)


def _as_files(query: AnnData | MuData | Sequence[Path] | Path | str, folder: Path) -> list[Path]:
    """Write the counts of an object to a file; give paths as they are."""
    if isinstance(query, AnnData):
        _slim(query).write_h5ad(folder / "query.h5ad")
        return [folder / "query.h5ad"]
    if isinstance(query, MuData):
        with set_options(pull_on_update=False):
            MuData({name: _slim(data) for name, data in query.mod.items()}).write(folder / "query.h5mu")
        return [folder / "query.h5mu"]
    return [Path(query)] if isinstance(query, str | Path) else [Path(file) for file in query]


def _slim(data: AnnData) -> AnnData:
    """Keep what a build reads: writing the whole would change the user's object, and take its size on disk."""
    genome = {"genome": data.uns["genome"]} if "genome" in data.uns else {}
    var = data.var[[name for name, column in data.var.items() if not _holds_objects(column)]]
    return AnnData(data.X, obs=data.obs[[]].copy(), var=var.copy(), layers=dict(data.layers), uns=genome)


def _holds_objects(column: pd.Series[Any]) -> bool:
    """Whether a column holds what is neither text nor number, and cannot be written."""
    return (
        column.dtype == object
        and not column.map(lambda value: isinstance(value, str) or pd.isna(value)).all()
    )


def _query_options(loaded: LoadedModel, layer: str | None, min_placed: float) -> BuildOptions:
    """Build what the model reads; a recommender makes what it can of either modality.

    A model that knows places reads the query's own peaks, with no gene beside them.
    """
    if loaded.model.reads_places:
        return BuildOptions(discovery=True, layer=layer, only=loaded.model.modalities, window="none")
    only = loaded.model.modalities if isinstance(loaded.model, AnnotatorModel) else ()
    return BuildOptions(discovery=True, layer=layer, min_placed=min_placed, only=only)


def _of_a_query(notes: list[str]) -> list[str]:
    """Leave out what a build says of splits and links, which a query has none of."""
    idle = ("discovery:", "ATAC alone, no gene annotation:", "0 prior edges")
    return [note for note in notes if not note.startswith(idle)]


@contextmanager
def _named(dataset: Path, query: Sequence[Path]) -> Iterator[None]:
    """Name the query in an error, not the folder it was read into."""
    try:
        yield
    except InputError as error:
        name = ", ".join(map(str, query)) or "the query"
        raise InputError(str(error).replace(str(dataset), name)) from error


@contextmanager
def _like_model(
    run: Path, query: list[Path], out: Path, options: BuildOptions, progress: bool
) -> Iterator[tuple[Path, list[str]]]:
    """Give a dataset as it is; build files into one beside ``out`` that is always removed."""
    if len(query) == 1 and (query[0] / MANIFEST).is_file():
        if options.layer is not None:
            raise InputError(
                f"--layer {options.layer}: {query[0]} is a dataset, which has no layers. Leave it out."
            )
        yield query[0], []
        return
    try:
        place = TemporaryDirectory(prefix=f".{out.name}.query-", dir=out.parent)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}. Choose another --out.") from error
    with place as folder:
        like = None if options.window == "none" else run / FEATURES
        report = build(query, Path(folder) / "query", like=like, options=options, progress=progress)
        yield report.path, _of_a_query(report.notes)
