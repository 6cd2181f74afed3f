"""What the simple annotators read: TF-IDF of peaks and log counts of genes, all of them, or few components of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch_geometric.data import Batch

from ...graphs.csr import CsrRows
from ...graphs.dataset import MultiomeGraphs
from ...graphs.schema import ATAC, RNA
from ..layers.profiles import Profiles
from .components import Components, LogCounts, Lsi, Pca, TfIdf, weighted_matrix

Int64 = NDArray[np.int64]
Floats = NDArray[np.float64]
Matrix = Floats | sparse.csr_matrix
Features = Literal["auto", "lsi", "pca", "both", "tfidf", "logcounts"]

FEATURES: Final[tuple[Features, ...]] = get_args(Features)
MODALITIES_OF: Final[dict[Features, tuple[str, ...]]] = {
    "lsi": (ATAC,),
    "pca": (RNA,),
    "both": (RNA, ATAC),
    "tfidf": (ATAC,),
    "logcounts": (RNA,),
}
UNREDUCED: Final[dict[Features, type[TfIdf | LogCounts]]] = {"tfidf": TfIdf, "logcounts": LogCounts}
_PARTS: Final[dict[Features, tuple[Features, ...]]] = {
    "lsi": ("lsi",),
    "pca": ("pca",),
    "both": ("lsi", "pca"),
}
MOST: Final = 20_000  # training cells that components, and models of unreduced TF-IDF, are fitted on
_CHUNK: Final = 1024  # cells at a time


class Inputs(nn.Module):
    """The features of cells: LSI, PCA or both side by side; TF-IDF and log counts are left sparse.

    Parameters
    ----------
    features
        Which.
    parts
        Fitted or empty `Lsi` as ``lsi``, `Pca` as ``pca``, `TfIdf` as ``tfidf``, `LogCounts` as ``logcounts``, those
        that there are.
    """

    def __init__(self, features: Features, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.features = features
        self.modalities: tuple[str, ...] = MODALITIES_OF[features]
        for name, part in parts.items():
            self.add_module(name, part)

    @classmethod
    def fitted(
        cls, graphs: MultiomeGraphs, features: Features, *, width: int, most: int, seed: int
    ) -> Inputs:
        """Fit features on training cells: all of ``graphs``, components on ``most`` that ``seed`` draws."""
        cells, _ = graphs.pairs_of(range(len(graphs)))
        if features in UNREDUCED:
            rows = _rows(graphs, features)
            weights = UNREDUCED[features](rows.n_columns)
            weights.fit(rows, cells)
            return cls(features, {features: weights})
        if features == "lsi":
            lsi = Lsi(len(graphs.peaks), width)
            lsi.fit(graphs.atac_rows, cells, most=most, seed=seed)
            return cls(features, {"lsi": lsi})
        if features == "pca":
            pca = Pca(len(graphs.genes), width)
            pca.fit(graphs.rna_rows, cells, variable_genes(graphs), most=most, seed=seed)
            return cls(features, {"pca": pca})
        lsi_alone, pca_alone = (
            cls.fitted(graphs, name, width=width, most=most, seed=seed) for name in _PARTS[features]
        )
        return cls.beside(lsi_alone, pca_alone)

    @classmethod
    def empty(cls, features: Features, tensors: Mapping[str, Tensor]) -> Inputs:
        """Make features of the shapes that saved ones have."""
        if features in UNREDUCED:
            (n_features,) = (len(value) for name, value in tensors.items() if name.startswith(f"{features}."))
            return cls(features, {features: UNREDUCED[features](n_features)})
        kinds: dict[str, type[Components]] = {"lsi": Lsi, "pca": Pca}
        return cls(
            features, {name: kinds[name](*tensors[f"{name}.table"].shape) for name in _PARTS[features]}
        )

    @classmethod
    def beside(cls, lsi: Inputs, pca: Inputs) -> Inputs:
        """Put two features side by side; they are shared, not copied."""
        return cls("both", {"lsi": lsi.get_submodule("lsi"), "pca": pca.get_submodule("pca")})

    @property
    def width(self) -> int:
        """Width of the reduced features; 0 for those that are left sparse."""
        parts = (part for part in self.children() if isinstance(part, Components))
        return sum(part.table.shape[1] for part in parts)

    def forward(self, batch: Batch) -> Tensor:
        """Return the reduced features of cells, (cells, width)."""
        return torch.cat([self._part(name)(_profiles(batch, name)) for name in _PARTS[self.features]], 1)

    def weights(self, batch: Batch) -> tuple[Profiles, Tensor]:
        """Return the nodes of the modality that is left sparse, and their weights, (nodes,)."""
        profiles = _profiles(batch, self.features)
        return profiles, self._part(self.features)(profiles)

    @torch.no_grad()
    def of(self, graphs: MultiomeGraphs, cells: Int64) -> Matrix:
        """Return the features of cells (row numbers) of a dataset, a chunk at a time, in float64.

        Returns
        -------
        (cells, width), or a sparse (cells, features) where these are not reduced.
        """
        if self.features in UNREDUCED:
            return weighted_matrix(self._part(self.features), _rows(graphs, self.features), cells)
        found = [np.zeros((0, self.width))]
        for begin in range(0, len(cells), _CHUNK):
            some = cells[begin : begin + _CHUNK]
            columns = [
                self._part(name)(Profiles.of(_rows(graphs, name), some)) for name in _PARTS[self.features]
            ]
            found.append(torch.cat(columns, 1).double().numpy())
        return np.concatenate(found)

    def _part(self, name: str) -> nn.Module:
        return self.get_submodule(name)


def resolve(features: Features, modalities: Sequence[str]) -> Features:
    """Return what ``auto`` means where some modalities were measured: ``lsi``, or ``pca`` without ATAC."""
    if features != "auto":
        return features
    return "lsi" if ATAC in modalities else "pca"


def variable_genes(graphs: MultiomeGraphs) -> Int64:
    """Return the highly variable genes of the dataset; all genes where none is marked."""
    marked = graphs.genes.highly_variable.numpy()
    return np.flatnonzero(marked) if marked.any() else np.arange(len(marked))


def _profiles(batch: Batch, part: Features) -> Profiles:
    return Profiles.genes(batch) if MODALITIES_OF[part] == (RNA,) else Profiles.peaks(batch)


def _rows(graphs: MultiomeGraphs, part: Features) -> CsrRows:
    return graphs.rna_rows if MODALITIES_OF[part] == (RNA,) else graphs.atac_rows
