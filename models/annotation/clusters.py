"""How well an embedding parts the types: clusters of its cells against their labels."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from .draws import stratified

Floats = NDArray[np.floating[Any]]
Int64 = NDArray[np.int64]

_MOST: Final = 5_000  # cells that are clustered
_STARTS: Final = 4


def cluster_metrics(embedding: Floats, codes: Int64, *, seed: int = 0) -> dict[str, float | None]:
    """Return the agreement of types with k-means clusters of an embedding, as many as cells have types.

    Parameters
    ----------
    embedding
        (cells, width).
    codes
        (cells,) types, none negative.
    seed
        Decides the first centres and, of more than 5,000 cells, which are clustered.

    Returns
    -------
    ``nmi`` (normalised mutual information, arithmetic mean), ``ari`` (adjusted Rand index) and ``purity``, the
    share of cells that are of the commonest type of their cluster; None for fewer than two types.
    """
    some = stratified(codes, _MOST, seed)
    embedding, codes = embedding[some], codes[some]
    n_types = len(np.unique(codes))
    if n_types < 2:
        return {"nmi": None, "ari": None, "purity": None}
    distinct = len(np.unique(embedding, axis=0))
    k = min(n_types, distinct)
    clusters = KMeans(k, n_init=_STARTS, random_state=seed).fit_predict(embedding)
    pairs = np.zeros((k, codes.max() + 1), np.int64)
    np.add.at(pairs, (clusters, codes), 1)
    return {
        "nmi": float(normalized_mutual_info_score(codes, clusters)),
        "ari": float(adjusted_rand_score(codes, clusters)),
        "purity": float(pairs.max(1).sum() / len(codes)),
    }
