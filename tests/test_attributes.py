"""Highly variable genes against scanpy, and where scanpy's LOESS is singular."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

from scweave.generators.attributes import highly_variable
from scweave.graphs.errors import InputError


def counts(n_cells, n_genes, seed=0):
    rng = np.random.default_rng(seed)
    rate = rng.gamma(0.8, 2.0, n_genes) * rng.gamma(5, 0.2, (n_cells, 1))
    return sparse.csr_matrix(rng.negative_binomial(3, 3 / (3 + rate)).astype(np.int32))


def chunked(matrix, size):
    return lambda: (matrix[i : i + size] for i in range(0, matrix.shape[0], size))


def by_scanpy(matrix, n_top):
    data = ad.AnnData(matrix.astype(np.float64))
    return sc.pp.highly_variable_genes(data, flavor="seurat_v3", n_top_genes=n_top, inplace=False)


@pytest.mark.parametrize("size", [7, 64, 1000])
def test_equals_scanpy_however_chunked(size):
    dense = counts(150, 400).toarray()
    dense[:, 5], dense[:, 6] = 0, 3
    matrix = sparse.csr_matrix(dense)
    table, note = highly_variable(chunked(matrix, size), n_genes=400, n_top=100)
    expected = by_scanpy(matrix, 100)
    for name in ("means", "variances", "variances_norm"):
        np.testing.assert_allclose(table[name], expected[name].to_numpy(), rtol=1e-6, atol=1e-12)
    assert (table["highly_variable"].to_numpy() == expected["highly_variable"].to_numpy()).all()
    assert note is None


def test_constant_genes_have_no_variance():
    dense = counts(50, 60).toarray()
    dense[:, 0] = 7
    matrix = sparse.csr_matrix(dense)
    table, _ = highly_variable(chunked(matrix, 9), n_genes=60)
    assert table.loc[0, "variances"] == 0
    assert table.loc[0, "variances_norm"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("n_genes", [0, 1, 2, 3])
def test_too_few_genes_take_the_poisson_rule(n_genes):
    matrix = counts(30, n_genes, seed=1)
    table, note = highly_variable(chunked(matrix, 8), n_genes=n_genes)
    assert note == f"LOESS cannot be fitted to {n_genes} varying genes; expected variance = mean was used"
    dense = matrix.toarray().astype(float)
    clipped = np.minimum(dense, dense.mean(0) + np.sqrt(30) * np.sqrt(dense.mean(0)))
    expected = ((clipped - dense.mean(0)) ** 2).sum(0) / 29 / dense.mean(0)
    np.testing.assert_allclose(table["variances_norm"], expected)
    assert table["highly_variable"].all()


def test_one_cell_is_refused():
    with pytest.raises(InputError, match="at least two cells; found 1"):
        highly_variable(chunked(counts(1, 5), 1), n_genes=5)


def test_real_counts_equal_scanpy(shared_data):
    data = ad.read_h5ad(shared_data / "snareseq_mouse_cortex_rna.h5ad")[:2000]
    matrix = sparse.csr_matrix(data.X)
    table, note = highly_variable(chunked(matrix, 512), n_genes=matrix.shape[1], n_top=500)
    expected = by_scanpy(matrix, 500)
    np.testing.assert_allclose(table["variances_norm"], expected["variances_norm"], rtol=1e-6, atol=1e-12)
    assert (table["highly_variable"].to_numpy() == expected["highly_variable"].to_numpy()).all()
    assert note is None


def test_singular_loess_grows_its_span_and_says_so(shared_data):
    matrix = sparse.csr_matrix(ad.read_h5ad(shared_data / "pbmc_mosim40_rna.h5ad").X)
    with pytest.raises(ValueError, match="singular"):
        by_scanpy(matrix, 2000)
    table, note = highly_variable(chunked(matrix, 16), n_genes=matrix.shape[1])
    assert note == "LOESS was singular at span 0.3 (12,685 genes); span 0.5 was used"
    assert np.isfinite(table.to_numpy(dtype=float)).all()
    assert table["highly_variable"].sum() == 2000
