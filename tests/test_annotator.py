"""The one face of all annotators: fitted, asked, saved and loaded alike; results do not depend on batch or order."""

from __future__ import annotations

import json
import shutil

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
import torch

from scweave.commands.evaluate import evaluate_run
from scweave.commands.jobs import Job
from scweave.commands.predict import annotate, predict_run
from scweave.generators.build import BuildOptions, build
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.graphs.restrict import replace_tables
from scweave.graphs.store import Store
from scweave.models.annotation.baseline_store import DESCRIPTION, load_baselines
from scweave.models.annotator import Annotator
from scweave.models.checkpoint import SEEN, WEIGHTS, save_tensors
from scweave.models.registry import KINDS
from scweave.train import run

# Model and mode -> settings that train within a second.
SMALL = {
    "hitanno": {},
    "hitanno published": {"dim": 16, "heads": 4, "ffn": 16, "peaks_per_type": 40},
    "majority": {},
    "centroid": {},
    "knn": {},
    "logreg": {},
    "svm": {"features": "tfidf"},
    "mlp": {},
    "cnn": {},
}
PARTS = ("confidence", "novelty", "probabilities", "embedding")


def annotator(name, **options):
    """An untrained annotator with small settings."""
    model, _, mode = name.partition(" ")
    if KINDS[model][mode or "default"].epochs:
        options = {"epochs": 3, **options}
    return Annotator(model, mode=mode or "default", settings=SMALL[name], **options)


@pytest.fixture(scope="module")
def trained(simulated_dataset, tmp_path_factory):
    """A trained annotator of every kind, and the folder of its run."""
    folder = tmp_path_factory.mktemp("annotators")
    return {name: annotator(name).fit(simulated_dataset, run=folder / name) for name in SMALL}


@pytest.fixture(scope="module")
def modalities(simulated, simulated_dataset):
    cells = MultiomeGraphs(simulated_dataset).cells["barcode"]
    return {name: mudata.read_h5ad(simulated.h5mu, name)[cells].copy() for name in ("rna", "atac")}


def same(found, expected, tolerance=1e-5):
    assert list(found.labels) == list(expected.labels)
    for part in PARTS:
        np.testing.assert_allclose(
            getattr(found, part), getattr(expected, part), atol=tolerance, rtol=1e-4, err_msg=part
        )


@pytest.mark.parametrize("name", SMALL)
def test_all_annotators_tell_types_in_the_same_form(trained, simulated_dataset, name):
    graphs, found = MultiomeGraphs(simulated_dataset), trained[name].predict(simulated_dataset)
    n = len(graphs.cells)
    assert found.labels.categories.tolist() == list(trained[name].cell_types) == graphs.cell_types
    assert found.probabilities.shape == (n, len(graphs.cell_types))
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(found.probabilities.max(1), found.confidence, atol=1e-6)
    assert (found.probabilities.argmax(1) == found.labels.codes).all()
    assert ((found.novelty >= 0) & (found.novelty <= 1)).all()
    assert found.embedding.shape[0] == n and np.isfinite(found.embedding).all()
    assert found.barcodes.tolist() == graphs.cells["barcode"].tolist()


@pytest.mark.parametrize("name", [name for name in SMALL if name not in ("majority", "cnn")])
def test_annotators_learn(trained, simulated_dataset, name):
    graphs = MultiomeGraphs(simulated_dataset)
    test = (graphs.cells["split"] == "test").to_numpy()
    learnt = trained[name]
    if KINDS[name.split()[0]]["default"].epochs:  # few cells make few steps an epoch
        learnt = annotator(name, epochs=40, patience=40, batch_size=32, lr=3e-3).fit(simulated_dataset)
    right = learnt.predict(simulated_dataset).labels == graphs.cells["cell_type"].to_numpy()
    commonest = graphs.cells["cell_type"][test].value_counts(normalize=True).iloc[0]
    assert right[test].mean() > commonest + 0.1, (right[test].mean(), commonest)


