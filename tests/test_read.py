"""Reading an experiment: what is streamed equals what was written, and bad input is told."""

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
from scweave.graphs.errors import InputError

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


@pytest.fixture
def pair(tmp_path):
    """Write two h5ad files after changing them; give their paths."""

    def write(change_rna=lambda data: data, change_atac=lambda data: data):
        paths = [tmp_path / "rna.h5ad", tmp_path / "atac.h5ad"]
        change_rna(modality(GENES)).write_h5ad(paths[0])
        change_atac(modality(PEAKS, seed=1)).write_h5ad(paths[1])
        return paths

    return write


def with_values(values):
    def change(data):
        data.X = data.X.copy()
        data.X.data[: len(values)] = values
        return data

    return change


def stack(modality_, rows, size=2048):
    return sparse.vstack(list(modality_.chunks(rows, size=size))).toarray()


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


def test_h5mu_says_which_modalities_there_are(tmp_path):
    with md.set_options(pull_on_update=False):
        md.MuData({"rna": modality(GENES), "prot": modality(PEAKS)}).write(tmp_path / "both.h5mu")
    with pytest.raises(
        InputError, match=r"both\.h5mu has 0 modalities that are ATAC \(it has: prot, rna\)\. Name"
    ):
        read([tmp_path / "both.h5mu"])


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


def add_layer(data):
    data.layers["counts"] = data.X.copy()
    data.X = data.X * 0.5
    return data


def test_layers(pair):
    paths = pair(add_layer, add_layer)
    experiment = read(paths, layer="counts")
    assert (stack(experiment.modalities["rna"], experiment.rows["rna"]) == counts(N_GENES)).all()
    with pytest.raises(InputError, match=r"not counts.*--layer \(layers here: counts\)"):
        read(paths)
    with pytest.raises(
        InputError, match=r"rna\.h5ad has no layer 'raw' for RNA \(layers here: counts\)\. Pass one"
    ):
        read(paths, layer="raw")


def test_layer_of_one_modality_only(pair):
    paths = pair(add_layer)
    with pytest.raises(
        InputError, match=r"atac\.h5ad has no layer 'counts' for ATAC .* --layer rna:counts if"
    ):
        read(paths, layer="counts")
    experiment = read(paths, layer="rna:counts")
    assert (experiment.modalities["rna"].storage.place, experiment.modalities["atac"].storage.place) == (
        "layers/counts",
        "X",
    )


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            [0.69, 1.1],
            r"values of X in rna\.h5ad are not counts: 2 of 203 non-zeros .*0\.69, 1\.1\), maximum .*log-normalised",
        ),
        ([50.5], r"maximum 50\.5\. This looks normalised"),
        ([-2.0], r"are negative \(for example -2\)\. This looks scaled\. Pass raw counts"),
        ([np.nan], r"1 of [0-9]+ values are NaN or infinite"),
        ([np.inf], r"1 of [0-9]+ values are NaN or infinite"),
        ([3e9], r"the maximum is 3e\+09, more than an int32 holds"),
    ],
)
def test_what_is_no_count_is_measured(pair, values, told):
    with pytest.raises(InputError, match=told):
        read(pair(with_values(values)))


def test_bad_cells_outside_the_sample_are_found_while_streaming(pair, monkeypatch):
    monkeypatch.setattr("scweave.generators.files.storage._SAMPLE", 2)
    experiment = read(pair(with_values([0.5])))
    with pytest.raises(InputError, match=r"values of X in rna\.h5ad are not counts"):
        list(experiment.modalities["rna"].chunks(experiment.rows["rna"], size=4))


def named(features):
    def change(data):
        data.var_names = features
        return data

    return change


def typed(kind):
    def change(data):
        data.var_names = [f"f{i}" for i in range(data.n_vars)]
        data.var["feature_types"] = kind
        return data

    return change


def test_feature_types_tell_the_modalities_apart(pair):
    experiment = read(pair(typed("Gene Expression"), typed("Peaks")))
    assert (experiment.modalities["rna"].path.name, experiment.modalities["atac"].path.name) == (
        "rna.h5ad",
        "atac.h5ad",
    )


def test_two_of_one_kind_are_refused(pair):
    told = r"cannot tell which file is RNA .*: too many matrices, 2 look like RNA \(rna\.h5ad: rna, features GENE0.*atac\.h5ad: rna.*Pass one of each"
    with pytest.raises(InputError, match=told):
        read(pair(change_atac=named([f"g{i}" for i in range(N_PEAKS)])))


