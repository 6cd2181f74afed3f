"""Features of training and validation cells, fitted once for any number of simple annotators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...graphs.dataset import MultiomeGraphs
from ...graphs.schema import SPLITS
from .draws import stratified
from .inputs import MODALITIES_OF, MOST, UNREDUCED, Features, Inputs, Matrix, resolve
from .model import codes_of, labelled, vocabulary

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Prepared:
    """Features of training and validation cells, for any number of annotators.

    Attributes
    ----------
    inputs
        What makes the features.
    cell_types
        Vocabulary.
    train, codes
        (cells, width) and (cells,).
    validation, truth
        The same of validation cells whose type is in the vocabulary.
    notes
        What was left out.
    """

    inputs: Inputs
    cell_types: tuple[str, ...]
    train: Matrix
    codes: Int64
    validation: Matrix
    truth: Int64
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, graphs: MultiomeGraphs, features: Features, *, width: int = 50, seed: int = 0, most: int = MOST
    ) -> Prepared:
        """Fit features on training cells.

        Parameters
        ----------
        graphs
            Labelled training cells.
        features
            ``lsi``, ``pca``, ``both``, ``tfidf``, ``logcounts`` or ``auto``.
        width, seed
            Components, and what decides their randomised part.
        most
            Training cells that components are fitted on, and that unreduced TF-IDF is made of.
        """
        features = resolve(features, graphs.modalities)
        graphs.require(MODALITIES_OF[features], f"features={features}")
        inputs = Inputs.fitted(graphs, features, width=width, most=most, seed=seed)
        return cls.with_inputs(graphs, inputs, seed=seed, most=most)

    @classmethod
    def with_inputs(
        cls, graphs: MultiomeGraphs, inputs: Inputs, *, seed: int = 0, most: int = MOST
    ) -> Prepared:
        """Take features that are fitted already."""
        cell_types, codes = vocabulary(graphs)
        cells, _ = graphs.pairs_of(range(len(graphs)))
        held_out, truth = _validation(graphs, cell_types)
        notes = []
        if len(cells) > most:
            what = "components"
            if inputs.features in UNREDUCED:
                what, kept = "the model", stratified(codes, most, seed)
                cells, codes = cells[kept], codes[kept]
            notes.append(f"{what} fitted on about {most:,} of {len(graphs):,} training cells")
        train, validation = inputs.of(graphs, cells), inputs.of(graphs, held_out)
        return cls(inputs, cell_types, train, codes, validation, truth, tuple(notes))


def _validation(graphs: MultiomeGraphs, cell_types: tuple[str, ...]) -> tuple[Int64, Int64]:
    """Return validation cells (row numbers) of known types, and their types."""
    held_out = labelled(graphs.part("cells", SPLITS[1]))
    cells, _ = held_out.pairs_of(range(len(held_out)))
    codes = codes_of(cell_types, graphs).numpy()[graphs.cell_type_codes[cells]]
    return cells[codes >= 0], codes[codes >= 0]
