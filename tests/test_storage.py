"""Streaming counts: whatever the storage, the same rows; in bounded memory; nothing wrong unnoticed."""

import gc
import subprocess
import sys
import tracemalloc

import anndata as ad
import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from scweave.generators.files import transposed
from scweave.generators.read import read
from scweave.graphs.errors import InputError
from tenx_files import random_counts, write_h5, write_mtx

FORMATS = ["csr", "csc", "dense", "10x .h5", "mtx"]
QUICK = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=12,
    derandomize=True,
)


def write(folder, matrix, storage, n_genes):
    """Write counts of genes, then peaks, in one of the formats."""
    folder.mkdir(exist_ok=True)
    if storage == "mtx":
        return write_mtx(folder / "mtx", matrix, n_genes)
    if storage == "10x .h5":
        return write_h5(folder / "matrix.h5", matrix, n_genes)
    as_matrix = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.asarray}[storage]
    data = ad.AnnData(as_matrix(matrix.astype(np.float32)))
    data.obs_names = [f"c{i}" for i in range(len(matrix))]
    data.var_names = [f"f{i}" for i in range(matrix.shape[1])]
    data.var["feature_types"] = ["Gene Expression"] * n_genes + ["Peaks"] * (matrix.shape[1] - n_genes)
    data.write_h5ad(folder / f"{storage}.h5ad", compression="gzip" if matrix.shape[0] % 2 else None)
    return folder / f"{storage}.h5ad"


@pytest.fixture
def small_blocks(monkeypatch):
    """Make small matrices span many blocks and buckets."""
    monkeypatch.setattr("scweave.generators.files.csc.BLOCK", 37)
    monkeypatch.setattr("scweave.generators.files.transposed._BUCKET", 50)
    monkeypatch.setattr("scweave.generators.files.mtx._BYTES", 64)
    monkeypatch.setattr("scweave.generators.files.storage._GAP", 3)


@pytest.mark.usefixtures("small_blocks")
@QUICK
@given(data=st.data())
def test_every_storage_streams_the_same_counts(tmp_path, data):
    n_cells, n_genes, n_peaks = (data.draw(st.integers(1, 30), label=n) for n in ("cells", "genes", "peaks"))
    matrix = random_counts(n_cells, n_genes + n_peaks, seed=data.draw(st.integers(0, 9)))
    rows = np.array(data.draw(st.lists(st.integers(0, n_cells - 1), max_size=40)), dtype=np.int64)
    size = data.draw(st.integers(1, 50), label="size")
    parts = {"rna": matrix[:, :n_genes], "atac": matrix[:, n_genes:]}
    for storage in FORMATS:
        experiment = read([write(tmp_path, matrix, storage, n_genes)])
        assert list(experiment.modalities) == ["rna", "atac"]
        for name, expected in parts.items():
            modality = experiment.modalities[name]
            chunks = list(modality.chunks(rows, size=size))
            assert [len(rows[i : i + size]) for i in range(0, len(rows), size)] == [
                c.shape[0] for c in chunks
            ]
            for i, chunk in enumerate(chunks):
                assert (chunk.toarray() == expected[rows[i * size : (i + 1) * size]]).all(), storage
                assert chunk.data.dtype == chunk.indices.dtype == np.int32
                assert chunk.has_canonical_format and (chunk.data > 0).all()
            assert (modality.empty(rows) == (expected[rows] == 0).all(axis=1)).all()
            assert modality.stored >= (matrix > 0).sum()


def test_stored_zeros_are_no_counts_and_split_entries_add_up(tmp_path):
    data = ad.AnnData(sparse.csr_matrix((3, 8), dtype=np.uint8))
    # The first cell holds feature 3 twice, feature 1, and a zero at 5; the sum exceeds the stored type.
    values, columns = np.array([200, 200, 2, 0, 0], np.uint8), [3, 3, 1, 5, 2]
    data.X = sparse.csr_matrix((values, columns, [0, 4, 4, 5]), shape=(3, 8))
    data.var_names = [f"g{i}" for i in range(8)]
    data.write_h5ad(tmp_path / "rna.h5ad")
    rna = read([tmp_path / "rna.h5ad"]).modalities["rna"]
    assert rna.empty(np.array([1, 0, 0, 2])).tolist() == [True, False, False, True]
    assert next(rna.chunks(np.array([0]))).data.tolist() == [2, 400]