def mixed(kinds):
    data = modality([*GENES, *PEAKS], seed=3)
    data.var["feature_types"] = kinds
    return data


BOTH = ["Gene Expression"] * N_GENES + ["Peaks"] * N_PEAKS


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


def test_unknown_types_of_features_are_told(pair):
    told = r"no feature of rna\.h5ad is a gene or a peak: its feature_types are Antibody Capture \(12\)\. Set"
    with pytest.raises(InputError, match=told):
        read(pair(typed("Antibody Capture")))


def test_one_modality_alone(pair):
    for path, name, n in zip(pair(), ("rna", "atac"), (N_GENES, N_PEAKS), strict=True):
        experiment = read([path])
        assert list(experiment.modalities) == list(experiment.rows) == [name]
        assert experiment.barcodes.tolist() == CELLS
        assert (stack(experiment.modalities[name], experiment.rows[name]) == counts(n, n == N_PEAKS)).all()


def test_one_unclear_file_alone_is_refused(pair):
    def change(data):
        data.var_names = [f"f{i}" for i in range(N_PEAKS)]
        data.var["interval"] = "?"
        return data

    with pytest.raises(
        InputError, match=r"do not tell \(atac\.h5ad: unclear, features f0, f1\)\. Pass one of"
    ):
        read(pair(change_atac=change)[1:])
    assert list(read(pair(change_atac=change)).modalities) == ["rna", "atac"]


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


def renamed(names):
    def change(data):
        data.obs_names = names
        return data

    return change


def test_no_shared_barcode_shows_both(pair):
    told = r"no barcode is in both .*RNA: cell0, cell1 …; ATAC: x0, x1 …\)\. Rename"
    with pytest.raises(InputError, match=told):
        read(pair(change_atac=renamed([f"x{i}" for i in range(N_CELLS)])))


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_repeated_barcodes_are_named(pair):
    told = r"1 of 30 ATAC barcodes in atac\.h5ad repeat another \(cell0\)\. Make them unique"
    with pytest.raises(InputError, match=told):
        read(pair(change_atac=renamed(["cell0", *CELLS[:-1]])))


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_repeated_genes_need_ids(pair):
    repeated = named(["GENE1", *GENES[1:]])
    with pytest.raises(
        InputError, match=r"1 of 12 gene names in rna\.h5ad repeat another \(GENE1\)\. Make.*gene_ids"
    ):
        read(pair(repeated))

    def with_ids(data):
        data.var["gene_ids"] = [f"ENSG{i}" for i in range(N_GENES)]
        return repeated(data)

    assert read(pair(with_ids)).report == [
        "1 of 12 gene names in rna.h5ad repeat another (GENE1); var['gene_ids'] tells them apart"
    ]


@pytest.mark.parametrize(("other", "agrees"), [("hg38", True), ("GRCh38", True), ("mm10", False)])
def test_genomes_must_agree(pair, other, agrees):
    def of(genome):
        return lambda data: ad.AnnData(data.X, data.obs, data.var, uns={"genome": genome})

    paths = pair(of("hg38"), of(other))
    if agrees:
        assert read(paths).modalities["atac"].genome == other
    else:
        with pytest.raises(
            InputError, match=r"uns\['genome'\] is hg38 in rna\.h5ad \(RNA\) but mm10 in atac\.h5ad"
        ):
            read(paths)


def test_missing_file_and_folder_are_told(pair, tmp_path):
    paths = pair()
    with pytest.raises(InputError, match=r"none\.h5ad does not exist\. Pass"):
        read([paths[0], tmp_path / "none.h5ad"])
    with pytest.raises(InputError, match=r"has no matrix\.mtx\.gz or matrix\.mtx \(it has: atac.*Pass"):
        read([paths[0], tmp_path])
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match=r"set is a scweave dataset, built already\. Train on it"):
        read([str(tmp_path / "set")])
    (tmp_path / "matrix.mtx").write_text("")
    with pytest.raises(InputError, match=r"matrix\.mtx is a matrix without names\. Pass its folder"):
        read([tmp_path / "matrix.mtx"])


def test_nothing_or_too_much_is_told(pair):
    with pytest.raises(InputError, match=r"input is nothing\. Pass one \.h5mu"):
        read([])
    paths = pair()
    with pytest.raises(
        InputError, match=r"too many matrices, 2 look like ATAC \(rna\.h5ad: rna, .*Pass one of"
    ):
        read([*paths, paths[1]])


