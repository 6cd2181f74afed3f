"""Predictions of a trained model as an AnnData file: any query, each mode, nothing half-written."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import anndata as ad
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from scweave.commands.jobs import Job
from scweave.commands.predict import predict_run
from scweave.generators.build import BuildOptions, build
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.models import prediction
from scweave.models.checkpoint import FEATURES, load_model
from scweave.models.crossrec import CrossRec
from scweave.models.crossrec_cis import CisCrossRec
from scweave.models.judges import judge_of
from scweave.train import run
from tenx_files import write_h5, write_mtx

SMALL = {
    "default": ("components=8", "width=8", "hidden=16", "programmes=4", "filters=4", "sequence_peaks=64"),
    "published": ("id_width=16", "width=16"),
}
FULL = "errno = 28, error message = 'No space left on device',\nbuf = 0x5"  # as HDF5 tells it
EMBEDDINGS = ("X_scweave", "X_scweave_rna", "X_scweave_atac")


@pytest.fixture(scope="module")
def runs(simulated_dataset, tmp_path_factory):
    """A model of each mode."""
    folder = tmp_path_factory.mktemp("prediction")
    for mode, settings in SMALL.items():
        job = Job(simulated_dataset, folder / mode, "crossrec", mode, epochs=2, settings=settings)
        run(job, progress=False)
    return {mode: folder / mode for mode in SMALL}


@pytest.fixture(scope="module")
def predicted(runs, simulated_dataset):
    """What each model says of the dataset it was trained on."""
    for folder in runs.values():
        predict(folder, [simulated_dataset], folder / "pred.h5ad")
    return {mode: ad.read_h5ad(folder / "pred.h5ad") for mode, folder in runs.items()}


@pytest.fixture(scope="module")
def modalities(simulated, simulated_dataset):
    """The cells of the dataset in memory, as they came; tests change copies of them."""
    cells = MultiomeGraphs(simulated_dataset).cells["barcode"]
    return {name: mudata.read_h5ad(simulated.h5mu, name)[cells].copy() for name in ("rna", "atac")}


def predict(folder, query, out, **options):
    return predict_run(folder, query, out, progress=False, **options)


def written(tmp_path, **modalities):
    """Write modalities as h5ad files; give their paths."""
    for name, data in modalities.items():
        data.write_h5ad(tmp_path / f"{name}.h5ad")
    return [tmp_path / f"{name}.h5ad" for name in modalities]


def renamed(modalities, *, shift=5):
    """The same cells, features in another order and under other names, peaks moved a little."""
    rng = np.random.default_rng(2)
    rna, atac = (data[:, rng.permutation(data.n_vars)].copy() for data in modalities.values())
    rna.var_names = [f"other{i}" for i in range(rna.n_vars)]
    place = atac.var_names.str.extract(r"(\w+):(\d+)-(\d+)")
    atac.var = pd.DataFrame(
        index=place[0] + "-" + (place[1].astype(int) + shift).astype(str) + "-" + place[2].astype(str)
    )
    return rna, atac


def same(found, expected, parts=("X", "scweave_match", *EMBEDDINGS), tolerance=1e-5):
    """Whether two predictions agree about the cells of the first."""
    expected = expected[found.obs_names]
    for name in parts:
        ours, theirs = (
            data.X if name == "X" else data.obs[name] if name in data.obs else data.obsm[name]
            for data in (found, expected)
        )
        np.testing.assert_allclose(ours, theirs, atol=tolerance, rtol=tolerance, err_msg=name)


def test_a_prediction_has_the_form_of_the_contract(runs, predicted, simulated_dataset):
    graphs, found = MultiomeGraphs(simulated_dataset), predicted["default"]
    loaded = load_model(runs["default"])
    assert list(found.obs_names) == list(graphs.cells["barcode"])
    assert list(found.obs["cell_type"]) == list(graphs.cells["cell_type"])
    assert "donor" not in found.obs  # unknown to this dataset
    assert found.var_names.equals(pd.Index(loaded.genes["gene"]))
    for name in ("chrom", "tss", "strand", "gene_id"):
        assert list(found.var[name].astype(object)) == list(loaded.genes[name].astype(object))
    assert found.X.dtype == np.float32
    assert {name: found.obsm[name].shape for name in EMBEDDINGS} == dict.fromkeys(
        EMBEDDINGS, (len(graphs), 8)
    )
    assert found.obs["scweave_match"].between(0, 1).all()
    about = found.uns["scweave"]
    assert (about["model"], about["mode"], about["genome"]) == ("crossrec", "default", "simulated")
    assert about["trained_on"] == graphs.fingerprint
    assert about["X"].startswith("expected ln(1 + count)")
    assert {type(value) for value in about.values()} <= {str, int, np.int64}
    assert set(EMBEDDINGS) | {"scweave_match", "version", "schema_version"} <= set(about)


def test_predictions_are_those_of_the_model(runs, predicted, simulated_dataset):
    loaded = load_model(runs["default"])
    graphs = MultiomeGraphs(simulated_dataset)
    cells = np.array([7, 3, 100])
    found = predicted["default"][cells]
    judge = judge_of(loaded.model, graphs)
    np.testing.assert_allclose(
        found.X, judge.translators()["crossrec"].predict(cells).log, rtol=1e-5, atol=1e-5
    )
    cosine = found.obsm["X_scweave_rna"] @ found.obsm["X_scweave_atac"].T
    np.testing.assert_allclose(cosine, judge.partners(cells, 8, False), atol=1e-5)
    mean = found.obsm["X_scweave_rna"] + found.obsm["X_scweave_atac"]
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(found.obsm["X_scweave"], mean, atol=1e-5)
    with torch.no_grad():
        odds = loaded.model.match(graphs.batch_of_pairs(cells, cells))
    np.testing.assert_allclose(found.obs["scweave_match"], odds.sigmoid(), atol=1e-5)


def test_the_published_mode_gives_its_own_embedding_and_counts_of_links(runs, predicted, simulated_dataset):
    model, graphs = load_model(runs["published"]).model, MultiomeGraphs(simulated_dataset)
    found, cells = predicted["published"][:5], np.arange(5)
    batch = graphs.batch_of_pairs(cells, cells)
    with torch.no_grad():
        np.testing.assert_allclose(found.obsm["X_scweave"], model(batch).integration, atol=1e-5)
        np.testing.assert_array_equal(found.X, model.translate(batch))
        np.testing.assert_allclose(found.obs["scweave_match"], model.match(batch).sigmoid(), atol=1e-5)
    assert set(found.obsm) == {"X_scweave"}
    assert "number of open peaks linked to the gene" in found.uns["scweave"]["X"]


@pytest.mark.parametrize("mode", SMALL)
@pytest.mark.parametrize("size", [1, 7])
def test_the_batch_does_not_matter(runs, predicted, simulated_dataset, tmp_path, mode, size):
    predict(runs[mode], [simulated_dataset], tmp_path / "p.h5ad", batch_size=size)
    found = ad.read_h5ad(tmp_path / "p.h5ad")
    same(found, predicted[mode], ["X", "scweave_match", *found.obsm])


@pytest.mark.parametrize("mode", SMALL)
def test_one_cell_alone_is_predicted_as_among_others(runs, predicted, modalities, tmp_path, mode):
    one = {name: data[[11]].copy() for name, data in modalities.items()}
    predict(runs[mode], written(tmp_path, **one), tmp_path / "p.h5ad")
    found = ad.read_h5ad(tmp_path / "p.h5ad")
    assert list(found.obs_names) == list(modalities["rna"].obs_names[[11]])
    same(found, predicted[mode], ["X", "scweave_match", *found.obsm])


def test_files_in_another_order_and_under_other_names_are_the_same_cells(
    runs, predicted, modalities, tmp_path
):
    rna, atac = renamed(modalities)
    summary = predict(
        runs["default"], written(tmp_path, atac=atac[::-1].copy(), rna=rna), tmp_path / "p.h5ad"
    )
    found = ad.read_h5ad(tmp_path / "p.h5ad")
    assert found.n_obs == summary["cells"] == predicted["default"].n_obs
    assert found.var_names.equals(predicted["default"].var_names)
    same(found, predicted["default"])
    assert sum("of the query mapped onto" in note for note in summary["notes"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["atac.h5ad", "p.h5ad", "rna.h5ad"]


def test_other_kinds_of_files_are_queries_too(runs, predicted, simulated, modalities, tmp_path):
    rna, atac = modalities["rna"][:30], modalities["atac"][:30]
    genes = zip(rna.var["gene_ids"], rna.var_names, strict=True)
    rows = [(gene, name, "Gene Expression", "chr1", "1", "2") for gene, name in genes]
    for name in atac.var_names:
        chrom, _, span = name.partition(":")
        rows.append((name, name, "Peaks", chrom, *span.split("-")))
    counts = sparse.hstack([rna.X, atac.X]).toarray().astype(int)
    folder = write_mtx(tmp_path / "tenx", counts, rna.n_vars, rows=rows)
    file = write_h5(tmp_path / "tenx.h5", counts, rna.n_vars, rows=rows, genome="simulated")
    for query in (simulated.h5mu, folder, file):
        predict(runs["default"], [query], tmp_path / f"{query.name}.h5ad")
        found = ad.read_h5ad(tmp_path / f"{query.name}.h5ad")[:30].copy()
        found.obs_names = rna.obs_names
        same(found, predicted["default"])


def test_rna_alone_is_embedded_and_has_no_expression_to_predict(runs, predicted, modalities, tmp_path):
    query = written(tmp_path, rna=modalities["rna"])
    predict(runs["default"], query, tmp_path / "p.h5ad")
    backed = ad.read_h5ad(tmp_path / "p.h5ad", backed="r")
    assert backed.shape == predicted["default"].shape
    backed.file.close()
    found = ad.read_h5ad(tmp_path / "p.h5ad")
    assert found.X is None
    assert found.uns["scweave"]["X"].startswith("nothing")
    assert set(found.obsm) == {"X_scweave", "X_scweave_rna"}
    assert "scweave_match" not in found.obs
    same(found, predicted["default"], ["X_scweave_rna"])
    np.testing.assert_allclose(found.obsm["X_scweave"], found.obsm["X_scweave_rna"], atol=1e-6)
    with pytest.raises(InputError, match=r"published mode\) predicts nothing from RNA alone\. Pass both"):
        predict(runs["published"], query, tmp_path / "q.h5ad")


def test_atac_alone_gives_expression(runs, predicted, modalities, tmp_path):
    query = written(tmp_path, atac=modalities["atac"])
    for mode, parts in (("default", ["X", "X_scweave_atac"]), ("published", ["X"])):
        predict(runs[mode], query, tmp_path / f"{mode}.h5ad")
        found = ad.read_h5ad(tmp_path / f"{mode}.h5ad")
        assert "scweave_match" not in found.obs
        assert set(found.obsm) == ({"X_scweave", "X_scweave_atac"} if mode == "default" else set())
        same(found, predicted[mode], parts)


def test_a_dataset_of_one_modality_is_a_query_too(runs, predicted, modalities, tmp_path):
    build(
        written(tmp_path, atac=modalities["atac"]),
        tmp_path / "d",
        like=runs["default"] / FEATURES,
        options=BuildOptions(discovery=True, donor="donor"),
        progress=False,
    )
    predict(runs["default"], [tmp_path / "d"], tmp_path / "p.h5ad")
    found = ad.read_h5ad(tmp_path / "p.h5ad")
    same(found, predicted["default"], ["X", "X_scweave_atac"])
    donors = modalities["atac"].obs["donor"].astype(str)
    assert list(found.obs["donor"]) == list(donors[found.obs_names])


def test_parts_that_were_not_trained_are_not_predicted(simulated_dataset, tmp_path):
    settings = (*SMALL["default"], "alpha=0", "classifier=false")
    run(
        Job(
            simulated_dataset, tmp_path / "run", "crossrec", epochs=1, settings=settings, precision="64-true"
        ),
        progress=False,
    )
    predict(tmp_path / "run", [simulated_dataset], tmp_path / "p.h5ad")
    found = ad.read_h5ad(tmp_path / "p.h5ad")
    assert found.X is None
    assert "scweave_match" not in found.obs
    assert {found.obsm[name].dtype for name in EMBEDDINGS} == {np.dtype(np.float32)}


def test_the_file_is_read_by_rows_from_disk(runs, simulated_dataset, tmp_path):
    predict(runs["default"], [simulated_dataset], tmp_path / "p.h5ad", batch_size=50)
    with h5py.File(tmp_path / "p.h5ad") as file:
        assert (file["X"].compression, file["X"].dtype) == (None, np.float32)
    backed = ad.read_h5ad(tmp_path / "p.h5ad", backed="r")
    assert backed.isbacked
    np.testing.assert_array_equal(backed.X[40:60], ad.read_h5ad(tmp_path / "p.h5ad").X[40:60])
    backed.file.close()


def test_the_same_query_gives_the_same_bytes(runs, simulated_dataset, tmp_path):
    for name in ("a.h5ad", "b.h5ad"):
        predict(runs["default"], [simulated_dataset], tmp_path / name)
    assert (tmp_path / "a.h5ad").read_bytes() == (tmp_path / "b.h5ad").read_bytes()


def test_counts_may_lie_in_a_layer(runs, predicted, modalities, tmp_path):
    changed = {name: data.copy() for name, data in modalities.items()}
    for data in changed.values():
        data.layers["counts"] = data.X.copy()
        data.X = sparse.csr_matrix(data.X).log1p()
    query = written(tmp_path, **changed)
    with pytest.raises(InputError, match="--layer"):
        predict(runs["default"], query, tmp_path / "p.h5ad")
    predict(runs["default"], query, tmp_path / "p.h5ad", layer="counts")
    same(ad.read_h5ad(tmp_path / "p.h5ad"), predicted["default"])


def mouse(rna, atac):
    for data in (rna, atac):
        data.uns["genome"] = "mm10"
    return {"rna": rna, "atac": atac}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rna, atac: mouse(rna, atac), "the query is on mm10"),
        (lambda rna, atac: {"rna": rna[:, :10].copy(), "atac": atac}, r"genes of the reference, fewer than --min-placed"),
        (lambda rna, atac: {"rna": rna, "atac": atac[:, :50].copy()}, r"peaks of the reference, fewer than --min-placed"),
        (lambda rna, atac: {"a": rna, "b": rna}, "too many matrices"),
    ],
)  # fmt: skip
def test_a_query_that_does_not_fit_is_refused(runs, modalities, tmp_path, change, told):
    query = written(tmp_path, **change(*(data.copy() for data in modalities.values())))
    with pytest.raises(InputError, match=told):
        predict(runs["default"], query, tmp_path / "p.h5ad")
    assert {path.suffix for path in tmp_path.iterdir()} == {".h5ad"}
    assert len(list(tmp_path.iterdir())) == 2


def test_fewer_features_are_taken_when_asked_for(runs, modalities, tmp_path):
    query = written(tmp_path, rna=modalities["rna"][:, :10].copy())
    predict(runs["default"], query, tmp_path / "p.h5ad", min_placed=0.1)
    assert ad.read_h5ad(tmp_path / "p.h5ad").obsm["X_scweave"].shape[1] == 8


def test_what_cannot_be_predicted_or_written_is_refused_first(
    runs, simulated_dataset, handmade_dataset, tmp_path
):
    folder, taken, file = runs["default"], tmp_path / "taken.h5ad", tmp_path / "p.h5ad"
    taken.write_text("mine")
    for query, out, options, told in (
        ([simulated_dataset], taken, {}, "exists already"),
        ([simulated_dataset], tmp_path / "no" / "p.h5ad", {}, "is no folder. Create it"),
        ([simulated_dataset], file, {"batch_size": 0}, "--batch-size 0"),
        ([handmade_dataset], file, {}, "the dataset's genes are not those of the model"),
        ([folder / FEATURES], file, {}, "has no cells to predict"),
        ([simulated_dataset, simulated_dataset], file, {}, "is a scweave dataset, built already"),
        ([tmp_path / "none.h5ad"], file, {}, r"none\.h5ad does not exist"),
    ):
        with pytest.raises(InputError, match=told):
            predict(folder, query, out, **options)
    with pytest.raises(InputError, match="holds no trained model"):
        predict(tmp_path, [simulated_dataset], file)
    assert list(tmp_path.iterdir()) == [taken]
    assert taken.read_text() == "mine"


@pytest.mark.parametrize("mode", SMALL)
@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (KeyboardInterrupt("stop"), KeyboardInterrupt),
        (MemoryError("stop"), MemoryError),
        (OSError(errno.ENOSPC, "stop"), InputError),
    ],
)
def test_an_interrupt_leaves_nothing(runs, modalities, tmp_path, monkeypatch, mode, error, seen):
    (tmp_path / "in").mkdir()
    query = written(tmp_path / "in", **modalities)
    kind, calls = {"default": CisCrossRec, "published": CrossRec}[mode], []
    translate = kind.translate

    def second_time(*arguments, **options):
        calls.append(sorted(path.name.split("-")[0] for path in (tmp_path / "out").iterdir()))
        if len(calls) == 2:
            raise error
        return translate(*arguments, **options)

    monkeypatch.setattr(kind, "translate", second_time)
    (tmp_path / "out").mkdir()
    with pytest.raises(seen, match="stop"):
        predict(runs[mode], query, tmp_path / "out" / "p.h5ad", batch_size=20)
    assert calls == [[".p.h5ad.query"], [".p.h5ad.partial", ".p.h5ad.query"]]
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("place", "name", "error"),
    [
        (ad.AnnData, "write_h5ad", OSError(errno.ENOSPC, f"Can't write ({FULL})")),
        (h5py.File, "close", RuntimeError(f"Can't close ({FULL})")),
        (prediction, "_write_rows", OSError(errno.ENOSPC, "No space left on device")),
    ],
)
def test_a_full_disk_is_told_in_one_line(runs, simulated_dataset, tmp_path, monkeypatch, place, name, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(place, name, fail)
    with pytest.raises(InputError, match=r"^cannot write .*No space left on device\. Free space or \S+ \S+$"):
        predict(runs["default"], [simulated_dataset], tmp_path / "p.h5ad")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match=r"it takes 0 MB, and 0 MB are free\. Free space"):
        predict(runs["default"], [simulated_dataset], tmp_path / "p.h5ad")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_a_prediction_in_one_line(runs, simulated, tmp_path):
    code = (
        "import signal; from scweave import cli; from scweave.models.crossrec_cis import CisCrossRec\n"
        "CisCrossRec.translate = lambda *_, **__: signal.raise_signal(signal.SIGINT)\n"
        "cli.main()"
    )
    arguments = ["predict", str(runs["default"]), str(simulated.h5mu), "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--out", str(tmp_path / "p.h5ad")],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (130, "scweave: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_the_command_predicts(runs, predicted, simulated, simulated_dataset, tmp_path, capsys, monkeypatch):
    from test_cli import call

    for query in (simulated_dataset, simulated.h5mu):
        out = tmp_path / f"{query.stem}.h5ad"
        status, line, err = call(
            capsys, monkeypatch, "predict", runs["default"], query, "--out", out, "--json", "--quiet"
        )
        assert (status, err, line.count("\n")) == (0, "", 1)
        summary = json.loads(line)
        assert (summary["cells"], summary["genes"], summary["out"]) == (*predicted["default"].shape, str(out))
        assert summary["predicted"].keys() == {"X", "scweave_match", *EMBEDDINGS}
        same(ad.read_h5ad(out), predicted["default"])
    status, told, _ = call(capsys, monkeypatch, "predict", runs["default"], simulated.h5mu, "--out", out)
    assert (status, told) == (2, "")
    out.unlink()
    status, told, _ = call(capsys, monkeypatch, "predict", runs["default"], simulated.h5mu, "--out", out)
    assert status == 0
    assert "X: expected ln(1 + count)" in told
    assert f"written: {out}" in told
