"""Where islands lie among each other: truncated SVD of the training cells' islands."""

from __future__ import annotations

from collections.abc import Sequence
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


def island_positions(
    islands: Islands, graphs: Sequence[MultiomeGraphs], width: int, *, seed: int = 0
) -> tuple[Tensor, int]:
    """Return vectors of islands that tell which are open in the same cells.

    They are the right singular vectors of the (cells, islands) matrix of values times the singular values
    (a randomised SVD of the sparse matrix), all divided by one number so that the mean square of
    what is not zero-padded is 1.

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

    Returns
    -------
    (islands, width), of which columns beyond the rank are 0; and the rank used.
    """
    values = _matrix(islands, graphs, seed)
    rank = min(width, *values.shape)
    _, scale, vectors = randomized_svd(values, rank, random_state=seed)
    rank = int((scale > _RANK * max(scale[0], 1e-12)).sum())
    table = vectors[:rank].T * scale[:rank]
    table /= max(np.sqrt(np.mean(table**2)) if rank else 0.0, 1e-12)
    padded = torch.zeros(len(islands), width)
    padded[:, :rank] = torch.from_numpy(table.astype(np.float32))
    return padded, rank


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
    arrays = found.counts.numpy(), found.ids.numpy(), found.ptr.numpy()
    return sparse.csr_matrix(arrays, shape=(len(found), n_islands))
