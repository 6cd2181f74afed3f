"""What the simple annotators read: TF-IDF of peaks, its truncated SVD (LSI), and PCA of log counts of genes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import PCA, TruncatedSVD
from torch import Tensor, nn
from torch_geometric.data import Batch

from ...graphs.csr import CsrRows
from ...graphs.dataset import MultiomeGraphs
from ...graphs.schema import ATAC, RNA
from ..layers.profiles import Profiles
from .draws import drawn

Int64 = NDArray[np.int64]
Floats = NDArray[np.float64]
Matrix = Floats | sparse.csr_matrix
Features = Literal["auto", "lsi", "pca", "both", "tfidf"]

FEATURES: Final[tuple[Features, ...]] = get_args(Features)
MODALITIES_OF: Final[dict[Features, tuple[str, ...]]] = {
    "lsi": (ATAC,),
    "pca": (RNA,),
    "both": (RNA, ATAC),
    "tfidf": (ATAC,),
}
_PARTS: Final[dict[Features, tuple[Features, ...]]] = {
    "lsi": ("lsi",),
    "pca": ("pca",),
    "both": ("lsi", "pca"),
}
_OF_DEPTH: Final = 0.5  # a first component that correlates more with depth than this is left out
_DEPTH: Final = 1e4  # counts that RNA profiles are scaled to
MOST: Final = 20_000  # training cells that components, and models of unreduced TF-IDF, are fitted on
_NO_SPREAD: Final = 1e-6
_CHUNK: Final = 1024  # cells at a time


class TfIdf(nn.Module):
    """Weights of open peaks, of unit length a cell: ln(1 + count) · ln(1 + cells / cells that have the peak).

    A peak that no training cell has weighs nothing.

    Parameters
    ----------
    n_peaks
        Number of peaks.
    """

    def __init__(self, n_peaks: int) -> None:
        super().__init__()
        self.rarity: Tensor
        self.register_buffer("rarity", torch.zeros(n_peaks))

    @torch.no_grad()
    def fit(self, rows: CsrRows, cells: Int64) -> None:
        """Learn how rare peaks are among training cells."""
        seen = torch.zeros(rows.n_columns, dtype=torch.int64)
        for some in Profiles.chunks(rows, cells):
            seen += torch.bincount(some.ids, minlength=rows.n_columns)
        self.rarity.copy_(torch.log1p(len(cells) / seen.double().clamp_min(1)) * (seen > 0))

    def forward(self, profiles: Profiles) -> Tensor:
        """Return the weight of each node, (nodes,)."""
        values = profiles.counts.to(self.rarity.dtype).log1p() * self.rarity.index_select(0, profiles.ids)
        length = profiles.total(values * values).clamp_min(1e-12).sqrt()
        return values / length.index_select(0, profiles.cell)


class Components(nn.Module, ABC):
    """A linear map of a weighting of counts, fitted on training cells, centred, of mean variance one.

    One number scales all components, so that they keep their relative spread.

    Parameters
    ----------
    n_features
        Number of genes or peaks.
    width
        Components; the last are 0 where the training cells have fewer.
    """

    def __init__(self, n_features: int, width: int) -> None:
        super().__init__()
        self.table: Tensor
        self.centre: Tensor
        self.scale: Tensor
        self.register_buffer("table", torch.zeros(n_features, width))
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))

    @abstractmethod
    def weigh(self, profiles: Profiles) -> Tensor:
        """Return the weight of each node, (nodes,)."""

    def forward(self, profiles: Profiles) -> Tensor:
        """Return the components of cells, (cells, width)."""
        components: Tensor = (profiles.bag(self.weigh(profiles), self.table) - self.centre) / self.scale
        return components

    @torch.no_grad()
    def _settle(self, weighted: sparse.csr_matrix, table: Floats) -> None:
        """Take a map (features, up to width), and centre and scale of the cells that it was fitted on."""
        spread = (weighted @ table).std(0)
        # Where cells have fewer components, the rest are noise that only new cells would have.
        table = table * (spread > _NO_SPREAD * max(spread.max(), 1.0))
        sums = weighted @ table
        self.table[:, : table.shape[1]] = torch.from_numpy(table)
        self.centre[: table.shape[1]] = torch.from_numpy(sums.mean(0))
        scale = float(np.sqrt(sums.var(0).mean()))
        self.scale.fill_(scale if scale > 0 else 1.0)


class Lsi(Components):
    """TF-IDF of unit length, then truncated SVD (latent semantic indexing).

    The first component is left out where it says mostly how deeply a cell was sequenced: where it
    correlates by more than 0.5 with ln(1 + counts) over training cells.
    """

    def __init__(self, n_peaks: int, width: int) -> None:
        super().__init__(n_peaks, width)
        self.tfidf = TfIdf(n_peaks)

    def fit(self, rows: CsrRows, cells: Int64, *, most: int, seed: int) -> None:
        """Fit on training cells: rarity on all of them, components on ``most`` that ``seed`` draws."""
        self.tfidf.fit(rows, cells)
        some = drawn(cells, most, seed)
        weighted, width = weighted_matrix(self.tfidf, rows, some), self.table.shape[1]
        used = min(width + 1, *weighted.shape)
        if used < 2 or not _vary(weighted):
            return
        table = TruncatedSVD(used, random_state=seed).fit(weighted).components_.T
        depth = np.log1p(np.asarray(rows.matrix(some).sum(1), np.float64).ravel())
        begin = int(abs(_correlation(weighted @ table[:, 0], depth)) > _OF_DEPTH)
        self._settle(weighted, table[:, begin : begin + width])

    def weigh(self, profiles: Profiles) -> Tensor:
        """Return TF-IDF, (nodes,)."""
        weights: Tensor = self.tfidf(profiles)
        return weights


class Pca(Components):
    """Principal components of ln(1 + counts per ten thousand) of the highly variable genes."""

    def fit(self, rows: CsrRows, cells: Int64, genes: Int64, *, most: int, seed: int) -> None:
        """Fit on training cells, ``most`` that ``seed`` draws.

        Parameters
        ----------
        rows
            Counts.
        cells
            Training cells.
        genes
            The genes that are read; totals are of all genes.
        most, seed
            Cells that are drawn.
        """
        weighted = weighted_matrix(self.weigh, rows, drawn(cells, most, seed))
        chosen = weighted[:, genes]
        used = min(self.table.shape[1], min(chosen.shape) - 1)
        if used < 1 or not _vary(chosen):
            return
        table = np.zeros((rows.n_columns, used))
        table[genes] = PCA(used, svd_solver="arpack", random_state=seed).fit(chosen).components_.T
        self._settle(weighted, table)

    def weigh(self, profiles: Profiles) -> Tensor:
        """Return log-normalised counts, (nodes,)."""
        counts = profiles.counts.to(self.table.dtype)
        total = profiles.total(counts).clamp_min(1)
        return torch.log1p(_DEPTH * counts / total.index_select(0, profiles.cell))


class Inputs(nn.Module):
    """The features of cells: LSI, PCA or both side by side; TF-IDF is left sparse.

    Parameters
    ----------
    features
        Which.
    parts
        Fitted or empty `Lsi` as ``lsi``, `Pca` as ``pca`` and `TfIdf` as ``tfidf``, those that there are.
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
        if features == "tfidf":
            tfidf = TfIdf(len(graphs.peaks))
            tfidf.fit(graphs.atac_rows, cells)
            return cls(features, {"tfidf": tfidf})
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
        if features == "tfidf":
            return cls(features, {"tfidf": TfIdf(len(tensors["tfidf.rarity"]))})
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
        """Width of the reduced features; 0 for TF-IDF."""
        parts = (part for part in self.children() if isinstance(part, Components))
        return sum(part.table.shape[1] for part in parts)

    def forward(self, batch: Batch) -> Tensor:
        """Return the reduced features of cells, (cells, width)."""
        return torch.cat([self._part(name)(_profiles(batch, name)) for name in _PARTS[self.features]], 1)

    def weights(self, batch: Batch) -> tuple[Profiles, Tensor]:
        """Return open peaks and their TF-IDF, (nodes,)."""
        profiles = Profiles.peaks(batch)
        return profiles, self._part("tfidf")(profiles)

    @torch.no_grad()
    def of(self, graphs: MultiomeGraphs, cells: Int64) -> Matrix:
        """Return the features of cells (row numbers) of a dataset, a chunk at a time, in float64.

        Returns
        -------
        (cells, width), or a sparse (cells, peaks) for TF-IDF.
        """
        if self.features == "tfidf":
            return weighted_matrix(self._part("tfidf"), graphs.atac_rows, cells)
        rows = {"lsi": graphs.atac_rows, "pca": graphs.rna_rows}
        found = [np.zeros((0, self.width))]
        for begin in range(0, len(cells), _CHUNK):
            some = cells[begin : begin + _CHUNK]
            columns = [self._part(name)(Profiles.of(rows[name], some)) for name in _PARTS[self.features]]
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


