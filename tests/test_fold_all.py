"""`--fold all`: a model trained and judged on every fold from scratch, and the figures of all folds together."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from handmade_experiment import handmade, run_build
from scweave.commands.folds import parse_fold, run_folds, summarise
from scweave.commands.jobs import Job
from scweave.graphs.errors import InputError
from scweave.train import run

FOLDS = 3


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    run_build(folder, handmade(), window=1000, folds=FOLDS, labels="kind")
    return folder / "dataset"


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    job = Job(dataset, tmp_path_factory.mktemp("runs") / "all", "centroid", settings=("width=3",))
    return job, run_folds(job, progress=False)


def test_the_figures_are_mean_and_spread_of_runs_of_single_folds(finished, tmp_path):
    job, metrics = finished
    alone = [run(replace(job, fold=fold, out=tmp_path / str(fold)), progress=False) for fold in range(FOLDS)]
    for name in ("accuracy", "macro_f1"):
        values = [one["annotation"][name] for one in alone]
        assert metrics["annotation"][name]["mean"] == pytest.approx(np.mean(values))
        assert metrics["annotation"][name]["std"] == pytest.approx(np.std(values, ddof=1))
        known = [one["baselines"]["annotation"]["majority"][name] for one in alone]
        assert metrics["baselines"]["annotation"]["majority"][name]["mean"] == pytest.approx(np.mean(known))
    assert metrics["folds"] == FOLDS


def test_every_fold_is_a_run_of_its_own(finished):
    job, metrics = finished
    assert json.loads((job.out / "metrics.json").read_text()) == metrics
    for fold in range(FOLDS):
        own = job.out / f"fold-{fold}"
        assert json.loads((own / "metrics.json").read_text())["fold"] == fold
        assert (own / "model.safetensors").is_file()


def test_an_interrupted_call_goes_on(finished, tmp_path, monkeypatch):
    job, metrics = finished
    begun = replace(job, out=tmp_path / "all")

    def until_the_second(one, **how):
        if one.fold == 1:
            raise KeyboardInterrupt
        return run(one, **how)

    monkeypatch.setattr("scweave.train.run", until_the_second)
    with pytest.raises(KeyboardInterrupt):
        run_folds(begun, progress=False)
    monkeypatch.undo()
    with pytest.raises(InputError, match="cannot be resumed: seed was 0 and is 1"):
        run_folds(replace(begun, seed=1), resume=True, progress=False)
    assert run_folds(begun, resume=True, progress=False) == metrics


def test_types_are_judged_on_the_test_cells_of_all_folds(finished):
    job, metrics = finished
    counts = {}
    for fold in range(FOLDS):
        found = json.loads((job.out / f"fold-{fold}" / "metrics.json").read_text())["annotation"]["confusion"]
        for name, row in zip(found["types"], found["counts"], strict=True):
            for told, n in zip(found["types"], row, strict=True):
                counts[name, told] = counts.get((name, told), 0) + n
    pooled = metrics["pooled"]["annotation"]
    for name, own in pooled["per_type"].items():
        n = sum(cells for (truth, _), cells in counts.items() if truth == name)
        assert own["n"] == n
        assert own["recall"] == pytest.approx(counts[name, name] / n)
    right = sum(n for (truth, told), n in counts.items() if truth == told)
    assert pooled["accuracy"] == pytest.approx(right / sum(counts.values()))
    assert pooled["n"] == sum(counts.values())


def test_a_refused_fold_leaves_nothing(dataset, tmp_path):
    job = Job(dataset, tmp_path / "all", "scmoanno", "published")  # more heads than there are components
    with pytest.raises(InputError, match="fewer than the"):
        run_folds(job, progress=False)
    assert not (tmp_path / "all").exists()


def test_figures_that_are_undefined_in_a_fold_are_left_out_of_its_mean():
    figures = [{"a": 1.0, "b": None, "per_type": {}}, {"a": 3.0, "b": 2.0, "per_type": {}}]
    runs = [
        {"model": "m", "mode": "default", "split": "test", "matching": one, "baselines": {"matching": {}}}
        for one in figures
    ]
    found = summarise(runs)["matching"]
    assert found == {"a": {"mean": 2.0, "std": pytest.approx(2**0.5)}, "b": {"mean": 2.0, "std": 0.0}}


def test_what_cannot_be_is_told(dataset, finished, tmp_path):
    job, _ = finished
    with pytest.raises(InputError, match="exists already"):
        run_folds(job, progress=False)
    with pytest.raises(InputError, match="--fold x: choose the number"):
        parse_fold("x")
    assert (parse_fold("all"), parse_fold("2"), parse_fold(None)) == ("all", 2, None)
    run_build(tmp_path, handmade(), window=1000, labels="kind")
    with pytest.raises(InputError, match="has no folds"):
        run_folds(replace(job, dataset=tmp_path / "dataset", out=tmp_path / "r"), progress=False)
