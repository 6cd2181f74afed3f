"""Where islands lie among each other: truncated SVD of the training cells' islands, and how often they are open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from ...graphs.dataset import MultiomeGraphs
from ..layers.profiles import Profiles
from .islands import Islands

_MOST: Final = 20_000  # cells that the SVD is fitted on
_RANK: Final = 1e-6  # singular values below, as a share of the largest, are rounding


@dataclass(frozen=True)
class IslandPlaces:
    """What training cells tell of islands without labels.

    Attributes
    ----------
    positions
        (islands, width), vectors of islands; columns beyond ``rank`` are 0.
    openness
        (islands,) share of the cells in which each is open.
    rank
        Of the matrix of values, up to the width.
    """

    positions: Tensor
    openness: Tensor
    rank: int


def island_places(
    islands: Islands, graphs: Sequence[MultiomeGraphs], width: int, *, seed: int = 0
) -> IslandPlaces:
    """Find which islands are open in the same cells.

    Their vectors are the right singular vectors of the (cells, islands) matrix of values (a randomised SVD
    of the sparse matrix), times √islands, so that the mean square of a column is 1.

    Parameters
    ----------
    islands
        Placed on the data sets, in their order.
    graphs
        Training cells of the data sets.
    width
        Numbers an island.
    seed
        Decides the randomised SVD, and which cells are taken where there are more than 20,000.
    """
    values = _matrix(islands, graphs, seed)
    rank = min(width, *values.shape)
    _, scale, vectors = randomized_svd(values, rank, random_state=seed)
    rank = int((scale > _RANK * max(scale[0], 1e-12)).sum())
    padded = torch.zeros(len(islands), width)
    padded[:, :rank] = torch.from_numpy(vectors[:rank].T * np.float32(np.sqrt(len(islands))))
    openness = np.bincount(values.indices, minlength=len(islands)) / max(values.shape[0], 1)
    return IslandPlaces(padded, torch.from_numpy(openness.astype(np.float32)), rank)


def _matrix(islands: Islands, graphs: Sequence[MultiomeGraphs], seed: int) -> sparse.csr_matrix:
    """Collect the values of training cells, (cells, islands)."""
    total = sum(len(some) for some in graphs)
    rng = np.random.default_rng([seed, 7])
    parts = []
    for source, some in enumerate(graphs):
        _, cells = some.pairs_of(range(len(some)))
        share = min(1.0, _MOST / max(total, 1))
        kept = np.sort(rng.permutation(cells)[: round(share * len(cells))])
        parts += [_rows(islands.read(p, source), len(islands)) for p in Profiles.chunks(some.atac_rows, kept)]
    stacked: sparse.csr_matrix = sparse.vstack(parts, format="csr", dtype=np.float32)
    return stacked


def _rows(found: Profiles, n_islands: int) -> sparse.csr_matrix:
    arrays = found.counts.numpy(), found.ids.numpy().astype(np.int32), found.ptr.numpy()
    return sparse.csr_matrix(arrays, shape=(len(found), n_islands))
