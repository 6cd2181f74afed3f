"""Studies of annotators: what a training is told, figures beside baselines on the same labels, all annotators alike."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel
from sklearn.metrics import average_precision_score, roc_auc_score

from scweave.cli import main
from scweave.commands.jobs import Job
from scweave.commands.study import study_run
from scweave.generators.restrict import relabel
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.graphs.store import Store, verify
from scweave.models.annotation import closed_form
from scweave.models.annotation.closed_form import FeatureConfig
from scweave.models.annotation.model import labelled
from scweave.models.checkpoint import load_model
from scweave.models.registry import kind_of
from scweave.models.studies import annotator_trials
from scweave.models.studies.annotator_results import METRICS
from scweave.models.studies.novelty import novelty_figures
from scweave.models.studies.plan import plan
from scweave.models.studies.study import Study
from scweave.models.training import TrainOptions, fit

TYPE = "type_1"
TINY_ANNATAC = ("width=8", "layers=1", "heads=2", "head_width=4", "hidden=8", "slots=4")
ANNOTATORS = (
    ("hitanno", "default", ()),
    ("hitanno", "published", ("dim=8", "heads=2", "ffn=8")),
    ("annatac", "published", TINY_ANNATAC),
    ("majority", "default", ()),
    ("centroid", "default", ()),
    ("knn", "default", ()),
    ("logreg", "default", ("C=1",)),
    ("svm", "default", ("C=0.1",)),
    ("mlp", "default", ("hidden=16", "width=8")),
    ("cnn", "default", ("width=8",)),
)


def job(dataset, out, model="hitanno", **changes):
    return replace(Job(dataset, out, model, epochs=2, seed=3), **changes)


def study(dataset, name, model="hitanno", **changes):
    kind = kind_of(model)
    return replace(Study(name, dataset, kind, kind.config(), TrainOptions(epochs=2, seed=3), 2), **changes)


@pytest.fixture(scope="module")
def fractions(simulated_dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("studies") / "fractions"
    asked = {"shares": (0.2, 1.0), "repeats": 2, "progress": False}
    return out, study_run(job(simulated_dataset, out), "fractions", **asked)


@pytest.fixture(scope="module")
def noise(simulated_dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("studies") / "noise"
    asked = {"noise": (0.0, 0.3), "repeats": 2, "progress": False}
    chosen = job(simulated_dataset, out, "logreg", epochs=None, settings=("C=1",))
    return out, study_run(chosen, "label-noise", **asked)


@pytest.fixture(scope="module")
def types(simulated_dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("studies") / "types"
    asked = {"types": (TYPE, "type_3"), "repeats": 2, "progress": False}
    return out, study_run(job(simulated_dataset, out), "leave-type-out", **asked)


@pytest.fixture
def few_baselines(monkeypatch):
    """One baseline in place of fifteen."""
    chosen = {"centroid_lsi": ("centroid", FeatureConfig("lsi"))}
    monkeypatch.setattr(closed_form, "baseline_configs", lambda _: chosen)


def split_of(dataset):
    return MultiomeGraphs(dataset).cells["split"].to_numpy()


def truth_of(dataset):
    return MultiomeGraphs(dataset).cells["cell_type"].to_numpy()


def test_a_relabelled_dataset_is_whole_and_shares_its_arrays(simulated_dataset, tmp_path):
    labels = truth_of(simulated_dataset).copy()
    labels[::2] = None
    relabel(simulated_dataset, tmp_path / "d", labels)
    verify(tmp_path / "d")
    source, store = Store(simulated_dataset), Store(tmp_path / "d")
    assert os.path.samefile(tmp_path / "d" / "atac_values.npy", simulated_dataset / "atac_values.npy")
    before, cells = source.table("cells"), store.table("cells")
    assert cells["cell_type"].isna().equals(pd.Series(np.arange(len(cells)) % 2 == 0))
    assert cells.drop(columns="cell_type").equals(before.drop(columns="cell_type"))
    assert store.table("genes").equals(source.table("genes"))  # the same training cells
    assert store.table("pairs").empty
    assert store.fingerprint != source.fingerprint
    graphs = MultiomeGraphs(tmp_path / "d", split="train")
    assert len(labelled(graphs)) == (cells["cell_type"].notna() & (cells["split"] == "train")).sum()


def test_genes_are_fitted_on_the_cells_that_stay(simulated_dataset, tmp_path):
    labels, split = truth_of(simulated_dataset), split_of(simulated_dataset)
    keep = (split == "test") | (labels != TYPE)
    relabel(simulated_dataset, tmp_path / "d", labels, keep=keep)
    verify(tmp_path / "d")
    store, train = Store(tmp_path / "d"), np.flatnonzero((split == "train") & keep)
    assert store.table("cells")["split"].isna().equals(pd.Series(~keep))
    means = MultiomeGraphs(tmp_path / "d").rna_rows.matrix(train).toarray().mean(0)
    np.testing.assert_allclose(store.table("genes")["means"], means, rtol=1e-6)


def test_no_labels_at_all_and_strange_ones(simulated_dataset, tmp_path):
    nothing = np.full(len(truth_of(simulated_dataset)), None, dtype=object)
    relabel(simulated_dataset, tmp_path / "d", nothing)
    verify(tmp_path / "d")
    assert (MultiomeGraphs(tmp_path / "d").cell_type_codes == -1).all()
    nothing[0] = "B cell"
    with pytest.raises(InputError, match="has no cell type B cell"):
        relabel(simulated_dataset, tmp_path / "e", nothing)
    assert not (tmp_path / "e").exists()


def test_shares_of_labels_are_nested_in_train_and_validation_and_leave_test_alone(simulated_dataset):
    trainings, _ = plan(study(simulated_dataset, "fractions", shares=(1.0, 0.2, 0.5)))
    truth, split = truth_of(simulated_dataset), split_of(simulated_dataset)
    assert [(t.setting, t.repeat) for t in trainings] == [
        ("0.2", 0),
        ("0.5", 0),
        ("1", 0),
        ("0.2", 1),
        ("0.5", 1),
        ("1", 1),
    ]
    for training in trainings:
        known = np.array([label is not None for label in training.labels])
        assert training.keep.all()
        assert (training.labels[known] == truth[known]).all()
        assert known[split == "test"].all()
        for name in ("train", "validation"):
            whole = pd.Series(truth[split == name]).value_counts()
            held = pd.Series(truth[(split == name) & known]).value_counts()
            expected = (whole * training.share).round().clip(lower=1)
            assert held.reindex(whole.index).equals(expected.astype(held.dtype))
    small, half, _, other = (np.array([label is not None for label in t.labels]) for t in trainings[:4])
    assert not (small & ~half).any()
    assert (small != other).any()


def test_noise_changes_labels_of_training_and_validation_cells_only(simulated_dataset):
    trainings, _ = plan(study(simulated_dataset, "label-noise", noise=(0.0, 0.1, 0.3)))
    truth, split = truth_of(simulated_dataset), split_of(simulated_dataset)
    for training in trainings:
        level = float(training.setting)
        changed = training.labels != truth
        assert not changed[split == "test"].any()
        for name in ("train", "validation"):
            own = split == name
            assert training.told[f"changed_{name}"] == pytest.approx(changed[own].mean())
            assert changed[own].sum() <= round(level * own.sum())
            assert (np.sort(training.labels[own]) == np.sort(truth[own])).all()
    # Three quarters of the cells are of one type, so that about half of the chosen labels can change.
    assert trainings[-1].told["changed_train"] > 0.1
    assert trainings[0].told == {"changed_train": 0.0, "changed_validation": 0.0}


@pytest.mark.parametrize("name", ["fractions", "label-noise"])
def test_what_is_drawn_does_not_depend_on_test_labels(simulated_dataset, tmp_path, name):
    split, truth = split_of(simulated_dataset), truth_of(simulated_dataset).copy()
    test = np.flatnonzero(split == "test")
    truth[test] = truth[test][::-1]
    truth[test[:5]] = None
    relabel(simulated_dataset, tmp_path / "d", truth)
    first, second = (plan(study(path, name))[0] for path in (simulated_dataset, tmp_path / "d"))
    for ours, theirs in zip(first, second, strict=True):
        assert (ours.labels[split != "test"] == theirs.labels[split != "test"]).all()


def test_nothing_of_a_type_that_is_left_out_is_read(simulated_dataset, tmp_path):
    """Other counts in its training and validation cells change not a bit of model or baselines."""
    (training,), _ = plan(study(simulated_dataset, "leave-type-out", types=(TYPE,), repeats=1))
    other = tmp_path / "poisoned"
    shutil.copytree(simulated_dataset, other)
    for name in ("rna", "atac"):
        ends, values = np.load(other / f"{name}_indptr.npy"), np.load(other / f"{name}_values.npy")
        values[np.repeat(~training.keep, np.diff(ends))] += 50
        np.save(other / f"{name}_values.npy", values)
    found = []
    for i, dataset in enumerate((simulated_dataset, other)):
        folder = tmp_path / str(i)
        folder.mkdir()
        chosen = study(dataset, "leave-type-out", types=(TYPE,), repeats=1)
        trials = annotator_trials.AnnotatorTrials(chosen, folder, relabel)
        graphs = trials.write(training, folder)
        assert TYPE not in labelled(graphs.part(split="train")).cells.loc[graphs.cells["split"] == "train", "cell_type"].tolist()  # fmt: skip
        loaded = trials.fit(training, folder)
        assert TYPE not in loaded.model.cell_types
        trials.baselines(training, folder, loaded, graphs)
        written = ("run/model.safetensors", "run/baselines.safetensors", "dataset/genes.parquet")
        found.append([(folder / name).read_bytes() for name in written])
    assert found[0] == found[1]


def test_fractions_leave_figures_and_tests_beside_baselines(fractions, simulated_dataset):
    out, content = fractions
    files = {"config.json", "runs", "study.json", "study.png", "table.csv", "tests.csv"}
    assert {path.name for path in out.iterdir()} == files
    assert len(list((out / "runs").iterdir())) == 4
    assert json.loads((out / "study.json").read_text()) == json.loads(json.dumps(content))
    table = pd.read_csv(out / "table.csv", dtype={"setting": str})
    n = (split_of(simulated_dataset) == "train").sum()
    assert content["settings"][1]["training_cells"] == n
    assert content["settings"][0]["training_cells"] == round(136 * 0.2) + round(47 * 0.2) + 2
    baselines = {"majority", "centroid_lsi", "knn_pca", "logreg_tfidf", "svm_both"}
    for entry in content["settings"]:
        assert baselines <= set(entry["baselines"]["annotation"])
        assert set(entry["against_baselines"]["annotation"]) == set(entry["baselines"]["annotation"])
        own = table[table["setting"] == entry["setting"]]
        for method, metrics in entry["against_baselines"]["annotation"].items():
            assert list(metrics) == list(METRICS["annotation"])
            for metric, told in metrics.items():
                rows = own[own["metric"] == metric].sort_values("repeat")
                pair = [rows.loc[rows["method"] == name, "value"] for name in ("hitanno", method)]
                assert told["difference"]["mean"] == pytest.approx((pair[0].values - pair[1].values).mean())
                if np.ptp(pair[0].values - pair[1].values) > 1e-12:
                    assert told["p"] == pytest.approx(ttest_rel(*pair).pvalue)
                else:
                    assert told["p"] is None
    (between,) = (one for one in content["between_settings"] if one["metric"] == "macro_f1")
    assert (between["setting"], between["other"]) == ("1", "0.2")
    written = pd.read_csv(out / "tests.csv")
    assert len(written) == (2 * len(content["settings"][0]["baselines"]["annotation"]) + 1) * 6


def test_baselines_have_the_same_few_labels(fractions, simulated_dataset, tmp_path):
    """The figures of a baseline are those of one that was fitted on the labels of the plan."""
    out, _ = fractions
    chosen = study(simulated_dataset, "fractions", shares=(0.2, 1.0))
    training = plan(chosen)[0][0]
    relabel(simulated_dataset, tmp_path / "d", training.labels)
    kind = kind_of("centroid")
    (tmp_path / "run").mkdir()
    fit(kind, tmp_path / "d", tmp_path / "run", kind.config(), TrainOptions(seed=3), progress=False)
    loaded, graphs = load_model(tmp_path / "run"), MultiomeGraphs(tmp_path / "d")
    ours = annotator_trials.annotation_figures(loaded, graphs, {})["centroid"]
    found = json.loads((out / "runs" / "share-0.2-repeat-0.json").read_text())
    theirs = found["figures"]["all types"]["annotation"]["centroid_lsi"]
    assert ours["macro_f1"] == theirs["macro_f1"] and ours["n"] == theirs["n"] == 25


def test_noise_is_told_and_judged_by_true_labels(noise):
    out, content = noise
    clean, noisy = content["settings"]
    assert clean["changed_train"] == 0
    assert 0.1 < noisy["changed_train"] <= 0.3
    assert clean["training_cells"] == noisy["training_cells"] == 185
    assert clean["annotation"]["n"]["mean"] == noisy["annotation"]["n"]["mean"] == 25
    assert noisy["annotation"]["accuracy"]["mean"] > 0.7  # true labels: those told are wrong more often
    assert "logreg" not in noisy["baselines"]["annotation"]
    assert (out / "study.png").stat().st_size > 10_000


def test_novelty_of_a_type_that_was_left_out(types, simulated_dataset):
    out, content = types
    settings = {entry["setting"]: entry for entry in content["settings"]}
    assert list(settings) == [f"without {TYPE}", "without type_3", "mean of the types"]
    split, truth = split_of(simulated_dataset), truth_of(simulated_dataset)
    train = split == "train"
    assert settings[f"without {TYPE}"]["training_cells"] == (train & (truth != TYPE)).sum()
    first, second, mean = settings.values()
    assert first["novelty"]["n"]["mean"] == ((split == "test") & (truth == TYPE)).sum()
    for method in ("hitanno", *mean["baselines"]["novelty"]):
        each = [e["novelty"] if method == "hitanno" else e["baselines"]["novelty"][method] for e in settings.values()]  # fmt: skip
        for metric in METRICS["novelty"]:
            two = [figures[metric]["mean"] for figures in each]
            assert two[2] == pytest.approx((two[0] + two[1]) / 2)
            assert 0 <= two[2] <= 1
    assert set(mean["against_baselines"]["novelty"]) == set(mean["baselines"]["novelty"])
    assert content["between_settings"] == []
    assert second["baselines"]["novelty"]["majority"]["called_novel"]["mean"] == 0  # sure of the commonest
    assert (out / "study.png").stat().st_size > 10_000


def test_novelty_figures_are_those_of_scikit_learn(simulated_dataset, tmp_path):
    (training,), _ = plan(study(simulated_dataset, "leave-type-out", types=(TYPE,), repeats=1))
    relabel(simulated_dataset, tmp_path / "d", training.labels, keep=training.keep)
    kind = kind_of("knn")
    (tmp_path / "run").mkdir()
    fit(kind, tmp_path / "d", tmp_path / "run", kind.config(), TrainOptions(seed=3), progress=False)
    model, graphs = load_model(tmp_path / "run").model, MultiomeGraphs(tmp_path / "d")
    found = novelty_figures(model, graphs, TYPE)
    rows = np.flatnonzero((graphs.cells["split"] == "test").to_numpy())
    reading = model(graphs.batch_of_pairs(rows, rows, cis=False))
    probabilities = model.calibration.probabilities(reading.logits).detach().numpy()
    novelty = model.calibration.novelty(reading.logits, reading.embedding).detach().numpy()
    truth = graphs.cells["cell_type"].to_numpy()[rows]
    known = np.isin(truth, model.cell_types)
    new = truth == TYPE
    some = known | new
    assert found["auroc"] == pytest.approx(roc_auc_score(new[some], novelty[some]))
    assert found["average_precision"] == pytest.approx(average_precision_score(new[some], novelty[some]))
    assert found["called_novel"] == pytest.approx((probabilities[new].max(1) < 0.5).mean())
    assert found["known_called_novel"] == pytest.approx((probabilities[known].max(1) < 0.5).mean())
    told = np.array(model.cell_types)[probabilities[known].argmax(1)]
    assert found["accuracy"] == pytest.approx((told == truth[known]).mean())
    assert (found["n"], found["n_known"]) == (new.sum(), known.sum())


@pytest.mark.parametrize(("model", "mode", "settings"), ANNOTATORS)
@pytest.mark.parametrize("name", ["fractions", "leave-type-out"])
def test_every_annotator_can_be_studied(
    simulated_dataset, tmp_path, few_baselines, name, model, mode, settings
):
    epochs = 1 if kind_of(model, mode).epochs else None
    chosen = job(simulated_dataset, tmp_path / "out", model, mode=mode, epochs=epochs, settings=settings)
    asked = {"types": (TYPE,)} if name == "leave-type-out" else {"shares": (0.5,)}
    content = study_run(chosen, name, repeats=1, progress=False, **asked)
    task = "novelty" if name == "leave-type-out" else "annotation"
    first = content["settings"][0]
    assert (content["model"], content["mode"]) == (model, mode)
    assert 0 <= first[task]["macro_f1"]["mean"] <= 1
    assert first["against_baselines"][task]["centroid_lsi"]["accuracy"]["p"] is None  # one repeat


def test_same_seed_same_figures_and_finished_trainings_are_kept(
    fractions, simulated_dataset, tmp_path, monkeypatch
):
    out, content = fractions
    shutil.copy(out / "config.json", tmp_path)
    shutil.copytree(out / "runs", tmp_path / "runs")
    (tmp_path / "runs" / "share-0.2-repeat-1.json").unlink()
    trained = []
    monkeypatch.setattr(annotator_trials, "fit", lambda *a, **k: trained.append(a) or fit(*a, **k))
    asked = {"shares": (0.2, 1.0), "repeats": 2, "resume": True, "progress": False}
    again = study_run(job(simulated_dataset, tmp_path), "fractions", **asked)
    assert len(trained) == 1
    assert json.dumps(again) == json.dumps(content)
    for name in ("table.csv", "tests.csv"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()
    with pytest.raises(InputError, match="epochs was 2 and is 3"):
        study_run(job(simulated_dataset, tmp_path, epochs=3), "fractions", **asked)
    with pytest.raises(InputError, match="study was fractions and is label-noise"):
        study_run(job(simulated_dataset, tmp_path), "label-noise", repeats=2, resume=True, progress=False)
    (tmp_path / "runs" / "share-1-repeat-0.json").write_text("[]")
    with pytest.raises(InputError, match=r"share-1-repeat-0.json is damaged"):
        study_run(job(simulated_dataset, tmp_path), "fractions", **asked)
    assert not (tmp_path / ".work").exists()


def test_what_cannot_be_studied_is_refused_and_leaves_nothing(simulated_dataset, tmp_path):
    good = job(simulated_dataset, tmp_path / "out")
    for name, change, asked, message in (
        ("pretraining", {}, {}, "hitanno is not pre-trained. Choose --model annatac"),
        ("noise", {}, {}, "study noise: choose fractions, label-noise, leave-type-out or pretraining"),
        ("label-noise", {}, {"noise": (0.1, 1.0)}, "--noise 0.1,1.0: choose numbers from 0 to below 1"),
        ("label-noise", {}, {"shares": (0.1,)}, "--shares belongs to the studies fractions and pretraining"),
        ("label-noise", {}, {"pretrain_epochs": 3}, "--pretrain-epochs belongs to the study pretraining"),
        ("fractions", {}, {"noise": (0.1,)}, "--noise belongs to the study label-noise"),
        ("fractions", {}, {"shares": (0.01,)}, "--shares 0.01: 4 of 185 labelled training cells are too few"),
        ("leave-type-out", {}, {"types": ("B cell",)}, "no test cell is of that type. There are type_1"),
        ("leave-type-out", {}, {}, "no type has 20 test cells. Name types with --types"),
        ("fractions", {"model": "svm"}, {}, "--epochs: svm is fitted at once"),
        ("fractions", {"settings": ("colour=1",)}, {}, "no such setting"),
    ):
        with pytest.raises(InputError, match=message) as error:
            study_run(replace(good, **change), name, progress=False, **asked)
        assert "\n" not in str(error.value)
        assert not good.out.exists()


def test_the_command_prints_tables_that_fit(capsys, monkeypatch, simulated_dataset, tmp_path, few_baselines):
    out = tmp_path / "noise"
    arguments = [simulated_dataset, "--model", "svm", "--set", "C=0.1", "--repeats", "2", "--quiet"]
    given = ["scweave", "study", "label-noise", *arguments, "--noise", "0,0.1,0.2", "--out", out]
    monkeypatch.setattr(sys, "argv", list(map(str, given)))
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    printed = capsys.readouterr().out
    tables = printed[: printed.index("shares of the labels")].splitlines()
    assert max(map(len, tables)) <= 80
    assert "macro_f1 beside baselines" in printed and "macro_f1: p against" in printed
    assert "labels changed" in printed and f"written: {out}" in printed
    monkeypatch.setattr(sys, "argv", [*map(str, given), "--resume", "--json"])
    with pytest.raises(SystemExit):
        main()
    content = json.loads(capsys.readouterr().out)
    assert [entry["setting"] for entry in content["settings"]] == ["0", "0.1", "0.2"]
