"""The face that every annotator shows to training, evaluation, prediction and checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn, optim
from torch_geometric.data import Batch

from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from .calibration import Calibration
from .pretraining import PretrainingModel

Int64 = NDArray[np.int64]

NOVEL: Final = "Novel_cell_type"  # the label of cells that are told with too little confidence
NOVEL_BELOW: Final = 0.5  # confidence below which a cell is called novel, where that is asked for


@dataclass(frozen=True)
class Reading:
    """What an annotator makes of cells.

    Attributes
    ----------
    logits
        (cells, types), before calibration.
    embedding
        (cells, width).
    """

    logits: Tensor
    embedding: Tensor


class AnnotatorModel(nn.Module, ABC):
    """A model that reads the profiles of cells and tells their types.

    A cell's reading does not depend on the others of its batch, but where ``reads_alone`` says so.

    Attributes
    ----------
    kind, mode
        Names in `registry`.
    config
        Dataclass of settings.
    cell_types
        The vocabulary: types that training cells have, in the order of logits.
    notes
        What was met while it was fitted that a reader of its results should know.
    modalities
        What the model reads.
    calibration
        Fitted after training.
    stage
        ``train``, beside the ``pretrain`` of a `PretrainingModel`.
    reads_places
        Whether peaks are told by their place on the genome, so that those of other data sets serve as well.
    at_once
        Cells that are read at a time where nothing else is asked for.
    novel_below
        Confidence below which cells are said to be of a novel type, unless a user chooses another; 0: none.
    reads_alone
        Whether a cell is read by itself.
    tells_alike
        Whether all cells are told alike, whatever was measured of them.
    either
        Whether one of ``modalities`` is enough to tell a cell.
    """

    kind: ClassVar[str]
    mode: ClassVar[str] = "default"
    stage: ClassVar[str] = "train"
    reads_places: ClassVar[bool] = False
    at_once: ClassVar[int] = 256
    reads_alone: ClassVar[bool] = True
    tells_alike: ClassVar[bool] = False
    either: ClassVar[bool] = False
    config: Any
    novel_below: float = 0.0
    cell_types: tuple[str, ...] = ()
    notes: Sequence[str] = ()
    modalities: tuple[str, ...]
    calibration: Calibration

    @classmethod
    @abstractmethod
    def from_graphs(cls, graphs: MultiomeGraphs, config: Any, *, seed: int = 0) -> Self:
        """Make a model for training cells: ``graphs`` are the labelled ones, in the cells view."""

    @classmethod
    def from_pretrained(
        cls, pretrained: PretrainingModel, graphs: MultiomeGraphs, config: Any, *, seed: int = 0
    ) -> Self:
        """Make a model that begins with the weights of one that was trained on unlabelled cells.

        Parameters
        ----------
        pretrained
            The model.
        graphs, config, seed
            As of `from_graphs`.

        Raises
        ------
        InputError
            There is no such stage, or the two do not fit.
        """
        raise InputError(f"{cls.kind} ({cls.mode} mode) has no pre-training to start from. Leave --init out.")

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: Any, n_chrom: int) -> Self:
        """Make a model of the shapes that saved weights have."""

    @abstractmethod
    def forward(self, batch: Batch) -> Reading:
        """Read cells."""

    def loss(self, batch: Batch, codes: Tensor) -> dict[str, Tensor]:
        """Return the training ``loss`` of cells whose types are ``codes`` (cells,), and its parts."""
        return {"loss": nn.functional.cross_entropy(self(batch).logits, codes)}

    def score(self, figures: Mapping[str, float]) -> float:
        """Return the score by which the best epoch is chosen, from figures of all validation cells."""
        return -figures["loss"]

    def optimisers(self, lr: float, weight_decay: float) -> list[optim.Optimizer]:
        """Return the optimisers of all parameters; none where the model is fitted as it is made."""
        # Fused, as tables of all peaks take most of a step otherwise.
        return [optim.Adam(self.parameters(), lr=lr, weight_decay=weight_decay, fused=True)]

    def lr_factor(self, epoch: float) -> float:
        """Return the share of the learning rate that a step takes; ``epoch`` counts parts of epochs."""
        return 1.0

    def reads(self, measured: Container[str]) -> tuple[str, ...]:
        """Return the modalities that are read of cells of which some were measured: all, where one is not enough."""
        there = tuple(name for name in self.modalities if name in measured)
        return there if self.either and there else tuple(self.modalities)

    def calibrations(self) -> dict[tuple[str, ...], Calibration]:
        """Return what is to be calibrated, by the modalities that are read."""
        return {tuple(self.modalities): self.calibration}

    def calibration_of(self, measured: Container[str]) -> Calibration:
        """Return the calibration of cells of which some modalities were measured."""
        return self.calibrations()[self.reads(measured)]

    def refresh(self) -> None:
        """Bring up to date what training keeps for later, before the model is measured or saved."""

    def place(self, peaks: Sequence[pd.DataFrame], chromosomes: Sequence[str]) -> None:
        """Find the peaks of data sets among what the model reads, where it tells them by their place.

        Parameters
        ----------
        peaks
            Columns ``chrom`` and ``start`` of each data set's peaks, in the order of their ids.
        chromosomes
            Those of the data set the model was trained on.
        """


def vocabulary(graphs: MultiomeGraphs) -> tuple[tuple[str, ...], Int64]:
    """Return the types that cells have, and each cell's place among them.

    Parameters
    ----------
    graphs
        Labelled cells.

    Returns
    -------
    Types in the dataset's order, and (graphs,) codes.

    Raises
    ------
    InputError
        Fewer than two types, or one that is named as novel cells are.
    """
    cells, _ = graphs.pairs_of(range(len(graphs)))
    found, codes = np.unique(graphs.cell_type_codes[cells], return_inverse=True)
    if len(found) < 2:
        told = ", ".join(graphs.cell_types[code] for code in found) or "none"
        raise InputError(
            f"{graphs.root} has training cells of {len(found)} types ({told}). Build it with --labels COL, a column"
            " that tells two or more types apart."
        )
    types = tuple(graphs.cell_types[code] for code in found)
    if NOVEL in types:
        raise InputError(
            f"{graphs.root} has training cells labelled {NOVEL}, as predictions name cells of unknown type. Build it with"
            f" --unlabelled {NOVEL}."
        )
    return types, codes.astype(np.int64)


def check_validation(train: MultiomeGraphs, validation: MultiomeGraphs) -> None:
    """Refuse to train where no validation cell tells when to stop.

    Raises
    ------
    InputError
        No validation cell has a type of the training cells.
    """
    types, _ = vocabulary(train)
    cells, _ = validation.pairs_of(range(len(validation)))
    if not (codes_of(types, train).numpy()[validation.cell_type_codes[cells]] >= 0).any():
        raise InputError(
            f"no validation cell of {train.root} has a type that training cells have, so nothing tells when to stop."
            " Build it with more labelled cells, or other --donor or --seed."
        )


def labelled(graphs: MultiomeGraphs) -> MultiomeGraphs:
    """Keep the cells whose type is known."""
    cells, _ = graphs.pairs_of(range(len(graphs)))
    kept: MultiomeGraphs = graphs.index_select(np.flatnonzero(graphs.cell_type_codes[cells] >= 0))
    return kept


def codes_of(cell_types: tuple[str, ...], graphs: MultiomeGraphs) -> Tensor:
    """Return the place in a vocabulary of each type of a dataset, by name; −1 where it has none.

    The last entry is that of unlabelled cells, whose code is −1.
    """
    place = {name: i for i, name in enumerate(cell_types)}
    return torch.tensor([*(place.get(name, -1) for name in graphs.cell_types), -1])
