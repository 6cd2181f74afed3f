"""Studies: nothing outside the chosen cells is read, baselines stand beside, finished trainings are kept."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from scweave.commands.jobs import Job
from scweave.commands.study import study_run
from scweave.generators.restrict import restrict
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.graphs.store import Store, verify
from scweave.models.baselines import matching_baselines
from scweave.models.checkpoint import SEEN, WEIGHTS
from scweave.models.registry import kind_of
from scweave.models.settings import parse_settings
from scweave.models.studies import recommender_trials
from scweave.models.studies.plan import plan
from scweave.models.studies.run import run_study
from scweave.models.studies.study import Study, parse_numbers
from scweave.models.training import TrainOptions, fit
from scweave.models.translators import fit_translators

SMALL = ("components=8", "width=8", "hidden=16", "programmes=4", "filters=4", "sequence_peaks=64")
SETTINGS = {"default": SMALL, "published": ("id_width=8", "width=8")}
OPTIONS = TrainOptions(epochs=2, batch_size=64, lr=2e-3, seed=3)
TYPE = "type_1"


def job(dataset, out, **changes):
    return replace(Job(dataset, out, "crossrec", epochs=2, batch_size=64, settings=SMALL, seed=3), **changes)


KIND = kind_of("crossrec")


def study(dataset, name="fractions", **changes):
    return replace(
        Study(name, dataset, KIND, parse_settings(SMALL, KIND.config), OPTIONS, repeats=2), **changes
    )


@pytest.fixture(scope="module")
def fractions(simulated_dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("studies") / "fractions"
    return out, study_run(
        job(simulated_dataset, out), "fractions", shares=(0.25, 1.0), repeats=2, progress=False
    )


@pytest.fixture(scope="module")
def types(simulated_dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("studies") / "types"
    return out, study_run(
        job(simulated_dataset, out), "leave-type-out", types=(TYPE,), repeats=1, progress=False
    )


def without_type(dataset):
    cells = MultiomeGraphs(dataset).cells
    return ((cells["split"] == "test") | (cells["cell_type"] != TYPE)).to_numpy()


def poisoned(dataset, folder, keep):
    """Copy a dataset and change every count of the cells that are not kept."""
    shutil.copytree(dataset, folder)
    for name in ("rna", "atac"):
        ends = np.load(folder / f"{name}_indptr.npy")
        values = np.load(folder / f"{name}_values.npy")
        values[np.repeat(~keep, np.diff(ends))] += 50
        np.save(folder / f"{name}_values.npy", values)
    return folder


def test_a_restricted_dataset_is_whole_and_shares_its_arrays(simulated_dataset, tmp_path):
    keep, source = without_type(simulated_dataset), Store(simulated_dataset)
    restrict(simulated_dataset, tmp_path / "d", keep, seed=3)
    verify(tmp_path / "d")
    store = Store(tmp_path / "d")
    assert store.fingerprint != source.fingerprint
    assert os.path.samefile(tmp_path / "d" / "rna_values.npy", simulated_dataset / "rna_values.npy")
    before, cells, pairs = source.table("cells"), store.table("cells"), store.table("pairs")
    assert cells["split"].isna().equals(pd.Series(~keep))
    assert cells["split"][keep].equals(before["split"][keep])
    for split, own in pairs.groupby("split"):
        members = np.flatnonzero(cells["split"] == split)
        assert np.isin(own[["rna", "atac"]], members).all()
        assert own["match"].sum() == len(own) / 2 == len(members)  # negatives are drawn anew
    test = source.table("pairs").query("split == 'test'").reset_index(drop=True)
    assert pairs[pairs["split"] == "test"].reset_index(drop=True).equals(test)
    train = np.flatnonzero(cells["split"] == "train")
    means = MultiomeGraphs(tmp_path / "d").rna_rows.matrix(train).toarray().mean(0)
    np.testing.assert_allclose(store.table("genes")["means"], means, rtol=1e-6)


def test_a_dataset_is_copied_where_links_are_not_to_be_had(simulated_dataset, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    restrict(simulated_dataset, tmp_path / "d", np.ones(len(MultiomeGraphs(simulated_dataset).cells), bool))
    verify(tmp_path / "d")
    assert not os.path.samefile(tmp_path / "d" / "rna_values.npy", simulated_dataset / "rna_values.npy")


def test_subsets_are_nested_hold_all_types_and_touch_training_cells_only(simulated_dataset):
    trainings, _ = plan(study(simulated_dataset, shares=(1.0, 0.25, 0.5)))
    cells = MultiomeGraphs(simulated_dataset).cells
    train = (cells["split"] == "train").to_numpy()
    sizes = [int((t.keep & train).sum()) for t in trainings]
    assert sizes == [round(share * train.sum()) for share in (0.25, 0.25, 0.5, 0.5, 1.0, 1.0)]
    assert all(t.keep[~train].all() for t in trainings)
    small, other, larger = (trainings[i].keep for i in (0, 1, 2))
    assert not (small & ~larger).any()
    assert (small != other).any()
    whole = cells["cell_type"][train].value_counts()
    held = cells["cell_type"][train & small].value_counts()
    assert ((held.reindex(whole.index, fill_value=0) - whole / 4).abs() <= 1).all()


@pytest.mark.parametrize("mode", ["default", "published"])
def test_nothing_outside_the_chosen_cells_is_read(simulated_dataset, tmp_path, mode):
    """Other counts in the cells of the type that is left out change not a bit of model or baselines."""
    keep, found = without_type(simulated_dataset), []
    datasets = (simulated_dataset, poisoned(simulated_dataset, tmp_path / "poisoned", keep))
    for i, dataset in enumerate(datasets):
        view, run = tmp_path / f"view{i}", tmp_path / f"run{i}"
        restrict(dataset, view, keep)
        run.mkdir()
        kind = kind_of("crossrec", mode)
        fit(kind, view, run, parse_settings(SETTINGS[mode], kind.config), OPTIONS, progress=False)
        graphs = MultiomeGraphs(view)
        rows = np.flatnonzero((graphs.cells["split"] == "test").to_numpy())
        match = np.ones(len(rows), bool)
        found.append(
            [
                (run / WEIGHTS).read_bytes(),
                (view / "genes.parquet").read_bytes(),
                *(t.predict(rows).score.tobytes() for t in fit_translators(graphs).values()),
                *(g[0].tobytes() for g in matching_baselines(graphs, rows, rows, match, seed=0).values()),
            ]
        )
    assert found[0] == found[1]
    graphs = MultiomeGraphs(simulated_dataset)
    seen = load_file(tmp_path / "run0" / SEEN)["rna"].numpy()
    telling = np.diff(graphs.rna_rows.indptr) >= 5  # cells with fewer genes may be alike by chance
    kept = np.flatnonzero(keep & telling & (graphs.cells["split"] != "test").to_numpy())
    assert len(kept)
    assert (seen == graphs.rna_rows.keys(kept)).all()


def test_fractions_leave_figures_beside_baselines(fractions, simulated_dataset):
    out, content = fractions
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "runs",
        "study.json",
        "study.png",
        "table.csv",
    }
    assert json.loads((out / "study.json").read_text()) == json.loads(json.dumps(content))
    n = (MultiomeGraphs(simulated_dataset).cells["split"] == "train").sum()
    assert [entry["training_cells"] for entry in content["settings"]] == [round(n / 4), n]
    for entry in content["settings"]:
        for task, metric in (("matching", "auroc"), ("retrieval", "foscttm"), ("translation", "auprc")):
            for figures in (entry[task], *entry["baselines"][task].values()):
                assert figures[metric]["mean"] is not None and figures[metric]["sd"] >= 0
            against = entry["against_best_baseline"][task]
            own, best = (
                entry[task][metric]["mean"],
                entry["baselines"][task][against["baseline"]][metric]["mean"],
            )
            assert against["difference"]["mean"] == pytest.approx(own - best)
            assert against["baseline"] != "type_mean"
    small, whole = (entry["baselines"]["translation"]["ridge"]["auprc"] for entry in content["settings"])
    assert small["mean"] < whole["mean"]  # baselines have the same few cells
    assert small["sd"] > 0 == whole["sd"]
    table = pd.read_csv(out / "table.csv")
    assert list(table) == ["study", "setting", "repeat", "task", "method", "metric", "value"]
    one = table.query("setting == 0.25 and task == 'matching' and method == 'crossrec' and metric == 'auroc'")
    assert one["value"].mean() == pytest.approx(content["settings"][0]["matching"]["auroc"]["mean"])


def test_a_type_is_judged_with_and_without_it(types, simulated_dataset):
    out, content = types
    assert [entry["setting"] for entry in content["settings"]] == [f"without {TYPE}", f"with {TYPE}"]
    without, with_it = content["settings"]
    cells = MultiomeGraphs(simulated_dataset).cells
    held = ((cells["cell_type"] == TYPE) & (cells["split"] == "train")).sum()
    assert with_it["training_cells"] - without["training_cells"] == held
    n_test = ((cells["cell_type"] == TYPE) & (cells["split"] == "test")).sum()
    for entry in (without, with_it):
        assert entry["retrieval_within_type"]["n"]["mean"] == n_test
        assert entry["matching_within_type"]["n"]["mean"] == 2 * n_test
        assert entry["matching"]["n"]["mean"] > 2 * n_test
        assert entry["translation"]["n_cells"]["mean"] == n_test
        assert entry["against_best_baseline"]["matching"]["p"] is None  # one repeat
        assert set(entry["baselines"]["retrieval_within_type"]) >= {"chance", "gene_activity", "cca"}
    assert without["baselines"]["translation"]["ridge"] != with_it["baselines"]["translation"]["ridge"]
    means = without["baselines"]["translation"]
    assert means["type_mean"]["auprc"] == means["gene_mean"]["auprc"]  # no cell of the type was seen
    assert (out / "study.png").stat().st_size > 10_000


def test_same_seed_same_bits_and_finished_trainings_are_kept(
    fractions, simulated_dataset, tmp_path, monkeypatch
):
    out, content = fractions
    for name in ("config.json", "runs"):
        (shutil.copytree if name == "runs" else shutil.copy)(out / name, tmp_path / name)
    (tmp_path / "runs" / "share-0.25-repeat-1.json").unlink()
    trained = []
    monkeypatch.setattr(recommender_trials, "fit", lambda *a, **k: trained.append(a) or fit(*a, **k))
    asked = {"shares": (0.25, 1.0), "repeats": 2, "resume": True, "progress": False}
    again = study_run(job(simulated_dataset, tmp_path), "fractions", **asked)
    assert len(trained) == 1
    assert json.dumps(again) == json.dumps(content)
    assert (tmp_path / "table.csv").read_bytes() == (out / "table.csv").read_bytes()
    with pytest.raises(InputError, match="epochs was 2 and is 3"):
        study_run(job(simulated_dataset, tmp_path, epochs=3), "fractions", **asked)
    (tmp_path / "runs" / "share-1-repeat-0.json").write_text('{"setting"')
    with pytest.raises(InputError, match=r"share-1-repeat-0.json is damaged"):
        study_run(job(simulated_dataset, tmp_path), "fractions", **asked)


def test_an_interrupted_study_leaves_no_dataset(simulated_dataset, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(recommender_trials, "fit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_study(study(simulated_dataset, shares=(1.0,)), tmp_path, restrict, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_what_cannot_be_studied_is_refused_and_leaves_nothing(fractions, simulated_dataset, tmp_path):
    good = job(simulated_dataset, tmp_path / "out")
    for name, change, asked, message in (
        ("label-noise", {}, {}, "study label-noise needs a model that annotates cells"),
        ("pretraining", {}, {}, "study pretraining needs a model"),
        ("ablation", {}, {}, "study ablation: choose fractions, label-noise, leave-type-out or pretraining"),
        ("fractions", {}, {"noise": (0.1,)}, "--noise belongs to the study label-noise. Leave it out of fr"),
        ("fractions", {}, {"shares": (0.5, 1.5)}, "--shares 0.5,1.5: choose numbers above 0"),
        ("fractions", {}, {"shares": (0.01,)}, "2 of [0-9]+ training cells are too few"),
        ("fractions", {}, {"repeats": 0}, "--repeats 0: a setting needs a training. Choose 1 or more"),
        ("fractions", {}, {"types": (TYPE,)}, "--types belongs to the study leave-type-out"),
        ("leave-type-out", {}, {"shares": (0.5,)}, "--shares belongs to the studies fractions and"),
        ("leave-type-out", {}, {"types": ("B cell",)}, "no test cell is of that type. There are type_1"),
        ("fractions", {"out": fractions[0]}, {"shares": (1.0,)}, "exists already"),
        ("fractions", {"settings": ("depth=3",)}, {}, "no such setting"),
    ):
        with pytest.raises(InputError, match=message):
            study_run(replace(good, **change), name, progress=False, **asked)
        assert not good.out.exists()
    with pytest.raises(InputError, match="no run to resume"):
        study_run(good, "fractions", shares=(1.0,), resume=True, progress=False)
    with pytest.raises(InputError, match="--shares half"):
        parse_numbers("half", "--shares")
