"""A small RNA/ATAC pair of random counts, and reading it back."""

import anndata as ad
import numpy as np
from scipy import sparse

N_CELLS, N_GENES, N_PEAKS = 30, 12, 20


GENES = [f"GENE{i}" for i in range(N_GENES)]


PEAKS = [f"chr1:{100 * i}-{100 * i + 50}" for i in range(N_PEAKS)]


CELLS = [f"cell{i}" for i in range(N_CELLS)]


def counts(n_features, seed=0):
    rng = np.random.default_rng(seed)
    return rng.poisson(0.7, (N_CELLS, n_features)).astype(np.float32)


def modality(features, *, seed=0, as_matrix=sparse.csr_matrix, **uns):
    data = ad.AnnData(as_matrix(counts(len(features), seed)), uns=uns)
    data.obs_names, data.var_names = CELLS, features
    return data


def with_values(values):
    def change(data):
        data.X = data.X.copy()
        data.X.data[: len(values)] = values
        return data

    return change


def stack(modality_, rows, size=2048):
    return sparse.vstack(list(modality_.chunks(rows, size=size))).toarray()
