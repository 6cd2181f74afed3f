"""Reading an experiment: what is streamed equals what was written."""

import shutil
import tracemalloc

import anndata as ad
import h5py
import mudata as md
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from scweave.generators.read import read
from small_pair import CELLS, GENES, N_CELLS, N_GENES, N_PEAKS, PEAKS, counts, modality, stack


def typed(kind):
    def change(data):
        data.var_names = [f"f{i}" for i in range(data.n_vars)]
        data.var["feature_types"] = kind
        return data

    return change


def mixed(kinds):
    data = modality([*GENES, *PEAKS], seed=3)
    data.var["feature_types"] = kinds
    return data


BOTH = ["Gene Expression"] * N_GENES + ["Peaks"] * N_PEAKS


def renamed(names):
    def change(data):
        data.obs_names = names
        return data

    return change


@pytest.mark.parametrize("order", [1, -1])
def test_two_files_in_any_order(pair, order):
    experiment = read(pair()[::order])
    assert experiment.modalities["rna"].path.name == "rna.h5ad"
    assert experiment.barcodes.tolist() == CELLS
    assert (stack(experiment.modalities["rna"], experiment.rows["rna"]) == counts(N_GENES)).all()
    assert (stack(experiment.modalities["atac"], experiment.rows["atac"]) == counts(N_PEAKS, 1)).all()
    assert experiment.report == []