@pytest.mark.parametrize("name", SMALL)
def test_a_cell_is_told_alike_alone_and_among_others(trained, simulated_dataset, name):
    whole = trained[name].predict(simulated_dataset)
    graphs = MultiomeGraphs(simulated_dataset)
    order = np.random.default_rng(0).permutation(len(graphs))[:17]
    some = trained[name].predict(graphs.index_select(order), batch_size=4)
    alone = trained[name].predict(graphs.index_select(order[:1]), batch_size=1)
    for found, which in ((some, order), (alone, order[:1])):
        assert list(found.labels) == list(whole.labels[which])
        for part in PARTS:
            np.testing.assert_allclose(
                getattr(found, part), getattr(whole, part)[which], atol=1e-5, rtol=1e-4
            )


@pytest.mark.parametrize("name", SMALL)
def test_double_precision_agrees_to_ten_digits(trained, simulated_dataset, name):
    model = Annotator.load(trained[name].features.parent).loaded.model.double()
    graphs = MultiomeGraphs(simulated_dataset)
    cells = np.arange(12)
    with torch.no_grad():
        whole = model(graphs.batch_of_pairs(cells, cells, cis=False)).logits
        alone = torch.cat([model(graphs.batch_of_pairs(c, c, cis=False)).logits for c in cells[:, None]])
    torch.testing.assert_close(alone, whole, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", SMALL)
def test_saved_annotators_load_without_the_training_data(trained, simulated_dataset, name, tmp_path):
    query = tmp_path / "query"
    shutil.copytree(simulated_dataset, query)
    trained[name].save(tmp_path / "kept")
    assert not [file for file in (tmp_path / "kept").rglob("*") if file.suffix in (".pkl", ".pt", ".pth")]
    loaded = Annotator.load(tmp_path / "kept")
    same(loaded.predict(query), trained[name].predict(simulated_dataset), tolerance=0)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (tmp_path / "kept" / WEIGHTS).read_bytes()
    with pytest.raises(InputError, match="exists"):
        loaded.save(tmp_path / "again")


def test_the_same_seed_gives_the_same_bits(trained, simulated_dataset, tmp_path):
    for name in ("hitanno", "svm", "mlp"):
        again = annotator(name).fit(simulated_dataset, run=tmp_path / name)
        assert (tmp_path / name / WEIGHTS).read_bytes() == (
            trained[name].features.parent / WEIGHTS
        ).read_bytes(), name
        same(again.predict(simulated_dataset), trained[name].predict(simulated_dataset), tolerance=0)


@pytest.mark.parametrize("name", ["hitanno", "hitanno published", "mlp"])
def test_interrupted_and_resumed_training_gives_the_same_bits(trained, simulated_dataset, name, tmp_path):
    annotator(name, epochs=2).fit(simulated_dataset, run=tmp_path / "run")
    annotator(name, epochs=3).fit(simulated_dataset, run=tmp_path / "run", resume=True)
    kept = trained[name].features.parent
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == (kept / WEIGHTS).read_bytes()


def test_the_vocabulary_is_that_of_the_training_labels(simulated, tmp_path, modalities):
    """The test set's own categories, in another order and with types of its own, must not shift any label."""
    counts = modalities["rna"].obs["cell_type"].value_counts()
    common, unseen = counts.index[0], counts.index[1]
    # In the order of names the unseen type is the first, and the commonest the last.
    renamed = {name: f"m {name}" for name in counts.index} | {common: "z common", unseen: "a unseen"}
    rna, atac = modalities["rna"].copy(), modalities["atac"].copy()
    for data in (rna, atac):
        data.obs["cell_type"] = data.obs["cell_type"].astype(str).map(renamed)
    known = (rna.obs["cell_type"] != "a unseen").to_numpy()
    files = written(tmp_path / "train", rna[known].copy(), atac[known].copy())
    options = BuildOptions(labels="cell_type", seed=1)
    build(files, tmp_path / "data", gtf=simulated.gtf, options=options, progress=False)
    run(Job(tmp_path / "data", tmp_path / "run", "svm", settings=("features=tfidf",)), progress=False)
    assert Annotator.load(tmp_path / "run").cell_types == tuple(sorted(set(renamed.values()) - {"a unseen"}))
    few = rna.obs["cell_type"].isin(["a unseen", "z common"]).to_numpy()
    other = written(tmp_path / "query", shifted(rna[few]), shifted(atac[few]))
    options = BuildOptions(labels="cell_type", discovery=True)
    build(other, tmp_path / "other", like=tmp_path / "run" / "features", options=options, progress=False)
    # Most are training cells, judged here for their names alone; that they are refused is tested below.
    save_tensors(tmp_path / "run" / SEEN, {"rna": torch.zeros(0, dtype=torch.int64)})
    metrics = evaluate_run(tmp_path / "run", tmp_path / "other", tmp_path / "m.json", progress=False)
    found, sizes = metrics["annotation"], rna.obs["cell_type"].value_counts()
    assert metrics["unknown_types"] == {"a unseen": sizes["a unseen"]}
    assert (found["n"], found["n_unknown"]) == (sizes["z common"], sizes["a unseen"])
    assert found["accuracy"] > 0.8
    assert found["novelty_auroc"] is not None


def written(folder, rna, atac):
    folder.mkdir()
    rna.write_h5ad(folder / "rna.h5ad")
    atac.write_h5ad(folder / "atac.h5ad")
    return [folder / "rna.h5ad", folder / "atac.h5ad"]


def shifted(data):
    """The same cells under other names."""
    copy = data.copy()
    copy.obs_names = ["q" + name for name in copy.obs_names]
    return copy


def test_annotations_go_into_an_anndata(trained, modalities, simulated_dataset):
    atac = modalities["atac"][::-1].copy()
    atac.obs["own"] = np.arange(atac.n_obs)
    found = annotate(trained["hitanno"], atac)
    expected = trained["hitanno"].predict(simulated_dataset)
    assert set(atac.obs) >= {"own", "scweave_label", "scweave_confidence", "scweave_novelty"}
    assert set(atac.obsm) >= {"scweave_probabilities", "X_scweave"}
    assert atac.uns["scweave"]["cell_types"] == list(expected.labels.categories)
    place = pd.Index(atac.obs_names).get_indexer(expected.barcodes)
    assert (atac.obs["scweave_label"].to_numpy()[place] == np.asarray(expected.labels)).all()
    np.testing.assert_allclose(atac.obsm["scweave_probabilities"][place], expected.probabilities, atol=1e-5)
    assert len(found.frame()) == atac.n_obs


def test_any_query_works(trained, modalities, tmp_path):
    """Without labels; with other peaks, moved and fewer; one cell; as MuData; with cells that hold nothing."""
    atac = modalities["atac"].copy()
    del atac.obs
    expected = annotate(trained["hitanno"], atac)
    place = atac.var_names.str.extract(r"(\w+):(\d+)-(\d+)")
    moved = atac.copy()
    moved.var_names = (place[0] + "-" + (place[1].astype(int) + 3).astype(str) + "-" + place[2]).to_numpy()
    found = annotate(trained["hitanno"], moved)
    assert list(found.labels) == list(expected.labels)
    one = annotate(trained["hitanno"], moved[5:6].copy())
    assert list(one.labels) == [expected.labels[5]]
    np.testing.assert_allclose(one.probabilities, expected.probabilities[5:6], atol=1e-5)
    half = annotate(trained["hitanno"], atac[:, ::2].copy(), min_placed=0.1)
    assert len(half.labels) == atac.n_obs
    with mudata.set_options(pull_on_update=False):
        both = mudata.MuData({"rna": modalities["rna"].copy(), "atac": atac.copy()})
        annotate(trained["knn"], both)
    assert both.obs["scweave_label"].notna().all() and "X_scweave" in both.obsm
    with pytest.raises(InputError, match="ATAC"):
        annotate(trained["hitanno"], modalities["rna"].copy())
    with pytest.raises(InputError, match="annotate takes it as it is"):
        trained["hitanno"].predict(atac)
    odd = atac.copy()
    odd.var["parts"] = [{"a": 1}] * odd.n_vars  # cannot be written, and is not needed
    assert list(annotate(trained["hitanno"], odd).labels) == list(expected.labels)


def test_too_little_of_the_features_is_an_error(trained, modalities):
    atac = modalities["atac"][:, :60].copy()
    with pytest.raises(InputError, match="peaks"):
        annotate(trained["hitanno"], atac)


@pytest.fixture(scope="module")
def svm_run(simulated_dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("svm") / "run"
    metrics = run(Job(simulated_dataset, folder, "svm", settings=("features=tfidf",)), progress=False)
    return folder, metrics


def test_a_run_has_metrics_beside_all_baselines_on_the_same_cells(svm_run, simulated_dataset):
    folder, metrics = svm_run
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    found = metrics["baselines"]["annotation"]
    families = {
        f"{kind}_{what}" for kind in ("centroid", "knn", "logreg", "svm") for what in ("lsi", "pca", "both")
    }
    assert set(found) == {"majority"} | families | {
        f"{kind}_{what}" for kind in ("logreg", "svm") for what in ("tfidf", "logcounts")
    }
    test = (MultiomeGraphs(simulated_dataset).cells["split"] == "test").sum()
    assert {figures["n"] for figures in [metrics["annotation"], *found.values()]} == {test}
    # the same model as among the baselines
    assert found["svm_tfidf"]["accuracy"] == metrics["annotation"]["accuracy"]
    names = {file.name for file in (folder / "metrics_figures").iterdir()}
    assert names == {"confusion.png", "reliability.png", "umap.png", "alluvial.png"}


def test_baselines_are_kept_and_judged_again(svm_run, simulated_dataset, tmp_path):
    folder, metrics = svm_run
    again = evaluate_run(folder, simulated_dataset, tmp_path / "again.json", progress=False)
    assert again == metrics
    manifest = Annotator.load(folder).loaded.manifest
    trained_on = {name: manifest[name] for name in ("dataset", "fold")}
    loaded = load_baselines(folder, trained_on)
    assert loaded is not None and set(loaded) == set(metrics["baselines"]["annotation"])
    (broken := tmp_path / "broken").mkdir()
    shutil.copytree(folder, broken / "run")
    (broken / "run" / DESCRIPTION).write_text("{")
    with pytest.raises(InputError, match="baselines"):
        evaluate_run(broken / "run", simulated_dataset, tmp_path / "b.json", progress=False)


def test_baselines_of_an_earlier_model_in_the_folder_are_not_taken(svm_run, tmp_path):
    """They were fitted on other cells, some of which are test cells now."""
    shutil.copytree(svm_run[0], tmp_path / "run")
    file = tmp_path / "run" / DESCRIPTION
    file.write_text(json.dumps({**json.loads(file.read_text()), "dataset": "another"}))
    manifest = Annotator.load(tmp_path / "run").loaded.manifest
    assert load_baselines(tmp_path / "run", {name: manifest[name] for name in ("dataset", "fold")}) is None


def test_a_used_folder_is_not_trained_into(svm_run, simulated_dataset):
    with pytest.raises(InputError, match="holds a trained model"):
        annotator("svm").fit(simulated_dataset, run=svm_run[0])


def test_a_missing_dataset_leaves_no_folder(tmp_path):
    for model in ("svm", "hitanno", "annatac"):
        with pytest.raises(InputError, match="is not a scweave dataset"):
            Annotator(model).fit(tmp_path / "missing", run=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_baselines_that_read_other_features_are_left_out(modalities, simulated, simulated_dataset, tmp_path):
    """A model of peaks may be judged where genes are others; baselines of genes would read the wrong ones."""
    run(Job(simulated_dataset, tmp_path / "run", "svm", settings=("features=tfidf",)), progress=False)
    rna = modalities["rna"][:, 6:].copy()
    files = written(tmp_path / "files", rna, modalities["atac"].copy())
    options = BuildOptions(labels="cell_type", seed=1)
    build(files, tmp_path / "fewer", gtf=simulated.gtf, options=options, progress=False)
    save_tensors(tmp_path / "run" / SEEN, {"rna": torch.zeros(0, dtype=torch.int64)})
    metrics = evaluate_run(tmp_path / "run", tmp_path / "fewer", tmp_path / "m.json", progress=False)
    found = set(metrics["baselines"]["annotation"])
    assert {"majority", "svm_lsi", "svm_tfidf"} <= found
    assert not {name for name in found if name.endswith(("_pca", "_both"))}


def test_the_published_training_is_that_of_the_paper():
    kind = KINDS["hitanno"]["published"]
    assert (kind.epochs, kind.patience, kind.lr, kind.weight_decay) == (20, 3, 1e-4, 0.0)
    config = kind.config()
    assert (config.dim, config.heads, config.ffn, config.dropout, config.warmup) == (128, 16, 128, 0.1, 3)
    assert (config.peak_layers, config.cell_layers, config.peaks_per_type) == (1, 1, 0)


def test_training_stops_when_patience_ends(simulated_dataset, tmp_path):
    learnt = annotator("hitanno", epochs=60, patience=2, lr=1.0).fit(simulated_dataset, run=tmp_path / "run")
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    best = int(history["validation_score"].idxmax())
    assert len(history) == best + 3 < 60
    assert learnt.predict(simulated_dataset).confidence.max() <= 1


def test_without_a_validation_cell_of_a_known_type_training_says_so(modalities, simulated, tmp_path):
    data = modalities["atac"].copy()
    data.obs["cell_type"] = data.obs["cell_type"].astype(str)
    (file := tmp_path / "atac.h5ad").parent.mkdir(exist_ok=True)
    data.write_h5ad(file)
    build([file], tmp_path / "d", gtf=simulated.gtf, options=BuildOptions(labels="cell_type"), progress=False)
    cells = pd.read_parquet(tmp_path / "d" / "cells.parquet")
    cells.loc[cells["split"] == "validation", "cell_type"] = None
    replace_tables(Store(tmp_path / "d"), tmp_path / "none", {"cells": cells})
    with pytest.raises(InputError, match="validation"):
        annotator("hitanno").fit(tmp_path / "none", run=tmp_path / "run")


def test_a_vocabulary_that_does_not_fit_the_weights_is_refused(svm_run, tmp_path):
    shutil.copytree(svm_run[0], tmp_path / "run")
    file = tmp_path / "run" / "model.json"
    told = json.loads(file.read_text())
    for names in (told["cell_types"][:-1], [*told["cell_types"], "more"], told["cell_types"][:1] * 4):
        file.write_text(json.dumps({**told, "cell_types": names}))
        with pytest.raises(InputError, match="damaged"):
            Annotator.load(tmp_path / "run")


def test_seen_cells_are_not_judged_in_another_dataset(svm_run, modalities, tmp_path):
    folder, _ = svm_run
    files = written(tmp_path / "q", shifted(modalities["rna"]), shifted(modalities["atac"]))
    options = BuildOptions(labels="cell_type", discovery=True)
    build(files, tmp_path / "other", like=folder / "features", options=options, progress=False)
    with pytest.raises(InputError, match="were seen"):
        evaluate_run(folder, tmp_path / "other", tmp_path / "m.json", progress=False)


def test_predict_writes_what_the_face_tells(svm_run, simulated_dataset, tmp_path):
    folder, _ = svm_run
    summary = predict_run(folder, [simulated_dataset], tmp_path / "p.h5ad", batch_size=7, progress=False)
    data, found = ad.read_h5ad(tmp_path / "p.h5ad"), Annotator.load(folder).predict(simulated_dataset)
    assert (data.obs["scweave_label"].to_numpy() == np.asarray(found.labels)).all()
    assert data.obs["scweave_label"].cat.categories.tolist() == list(data.uns["scweave"]["cell_types"])
    np.testing.assert_allclose(data.obs["scweave_confidence"], found.confidence, atol=1e-6)
    np.testing.assert_allclose(data.obs["scweave_novelty"], found.novelty, atol=1e-6)
    np.testing.assert_allclose(data.obsm["scweave_probabilities"], found.probabilities, atol=1e-6)
    np.testing.assert_allclose(data.obsm["X_scweave"], found.embedding, atol=1e-6)
    assert summary["cells"] == data.n_obs and "scweave_label" in summary["predicted"]
    assert summary["labels"] == found.frame()["scweave_label"].value_counts().to_dict()


def test_one_modality_is_enough(simulated, modalities, tmp_path):
    """ATAC alone, RNA alone: annotators need neither pairs nor the other modality."""
    for name, model in (("atac", "hitanno"), ("rna", "logreg")):
        file = tmp_path / f"{name}.h5ad"
        modalities[name].write_h5ad(file)
        options = BuildOptions(labels="cell_type")
        build([file], tmp_path / name, gtf=simulated.gtf, options=options, progress=False)
        metrics = run(
            Job(tmp_path / name, tmp_path / f"run_{name}", model, epochs=3 if model == "hitanno" else None),
            progress=False,
        )
        assert metrics["annotation"]["n"] > 0
        suffixes = {baseline.rpartition("_")[2] for baseline in metrics["baselines"]["annotation"]}
        assert suffixes == (
            {"majority", "lsi", "tfidf"} if name == "atac" else {"majority", "pca", "logcounts"}
        )
    with pytest.raises(InputError, match="needs ATAC"):
        run(Job(tmp_path / "rna", tmp_path / "x", "hitanno"), progress=False)
    assert not (tmp_path / "x").exists()
    # What a model does not read may be there, and need not fit.
    files = {name: tmp_path / f"{name}.h5ad" for name in ("atac", "rna")}
    for name in files:
        model = tmp_path / f"run_{name}"
        summary = predict_run(model, list(files.values()), tmp_path / f"{name}_pred.h5ad", progress=False)
        assert any("is there and not read" in note for note in summary["notes"])
        alone = predict_run(model, [files[name]], tmp_path / f"{name}_alone.h5ad", progress=False)
        assert alone["cells"] == summary["cells"]
        missing = files["rna" if name == "atac" else "atac"]
        with pytest.raises(InputError, match=f"{name.upper()} is asked for"):
            predict_run(model, [missing], tmp_path / "no.h5ad", progress=False)
    with pytest.raises(InputError, match="the query has no ATAC"):
        predict_run(tmp_path / "run_atac", [tmp_path / "rna"], tmp_path / "no.h5ad", progress=False)
    assert not (tmp_path / "no.h5ad").exists()


def test_bad_jobs_say_why_and_leave_nothing(simulated, simulated_dataset, modalities, tmp_path):
    out = tmp_path / "run"
    for job, match in (
        (Job(simulated_dataset, out, "hitano"), "hitanno"),
        (Job(simulated_dataset, out, "svm", "published"), "--mode published"),
        (Job(simulated_dataset, out, "svm", epochs=5), "--epochs"),
        (Job(simulated_dataset, out, "svm", settings=("features=nothing",)), "nothing"),
        (Job(simulated_dataset, out, "svm", settings=("widht=3",)), "widht"),
    ):
        with pytest.raises(InputError, match=match):
            run(job, progress=False)
        assert not out.exists()
    file = tmp_path / "atac.h5ad"
    modalities["atac"].write_h5ad(file)
    build([file], tmp_path / "unlabelled", gtf=simulated.gtf, options=BuildOptions(), progress=False)
    with pytest.raises(InputError, match="--labels"):
        run(Job(tmp_path / "unlabelled", out, "hitanno"), progress=False)
    assert not out.exists()


def test_untrained_and_foreign_annotators_are_refused(simulated_dataset, tmp_path):
    with pytest.raises(InputError, match="not trained"):
        Annotator("svm").predict(simulated_dataset)
    with pytest.raises(InputError, match="does not annotate"):
        Annotator("crossrec")
    with pytest.raises(InputError, match="no trained model"):
        Annotator.load(tmp_path)


def test_options_and_settings_are_checked_by_name(simulated_dataset):
    for bad, match in (
        (lambda: Annotator("logreg", epochs=3), "fitted at once"),
        (lambda: Annotator("hitanno", speed=3), "there is no speed"),
        (lambda: Annotator("hitanno", settings={"speed": 3}), "there is no speed"),
        (lambda: Annotator("hitanno", settings={"balance": 2.0}), "balance"),
        (lambda: Annotator("hitanno", settings={"smoothing": "x"}), "smoothing='x' is of type str"),
        (lambda: Annotator("hitanno", settings={"leave_one_out": "false"}), "leave_one_out='false'"),
        (lambda: Annotator("hitanno", epochs=1.5), "epochs=1.5 is of type float"),
        (lambda: Annotator("hitanno").fit(ad.AnnData(np.ones((2, 2)))), "fit takes the folder"),
    ):
        with pytest.raises(InputError, match=match):
            bad()
    config = Job(simulated_dataset, simulated_dataset, "logreg", settings=("balanced=true", "C=0.5")).config()
    assert (config.balanced, config.C) == (True, 0.5)
    with pytest.raises(InputError, match="balanced=perhaps: expected bool"):
        Job(simulated_dataset, simulated_dataset, "logreg", settings=("balanced=perhaps",)).config()


@pytest.mark.parametrize("name", ["hitanno", "hitanno published", "mlp"])
def test_mixed_precision_trains(simulated_dataset, name):
    found = annotator(name, precision="bf16-mixed").fit(simulated_dataset).predict(simulated_dataset)
    assert np.isfinite(found.probabilities).all() and found.probabilities.dtype == np.float32
    with pytest.raises(InputError, match="--precision"):
        Job(simulated_dataset, simulated_dataset, "hitanno", precision="8-bit").options()


def test_genes_are_mapped_by_name_and_the_share_is_told(modalities, simulated_dataset, tmp_path):
    learnt = Annotator("logreg", settings={"features": "pca"}).fit(simulated_dataset, run=tmp_path / "run")
    rna = modalities["rna"][:, ::-1].copy()
    expected = learnt.predict(simulated_dataset)
    found = annotate(learnt, rna)
    assert list(found.labels) == list(expected.labels)
    few = rna[:, : rna.n_vars // 2].copy()
    fewer = annotate(learnt, few)
    nothing = np.asarray(few.X.sum(1)).ravel() == 0  # such cells have no profile, and get no label
    assert (few.obs["scweave_label"].isna() == nothing).all()
    assert (np.isnan(few.obsm["X_scweave"]).any(1) == nothing).all()
    assert len(fewer.labels) == (~nothing).sum()
    assert any("genes of the query mapped" in note for note in fewer.about["notes"])
    with pytest.raises(InputError, match="genes"):
        annotate(learnt, rna[:, :5].copy())


def test_cells_without_counts_are_told_something(trained, random_dataset):
    """The third cell of this dataset holds nothing; it gets the probabilities of an average cell, not NaN."""
    learnt = annotator("hitanno").fit(random_dataset)
    found = learnt.predict(random_dataset)
    for part in PARTS:
        assert np.isfinite(getattr(found, part)).all(), part
