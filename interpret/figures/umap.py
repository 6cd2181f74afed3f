"""Cells in two dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from warnings import catch_warnings, simplefilter

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import SparseEfficiencyWarning

from ...graphs.errors import InputError

Floats = NDArray[np.floating[Any]]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_FEWEST: Final = 4  # cells that can be laid out


def umap_of(embedding: Floats, *, most: int = 5000, seed: int = 0) -> tuple[Int64, Float64] | None:
    """Lay cells out in two dimensions by UMAP (McInnes et al., 2018).

    Parameters
    ----------
    embedding
        (cells, width).
    most
        Cells to lay out, drawn at random where there are more.
    seed
        Decides the cells drawn and the layout.

    Returns
    -------
    Places of the cells laid out, ascending, and their points (cells, 2); None for fewer than four cells.

    Raises
    ------
    InputError
        The embedding is not finite.
    """
    wrong = int((~np.isfinite(embedding)).any(1).sum())
    if wrong:
        raise InputError(
            f"{wrong:,} of {len(embedding):,} cells have an embedding that is not finite. Train again."
        )
    if min(len(embedding), most) < _FEWEST:
        return None
    # Slow to import, and needed here alone.
    import scanpy as sc
    from anndata import AnnData

    drawn = np.random.default_rng(seed).permutation(len(embedding))[:most]
    cells = np.sort(drawn).astype(np.int64)
    data = AnnData(np.asarray(embedding[cells], dtype=np.float32))
    with catch_warnings(), _torch_threads():
        # Cells that are exactly alike are not their own nearest neighbours, which scanpy repairs slowly.
        simplefilter("ignore", SparseEfficiencyWarning)
        sc.pp.neighbors(data, n_neighbors=min(15, len(cells) - 1), use_rep="X", random_state=seed)
        sc.tl.umap(data, random_state=seed)
    return cells, data.obsm["X_umap"].astype(np.float64)


@contextmanager
def _torch_threads() -> Iterator[None]:
    """Keep torch's number of threads, which numba changes: the bits of later trainings depend on it."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
