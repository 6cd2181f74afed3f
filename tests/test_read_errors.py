"""Reading an experiment: bad input is told."""

import anndata as ad
import h5py
import mudata as md
import numpy as np
import pytest

from scweave.generators.read import read
from scweave.graphs.errors import InputError
from small_pair import CELLS, GENES, N_CELLS, N_GENES, N_PEAKS, PEAKS, counts, modality, stack, with_values


def add_layer(data):
    data.layers["counts"] = data.X.copy()
    data.X = data.X * 0.5
    return data


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


def renamed(names):
    def change(data):
        data.obs_names = names
        return data

    return change


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def replace_indices(file):
    file["X/indices"][:] = 10_000


def shorten_data(file):
    values = file["X/data"][:10]
    del file["X/data"]
    file["X/data"] = values


def test_h5mu_says_which_modalities_there_are(tmp_path):
    with md.set_options(pull_on_update=False):
        md.MuData({"rna": modality(GENES), "prot": modality(PEAKS)}).write(tmp_path / "both.h5mu")
    with pytest.raises(
        InputError, match=r"both\.h5mu has 0 modalities that are ATAC \(it has: prot, rna\)\. Name"
    ):
        read([tmp_path / "both.h5mu"])


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


def test_two_of_one_kind_are_refused(pair):
    told = r"cannot tell which file is RNA .*: too many matrices, 2 look like RNA \(rna\.h5ad: rna, features GENE0.*atac\.h5ad: rna.*Pass one of each"
    with pytest.raises(InputError, match=told):
        read(pair(change_atac=named([f"g{i}" for i in range(N_PEAKS)])))


def test_unknown_types_of_features_are_told(pair):
    told = r"no feature of rna\.h5ad is a gene or a peak: its feature_types are Antibody Capture \(12\)\. Set"
    with pytest.raises(InputError, match=told):
        read(pair(typed("Antibody Capture")))


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


def test_real_log_normalised_data_are_refused(shared_data):
    told = r"values of X in scicar_a549_rna\.h5ad are not counts: 100 % .*This looks log-normalised\. Pass raw counts"
    with pytest.raises(InputError, match=told):
        read([shared_data / f"scicar_a549_{name}.h5ad" for name in ("rna", "atac")])


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
