"""What each trained model predicts for cells, and in which words it is described."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, Protocol

from torch import Tensor
from torch_geometric.data import Batch

from ..graphs.errors import InputError
from ..graphs.schema import ATAC, MODALITIES, RNA
from .annotation.model import NOVEL, AnnotatorModel
from .annotation.pretraining import PretrainingModel
from .crossrec import CrossRec
from .crossrec_cis import CisCrossRec
from .layers.profiles import Profiles

EXPRESSION: Final = "X"
EMBEDDING, RNA_EMBEDDING, ATAC_EMBEDDING = "X_scweave", "X_scweave_rna", "X_scweave_atac"
MATCH_CHANCE: Final = "scweave_match"
LABEL, CONFIDENCE, NOVELTY = "scweave_label", "scweave_confidence", "scweave_novelty"
PROBABILITIES: Final = "scweave_probabilities"
_MATCH_WORDS = "chance that RNA and ATAC profile are of one cell, beside negatives like those of training"


class Predictor(Protocol):
    """A trained recommender in front of cells that have certain modalities."""

    def outputs(self) -> dict[str, str]:
        """Name what can be predicted for such cells, and say in words what it is."""

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Predict all `outputs` for a batch of cells, (cells, …) each."""


@dataclass(frozen=True)
class CisPredictor:
    """The corrected mode: each modality is encoded alone, and expression follows from ATAC."""

    model: CisCrossRec
    modalities: tuple[str, ...]

    def outputs(self) -> dict[str, str]:
        """Name what follows from the modalities there are; what was switched off in training is left out."""
        both = set(MODALITIES) <= set(self.modalities)
        names = " and ".join(name.upper() for name in self.modalities)
        words = {EMBEDDING: f"mean of the unit encodings of {names}, of unit length"}
        if RNA in self.modalities:
            words[RNA_EMBEDDING] = "unit encoding of the RNA profile"
        if ATAC in self.modalities:
            words[ATAC_EMBEDDING] = "unit encoding of the ATAC profile"
            if self.model.config.alpha > 0:
                words[EXPRESSION] = "expected ln(1 + count), predicted from the ATAC profile alone"
        if both and self.model.config.classifier:
            words[MATCH_CHANCE] = _MATCH_WORDS
        return words

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Predict all `outputs`."""
        model, wanted = self.model, self.outputs()
        rna = Profiles.genes(batch) if RNA in self.modalities else None
        atac = Profiles.peaks(batch) if ATAC in self.modalities else None
        found = {EMBEDDING: model.embed(rna, atac)}
        if rna is not None:
            found[RNA_EMBEDDING] = model.encode(model.rna, rna)
        if atac is not None:
            found[ATAC_EMBEDDING] = model.encode(model.atac, atac)
        if atac is not None and EXPRESSION in wanted:
            found[EXPRESSION] = model.translate(atac)[1]
        if MATCH_CHANCE in wanted:
            found[MATCH_CHANCE] = model.match(batch).sigmoid()
        return found


@dataclass(frozen=True)
class PublishedPredictor:
    """The published function: embedding and match need both modalities at once, expression needs ATAC."""

    model: CrossRec
    modalities: tuple[str, ...]

    def outputs(self) -> dict[str, str]:
        """Name what follows from the modalities there are; what was switched off in training is left out."""
        words = {}
        if set(MODALITIES) <= set(self.modalities):
            words[EMBEDDING] = "pooled genes beside pooled peaks of the joint graph"
            words[MATCH_CHANCE] = _MATCH_WORDS
        if ATAC in self.modalities and self.model.config.alpha > 0:
            above = self.model.config.on_above
            words[EXPRESSION] = (
                f"number of open peaks linked to the gene, which is on above {above}; no count"
            )
        return words

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Predict all `outputs`."""
        wanted, found = self.outputs(), {}
        if EMBEDDING in wanted:
            made = self.model(batch)
            found[EMBEDDING] = made.integration
            found[MATCH_CHANCE] = made.logits.softmax(1)[:, 1]
        if EXPRESSION in wanted:
            found[EXPRESSION] = self.model.translate(batch)
        return found


