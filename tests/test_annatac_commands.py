"""annATAC from the commands: pre-trained on one data set or two, fine-tuned, resumed, asked about any peaks."""

from __future__ import annotations

import json
import re
import shutil

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from scweave.commands.evaluate import evaluate_run
from scweave.commands.predict import annotate, predict_run
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.models.annotation.model import NOVEL
from scweave.models.annotator import Annotator
from scweave.models.checkpoint import load_model
from tiny_annatac import (
    MODES,
    TINY,
    built,
    call,
    file_of,
    halved,
    job,
    make_experiments,
    moved,
    places,
    quick,  # noqa: F401  # a fixture
    spelled,
    with_peaks,
    without_chance,
)

WHOLE = ("model.safetensors", "history.csv", "metrics.json")


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    return make_experiments(tmp_path_factory.mktemp("experiments"))


@pytest.fixture(scope="module")
def data(experiments, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "labelled"
    return built(folder, experiments.rna, experiments.atac, gtf=experiments.gtf)


@pytest.fixture(scope="module")
def other(experiments, tmp_path_factory):
    """Cells without labels, with other peaks, on chromosomes of other names."""
    return built(
        tmp_path_factory.mktemp("other") / "d", experiments.other, gtf=experiments.plain_gtf, labels=None
    )


@pytest.fixture(scope="module", params=MODES)
def mode(request):
    return request.param


@pytest.fixture(scope="module")
def pretrained(mode, data, tmp_path_factory):
    out = tmp_path_factory.mktemp(mode) / "pretrained"
    job(mode, data, out, stage="pretrain", epochs=2)
    return out


@pytest.fixture(scope="module")
def finetuned(mode, data, pretrained, tmp_path_factory):
    out = tmp_path_factory.mktemp(mode) / "finetuned"
    job(mode, data, out, init=pretrained, epochs=2)
    return out


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text())


def predicted(run, query, out, **options):
    predict_run(run, [query], out, progress=False, **options)
    return ad.read_h5ad(out)


def same_predictions(found, expected):
    assert list(found.obs_names) == list(expected.obs_names)
    assert list(found.obs["scweave_label"]) == list(expected.obs["scweave_label"])
    for name in ("scweave_probabilities", "X_scweave"):
        np.testing.assert_allclose(found.obsm[name], expected.obsm[name], rtol=1e-4, atol=1e-6)


def test_pretraining_tells_hidden_values_beside_guesses(pretrained, data, mode, tmp_path):
    history, metrics = pd.read_csv(pretrained / "history.csv"), metrics_of(pretrained)
    for name in ("validation_masked_accuracy", "validation_masked_macro_f1", "train_loss"):
        assert np.isfinite(history[name]).all()
    assert (metrics["model"], metrics["mode"], metrics["stage"]) == ("annatac", mode, "pretrain")
    guesses = metrics["baselines"]["masked"]
    assert {"majority", "island"} <= set(guesses)
    for figures in (metrics["masked"], *guesses.values()):
        assert figures["n"] == metrics["masked"]["n"] > 0
        assert 0 <= figures["masked_accuracy"] <= 1 and 0 <= figures["masked_macro_f1"] <= 1
    assert evaluate_run(pretrained, data, tmp_path / "m.json", progress=False) == metrics
    assert json.loads((tmp_path / "m.json").read_text()) == metrics
    validation = evaluate_run(pretrained, data, tmp_path / "v.json", split="validation", progress=False)
    best = history.loc[history["validation_score"].idxmax(), "validation_masked_accuracy"]
    assert validation["masked"]["masked_accuracy"] == pytest.approx(best)


def test_two_datasets_are_learnt_from_together(mode, data, other, pretrained, tmp_path):
    metrics = job(mode, data, tmp_path / "both", other, stage="pretrain")
    assert metrics == metrics_of(tmp_path / "both")
    assert len(load_model(tmp_path / "both").model.islands) >= len(load_model(pretrained).model.islands)
    parts = [
        evaluate_run(tmp_path / "both", dataset, tmp_path / "m.json", progress=False)
        for dataset in (data, other)
    ]
    assert metrics["masked"]["n"] == sum(part["masked"]["n"] for part in parts)
    for found in ({**part["baselines"]["masked"], "model": part["masked"]} for part in (metrics,)):
        for name, figures in found.items():
            theirs = [part["baselines"]["masked"].get(name, part["masked"]) for part in parts]
            right = sum(part["masked_accuracy"] * part["n"] for part in theirs)
            assert figures["masked_accuracy"] * figures["n"] == pytest.approx(right)
    # The order of the data sets names the chromosomes, and nothing else.
    job(mode, other, tmp_path / "turned", data, stage="pretrain")
    assert load_model(tmp_path / "turned").model.chromosomes == ("1", "2", "3")
    job(mode, data, tmp_path / "fine", init=tmp_path / "turned")
    assert metrics_of(tmp_path / "fine")["annotation"]["n"] > 0