def weighted_matrix(weigh: Callable[[Profiles], Tensor], rows: CsrRows, cells: Int64) -> sparse.csr_matrix:
    """Return weights of cells (row numbers) as a sparse float64 matrix (cells, features)."""
    shape, parts = (0, rows.n_columns), []
    for some in Profiles.chunks(rows, cells):
        columns, shape = some.ids.numpy().astype(np.int32), (len(some), rows.n_columns)
        values = weigh(some).double().numpy()
        parts.append(sparse.csr_matrix((values, columns, some.ptr.numpy()), shape=shape))
    return sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix(shape)


def _vary(weighted: sparse.csr_matrix) -> bool:
    """Tell whether any feature differs between cells."""
    mean = np.asarray(weighted.mean(0)).ravel()
    square = np.asarray(weighted.multiply(weighted).mean(0)).ravel()
    return bool((square - mean**2 > _NO_SPREAD * square).any())


def _profiles(batch: Batch, part: str) -> Profiles:
    return Profiles.genes(batch) if part == "pca" else Profiles.peaks(batch)


def _correlation(first: Floats, second: Floats) -> float:
    """Return the correlation of two vectors; 0 where one is constant."""
    first, second = first - first.mean(), second - second.mean()
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / length if length > _NO_SPREAD else 0.0
