"""Training on unlabelled cells of one dataset or several: masks, figures, what is kept, what is refused."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.graphs.loader import GraphLoader
from scweave.models.checkpoint import SEEN
from scweave.models.curves import draw_curves
from scweave.models.registry import kind_of
from scweave.models.run_keeper import OverallBar
from scweave.models.train_options import TrainOptions
from scweave.models.training import fit
from tiny_pretraining import TINY, Tiny, TinyConfig

OPTIONS = {"epochs": 3, "batch_size": 16, "lr": 0.05, "accelerator": "cpu", "patience": 10}


def pretrain(datasets, run, resume=False, fold=None, progress=False, **options):
    run.mkdir(exist_ok=True)
    fit(
        TINY,
        datasets,
        run,
        TinyConfig(),
        TrainOptions(**(OPTIONS | options)),
        resume=resume,
        fold=fold,
        progress=progress,
    )
    return pd.read_csv(run / "history.csv")


@pytest.fixture(scope="module")
def datasets(simulated_dataset, random_dataset):
    return [simulated_dataset, random_dataset]


def test_training_learns_from_several_datasets_and_keeps_the_best(datasets, tmp_path):
    history = pretrain(datasets, tmp_path / "run")
    assert list(history["epoch"]) == [1, 2, 3]
    assert {"train_loss", "train_masked_accuracy", "validation_masked_accuracy"} <= set(history)
    assert "train_weight" not in history
    assert (history["validation_score"] == -history["validation_loss"]).all()
    assert history["validation_loss"].is_monotonic_decreasing
    assert history["validation_n"].nunique() == 1  # the masks of held-out cells stay
    for name in ("model.safetensors", "model.json", "features", "curves.png", SEEN):
        assert (tmp_path / "run" / name).exists()
    manifest = json.loads((tmp_path / "run" / "model.json").read_text())
    assert manifest["dataset"] == MultiomeGraphs(datasets[0]).fingerprint


def test_figures_are_of_all_validation_cells(datasets, tmp_path):
    history = pretrain(datasets, tmp_path / "run", epochs=1)
    model = Tiny.from_tensors(load_file(tmp_path / "run" / "model.safetensors"), TinyConfig(), 0)
    model.load_state_dict(load_file(tmp_path / "run" / "model.safetensors"))
    validation = [MultiomeGraphs(path, split="validation") for path in datasets]
    with torch.no_grad():
        errors = torch.cat([model.errors(batch) for batch in GraphLoader(validation, 5, cis=False)]).double()
    assert history["validation_n"].item() == len(errors)
    assert history["validation_loss"].item() == pytest.approx(float(errors.square().mean()), rel=1e-6)
    assert history["validation_masked_accuracy"].item() == float((errors.abs() < 0.2).double().mean())


def test_training_losses_are_means_over_hidden_peaks(datasets, tmp_path):
    history = pretrain(datasets, tmp_path / "run", epochs=1, lr=1e-12)
    model = Tiny.from_graphs([MultiomeGraphs(path) for path in datasets], TinyConfig())
    model.set_epoch(0)
    train = [MultiomeGraphs(path, split="train") for path in datasets]
    with torch.no_grad():
        errors = torch.cat([model.errors(batch) for batch in GraphLoader(train, 7, cis=False)])
    assert history["train_loss"].item() == pytest.approx(float(errors.square().mean()), rel=1e-5)


def test_interrupted_and_resumed_equals_uninterrupted(datasets, tmp_path):
    pretrain(datasets, tmp_path / "whole", accumulate=2)
    pretrain(datasets, tmp_path / "parts", accumulate=2, epochs=2)
    pretrain(datasets, tmp_path / "parts", accumulate=2, resume=True)
    for name in ("model.safetensors", "history.csv", "state/epoch-2.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_seen_cells_are_those_of_all_datasets(datasets, tmp_path):
    sizes = []
    for name, some in (("one", datasets[:1]), ("other", datasets[1:]), ("both", datasets)):
        pretrain(some, tmp_path / name, epochs=1)
        sizes.append(len(load_file(tmp_path / name / SEEN)["atac"]))
    assert sizes[2] > max(sizes[:2])


def test_the_bar_tells_the_masked_accuracy(datasets, tmp_path, capfd):
    pretrain(datasets[:1], tmp_path / "run", epochs=1, progress=True)
    assert "masked_accuracy=" in capfd.readouterr().err
    assert OverallBar(1, 0).bar is None


def test_curves_draw_figures_of_any_name(tmp_path):
    history = pd.DataFrame({"epoch": [0, 1], "train_loss": [2.0, 1.0], "validation_wit": [0.1, 0.2]})
    draw_curves(history, tmp_path / "known.png")
    draw_curves(history.drop(columns="train_loss"), tmp_path / "new.png")
    assert all((tmp_path / name).stat().st_size for name in ("known.png", "new.png"))


def test_one_path_and_a_list_of_one_are_alike(datasets, tmp_path):
    pretrain(datasets[0], tmp_path / "path", epochs=1)
    pretrain(datasets[:1], tmp_path / "list", epochs=1)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("path", "list"))
    assert first == second


def test_what_does_not_go_together_is_refused(datasets, tmp_path):
    mlp, crossrec, knn = kind_of("mlp"), kind_of("crossrec"), kind_of("knn")
    usual, both = TrainOptions(accelerator="cpu"), TrainOptions(accelerator="cpu", devices=2)
    for kind, paths, options, more, message in (
        (mlp, datasets, usual, {}, "2 data sets: only --stage pretrain takes several"),
        (TINY, [], usual, {}, "no dataset is given"),
        (TINY, datasets, usual, {"fold": 0}, "--fold 0: 2 data sets have no folds in common"),
        (TINY, datasets, usual, {"init": tmp_path}, "only annotators start from a pre-training"),
        (crossrec, datasets[0], both, {}, "--devices 2: crossrec trains on one device"),
        (knn, datasets[0], both, {}, "--devices 2: knn is fitted at once"),
        (
            mlp,
            datasets[0],
            TrainOptions(accelerator="cuda", devices=99),
            {},
            "--devices 99: this machine has",
        ),
        (mlp, datasets[0], usual, {"init": tmp_path}, "holds no trained model"),
    ):
        with pytest.raises(InputError, match=message):
            fit(kind, paths, tmp_path, kind.config(), options, progress=False, **more)
    assert not list(tmp_path.iterdir())


def test_datasets_without_validation_cells_are_refused(datasets, tmp_path, monkeypatch):
    whole = MultiomeGraphs.part
    monkeypatch.setattr(
        MultiomeGraphs,
        "part",
        lambda self, view="cells", split=None: whole(self, view, split).index_select(
            [] if split == "validation" else range(9)
        ),
    )
    with pytest.raises(InputError, match="no validation cell"):
        pretrain(datasets, tmp_path / "run")


def test_the_bar_is_closed_before_an_error_is_told(datasets, tmp_path, capfd):
    with pytest.raises(InputError, match="not finite"):
        pretrain(datasets, tmp_path / "run", lr=math.inf, progress=True)
    assert capfd.readouterr().err.endswith("\n")


def test_scores_that_are_not_finite_stop_the_training(datasets, tmp_path):
    with pytest.raises(InputError, match="loss of epoch 1 is not finite"):
        pretrain(datasets, tmp_path / "run", lr=math.inf)