def test_a_fine_tuned_run_needs_nothing_else(mode, data, experiments, pretrained, finetuned, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    shutil.copytree(pretrained, tmp_path / "pretrained")
    job(mode, tmp_path / "data", tmp_path / "run", init=tmp_path / "pretrained", epochs=2)
    for gone in ("data", "pretrained"):
        shutil.rmtree(tmp_path / gone)
    query = file_of(experiments.atac, tmp_path / "query.h5ad")
    found = predicted(tmp_path / "run", query, tmp_path / "p.h5ad")
    same_predictions(found, predicted(finetuned, data, tmp_path / "expected.h5ad"))
    assert (tmp_path / "run" / WHOLE[0]).read_bytes() == (finetuned / WHOLE[0]).read_bytes()
    types = MultiomeGraphs(data).cell_types
    assert list(found.uns["scweave"]["cell_types"]) == types == list(Annotator.load(finetuned).cell_types)
    assert metrics_of(tmp_path / "run")["annotation"]["n"] == sum(
        MultiomeGraphs(data).cells["split"] == "test"
    )


def test_fine_tuning_begins_with_what_was_pre_trained(mode, data, pretrained, tmp_path):
    job(mode, data, tmp_path / "run", init=pretrained, lr=1e-12)
    ours, theirs = (load_file(run / WHOLE[0]) for run in (tmp_path / "run", pretrained))
    names = [name for name in theirs if name.startswith(("encoder.", "islands."))]
    assert len(names) > 5
    for name in names:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-6, msg=name)
    job(mode, data, tmp_path / "scratch", lr=1e-12)  # the ablation
    scratch = load_file(tmp_path / "scratch" / WHOLE[0])
    assert any(not torch.allclose(scratch[name], theirs[name], atol=1e-3) for name in names)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_interrupted_and_resumed_gives_the_same_bits(mode, data, other, pretrained, stage, tmp_path):
    further, options = ((other,), {"stage": stage}) if stage == "pretrain" else ((), {"init": pretrained})
    job(mode, data, tmp_path / "whole", *further, epochs=2, **options)
    job(mode, data, tmp_path / "parts", *further, epochs=1, **options)
    job(mode, data, tmp_path / "parts", *further, epochs=2, resume=True, **options)
    for name in WHOLE:
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_accumulated_batches_are_one_large_batch(mode, data, pretrained, stage, tmp_path):
    options = {"stage": stage} if stage == "pretrain" else {"init": pretrained}
    options |= {"precision": "64-true", "epochs": 2, "settings": without_chance(mode, stage)}
    job(mode, data, tmp_path / "whole", batch_size=32, **options)
    job(mode, data, tmp_path / "parts", batch_size=16, accumulate=2, **options)
    whole, parts = (load_file(tmp_path / name / WHOLE[0]) for name in ("whole", "parts"))
    for name in (name for name in whole if not name.startswith("calibration.")):
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-6, atol=1e-7)
    alone = job(mode, data, tmp_path / "alone", batch_size=16, **options)
    assert alone != metrics_of(tmp_path / "whole")


def test_mixed_precision_trains_both_stages(mode, data, tmp_path):
    job(mode, data, tmp_path / "first", stage="pretrain", precision="bf16-mixed")
    job(mode, data, tmp_path / "second", init=tmp_path / "first", precision="bf16-mixed")
    found = predicted(tmp_path / "second", data, tmp_path / "p.h5ad")
    assert np.isfinite(found.obsm["scweave_probabilities"]).all()


