"""The study of pre-training: once a repeat without a label, then with it and from scratch on the same labels."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from scweave.commands.jobs import Job
from scweave.commands.study import study_run
from scweave.generators.restrict import relabel
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.interpret.study_tables import show_study
from scweave.models.annotation import closed_form
from scweave.models.annotation.closed_form import FeatureConfig
from scweave.models.registry import Kind, kind_of
from scweave.models.studies import annotator_trials
from scweave.models.studies.options import pretraining_job
from scweave.models.studies.run import run_study
from scweave.models.studies.study import Study
from scweave.models.training import TrainOptions, fit

TINY = ("width=8", "layers=1", "heads=2", "head_width=4", "hidden=8", "slots=4")


@dataclass(frozen=True)
class Shared:
    """Of the settings of an MLP, pre-training knows one; the other is its own."""

    hidden: int = 512
    masked: float = 0.15


MLP = replace(kind_of("mlp"), pretraining=Kind(None, Shared, "pretraining", 7, 2, 16, 1e-2, 1e-3, clip=1.0))


@pytest.fixture(autouse=True)
def one_baseline(monkeypatch):
    chosen = {"centroid_lsi": ("centroid", FeatureConfig("lsi"))}
    monkeypatch.setattr(closed_form, "baseline_configs", lambda _: chosen)


@pytest.fixture
def calls(monkeypatch):
    """Pre-training that writes a history and nothing else; every call of `fit` is kept."""
    kept = []

    def pretend(kind, datasets, run, config, options, *, init=None, progress=True):
        dataset, *others = [datasets] if isinstance(datasets, Path) else datasets
        graphs = MultiomeGraphs(dataset)
        graphs.joined = others
        kept.append((kind, graphs, config, options, init and (init.name, (init / "weights").read_text())))
        if kind.task != "pretraining":
            fit(kind, dataset, run, config, options, progress=progress)
            return
        history = {"epoch": [0, 1], "validation_loss": [0.7, 0.5], "validation_masked": [0.1, 0.3]}
        pd.DataFrame(history | {"validation_score": [-0.7, -0.5]}).to_csv(run / "history.csv", index=False)
        (run / "weights").write_text(f"seed {options.seed}")

    monkeypatch.setattr(annotator_trials, "fit", pretend)
    return kept


def study(dataset, **changes):
    config = MLP.config(hidden=16, width=8)
    options = TrainOptions(epochs=2, batch_size=64, lr=1e-3, seed=3)
    return replace(Study("pretraining", dataset, MLP, config, options, 2, (0.2, 1.0)), **changes)


def test_pre_trained_once_a_repeat_without_labels(simulated_dataset, tmp_path, calls):
    content = run_study(study(simulated_dataset), tmp_path, relabel, progress=False)
    tasks = [kind.task for kind, *_ in calls]
    assert tasks == 2 * ["pretraining", *4 * ["annotation"]]
    source = MultiomeGraphs(simulated_dataset)
    for repeat in range(2):
        (kind, graphs, config, options, _), *trained = calls[5 * repeat : 5 * repeat + 5]
        assert kind is MLP.pretraining
        assert (graphs.cell_type_codes == -1).all()  # not one label
        assert graphs.cells["split"].equals(source.cells["split"])  # all training cells
        assert config == Shared(hidden=16)
        assert (options.epochs, options.lr, options.clip, options.seed) == (7, 1e-2, 1.0, 3 + repeat)
        starts = [init for *_, init in trained]
        assert starts == 2 * [(f"pretrained-{repeat}", f"seed {3 + repeat}"), None]
        with_it, without = trained[0], trained[1]
        assert (with_it[1].cell_type_codes == without[1].cell_type_codes).all()
        assert with_it[2:4] == without[2:4]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "curves.csv",
        "runs",
        "study.json",
        "study.png",
        "table.csv",
        "tests.csv",
    ]
    entry = content["settings"][0]
    assert (entry["pretraining_epochs"], entry["pretraining_validation_masked"]) == (2.0, 0.3)
    # The stand-in trains from the same random weights, so that there is nothing to gain.
    gain = entry["pretraining_gain"]["annotation"]["macro_f1"]
    assert (gain["difference"]["mean"], gain["p"]) == (0.0, None)


def test_more_unlabelled_cells_join_in_pre_training_alone(simulated_dataset, random_dataset, tmp_path, calls):
    more = study(simulated_dataset, unlabelled=(random_dataset,), repeats=1)
    content = run_study(more, tmp_path, relabel, progress=False)
    assert [graphs.joined for _, graphs, *_ in calls] == [[random_dataset], [], [], [], []]
    assert f"on all training cells and of {random_dataset} without their labels" in " ".join(content["notes"])


def test_with_and_without_stand_beside_baselines(simulated_dataset, tmp_path, calls, monkeypatch, capsys):
    ran = annotator_trials.annotation_figures

    def better(loaded, graphs, baselines):
        """Give the model with baselines, which is the pre-trained one, a little more in each repeat."""
        found = ran(loaded, graphs, baselines)
        if baselines:
            found["mlp"]["macro_f1"] += 0.01 * len(calls)
        return found

    monkeypatch.setattr(annotator_trials, "annotation_figures", better)
    content = run_study(study(simulated_dataset), tmp_path, relabel, progress=False)
    table = pd.read_csv(tmp_path / "table.csv", dtype={"setting": str})
    for entry in content["settings"]:
        own = table[(table["setting"] == entry["setting"]) & (table["metric"] == "macro_f1")]
        pair = [own.loc[own["method"] == name, "value"] for name in ("mlp", "mlp_from_scratch")]
        gain = entry["pretraining_gain"]["annotation"]["macro_f1"]
        assert gain["p"] == pytest.approx(ttest_rel(*pair).pvalue)
        assert gain["difference"]["mean"] == pytest.approx(pair[0].mean() - pair[1].mean())
        assert entry["from_scratch"]["annotation"]["macro_f1"]["mean"] == pytest.approx(pair[1].mean())
        assert list(entry["baselines"]["annotation"]) == ["centroid_lsi"]
        assert list(entry["against_baselines"]["annotation"]) == ["centroid_lsi"]
        assert entry["against_best_baseline"]["annotation"]["baseline"] == "centroid_lsi"
    tests = pd.read_csv(tmp_path / "tests.csv")
    assert (tests["against"] == "mlp_from_scratch").sum() == 2 * 6
    show_study(content, tmp_path)
    printed = capsys.readouterr().out
    assert "mlp, pre-trained" in printed and "mlp, from scratch" in printed
    assert any(line.startswith("from scratch ") for line in printed.splitlines())  # its p


def test_curves_are_those_of_the_histories(simulated_dataset, tmp_path, calls):
    run_study(study(simulated_dataset), tmp_path, relabel, progress=False)
    curves = pd.read_csv(tmp_path / "curves.csv", dtype={"setting": str})
    assert list(curves) == [
        "study",
        "setting",
        "repeat",
        "method",
        "epoch",
        "validation_loss",
        "validation_macro_f1",
    ]
    sizes = curves.groupby(["setting", "repeat", "method"]).size()
    assert len(sizes) == 8 and (sizes == 2).all()
    assert np.isfinite(curves[["validation_loss", "validation_macro_f1"]]).all(axis=None)
    (found,) = (tmp_path / "runs").glob("share-1-repeat-1.json")
    told = json.loads(found.read_text())["curves"]["mlp"]["validation_loss"]
    own = curves.query("setting == '1' and repeat == 1 and method == 'mlp'")
    np.testing.assert_allclose(own["validation_loss"], told)


def test_a_resumed_study_is_pre_trained_for_what_is_missing_only(simulated_dataset, tmp_path, calls):
    first = run_study(study(simulated_dataset), tmp_path, relabel, progress=False)
    (tmp_path / "runs" / "share-1-repeat-1.json").unlink()
    calls.clear()
    again = run_study(study(simulated_dataset), tmp_path, relabel, progress=False)
    assert [options.seed for *_, options, _ in calls] == [4, 4, 4]
    assert [kind.task for kind, *_ in calls] == ["pretraining", "annotation", "annotation"]
    assert json.dumps(again) == json.dumps(first)


def test_epochs_of_pre_training_can_be_chosen(simulated_dataset):
    _, config, options = pretraining_job(study(simulated_dataset, pretrain_epochs=2), 1)
    assert options.epochs == 2 and config.masked == 0.15
    with pytest.raises(InputError, match="--pretrain-epochs 0: choose 1 or more"):
        study(simulated_dataset, pretrain_epochs=0)
    with pytest.raises(InputError, match=r"svm is not pre-trained\. Choose --model annatac"):
        study(simulated_dataset, kind=kind_of("svm"))


def test_annatac_is_studied_from_the_command(simulated_dataset, tmp_path):
    out = tmp_path / "out"
    job = Job(simulated_dataset, out, "annatac", "published", epochs=2, settings=TINY, seed=3)
    asked = {"shares": (0.2, 1.0), "repeats": 1, "pretrain_epochs": 1, "progress": False}
    content = study_run(job, "pretraining", **asked)
    assert content["model"] == "annatac"
    for entry in content["settings"]:
        assert 0 <= entry["from_scratch"]["annotation"]["macro_f1"]["mean"] <= 1
        assert entry["pretraining_epochs"] == 1
        assert entry["pretraining_gain"]["annotation"]["macro_f1"]["p"] is None
    assert (out / "study.png").stat().st_size > 10_000
    assert not (out / ".work").exists()
    shutil.rmtree(out / "runs")
    with pytest.raises(InputError, match="pretrain_epochs was 1 and is 2"):
        study_run(job, "pretraining", **asked | {"pretrain_epochs": 2, "resume": True})