@pytest.mark.parametrize("storage", FORMATS)
def test_memory_grows_neither_with_cells_nor_with_values(tmp_path, monkeypatch, storage):
    monkeypatch.setattr("scweave.generators.files.csc.BLOCK", 2**13)
    monkeypatch.setattr("scweave.generators.files.transposed._BUCKET", 2**13)
    monkeypatch.setattr("scweave.generators.files.mtx._BYTES", 2**12)
    monkeypatch.setattr("scweave.generators.files.storage._DENSE", 2**14)

    def peak_bytes(n_cells):
        matrix = (np.random.default_rng(0).random((n_cells, 200)) < 0.3).astype(np.int64)
        experiment = read([write(tmp_path / str(n_cells), matrix, storage, 100)])
        list(experiment.modalities["atac"].chunks(np.arange(1)))  # what is imported at the first call
        rna, rows = read([tmp_path / str(n_cells) / _NAMES[storage]]).modalities["rna"], np.arange(n_cells)
        gc.collect()
        tracemalloc.start()
        assert sum(chunk.nnz for chunk in rna.chunks(rows, size=100)) == matrix[:, :100].sum()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    # Ten times the cells and values; a few vectors with a number a cell are allowed.
    assert peak_bytes(5000) < 1.1 * peak_bytes(500) + 5000 * 60


_NAMES = {"csr": "csr.h5ad", "csc": "csc.h5ad", "dense": "dense.h5ad", "10x .h5": "matrix.h5", "mtx": "mtx"}


@pytest.mark.parametrize("storage", ["csc", "mtx"])
def test_the_transposed_matrix_is_made_once_in_scratch_and_goes_with_the_experiment(
    tmp_path, monkeypatch, storage
):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    calls = []
    whole = transposed._transpose
    monkeypatch.setattr(transposed, "_transpose", lambda *args: calls.append(1) or whole(*args))
    experiment = read([write(tmp_path, random_counts(20, 30), storage, 10)], scratch=scratch)
    assert list(scratch.iterdir()) == []
    for modality in experiment.modalities.values():
        list(modality.chunks(np.arange(20), size=3))
        modality.empty(np.arange(4))
    (folder,) = scratch.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["data", "indices", "indptr"]
    assert (folder / "data").stat().st_size == modality.stored  # one byte a count
    assert calls == [1]
    del experiment, modality
    gc.collect()
    assert list(scratch.iterdir()) == []


def test_scratch_that_cannot_be_used_is_told(tmp_path):
    experiment = read([write(tmp_path, random_counts(9, 20), "csc", 10)], scratch=tmp_path / "none")
    with pytest.raises(InputError, match=r"cannot write to .*none: No such file.*Choose another"):
        next(experiment.modalities["rna"].chunks(np.arange(2)))


def test_a_full_disk_is_told_and_nothing_stays(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transposed, "_sort", full)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    experiment = read([write(tmp_path, random_counts(9, 20), "csc", 10)], scratch=scratch)
    with pytest.raises(
        InputError, match=r"no space left in .*scratch to transpose X of csc\.h5ad \([0-9]+ stored"
    ):
        next(experiment.modalities["rna"].chunks(np.arange(2)))
    assert list(scratch.iterdir()) == []


def test_wide_counts_keep_their_value_when_transposed(tmp_path):
    matrix = random_counts(12, 20)
    for biggest in (255, 256, 70_000, 2**31 - 1):
        matrix[5, 3] = biggest
        data = ad.AnnData(sparse.csc_matrix(matrix.astype(np.float64)))
        data.var_names = [f"g{i}" for i in range(20)]
        data.write_h5ad(tmp_path / "rna.h5ad")
        chunk = next(read([tmp_path / "rna.h5ad"]).modalities["rna"].chunks(np.arange(12)))
        assert (chunk.toarray() == matrix).all()


