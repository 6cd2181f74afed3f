"""ProfileEncoder: the counts of one modality of a cell to a vector, at the cost of its non-zeros."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from torch import Tensor, nn

from ...graphs.csr import CsrRows
from .profiles import DEPTHS, Profiles

Int64 = NDArray[np.int64]
Weighting = Literal["sqrt", "tf-idf"]

_MOST = 5_000  # training cells that the components are fitted on
_LEAST_SPREAD = 1e-3  # of a component, beside the widest


class ProfileEncoder(nn.Module):
    """Feature vectors summed by counts of unit length, then a linear map beside a small network.

    The feature vectors are principal components of the training cells, scaled to unit variance over
    cells, plus a trained change; sequencing depth stands beside their sum.

    Parameters
    ----------
    n_features
        Number of genes or peaks.
    components
        Width of the feature vectors.
    width
        Width of the encoding.
    hidden
        Width of the network.
    weighting
        ``sqrt``: √count; ``tf-idf``: ln(1 + count) · ln(1 + cells / cells that have the feature).
    token_dropout, dropout
        Shares of a cell's features, and of its summed vector, that are left out in training.
    """

    def __init__(
        self,
        n_features: int,
        components: int,
        width: int,
        *,
        hidden: int = 128,
        weighting: Weighting = "tf-idf",
        token_dropout: float = 0.2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.weighting, self.token_dropout = weighting, token_dropout
        self.rarity: Tensor
        self.table: Tensor
        self.centre: Tensor
        self.depth_centre: Tensor
        self.depth_scale: Tensor
        self.register_buffer("rarity", torch.ones(n_features))
        self.register_buffer("table", torch.zeros(n_features, components))
        self.register_buffer("centre", torch.zeros(components))
        self.register_buffer("depth_centre", torch.zeros(DEPTHS))
        self.register_buffer("depth_scale", torch.ones(DEPTHS))
        self.change = nn.Parameter(torch.zeros(n_features, components))
        inner = components + DEPTHS
        self.drop = nn.Dropout(dropout)
        self.linear = nn.Linear(inner, width)
        last = nn.Linear(hidden, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(nn.Linear(inner, hidden), nn.GELU(), nn.Dropout(dropout), last)

    @torch.no_grad()
    def fit_components(self, rows: CsrRows, train: Int64, *, seed: int) -> None:
        """Take feature vectors, means and scales from training cells."""
        some = np.sort(np.random.default_rng([seed, 3]).permutation(train)[:_MOST])
        if self.weighting == "tf-idf":
            seen = sum(torch.bincount(c.ids, minlength=rows.n_columns) for c in Profiles.chunks(rows, some))
            rarity = torch.log1p(len(some) / torch.as_tensor(seen).clamp_min(1))
            self.rarity.copy_(rarity * (torch.as_tensor(seen) > 0))  # an unseen feature has no vector
        weighted = sparse.vstack([self._matrix(c) for c in Profiles.chunks(rows, some)], format="csr")
        used = max(1, min(self.table.shape[1], min(weighted.shape) - 1))
        svd = TruncatedSVD(used, random_state=seed).fit(weighted)
        sums = torch.from_numpy(weighted @ svd.components_.T)
        scale = sums.std(0, correction=0)
        # Where cells are copies of few, the last components hold nothing: scaled up, they would be noise.
        scale = torch.where(scale > _LEAST_SPREAD * scale.max().clamp_min(1e-6), scale, torch.inf)
        self.table[:, :used] = torch.from_numpy(svd.components_.T) / scale
        self.centre[:used] = (sums / scale).mean(0)
        depths = torch.cat([c.depths() for c in Profiles.chunks(rows, some)])
        self.depth_centre.copy_(depths.mean(0))
        self.depth_scale.copy_(depths.std(0, correction=0).clamp_min(1e-6))

    def _matrix(self, profiles: Profiles) -> sparse.csr_matrix:
        """Weights of cells as a sparse matrix of half the bytes of its tensors."""
        values = self.values(profiles, drop=0).numpy()
        columns = profiles.ids.numpy().astype(np.int32)
        shape = (len(profiles), len(self.rarity))
        return sparse.csr_matrix((values, columns, profiles.ptr.numpy()), shape=shape)

    @torch.no_grad()
    def start_linear(self, linear: Tensor) -> None:
        """Begin with a linear map (components + 2, up to width); the network adds nothing yet."""
        self.linear.weight.zero_()
        self.linear.bias.zero_()
        self.linear.weight[: linear.shape[1]] = linear.T.to(self.linear.weight.dtype)

    def values(self, profiles: Profiles, *, drop: float) -> Tensor:
        """Return the weight of each node, (nodes,), of unit length a cell; a share ``drop`` weighs nothing."""
        counts = profiles.counts.to(self.table.dtype)
        values = (
            counts.sqrt()
            if self.weighting == "sqrt"
            else counts.log1p() * self.rarity.index_select(0, profiles.ids)
        )
        if drop:
            values = values * (torch.rand_like(values) >= drop)
        length = profiles.total(values * values).clamp_min(1e-12).sqrt()
        return values / length.index_select(0, profiles.cell)

    def position(self, profiles: Profiles) -> Tensor:
        """Return cells on the principal components, standardised, (cells, components); nothing is dropped."""
        return profiles.bag(self.values(profiles, drop=0), self.table) - self.centre

    def depths(self, profiles: Profiles) -> Tensor:
        """Return standardised depths, (cells, 2)."""
        return (profiles.depths().to(self.table.dtype) - self.depth_centre) / self.depth_scale

    def features(self, profiles: Profiles) -> Tensor:
        """Return what the two maps read, (cells, components + 2)."""
        values = self.values(profiles, drop=self.token_dropout if self.training else 0)
        summed = profiles.bag(values, self.table + self.change) - self.centre
        return torch.cat([summed, self.depths(profiles)], 1)

    @torch.no_grad()
    def features_of(self, rows: CsrRows, cells: Int64) -> Tensor:
        """Return the features of many cells of a dataset, read some at a time."""
        return torch.cat([self.features(some) for some in Profiles.chunks(rows, cells)])

    def forward(self, profiles: Profiles) -> Tensor:
        """Encode cells, (cells, width)."""
        features = self.drop(self.features(profiles))
        encoded: Tensor = self.linear(features) + self.network(features)
        return encoded
