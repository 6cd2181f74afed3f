"""Training: seeds, interruption, what lands in the run folder, checkpoints that refuse what they should."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from scweave.commands.evaluate import evaluate_run
from scweave.commands.jobs import Job
from scweave.generators.build import BuildOptions, build
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.interpret.map_folder import write_maps
from scweave.models.checkpoint import adapt, load_model
from scweave.models.crossrec import CrossRecConfig
from scweave.models.crossrec_cis import CisConfig
from scweave.models.registry import kind_of
from scweave.models.settings import parse_settings
from scweave.models.training import TrainOptions
from scweave.train import run

SMALL = ("id_width=16", "width=16")
SMALL_CIS = ("components=8", "programmes=4", "width=8", "hidden=16", "filters=4", "sequence_peaks=50")


def job(dataset, out, **changes):
    return replace(Job(dataset, out, "crossrec", "published", epochs=3, settings=SMALL, seed=5), **changes)


def cis_job(dataset, out, **changes):
    usual = {"mode": "default", "settings": SMALL_CIS, "batch_size": 64}
    return job(dataset, out, **(usual | changes))


@pytest.fixture(scope="module")
def finished(simulated_dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, run(job(simulated_dataset, out), progress=False)


def test_a_run_leaves_what_the_design_names(finished, simulated_dataset):
    out, metrics = finished
    for name in (
        "history.csv",
        "curves.png",
        "config.json",
        "model.safetensors",
        "model.json",
        "metrics.json",
    ):
        assert (out / name).stat().st_size > 0
    history = pd.read_csv(out / "history.csv")
    assert list(history["epoch"]) == [1, 2, 3]
    assert np.isfinite(history.to_numpy()).all()
    config = json.loads((out / "config.json").read_text())
    assert config["dataset"]["fingerprint"] == MultiomeGraphs(simulated_dataset).fingerprint
    assert config["arguments"]["epochs"] == 3
    assert config["seed"] == 5
    assert {"torch", "scweave"} <= set(config["versions"])
    assert json.loads((out / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert not list(out.rglob("*.pt")) + list(out.rglob("*.ckpt")) + list(out.rglob("*.pkl"))


def test_metrics_have_the_form_of_the_contract(finished):
    _, metrics = finished
    assert metrics["model"] == "crossrec"
    assert metrics["split"] == "test"
    assert {"accuracy", "precision_pos", "precision_neg", "recall_pos", "recall_neg", "auroc"} <= set(
        metrics["matching"]
    )
    assert {"recall@1", "recall@10", "mrr", "foscttm", "n"} <= set(metrics["retrieval"])
    assert {"auroc", "auprc", "pearson", "mae", "rmse"} <= set(metrics["translation"])
    assert {"gene_pearson", "log_mae", "log_rmse"} <= set(metrics["translation"])
    assert {"all_zero", "gene_mean", "type_mean", "ridge", "knn"} == set(metrics["baselines"]["translation"])
    assert {"chance", "gene_activity", "cca", "cca_weighted"} == set(metrics["baselines"]["retrieval"])
    within = metrics["retrieval_within_type"]
    assert within["n"] <= metrics["retrieval"]["n"] and within["types"] >= 2
    assert set(metrics["baselines"]["retrieval_within_type"]) == {
        "chance",
        "gene_activity",
        "cca",
        "cca_weighted",
    }
    assert "oracle" in metrics["baselines"]["translation"]["type_mean"]
    assert {"majority", "depth", "gene_activity"} == set(metrics["baselines"]["matching"])
    assert metrics["baselines"]["retrieval"]["chance"]["foscttm"] == 0.5
    zero = metrics["baselines"]["translation"]["all_zero"]
    assert zero["rmse"] == pytest.approx(np.sqrt(zero["mae"]))
    assert zero["auroc"] == 0.5


def test_easy_and_hard_negatives_are_told_apart(simulated, tmp_path):
    options = BuildOptions(labels="cell_type", cell_types=("type_1", "type_3"), negatives="both")
    build([simulated.h5mu], tmp_path / "d", gtf=simulated.gtf, options=options, progress=False)
    metrics = run(job(tmp_path / "d", tmp_path / "run", epochs=1), progress=False)
    pairs = MultiomeGraphs(tmp_path / "d").store.table("pairs")
    pairs = pairs[pairs["split"] == "test"]
    for kind in ("easy", "hard"):
        own = metrics[f"matching_{kind}"]
        assert own["n"] == pairs["kind"].isin(["positive", kind]).sum()
        assert own["recall_pos"] == metrics["matching"]["recall_pos"]
        assert set(metrics["baselines"][f"matching_{kind}"]) == {"majority", "depth", "gene_activity"}
    assert metrics["matching"]["n"] == len(pairs)


def test_same_seed_same_bits_and_another_seed_others(finished, simulated_dataset, tmp_path):
    out, metrics = finished
    again = run(job(simulated_dataset, tmp_path / "again"), progress=False)
    assert json.dumps(again) == json.dumps(metrics)
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    run(job(simulated_dataset, tmp_path / "other", seed=6), progress=False)
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != (out / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("make", "settings"), [(job, SMALL), (job, (*SMALL, "sparse_ids=false")), (cis_job, SMALL_CIS)]
)
def test_interrupted_and_resumed_equals_uninterrupted(simulated_dataset, tmp_path, make, settings):
    whole = make(simulated_dataset, tmp_path / "whole", settings=settings)
    run(whole, progress=False)
    parts = replace(whole, out=tmp_path / "parts")
    run(replace(parts, epochs=1), progress=False)
    run(parts, resume=True, progress=False)
    for name in ("model.safetensors", "history.csv", "metrics.json", "state/epoch-2.safetensors"):
        assert (parts.out / name).read_bytes() == (whole.out / name).read_bytes(), name
    run(parts, resume=True, progress=False)  # nothing left to do changes nothing
    assert (parts.out / "history.csv").read_bytes() == (whole.out / "history.csv").read_bytes()


def test_a_killed_run_resumes_to_the_same_bits(simulated_dataset, tmp_path):
    whole = job(simulated_dataset, tmp_path / "whole", epochs=20)
    run(whole, progress=False)
    killed = replace(whole, out=tmp_path / "killed")
    code = f"from scweave.train import run; run({killed!r}, progress=False)"
    code = "from pathlib import PosixPath; from scweave.commands.jobs import Job; " + code
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while process.poll() is None and not (killed.out / "state" / "state.json").exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (killed.out / "metrics.json").exists(), "the run ended before it could be killed"
    run(killed, resume=True, progress=False)
    for name in ("model.safetensors", "history.csv", "metrics.json"):
        assert (killed.out / name).read_bytes() == (whole.out / name).read_bytes(), name


def test_damaged_states_are_refused(finished, simulated_dataset, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "state" / "epoch-2.safetensors").write_bytes(b"half")
    with pytest.raises(InputError, match="state is damaged"):
        run(job(simulated_dataset, tmp_path / "run"), resume=True, progress=False)


@pytest.mark.parametrize("make", [job, cis_job])
def test_double_precision_trains(simulated_dataset, tmp_path, make):
    run(make(simulated_dataset, tmp_path / "run", epochs=1, precision="64-true"), progress=False)
    tensors = load_file(tmp_path / "run" / "model.safetensors").values()
    assert torch.float64 in {t.dtype for t in tensors}
    assert torch.float32 not in {t.dtype for t in tensors}


def test_the_default_mode_learns_and_reports_links_apart(simulated_dataset, tmp_path):
    metrics = run(cis_job(simulated_dataset, tmp_path / "run", epochs=12), progress=False)
    assert metrics["mode"] == "default"
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    for part in ("links", "retrieval"):
        assert history[f"train_{part}"].iloc[-1] < history[f"train_{part}"].iloc[0]
    baselines = metrics["baselines"]
    assert metrics["matching"]["auroc"] > baselines["matching"]["depth"]["auroc"]
    assert baselines["translation_links"] == baselines["translation"]
    assert metrics["translation_links"] != metrics["translation"]
    assert "alone" in metrics["retrieval"]["scored_by"]
    loaded = load_model(tmp_path / "run")
    assert len(loaded.model.edges) == MultiomeGraphs(simulated_dataset).n_cis
    again = evaluate_run(tmp_path / "run", simulated_dataset, tmp_path / "m.json", seed=5, progress=False)
    assert again == metrics


def test_patience_stops_and_stays_stopped(simulated_dataset, tmp_path):
    stopped = job(simulated_dataset, tmp_path / "run", epochs=40, patience=1, lr=1e-9)
    run(stopped, progress=False)
    history = (tmp_path / "run" / "history.csv").read_text()
    assert len(history.splitlines()) < 10
    run(stopped, resume=True, progress=False)
    assert (tmp_path / "run" / "history.csv").read_text() == history


def test_loaded_model_predicts_as_the_trained_one(finished, simulated_dataset):
    out, metrics = finished
    loaded, graphs = load_model(out), MultiomeGraphs(simulated_dataset)
    assert adapt(loaded, graphs) == []
    assert not loaded.model.training
    assert evaluate_run(out, simulated_dataset, out / "again.json", seed=5, progress=False) == metrics
    (out / "again.json").unlink()
    saved = load_file(out / "model.safetensors")
    assert torch.equal(saved["peak_features.sequence"], graphs.peaks.sequence)


def test_wrong_jobs_are_refused_and_leave_nothing(finished, simulated_dataset, random_dataset, tmp_path):
    out, _ = finished
    good = job(simulated_dataset, tmp_path / "run")
    for change, message in (
        ({"model": "gpt"}, "--model gpt"),
        ({"mode": "fast"}, "crossrec has default and published"),
        ({"mode": "default"}, "no such setting.*programmes=15"),
        ({"settings": ("depth=3",)}, "no such setting.*width=128"),
        ({"settings": ("heads=3",)}, "must divide width"),
        ({"settings": ("alpha=much",)}, "expected float"),
        ({"settings": ("target=log",)}, "choose raw or binary"),
        ({"devices": 2}, "on one device"),
        ({"precision": "bf16-mixed"}, "32-true or 64-true"),
        ({"epochs": 0}, "--epochs 0: must be positive"),
        ({"lr": float("nan")}, "--lr nan: must be positive"),
        ({"dataset": tmp_path}, "is not a scweave dataset"),
        ({"out": out}, "exists already"),
    ):
        with pytest.raises(InputError, match=message):
            run(replace(good, **change), progress=False)
        assert not good.out.exists()
    with pytest.raises(InputError, match="no run to resume"):
        run(good, resume=True, progress=False)
    with pytest.raises(InputError, match="seed was 5 and is 6"):
        run(job(simulated_dataset, out, seed=6), resume=True, progress=False)
    with pytest.raises(InputError, match="genes are not those of the model"):
        evaluate_run(out, random_dataset, tmp_path / "metrics.json", progress=False)
    with pytest.raises(InputError, match="holds no trained model"):
        load_model(tmp_path)


def test_damaged_and_newer_checkpoints_are_refused(finished, tmp_path):
    out, _ = finished
    for name in ("model.json", "model.safetensors"):
        (tmp_path / name).write_bytes((out / name).read_bytes())
    shutil.copytree(out / "features", tmp_path / "features")
    load_model(tmp_path)
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="is damaged"):
        load_model(tmp_path)
    manifest = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**manifest, "schema_version": 99}))
    with pytest.raises(InputError, match=r"schema 99.*Update scweave"):
        load_model(tmp_path)


def test_settings_are_typed():
    chosen = ["heads=2", "threshold=0.7", "adaptive_alpha=true", "target=binary"]
    config = parse_settings(chosen, kind_of("crossrec", "published").config)
    assert config == CrossRecConfig(heads=2, threshold=0.7, adaptive_alpha=True, target="binary")
    with pytest.raises(InputError, match="--batch-size -1"):
        TrainOptions(batch_size=-1)
    cis = parse_settings(["heads=2", "sequence=false", "likelihood=poisson"], kind_of("crossrec").config)
    assert cis == CisConfig(heads=2, sequence=False, likelihood="poisson")


def test_a_model_without_expression_has_no_map_and_no_translation(simulated_dataset, tmp_path):
    silent = cis_job(simulated_dataset, tmp_path / "run", epochs=1, settings=(*SMALL_CIS, "alpha=0"))
    metrics = run(silent, progress=False)
    assert "translation" not in metrics
    assert "translation_links" not in metrics["baselines"]
    with pytest.raises(InputError, match="trained without expression"):
        write_maps(tmp_path / "run", simulated_dataset, tmp_path / "maps", progress=False)
    assert not (tmp_path / "maps").exists()


def test_validation_batches_do_not_depend_on_where_a_run_was_interrupted(simulated_dataset, tmp_path):
    whole = cis_job(simulated_dataset, tmp_path / "whole", batch_size=16, epochs=4)  # several batches
    run(whole, progress=False)
    parts = replace(whole, out=tmp_path / "parts")
    run(replace(parts, epochs=2), progress=False)
    run(parts, resume=True, progress=False)
    for name in ("history.csv", "model.safetensors"):
        assert (parts.out / name).read_bytes() == (whole.out / name).read_bytes(), name
