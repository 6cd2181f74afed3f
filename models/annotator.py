"""Annotator: any model that tells cell types, fitted, saved, loaded and asked in one way."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self, get_args, get_type_hints

import anndata as ad
import numpy as np
import pandas as pd
import torch
from mudata import MuData
from numpy.typing import NDArray

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.whole import new_folder
from .annotation.calibrate import batches
from .annotation.islands import LEAST_COVERED
from .annotation.model import labelled
from .annotation.pretraining import PretrainingModel
from .checkpoint import (
    DESCRIPTION,
    FEATURES,
    SEEN,
    WEIGHTS,
    LoadedModel,
    adapt,
    load_model,
    pretrained_config,
)
from .devices import device_of
from .predictors import (
    CONFIDENCE,
    EMBEDDING,
    LABEL,
    NOVELTY,
    PROBABILITIES,
    AnnotatorPredictor,
    describe,
    predictor_of,
)
from .registry import DEFAULT, kind_of
from .train_options import TrainOptions
from .training import fit

Floats = NDArray[np.float32]
_CHECKPOINT = (WEIGHTS, DESCRIPTION, SEEN, FEATURES)


@dataclass(frozen=True)
class Annotations:
    """What an annotator tells of cells.

    Attributes
    ----------
    barcodes
        (cells,) names.
    labels
        (cells,) likeliest types, categories in the order of ``probabilities``; a last one, of novel types, where the
        model says so.
    confidence, novelty
        (cells,) from 0 to 1; see `annotation.calibration.Calibration`.
    probabilities
        (cells, types).
    embedding
        (cells, width).
    about
        What ``uns["scweave"]`` says.
    """

    barcodes: pd.Index[str]
    labels: pd.Categorical
    confidence: Floats
    novelty: Floats
    probabilities: Floats
    embedding: Floats
    about: dict[str, Any]

    def frame(self) -> pd.DataFrame:
        """Return label, confidence and novelty by barcode."""
        columns = {LABEL: self.labels, CONFIDENCE: self.confidence, NOVELTY: self.novelty}
        return pd.DataFrame(columns, index=self.barcodes)

    def write(self, data: ad.AnnData | MuData) -> None:
        """Write into the cells of an AnnData or MuData, by barcode; cells that were not read get no label and NaN.

        Raises
        ------
        InputError
            No cell of ``data`` was read, or its barcodes are not unique.
        """
        if not data.obs_names.is_unique:
            raise InputError(
                "the barcodes of the AnnData are not unique. Call obs_names_make_unique() first."
            )
        rows = self.barcodes.get_indexer(data.obs_names)
        if (rows < 0).all():
            raise InputError("none of the AnnData's cells was annotated: their barcodes are others.")
        for name, column in self.frame().iloc[rows].items():
            data.obs[name] = column.where(rows >= 0).array
        for name, values in ((PROBABILITIES, self.probabilities), (EMBEDDING, self.embedding)):
            data.obsm[name] = np.where((rows >= 0)[:, None], values[rows], np.float32(np.nan))
        data.uns["scweave"] = self.about


class Annotator:
    """A cell-type annotator.

    Parameters
    ----------
    model
        ``hitanno``, ``annatac``, ``scmoanno``, or a baseline: ``majority, centroid, knn, logreg, svm, mlp, cnn``.
    mode
        ``default`` or ``published``, where a model has both.
    settings
        Of the model, by name; its usual ones are taken for the others.
    **options
        Of training, see `TrainOptions`; the model's usual ones are taken for the others.

    Examples
    --------
    >>> annotator = Annotator("hitanno").fit("runs/dataset")  # doctest: +SKIP
    >>> annotator.predict("runs/other_cells").frame()  # doctest: +SKIP
    >>> annotator.save("runs/hitanno")  # doctest: +SKIP
    >>> Annotator.load("runs/hitanno").predict("runs/other_cells").write(adata)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str = "hitanno",
        *,
        mode: str = DEFAULT,
        settings: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.kind = kind_of(model, mode)
        if self.kind.task != "annotation":
            raise InputError(
                f"{model} does not annotate cells. Choose hitanno, annatac, scmoanno or a baseline."
            )
        self.model = model
        self.mode = mode
        self.config = _made(self.kind.config, settings or {}, "settings")
        self._settings, self._given = dict(settings or {}), options
        usual = {
            name: getattr(self.kind, name)
            for name in ("patience", "batch_size", "lr", "weight_decay", "clip")
        }
        if options.keys() - {"seed"} and not self.kind.epochs:
            raise InputError(f"{model} is fitted at once and takes no {', '.join(options)}. Leave it out.")
        self.options: TrainOptions = _made(
            TrainOptions, {**usual, "epochs": self.kind.epochs or 1, **options}, "options"
        )
        self._loaded: LoadedModel | None = None
        self._folder: Path | None = None

    @property
    def loaded(self) -> LoadedModel:
        """The trained model.

        Raises
        ------
        InputError
            It is not trained yet.
        """
        if self._loaded is None:
            raise InputError(f"this {self.model} is not trained. Call fit(DATASET), or Annotator.load(RUN).")
        return self._loaded

    @property
    def cell_types(self) -> tuple[str, ...]:
        """The vocabulary, in the order of probabilities."""
        return tuple(self.loaded.manifest["cell_types"])

    @property
    def features(self) -> Path:
        """A dataset without cells, in whose features a query is to be expressed.

        Raises
        ------
        InputError
            The annotator is not trained yet.
        """
        _ = self.loaded
        assert self._folder is not None
        return self._folder / FEATURES

    def fit(
        self,
        dataset: str | Path,
        *,
        run: str | Path | None = None,
        fold: int | None = None,
        init: str | Path | None = None,
        resume: bool = False,
        progress: bool = False,
    ) -> Self:
        """Train on the labelled training cells of a dataset, and calibrate on its validation cells.

        Parameters
        ----------
        dataset
            Graph dataset with labels.
        run
            Folder for checkpoint, history and state; a temporary one when None.
        fold
            Fold of the dataset.
        init
            Run of ``scweave train --stage pretrain`` to begin with; its settings are taken where none are given.
        resume
            Go on with what an interrupted training left in ``run``.
        progress
            Show a bar.
        """
        _refuse_objects(dataset, "fit", "write it with write_h5ad, and `scweave build` it")
        if init is not None:
            begun = pretrained_config(Path(init), self.model, self.mode)
            self.config = _made(self.kind.config, {**begun, **self._settings}, "settings")
        folder = self._temporary() if run is None else Path(run)
        if not resume and (folder / DESCRIPTION).exists():
            raise InputError(f"{folder} holds a trained model already. Choose another run, or resume=True.")
        fit(
            self.kind,
            Path(dataset),
            folder,
            self.config,
            self._options_for(Path(dataset), fold),
            fold=fold,
            resume=resume,
            init=None if init is None else Path(init),
            progress=progress,
        )
        self._loaded, self._folder = load_model(folder), folder
        return self

    def _options_for(self, dataset: Path, fold: int | None) -> TrainOptions:
        """Choose the batch by the number of cells, where it was not chosen."""
        if "batch_size" in self._given or not self.kind.fewest_steps:
            return self.options
        cells = labelled(MultiomeGraphs(dataset, split="train", fold=fold))
        return replace(self.options, batch_size=self.kind.usual_batch(len(cells)))

    def _temporary(self) -> Path:
        """Make a folder that goes when the annotator does."""
        folder = Path(mkdtemp(prefix="scweave-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    @torch.no_grad()
    def predict(
        self,
        query: str | Path | MultiomeGraphs,
        *,
        batch_size: int | None = None,
        novel_below: float | None = None,
        least_covered: float = LEAST_COVERED,
    ) -> Annotations:
        """Annotate all cells of a dataset, which needs no labels.

        Parameters
        ----------
        query
            Graph dataset with the model's features, or its folder; ``scweave build --like RUN/features`` makes one
            of any experiment, and `scweave.commands.predict.annotate` takes files and AnnData as they are.
        batch_size
            Cells at a time, as suits the model when None; changes nothing else.
        novel_below
            Confidence below which a cell is said to be of a novel type, 0 for none; the model's own when None.
        least_covered
            Where the model tells peaks by their place: smallest share of its islands that must have peaks.

        Raises
        ------
        InputError
            Other features, or a modality that the model reads is missing.
        """
        loaded = self.loaded
        _refuse_objects(query, "predict", "scweave.commands.predict.annotate takes it as it is")
        size = loaded.model.at_once if batch_size is None else batch_size
        if size < 1:
            raise InputError(f"batch_size={size}: must be positive.")
        graphs = query if isinstance(query, MultiomeGraphs) else MultiomeGraphs(query)
        predictor = predictor_of(loaded.model, graphs.modalities, novel_below=novel_below)
        assert isinstance(predictor, AnnotatorPredictor)
        device = device_of(loaded.model)
        notes = adapt(loaded, graphs, least_covered=least_covered)
        cells, _ = graphs.pairs_of(range(len(graphs)))
        if not len(cells):
            raise InputError(f"{graphs.root} has no cells to annotate. Pass a dataset with cells.")
        parts = [predictor.predict(batch.to(device)) for _, batch in batches(graphs, cells, size)]
        found = {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
        return Annotations(
            pd.Index(graphs.cells["barcode"].to_numpy()[cells].astype(str)),
            pd.Categorical.from_codes(found[LABEL].tolist(), pd.Index(predictor.labels)),
            found[CONFIDENCE],
            found[NOVELTY],
            found[PROBABILITIES],
            found[EMBEDDING],
            {**describe(loaded.manifest, predictor.outputs()), **({"notes": notes} if notes else {})},
        )

    def save(self, folder: str | Path) -> None:
        """Write the checkpoint: safetensors and JSON, with all that predicting needs.

        Raises
        ------
        InputError
            Not trained, or the folder exists.
        """
        kept = self.features.parent
        with new_folder(Path(folder)) as partial:
            for name in _CHECKPOINT:
                source = kept / name
                copy = shutil.copytree if source.is_dir() else shutil.copyfile
                copy(source, partial / name)

    @classmethod
    def load(cls, run: str | Path) -> Self:
        """Load a trained annotator; the data it was trained on is not needed.

        Raises
        ------
        InputError
            No annotator there, or a damaged one.
        """
        loaded = load_model(Path(run))
        manifest = loaded.manifest
        if isinstance(loaded.model, PretrainingModel):
            raise InputError(
                f"{run}: its {manifest['kind']} was trained without labels and knows no types. Fit an Annotator with"
                " init=RUN, and load that."
            )
        annotator = cls(manifest["kind"], mode=manifest["mode"], settings=manifest["config"])
        annotator._loaded, annotator._folder = loaded, Path(run)
        return annotator


def _made(kind: type, values: Mapping[str, Any], what: str) -> Any:
    known = [field.name for field in fields(kind)]
    if unknown := [name for name in values if name not in known]:
        raise InputError(f"{what}: there is no {', '.join(unknown)}. There are {', '.join(known)}.")
    types = get_type_hints(kind)
    for name, value in values.items():
        wanted = get_args(types[name]) or (types[name],)
        if float in wanted:
            wanted = (*wanted, int)
        if not any(
            value in (choice,) if not isinstance(choice, type) else isinstance(value, choice)
            for choice in wanted
        ):
            raise InputError(
                f"{what}: {name}={value!r} is of type {type(value).__name__}. Pass what is meant, like {getattr(kind, name)!r}."
            )
    return kind(**values)


def _refuse_objects(dataset: object, what: str, advice: str) -> None:
    if isinstance(dataset, ad.AnnData | MuData):
        raise InputError(
            f"{what} takes the folder of a graph dataset, not {type(dataset).__name__}: {advice}."
        )