@pytest.mark.parametrize(
    "storage",
    [sparse.csr_matrix, sparse.csc_matrix, np.asarray, lambda x: sparse.csr_matrix(x.astype(np.uint16))],
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(rows=st.lists(st.integers(0, N_CELLS - 1), max_size=40), size=st.integers(1, 50))
def test_chunks_give_the_rows_wanted_in_any_storage(tmp_path, storage, rows, size):
    for name, features, seed in (("rna", GENES, 0), ("atac", PEAKS, 1)):
        modality(features, seed=seed, as_matrix=storage).write_h5ad(tmp_path / f"{name}.h5ad")
    experiment = read([tmp_path / "rna.h5ad", tmp_path / "atac.h5ad"])
    chunks = list(experiment.modalities["atac"].chunks(np.array(rows, dtype=np.int64), size=size))
    assert [chunk.shape[0] for chunk in chunks] == [
        len(rows[i : i + size]) for i in range(0, len(rows), size)
    ]
    for i, chunk in enumerate(chunks):
        assert (chunk.toarray() == counts(N_PEAKS, 1)[rows[i * size : (i + 1) * size]]).all()
        assert chunk.data.dtype == chunk.indices.dtype == np.int32
        assert chunk.has_sorted_indices
        assert (chunk.data > 0).all()


def test_far_rows_are_read_in_runs(pair, monkeypatch):
    monkeypatch.setattr("scweave.generators.files.storage._GAP", 3)
    monkeypatch.setattr("scweave.generators.files.storage._DENSE", 3 * N_PEAKS)
    for storage in (sparse.csr_matrix, np.asarray):
        experiment = read(pair(change_atac=lambda _, s=storage: modality(PEAKS, seed=1, as_matrix=s)))
        rows = np.array([29, 0, 15, 16, 2, 2])
        assert (stack(experiment.modalities["atac"], rows) == counts(N_PEAKS, 1)[rows]).all()


def test_stored_zeros_and_unsorted_or_split_entries_are_cleaned(pair):
    def change(data):
        # cell0 holds peak 3 twice, peak 1 after it, and a stored zero at peak 5.
        indptr = np.concatenate([[0], np.full(N_CELLS, 4)])
        data.X = sparse.csr_matrix(
            (np.array([1, 1, 2, 0], np.float32), np.array([3, 3, 1, 5]), indptr), shape=data.shape
        )
        return data

    experiment = read(pair(change_atac=change))
    chunk = next(experiment.modalities["atac"].chunks(np.array([0])))
    assert (chunk.indices.tolist(), chunk.data.tolist()) == ([1, 3], [2, 2])


def test_memory_does_not_grow_with_cells(tmp_path):
    def peak_bytes(n_cells):
        matrix = sparse.random(n_cells, 500, density=0.2, format="csr", random_state=0, dtype=np.float32)
        matrix.data[:] = 1
        for name, features in (
            ("rna", [f"G{i}" for i in range(500)]),
            ("atac", [f"chr1:{i}-{i + 1}" for i in range(500)]),
        ):
            data = ad.AnnData(matrix)
            data.obs_names, data.var_names = [f"c{i}" for i in range(n_cells)], features
            data.write_h5ad(tmp_path / f"{name}.h5ad")
        experiment = read([tmp_path / "rna.h5ad", tmp_path / "atac.h5ad"])
        tracemalloc.start()
        assert (
            sum(chunk.nnz for chunk in experiment.modalities["rna"].chunks(experiment.rows["rna"], size=200))
            == matrix.nnz
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(8000) < 1.2 * peak_bytes(1000)


def test_barcodes_are_matched_by_name(pair):
    rng = np.random.default_rng(0)
    order = rng.permutation(N_CELLS)[:25]
    experiment = read(pair(lambda data: data[:28].copy(), lambda data: data[order].copy()))
    shared = [cell for cell in CELLS[:28] if cell in set(np.array(CELLS)[order])]
    assert experiment.barcodes.tolist() == shared
    rows = [CELLS.index(cell) for cell in shared]
    assert (
        stack(experiment.modalities["atac"], experiment.rows["atac"], size=7) == counts(N_PEAKS, 1)[rows]
    ).all()
    assert experiment.report == [
        f"{28 - len(shared)} of 28 RNA cells have no partner: dropped",
        f"{25 - len(shared)} of 25 ATAC cells have no partner: dropped",
    ]


def test_obs_is_merged_and_conflicts_are_reported(pair):
    def rna(data):
        data.obs["type"] = pd.Categorical(["a", "b", "c"] * 10)
        data.obs["depth"] = np.arange(N_CELLS)
        return data[data.obs["type"] != "c"].copy()

    def atac(data):
        data.obs["type"] = pd.Categorical(["a", "b", "c"] * 10, categories=["c", "b", "a", "never"])
        data.obs["depth"] = np.arange(N_CELLS) + (np.arange(N_CELLS) == 4)
        data.obs["site"] = pd.Categorical(["s1", "s1", "s2"] * 10)
        return data

    experiment = read(pair(rna, atac))
    assert experiment.obs["type"].cat.categories.tolist() == ["a", "b"]
    assert experiment.obs["site"].cat.categories.tolist() == ["s1"]
    assert experiment.obs.index.equals(experiment.barcodes)
    assert experiment.report == [
        "10 of 30 ATAC cells have no partner: dropped",
        "obs column 'depth' differs from the ATAC file's in 1 of 20 cells: the first is kept",
    ]


@pytest.mark.parametrize("names", [("rna", "atac"), ("gex", "peaks")])
def test_h5mu(tmp_path, names):
    rna, atac = modality(GENES, genome="hg38"), modality(PEAKS, seed=1)
    rna.obs["type"] = "a"
    with md.set_options(pull_on_update=False):
        data = md.MuData({names[0]: rna, names[1]: atac[::-1].copy()})
        data.obs["donor"] = pd.Series([f"d{i}" for i in range(N_CELLS)], index=CELLS)
        data.obs["rna:type"] = "copy"
        data.write(tmp_path / "both.h5mu")
    experiment = read([tmp_path / "both.h5mu"])
    assert experiment.modalities["rna"].storage.place == f"mod/{names[0]}/X"
    assert experiment.genome == "hg38"
    assert sorted(experiment.obs.columns) == ["donor", "type"]
    assert experiment.obs["donor"].tolist() == [f"d{i}" for i in range(N_CELLS)]
    assert (stack(experiment.modalities["atac"], experiment.rows["atac"]) == counts(N_PEAKS, 1)).all()


@pytest.mark.parametrize(("key", "features"), [("rna", GENES), ("peaks", PEAKS), ("unnamed", PEAKS)])
def test_h5mu_of_one_modality(tmp_path, key, features):
    with md.set_options(pull_on_update=False):
        md.MuData({key: modality(features)}).write(tmp_path / "one.h5mu")
    experiment = read([tmp_path / "one.h5mu"])
    assert list(experiment.modalities) == ["rna" if features is GENES else "atac"]
    assert len(experiment.barcodes) == N_CELLS


def test_further_modalities_of_h5mu_are_told(tmp_path):
    with md.set_options(pull_on_update=False):
        parts = {"rna": modality(GENES), "atac": modality(PEAKS), "prot": modality(["CD3"])}
        md.MuData(parts).write(tmp_path / "three.h5mu")
    assert read([tmp_path / "three.h5mu"]).report == ["modalities of three.h5mu ignored: prot"]


def test_feature_types_tell_the_modalities_apart(pair):
    experiment = read(pair(typed("Gene Expression"), typed("Peaks")))
    assert (experiment.modalities["rna"].path.name, experiment.modalities["atac"].path.name) == (
        "rna.h5ad",
        "atac.h5ad",
    )


@pytest.mark.parametrize("as_matrix", [sparse.csr_matrix, sparse.csc_matrix, np.asarray])
def test_one_h5ad_may_hold_genes_and_peaks(tmp_path, as_matrix):
    order = np.random.default_rng(0).permutation(N_GENES + N_PEAKS)
    data = mixed(BOTH)[:, order].copy()
    data.X = as_matrix(data.X.toarray())
    data.write_h5ad(tmp_path / "both.h5ad")
    experiment = read([tmp_path / "both.h5ad"])
    for name, modality_ in experiment.modalities.items():
        expected = data[:, modality_.var.index].X
        expected = expected.toarray() if sparse.issparse(expected) else expected
        assert modality_.var.index.tolist() == [f for f in data.var_names if (f in GENES) == (name == "rna")]
        assert (stack(modality_, experiment.rows[name], 7) == expected).all()
        assert modality_.stored >= expected.size - (expected == 0).sum()
    assert experiment.report == []


def test_features_of_other_types_are_ignored_and_their_values_are_free(tmp_path):
    data = mixed(["Gene Expression"] * 10 + ["Antibody Capture", "CRISPR Guide Capture"] + ["Peaks"] * 20)
    data.X.data[data.X.indices == 10] = 0.5
    data.write_h5ad(tmp_path / "both.h5ad")
    experiment = read([tmp_path / "both.h5ad"])
    assert len(experiment.modalities["rna"].var) == 10
    assert (stack(experiment.modalities["rna"], np.arange(30)) == counts(32, 3)[:, :10]).all()
    assert experiment.report == [
        "2 of 32 features in both.h5ad ignored: Antibody Capture (1), CRISPR Guide Capture (1)"
    ]


def test_one_modality_alone(pair):
    for path, name, n in zip(pair(), ("rna", "atac"), (N_GENES, N_PEAKS), strict=True):
        experiment = read([path])
        assert list(experiment.modalities) == list(experiment.rows) == [name]
        assert experiment.barcodes.tolist() == CELLS
        assert (stack(experiment.modalities[name], experiment.rows[name]) == counts(n, n == N_PEAKS)).all()


def test_columns_of_published_files_name_and_describe_features(pair):
    def rna(data):
        data.var = pd.DataFrame({"gene": GENES, "_": "+"}, index=[str(i) for i in range(N_GENES)])
        return data

    def atac(data):
        data.var = pd.DataFrame({"peak": PEAKS}, index=[str(i) for i in range(N_PEAKS)])
        return data

    experiment = read(
        pair(rna, atac), feature_names={"rna": "gene", "atac": "peak"}, renamed={"_": "strand", "no": "x"}
    )
    assert experiment.modalities["rna"].var.index.tolist() == GENES
    assert experiment.modalities["atac"].var.index.tolist() == PEAKS
    assert experiment.modalities["rna"].var.columns.tolist() == ["gene", "strand"]
    assert experiment.report == [
        "column '_' of var in rna.h5ad read as 'strand'",
        "names of RNA features in rna.h5ad taken from var['gene']",
        "names of ATAC features in atac.h5ad taken from var['peak']",
    ]
    plain = read(pair(), feature_names={"rna": "gene", "atac": "peak"})
    assert (plain.modalities["rna"].var.index.tolist(), plain.report) == (GENES, [])


def test_real_pair_is_matched_whatever_the_order(shared_data):
    paths = [shared_data / f"snareseq_mouse_cortex_{name}.h5ad" for name in ("atac", "rna")]
    experiment = read(paths)
    assert len(experiment.barcodes) == 10_309
    assert experiment.modalities["rna"].var.shape[0] == 1_677
    assert experiment.obs["cell_type"].nunique() == 23
    assert experiment.genome == "mm10"
    rows = experiment.rows["atac"][[5000, 3, 9999]]
    expected = ad.read_h5ad(paths[0])[experiment.barcodes[[5000, 3, 9999]]].X.toarray()
    assert (stack(experiment.modalities["atac"], rows) == expected).all()


def test_real_pair_with_shuffled_cells_is_matched_by_name(shared_data, tmp_path):
    rna, atac = (ad.read_h5ad(shared_data / f"bmmc_starterA_{name}.h5ad") for name in ("rna", "atac"))
    order = np.random.default_rng(0).permutation(500)[:400]
    atac[order].copy().write_h5ad(tmp_path / "atac.h5ad")
    shutil.copy(shared_data / "bmmc_starterA_rna.h5ad", tmp_path / "rna.h5ad")
    experiment = read([tmp_path / "rna.h5ad", tmp_path / "atac.h5ad"])
    assert experiment.barcodes.tolist() == [
        name for name in rna.obs_names if name in set(atac.obs_names[order])
    ]
    assert (
        stack(experiment.modalities["atac"], experiment.rows["atac"], 64)
        == atac[experiment.barcodes].X.toarray()
    ).all()
    assert experiment.report[0] == "100 of 500 RNA cells have no partner: dropped"


def test_missing_values_of_nullable_columns_are_compared(pair):
    def change(values):
        def with_column(data):
            data.obs["age"] = pd.array(values * (N_CELLS // 3), dtype="Int64")
            return data

        return with_column

    report = read(pair(change([1, None, 3]), change([1, None, None]))).report
    assert report == [
        f"obs column 'age' differs from the ATAC file's in {N_CELLS // 3} of {N_CELLS} cells: the first is kept"
    ]


@pytest.mark.parametrize("dtype", [np.float16, ">f4", ">i4"])
def test_half_precision_and_foreign_byte_order_are_read(tmp_path, pair, dtype):
    paths = pair()
    with h5py.File(paths[0], "r+") as file:
        values = file["X/data"][:].astype(dtype)
        del file["X/data"]
        file["X/data"] = values
    data = modality(PEAKS, seed=1, as_matrix=np.asarray)
    data.write_h5ad(paths[1])
    with h5py.File(paths[1], "r+") as file:
        attributes = dict(file["X"].attrs)
        values = file["X"][:].astype(dtype)
        del file["X"]
        file["X"] = values
        file["X"].attrs.update(attributes)
    experiment = read(paths)
    for name, features, seed in (("rna", GENES, 0), ("atac", PEAKS, 1)):
        found = stack(experiment.modalities[name], experiment.rows[name])
        assert (found == counts(len(features), seed)).all()