def test_peaks_of_a_query_are_found_by_their_place(finetuned, data, experiments, tmp_path):
    """Peaks in halves, on chromosomes of other names: no island has another value, and no peak is mapped."""
    expected = predicted(finetuned, data, tmp_path / "dataset.h5ad")
    for i, query in enumerate(
        (experiments.atac, halved(experiments.atac), spelled(halved(experiments.atac), ""))
    ):
        file = file_of(query, tmp_path / f"query{i}.h5ad")
        found = predicted(finetuned, file, tmp_path / f"p{i}.h5ad")
        same_predictions(found, expected)
        assert not any("mapped" in note for note in found.uns["scweave"].get("notes", ()))
    assert not list(tmp_path.glob(".*"))
    del query.obs
    told = annotate(finetuned, query)
    assert list(told.labels) == list(expected.obs["scweave_label"])
    assert list(query.obs["scweave_label"]) == list(expected.obs["scweave_label"])
    np.testing.assert_allclose(
        query.obsm["scweave_probabilities"], expected.obsm["scweave_probabilities"], atol=1e-5
    )


def test_other_peaks_make_other_datasets_evaluable(finetuned, experiments, tmp_path):
    """Cells that were not trained on, with other peaks: figures of the model, and of baselines that read these peaks."""
    dataset = built(tmp_path / "labelled", experiments.other, gtf=experiments.plain_gtf)
    metrics = evaluate_run(finetuned, dataset, tmp_path / "m.json", progress=False)
    assert metrics["annotation"]["n"] == sum(MultiomeGraphs(dataset).cells["split"] == "test")
    assert metrics["unknown_types"] == {}
    *trained, told = metrics["notes"]
    assert re.match(rf"[\d,]+ of {len(MultiomeGraphs(dataset).peaks):,} peaks .* lie in .* islands", told)
    assert trained == [f"training: {note}" for note in metrics_of(finetuned)["notes"]] != []
    found, again = (Annotator.load(finetuned).predict(dataset) for _ in range(2))
    assert len(found.labels) == 100 and list(found.labels) == list(again.labels)


def test_one_model_reads_queries_of_different_peaks_in_turn(finetuned, data, other):
    annotator = Annotator.load(finetuned)
    first, _, third = (annotator.predict(dataset) for dataset in (data, other, data))
    np.testing.assert_array_equal(first.probabilities, third.probabilities)


def test_queries_that_cover_too_few_islands_are_refused(finetuned, experiments, tmp_path):
    atac = experiments.atac
    few = file_of(with_peaks(atac, atac.X[:, ::12], places(atac)[::12]), tmp_path / "few.h5ad")
    with pytest.raises(
        InputError, match=r"peaks .* lie in \d+ of the model's \d+ islands .* fewer than 30%"
    ) as met:
        predict_run(finetuned, [few], tmp_path / "p.h5ad", progress=False)
    assert "--min-placed" in str(met.value) and "\n" not in str(met.value)
    assert [path.name for path in tmp_path.iterdir()] == ["few.h5ad"]
    found = predicted(finetuned, few, tmp_path / "p.h5ad", min_placed=0.01)
    assert found.n_obs > 0 and np.isfinite(found.obsm["scweave_probabilities"]).all()
    with pytest.raises(InputError, match="islands"):
        annotate(finetuned, ad.read_h5ad(few))
    assert len(annotate(finetuned, ad.read_h5ad(few), min_placed=0.01).labels) == found.n_obs


def test_queries_on_another_genome_are_refused(finetuned, experiments, tmp_path):
    foreign = experiments.atac.copy()
    foreign.uns["genome"] = "mm10"
    file = file_of(foreign, tmp_path / "q.h5ad")
    for wrong in (
        lambda: predict_run(finetuned, [file], tmp_path / "p.h5ad", progress=False),
        lambda: annotate(finetuned, foreign),
    ):
        with pytest.raises(InputError, match="is on mm10, and the model on simulated") as met:
            wrong()
        assert "\n" not in str(met.value)
    assert [path.name for path in tmp_path.iterdir()] == ["q.h5ad"]
    del foreign.uns["genome"]  # unknown is not another
    assert len(annotate(finetuned, foreign).labels) == foreign.n_obs


