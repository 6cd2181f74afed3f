"""What evaluation asks of a recommender: scores of pairs and partners, and translations; each mode its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ..graphs.dataset import MultiomeGraphs
from ..graphs.loader import GraphLoader
from ..graphs.schema import CELL, MATCH
from .crossrec import CrossRec
from .crossrec_cis import CisCrossRec
from .devices import device_of
from .layers.profiles import Profiles
from .recommender import AnyRecommender
from .translators import Translation, Translator

Int64 = NDArray[np.int64]
Floats = NDArray[np.float64]


class Judge(Protocol):
    """A trained recommender in front of the cells of a dataset."""

    @property
    def scored_by(self) -> str:
        """How partners are scored."""

    def partners(self, cells: Int64, batch_size: int, progress: bool) -> Floats:
        """Score every RNA profile of some cells (rows) beside every ATAC profile of them (columns)."""

    def translators(self) -> dict[str, Translator]:
        """Return the model's ways to translate; the first is called ``crossrec``."""


def judge_of(model: AnyRecommender, graphs: MultiomeGraphs) -> Judge:
    """Choose the judge of a model's mode."""
    return CisJudge(model, graphs) if isinstance(model, CisCrossRec) else PublishedJudge(model, graphs)


@torch.no_grad()
def match_scores(
    model: AnyRecommender, pairs: MultiomeGraphs, batch_size: int, progress: bool
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the log odds of each pair of a dataset, and which are of one cell."""
    scores, truth, device = [], [], device_of(model)
    for batch in tqdm(GraphLoader(pairs, batch_size, cis=False), desc="matching", disable=not progress):
        scores.append(_array(model.match(batch.to(device))))
        truth.append(batch[CELL][MATCH].cpu().numpy() > 0)
    return np.concatenate(scores), np.concatenate(truth)


@dataclass(frozen=True)
class PublishedJudge:
    """The published function: both profiles go into every vector, so every pair of cells is computed."""

    model: CrossRec
    graphs: MultiomeGraphs
    scored_by: str = "matching logits of all n x n pairs"

    @torch.no_grad()
    def partners(self, cells: Int64, batch_size: int, progress: bool) -> Floats:
        """Score all pairs of some cells."""
        n = len(cells)
        scores = np.empty(n * n)
        for begin in tqdm(range(0, n * n, batch_size), desc="retrieval", disable=not progress):
            pair = np.arange(begin, min(begin + batch_size, n * n))
            batch = self.graphs.batch_of_pairs(cells[pair // n], cells[pair % n], cis=False)
            scores[pair] = _array(self.model.match(batch.to(device_of(self.model))))
        return scores.reshape(n, n)

    def translators(self) -> dict[str, Translator]:
        """Return the count of links a gene has, or nothing where translation was not trained."""
        return {"crossrec": self} if self.model.config.alpha else {}

    @torch.no_grad()
    def predict(self, cells: Int64) -> Translation:
        """Translate cells (row numbers); a gene's score is the number of open peaks that pass for it."""
        batch = self.graphs.batch_of_pairs(cells, cells, cis=False).to(device_of(self.model))
        counts = self.model.translate(batch).cpu().numpy()
        return Translation(counts.astype(np.float32), counts > self.model.config.on_above, None)


@dataclass(frozen=True)
class CisJudge:
    """The corrected mode: each profile is encoded once, alone."""

    model: CisCrossRec
    graphs: MultiomeGraphs
    scored_by: str = "cosine of encodings, each of one modality alone"

    @torch.no_grad()
    def partners(self, cells: Int64, batch_size: int, progress: bool) -> Floats:
        """Score all pairs of some cells by the cosine of their encodings."""
        del batch_size, progress
        model, device = self.model, device_of(self.model)
        sides = ((self.graphs.rna_rows, model.rna), (self.graphs.atac_rows, model.atac))
        rna, atac = (
            np.concatenate(
                [_array(model.encode(encoder, some.to(device))) for some in Profiles.chunks(rows, cells)]
            )
            for rows, encoder in sides
        )
        scores: Floats = rna @ atac.T
        return scores

    def translators(self) -> dict[str, Translator]:
        """Return the whole translation, and that by links alone; none where expression was not trained."""
        if not self.model.config.alpha:
            return {}
        return {
            "crossrec": CisTranslator(self.model, self.graphs, False),
            "crossrec_links": CisTranslator(self.model, self.graphs, True),
        }


@dataclass(frozen=True)
class CisTranslator:
    """Expression that the corrected mode expects; a gene's score is the chance that it is on."""

    model: CisCrossRec
    graphs: MultiomeGraphs
    links_only: bool

    @torch.no_grad()
    def predict(self, cells: Int64) -> Translation:
        """Translate cells (row numbers)."""
        profiles = Profiles.of(self.graphs.atac_rows, cells).to(device_of(self.model))
        on, log = self.model.translate(profiles, links_only=self.links_only)
        score = on.cpu().numpy().astype(np.float32)
        return Translation(score, score > 0.5, log.cpu().numpy().astype(np.float32))


def _array(values: Tensor) -> Floats:
    array: Floats = values.double().cpu().numpy()
    return array
