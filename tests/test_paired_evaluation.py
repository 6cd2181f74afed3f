"""Evaluation of what reads two modalities: both, and each alone, beside baselines of as much."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest
import torch

from scweave.commands.jobs import Job
from scweave.generators.build import BuildOptions, build
from scweave.graphs.dataset import MultiomeGraphs
from scweave.models.annotation.calibrate import calibrate, read_cells
from scweave.models.annotation.calibration import Calibration
from scweave.models.annotation.closed_form import MODELS, FeatureConfig
from scweave.models.annotation.evaluation import evaluate_annotator
from scweave.models.annotation.model import labelled
from scweave.models.annotator import Annotator
from scweave.models.checkpoint import WEIGHTS
from scweave.models.training import FIRST
from scweave.train import run
from tiny_annatac import quick  # noqa: F401  # a fixture
from tiny_pairs import MODES, TINY, annotator, cells_of, redrawn, training_cells

TASKS = {"annotation": ("rna", "atac"), "annotation_rna": ("rna",), "annotation_atac": ("atac",)}


@pytest.fixture(scope="module")
def graphs(simulated_dataset):
    return MultiomeGraphs(simulated_dataset)


@pytest.fixture(scope="module")
def baselines(simulated_dataset):
    """A centroid of each kind of features, as trained."""
    train, validation = training_cells(simulated_dataset), MultiomeGraphs(simulated_dataset)
    validation = labelled(validation.part(split="validation"))
    found = {}
    for features in ("lsi", "pca", "both"):
        model = MODELS["centroid"].from_graphs(train, FeatureConfig(features, width=5))
        calibrate(model, train, validation)
        found[features] = model
    return found


@pytest.fixture(scope="module", params=MODES)
def model(request, simulated_dataset):
    return annotator(request.param, epochs=2).fit(simulated_dataset).loaded.model.cpu()


@pytest.fixture(scope="module")
def metrics(model, graphs, baselines):
    return evaluate_annotator(model, graphs, baselines, progress=False).metrics


def test_both_modalities_and_either_are_judged_beside_baselines_that_read_no_more(metrics):
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert [name for name in metrics if name.startswith("annotation")] == list(TASKS)
    assert {task: set(told) for task, told in metrics["baselines"].items()} == {
        "annotation": {"lsi", "pca", "both"},
        "annotation_rna": {"pca"},
        "annotation_atac": {"lsi"},
    }
    known = {"accuracy", "balanced_accuracy", "macro_f1", "nmi", "ari", "purity", "rare_recall", "per_type"}
    for task in TASKS:
        for figures in (metrics[task], *metrics["baselines"][task].values()):
            assert known <= set(figures)
    assert set(metrics["cost"]) == {"parameters", "fitted", "flops_per_cell"}


@pytest.mark.parametrize("task", TASKS)
def test_figures_of_a_modality_are_those_of_a_dataset_that_has_no_other(
    model, graphs, baselines, metrics, task
):
    alone = evaluate_annotator(model, graphs.only(TASKS[task]), baselines, progress=False).metrics
    assert alone["annotation"] == metrics[task]
    assert alone["baselines"]["annotation"] == metrics["baselines"][task]
    told = [name for name in alone if name.startswith("annotation")]
    assert told == (list(TASKS) if task == "annotation" else ["annotation"])


@pytest.mark.parametrize("task", TASKS)
def test_each_case_is_calibrated_on_cells_that_are_read_alike(model, graphs, task):
    modalities = TASKS[task]
    train, validation = (labelled(graphs.part(split=s)).only(modalities) for s in ("train", "validation"))
    readings = [read_cells(model, some, cells_of(some)) for some in (train, validation)]
    codes = [torch.from_numpy(some.cell_type_codes[cells_of(some)]) for some in (train, validation)]
    own = Calibration(model.n_types, model.embedding_width)
    own.fit_temperature(readings[1].logits, codes[1])
    own.fit_novelty(readings[0].embedding, codes[0], readings[1].embedding, readings[1].logits)
    found = model.calibration_of(modalities)
    for name, value in own.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-5, atol=1e-5)
    others = [model.calibration_of(TASKS[name]) for name in TASKS if name != task]
    assert not any(torch.equal(other.temperature, found.temperature) for other in others)


def test_calibrating_again_changes_nothing_of_the_model(model, graphs):
    parts = [labelled(graphs.part(split=split)) for split in ("train", "validation")]
    again = deepcopy(model)
    calibrate(again, *parts)
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], msg=name)


def test_a_run_writes_all_three(simulated_dataset, tmp_path):
    settings = tuple(f"{name}={value}" for name, value in TINY["default"].items())
    job = Job(simulated_dataset, tmp_path / "run", "scmoanno", epochs=1, settings=settings)
    metrics = run(job, progress=False)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == metrics
    assert set(TASKS) <= set(metrics) and set(metrics["baselines"]) == set(TASKS)
    assert set(metrics["baselines"]["annotation_atac"]) == {"centroid_lsi"}


@pytest.fixture(scope="module")
def folds(simulated, tmp_path_factory):
    out = tmp_path_factory.mktemp("folds") / "dataset"
    options = BuildOptions(labels="cell_type", seed=1, folds=2)
    build([simulated.h5mu], out, gtf=simulated.gtf, options=options, progress=False)
    return out


@pytest.mark.parametrize("mode", MODES)
def test_every_fold_is_trained_from_scratch_whatever_was_trained_before(folds, tmp_path, mode):
    for order in ((0, 1), (1, 0)):
        for fold in order:
            run_of_fold = tmp_path / f"{order}{fold}"
            annotator(mode, {"stages": "frozen"}).fit(folds, fold=fold, run=run_of_fold)
            assert Annotator.load(run_of_fold).loaded.manifest["fold"] == fold
    for part in (".", FIRST):
        bits = {
            fold: [(tmp_path / f"{order}{fold}" / part / WEIGHTS).read_bytes() for order in ((0, 1), (1, 0))]
            for fold in (0, 1)
        }
        assert bits[0][0] == bits[0][1] and bits[1][0] == bits[1][1]
        assert bits[0][0] != bits[1][0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fold", [0, 1])
def test_cells_of_other_splits_change_no_number_that_is_fitted(folds, mode, fold):
    """Components, evidence and weights of types come from the training cells of the fold."""
    train, untrained = training_cells(folds, fold), annotator(mode)
    made = [
        untrained.kind.model.from_graphs(some, untrained.config).state_dict()
        for some in (train, redrawn(train, ["validation", "test"]), redrawn(train, ["train"]))
    ]
    assert all(torch.equal(value, made[1][name]) for name, value in made[0].items())
    assert not torch.equal(made[0]["components.rna.table"], made[2]["components.rna.table"])