def test_cells_without_an_open_island_are_told_something(
    mode, finetuned, experiments, random_dataset, tmp_path
):
    atac = experiments.atac
    far = pd.DataFrame({"chrom": ["chr1"], "start": [900_000_000], "end": [900_000_500]})
    counts = atac.X.toarray()
    counts[:9] = 0
    query = with_peaks(atac, np.hstack([counts, np.ones((200, 1))]), pd.concat([places(atac), far]))
    found = annotate(finetuned, query)
    assert len(found.labels) == 200 and np.isfinite(found.probabilities).all()
    np.testing.assert_allclose(found.probabilities[:9], found.probabilities[:1].repeat(9, 0), atol=1e-6)
    islands = ("island=1000", "tss=false")
    told = job(mode, random_dataset, tmp_path / "pre", stage="pretrain", batch_size=1, settings=islands)
    assert np.isfinite(told["masked"]["loss"])  # one cell, and so one batch, holds nothing
    told = job(mode, random_dataset, tmp_path / "fine", init=tmp_path / "pre", batch_size=2)
    assert told["annotation"]["n"] > 0


def test_cells_of_low_confidence_are_novel(finetuned, data, tmp_path):
    probabilities = predicted(finetuned, data, tmp_path / "p.h5ad").obsm["scweave_probabilities"]
    confidence = probabilities.max(1)
    middle = float(np.median(confidence))
    for below in (None, 0.0, middle, 1.0):
        out = tmp_path / f"{below}.h5ad"
        summary = predict_run(finetuned, [data], out, novel_below=below, progress=False)
        found = ad.read_h5ad(out)
        types = list(found.uns["scweave"]["cell_types"])
        expected = np.array(types, object)[probabilities.argmax(1)]
        expected[confidence < (0.5 if below is None else below)] = NOVEL
        assert list(found.obs["scweave_label"]) == list(expected)
        assert NOVEL not in types
        names = types if below == 0.0 else [*types, NOVEL]
        assert list(found.obs["scweave_label"].cat.categories) == names == list(summary["labels"])
        assert summary["labels"] == {name: (expected == name).sum() for name in names}
        np.testing.assert_array_equal(found.obsm["scweave_probabilities"], probabilities)
        told = Annotator.load(finetuned).predict(data, novel_below=below)
        assert list(told.labels) == list(expected) and list(told.labels.categories) == names
    assert summary["labels"][NOVEL] == len(confidence)
    assert 0 < (confidence < middle).sum() < len(confidence)


def test_every_annotator_can_call_cells_novel(data, tmp_path):
    Annotator("hitanno", epochs=1).fit(data, run=tmp_path / "run")
    usual = predicted(tmp_path / "run", data, tmp_path / "usual.h5ad")
    assert NOVEL not in usual.obs["scweave_label"].cat.categories
    below = float(usual.obs["scweave_confidence"].max())
    found = predicted(tmp_path / "run", data, tmp_path / "p.h5ad", novel_below=below)
    assert ((found.obs["scweave_label"] == NOVEL) == (usual.obs["scweave_confidence"] < below)).all()
    np.testing.assert_array_equal(found.obsm["scweave_probabilities"], usual.obsm["scweave_probabilities"])


def test_a_setting_chooses_the_usual_threshold(mode, data, pretrained, tmp_path):
    job(mode, data, tmp_path / "run", init=pretrained, settings=("novel_below=0",))
    found = predicted(tmp_path / "run", data, tmp_path / "p.h5ad")
    assert NOVEL not in found.obs["scweave_label"].cat.categories


def test_the_commands_in_their_order(mode, data, other, experiments, tmp_path, capsys, monkeypatch):
    query = file_of(moved(experiments.atac), tmp_path / "q.h5ad")
    first, second = tmp_path / "first", tmp_path / "second"
    small = ["--model", "annatac", "--mode", mode, "--epochs", 1, "--quiet"]
    sizes = [word for setting in TINY for word in ("--set", setting)]
    for arguments, told in (
        (["train", data, other, "--stage", "pretrain", *small, *sizes, "--out", first], "island"),
        (["evaluate", first, data, "--out", tmp_path / "m.json", "--quiet"], "majority"),
        (["train", data, "--init", first, *small, "--accumulate", 2, "--out", second], "macro"),
        (["evaluate", second, data, "--out", tmp_path / "n.json", "--quiet"], "centroid_lsi"),
        (
            ["predict", second, query, "--novel-below", 1, "--out", tmp_path / "p.h5ad", "--quiet"],
            f"cells: {NOVEL} ",
        ),
    ):
        status, out, err = call(capsys, monkeypatch, *arguments)
        assert (status, err) == (0, ""), err
        assert told in out
    assert json.loads((tmp_path / "m.json").read_text())["stage"] == "pretrain"