@dataclass(frozen=True)
class AnnotatorPredictor:
    """An annotator: the type of each cell, how sure it is, and how far the cell is from what was trained on."""

    model: AnnotatorModel
    modalities: tuple[str, ...]
    novel_below: float

    @property
    def labels(self) -> tuple[str, ...]:
        """What the codes of labels mean: the types, and the novel one where there may be any."""
        return (*self.model.cell_types, NOVEL) if self.novel_below else self.model.cell_types

    def outputs(self) -> dict[str, str]:
        """Name what is predicted."""
        read = " and ".join(name.upper() for name in self.model.reads(self.modalities))
        depends = "" if self.model.reads_alone else ", and of the cells that are read with it"
        novel = f"; {NOVEL} where its probability is below {self.novel_below:g}" if self.novel_below else ""
        return {
            LABEL: f"likeliest cell type, from the {read} profile{depends}{novel}",
            CONFIDENCE: "probability of that type, calibrated on validation cells",
            NOVELTY: "mean share of held-out cells that are told with more confidence, and that lie nearer to a type",
            PROBABILITIES: "probabilities of the types, in the order of cell_types",
            EMBEDDING: "the vector from which the type is told",
        }

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Predict all `outputs`; labels as codes."""
        reading, calibration = self.model(batch), self.model.calibration_of(self.modalities)
        probabilities = calibration.probabilities(reading.logits)
        confidence, code = probabilities.max(1)
        if self.novel_below:
            code = code.masked_fill(confidence < self.novel_below, len(self.model.cell_types))
        return {
            LABEL: code,
            CONFIDENCE: confidence,
            NOVELTY: calibration.novelty(reading.logits, reading.embedding),
            PROBABILITIES: probabilities,
            EMBEDDING: reading.embedding,
        }


def predictor_of(model: Any, modalities: tuple[str, ...], *, novel_below: float | None = None) -> Predictor:
    """Choose the predictor of a model's mode.

    Parameters
    ----------
    model
        Trained model.
    modalities
        What was measured of the cells.
    novel_below
        Of annotators: confidence below which a cell is said to be of a novel type, 0 for none; the model's own
        when None.

    Raises
    ------
    InputError
        The model predicts nothing for cells with these modalities alone.
    """
    predictor: Predictor
    if isinstance(model, AnnotatorModel):
        between = " or " if model.either else " and "
        if missing := [name.upper() for name in model.reads(modalities) if name not in modalities]:
            raise InputError(
                f"this {model.kind} reads {between.join(name.upper() for name in model.modalities)}, and the query has no"
                f" {missing[0]}. Pass a query that has it, or train a model on what there is."
            )
        predictor = AnnotatorPredictor(model, modalities, _threshold(model, novel_below))
    elif isinstance(model, PretrainingModel):
        raise InputError(
            f"this {model.kind} was trained without labels and knows no types. Train it on labelled cells with --init,"
            " and predict with that run."
        )
    elif novel_below is not None:
        raise InputError("--novel-below belongs to models that annotate cells. Leave it out.")
    elif isinstance(model, CisCrossRec):
        predictor = CisPredictor(model, modalities)
    else:
        predictor = PublishedPredictor(model, modalities)
    if not predictor.outputs():
        raise InputError(
            f"this model ({model.mode} mode) predicts nothing from {' and '.join(modalities).upper()} alone."
            " Pass both modalities of the query, or train with --mode default."
        )
    return predictor


def _threshold(model: AnnotatorModel, novel_below: float | None) -> float:
    check_novel_below(novel_below)
    return model.novel_below if novel_below is None else novel_below


def check_novel_below(novel_below: float | None) -> None:
    """Refuse a confidence that there cannot be; None leaves the choice to the model.

    Raises
    ------
    InputError
        It is not from 0 to 1.
    """
    if novel_below is not None and not 0 <= novel_below <= 1:
        raise InputError(f"--novel-below {novel_below}: choose a number from 0 to 1.")


def describe(manifest: Mapping[str, Any], words: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``uns["scweave"]`` says of predictions: the model, and what each part is."""
    about = {
        "version": version("scweave"),
        "model": manifest["kind"],
        "mode": manifest["mode"],
        "schema_version": manifest["schema_version"],
        "trained_on": manifest["dataset"],
        "genome": manifest["genome"] or "unknown",
    }
    if LABEL in words:
        return {**about, "cell_types": list(manifest["cell_types"]), **words}
    return {
        **about,
        EXPRESSION: "nothing: expression is predicted from ATAC, by a model that was trained to",
        **words,
    }