@pytest.mark.parametrize("storage", ["csr", "csc", "dense"])
def test_log_normalised_values_are_refused_before_anything_is_transposed(tmp_path, monkeypatch, storage):
    monkeypatch.setattr(transposed, "_transpose", None)
    path = write(tmp_path, np.log1p(random_counts(30, 20)), storage, 10)
    with pytest.raises(InputError, match=r"values of X in .* are not counts: .*This looks log-normalised"):
        read([path])


def test_a_fraction_outside_the_sample_of_a_csc_is_found_while_it_streams(tmp_path, monkeypatch):
    monkeypatch.setattr("scweave.generators.files.csc._PIECES", 1)
    monkeypatch.setattr("scweave.generators.files.csc._PIECE", 1)
    matrix = random_counts(30, 20).astype(float)
    matrix[29, 0] = 0.5
    rna = read([write(tmp_path, matrix, "csc", 10)]).modalities["rna"]
    with pytest.raises(InputError, match=r"1 of [0-9]+ non-zeros are not integers \(for example 0\.5\)"):
        list(rna.chunks(np.arange(30)))


def truncate(name):
    def change(group):
        kept = group[name][:-3]
        del group[name]
        group[name] = kept

    return change


@pytest.mark.parametrize(
    "change",
    [
        truncate("data"),
        truncate("indices"),
        truncate("indptr"),
        lambda group: group["indices"].__setitem__(0, 10_000),
        lambda group: group["indices"].__setitem__(0, -1),
        lambda group: group["indptr"].__setitem__(3, 0),
        lambda group: group.__delitem__("indices"),
    ],
)
@pytest.mark.parametrize(("storage", "place"), [("csr", "X"), ("csc", "X"), ("10x .h5", "matrix")])
def test_damaged_storage_is_told(tmp_path, storage, place, change):
    path = write(tmp_path, random_counts(20, 30) + 1, storage, 10)
    with h5py.File(path, "r+") as file:
        change(file[place])
    with pytest.raises(InputError, match=rf"{place} in {path.name} cannot be read \(.*copy it again"):
        list(read([path]).modalities["rna"].chunks(np.arange(20)))


def zstd(path, *, of=hdf5plugin.Zstd):
    data = ad.AnnData(sparse.csr_matrix(random_counts(30, 20).astype(np.uint32)))
    data.var_names = [f"chr1:{i}-{i + 1}" for i in range(20)]
    data.obs["depth"] = np.arange(30)
    data.write_h5ad(path, compression=of(), compression_opts=None)
    return path


def test_a_zstd_h5ad_opens_in_a_fresh_process(tmp_path):
    code = (
        "import sys; from pathlib import Path; import numpy as np; from scweave.generators.read import read\n"
        "assert 'hdf5plugin' not in sys.modules\n"
        f"atac = read([Path({str(zstd(tmp_path / 'atac.h5ad'))!r})]).modalities['atac']\n"
        "print(sum(chunk.sum() for chunk in atac.chunks(np.arange(30))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == random_counts(30, 20).sum()


def test_a_missing_filter_is_named_with_the_package_that_has_it(tmp_path):
    code = (
        "import sys; sys.modules['hdf5plugin'] = None\n"
        "from pathlib import Path; from scweave.generators.read import read\n"
        f"read([Path({str(zstd(tmp_path / 'atac.h5ad'))!r})])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(
        "in atac.h5ad is compressed with zstd (HDF5 filter 32015), which h5py alone does not read."
        " Run: pip install hdf5plugin"
    )


def test_a_filter_that_no_package_has_is_told(tmp_path, monkeypatch):
    path = zstd(tmp_path / "atac.h5ad", of=hdf5plugin.LZ4)
    monkeypatch.setattr("h5py.h5z.filter_avail", lambda code: code != 32004)
    with pytest.raises(
        InputError, match=r"lz4 \(HDF5 filter 32004\), which neither h5py nor hdf5plugin reads"
    ):
        read([path])


def test_long_work_shows_a_bar_when_asked(tmp_path, capsys):
    path = write(tmp_path, random_counts(20, 30), "csc", 10)
    for progress in (False, True):
        modality = read([path], progress=progress).modalities["atac"]
        modality.empty(np.arange(20), progress=progress)
        shown = capsys.readouterr().err
        assert ("transposing csc.h5ad: 100%" in shown) == progress
        assert ("atac: looking for empty cells: 100%" in shown) == progress