def test_truncated_and_foreign_files_are_told(pair):
    paths = pair()
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"atac\.h5ad cannot be opened as HDF5 .*truncated"):
        read(paths)
    paths[1].write_text("barcode,count\n")
    with pytest.raises(InputError, match=r"atac\.h5ad cannot be opened as HDF5 .*no \.h5ad/\.h5mu"):
        read(paths)
    with h5py.File(paths[1], "w") as file:
        file["matrix"] = 1
    with pytest.raises(InputError, match=r"atac\.h5ad is HDF5 but no AnnData: it has matrix"):
        read(paths)


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def replace_indices(file):
    file["X/indices"][:] = 10_000


def shorten_data(file):
    values = file["X/data"][:10]
    del file["X/data"]
    file["X/data"] = values


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda file: file.__delitem__("X"),
            r"atac\.h5ad has no matrix X \(layers here: none\)\. Name the layer",
        ),
        (
            lambda file: file["X"].attrs.__setitem__("encoding-type", "odd"),
            r"X in atac\.h5ad is stored as 'odd'",
        ),
        (
            lambda file: file["X"].attrs.__setitem__("shape", [3, 3]),
            r"X in atac\.h5ad has shape \(3, 3\).*\(30, 20\)",
        ),
        (lambda file: file.__delitem__("X/indices"), r"X in atac\.h5ad cannot be read"),
        (lambda file: file["var"].attrs.__delitem__("_index"), r"var in atac\.h5ad cannot be read"),
        (replace_indices, r"X in atac\.h5ad cannot be read \(column indices exceed"),
        (shorten_data, r"X in atac\.h5ad cannot be read \(row pointers do not span"),
    ],
)
def test_damaged_content_is_told(pair, change, told):
    paths = pair()
    edit(paths[1], change)
    with pytest.raises(InputError, match=told):
        read(paths)


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


def test_real_log_normalised_data_are_refused(shared_data):
    told = r"values of X in scicar_a549_rna\.h5ad are not counts: 100 % .*This looks log-normalised\. Pass raw counts"
    with pytest.raises(InputError, match=told):
        read([shared_data / f"scicar_a549_{name}.h5ad" for name in ("rna", "atac")])


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


def test_an_encoding_of_another_anndata_is_told(pair):
    paths = pair(lambda data: data[:, :].copy())
    with h5py.File(paths[0], "r+") as file:
        file["obs"].create_dataset("future", data=np.zeros(N_CELLS))
        file["obs/future"].attrs.update({"encoding-type": "future-array", "encoding-version": "9.0.0"})
        file["obs"].attrs["column-order"] = np.array(["future"], dtype=h5py.string_dtype())
    with pytest.raises(InputError, match=r"obs in rna\.h5ad cannot be read by this anndata .*Update anndata"):
        read(paths)


def test_tables_of_an_old_anndata_are_told(pair):
    paths = pair()
    with h5py.File(paths[1], "r+") as file:
        del file["obs"]
        file["obs"] = np.array([(name.encode(),) for name in CELLS], dtype=[("index", "S9")])
    with pytest.raises(InputError, match=r"obs in atac\.h5ad is stored as anndata wrote it before 0\.7"):
        read(paths)


@pytest.mark.parametrize("at", [0, -1])
def test_row_pointers_that_lose_values_are_told(pair, at):
    paths = pair()
    with h5py.File(paths[0], "r+") as file:
        pointers = file["X/indptr"][:]
        pointers[at] += 1 if at == 0 else -1
        file["X/indptr"][:] = pointers
    with pytest.raises(InputError, match=r"X in rna\.h5ad cannot be read \(row pointers do not span"):
        read(paths)


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


def test_counts_in_raw_are_pointed_out(pair):
    def change(data):
        raw = data.copy()
        data.X = np.log1p(data.X)
        data.raw = raw
        return data

    with pytest.raises(
        InputError, match=r"looks log-normalised\. Pass raw counts: if \.raw holds them, write"
    ):
        read(pair(change))


@pytest.mark.parametrize(("axis", "what"), [(0, "cells"), (1, "features")])
def test_an_empty_matrix_is_told(pair, axis, what):
    cut = (lambda data: data[:0].copy()) if axis == 0 else (lambda data: data[:, :0].copy())
    with pytest.raises(InputError, match=rf"rna\.h5ad has no {what}"):
        read(pair(cut))
