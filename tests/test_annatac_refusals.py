"""What annATAC refuses, in one line and before anything is written: leaks, and choices that do not go together."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file

from scweave.commands.evaluate import evaluate_run
from scweave.graphs.errors import InputError
from scweave.models.annotator import Annotator
from scweave.models.checkpoint import SEEN
from tiny_annatac import (
    MODES,
    built,
    call,
    file_of,
    halved,
    job,
    make_experiments,
    quick,  # noqa: F401  # a fixture
)


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    return make_experiments(tmp_path_factory.mktemp("experiments"))


@pytest.fixture(scope="module")
def datasets(experiments, tmp_path_factory):
    """By name: cells of the first experiment in two splits and in folds, on another genome; those of the second."""
    folder, gtf = tmp_path_factory.mktemp("datasets"), experiments.gtf
    foreign = experiments.atac.copy()
    foreign.uns["genome"] = "mm10"
    second = {"gtf": experiments.plain_gtf}
    return {
        "data": built(folder / "data", experiments.rna, experiments.atac, gtf=gtf),
        "again": built(folder / "again", experiments.rna, experiments.atac, gtf=gtf, seed=7),
        "folds": built(folder / "folds", experiments.rna, experiments.atac, gtf=gtf, folds=3),
        "rna": built(folder / "rna", experiments.rna, gtf=gtf),
        "halved": built(folder / "halved", halved(experiments.atac), gtf=gtf, seed=7),
        "foreign": built(folder / "foreign", foreign, gtf=gtf),
        "other": built(folder / "other", experiments.other, **second),
        "other_again": built(folder / "other_again", experiments.other, seed=7, **second),
    }


@pytest.fixture(scope="module", params=MODES)
def mode(request):
    return request.param


@pytest.fixture(scope="module")
def runs(mode, datasets, tmp_path_factory):
    """Pre-trained on each of some data sets and on two, fine-tuned, and two of other models."""
    folder = tmp_path_factory.mktemp(mode)
    for name in ("data", "again", "other"):
        job(mode, datasets[name], folder / name, stage="pretrain")
    job(mode, datasets["data"], folder / "both", datasets["other"], stage="pretrain")
    job(mode, datasets["other"], folder / "hidden", datasets["again"], stage="pretrain")
    job(mode, datasets["data"], folder / "fine", init=folder / "both")
    Annotator("centroid").fit(datasets["data"], run=folder / "centroid")
    return folder


def test_cells_that_pre_training_has_seen_are_no_test_cells(mode, datasets, runs, tmp_path):
    seen = r"\d+ of 21 test cells of .* were seen when the model in .* was trained"
    for init in ("again", "hidden"):
        with pytest.raises(InputError, match=seen):
            job(mode, datasets["data"], tmp_path / "run", init=runs / init)
    for other in ("again", "halved"):  # the same cells, the same islands alone
        with pytest.raises(
            InputError, match=r"\d+ of .* test cells of .* are training or validation cells of"
        ):
            job(mode, datasets["data"], tmp_path / "run", datasets[other], stage="pretrain")
    assert not list(tmp_path.iterdir())
    for init in ("data", "other", "both"):
        job(mode, datasets["data"], tmp_path / init, init=runs / init)


def test_folds_are_kept_apart(mode, datasets, tmp_path):
    job(mode, datasets["folds"], tmp_path / "pre", stage="pretrain", fold=0)
    for fold in (1, None):
        with pytest.raises(InputError, match="were seen when the model"):
            job(mode, datasets["folds"], tmp_path / "run", init=tmp_path / "pre", fold=fold)
    assert [path.name for path in tmp_path.iterdir()] == ["pre"]
    job(mode, datasets["folds"], tmp_path / "run", init=tmp_path / "pre", fold=0)
    told = evaluate_run(tmp_path / "pre", datasets["folds"], tmp_path / "m.json", progress=False)
    assert told["fold"] == 0


def test_a_fine_tuned_run_remembers_what_pre_training_saw(datasets, runs, tmp_path):
    known = load_file(runs / "both" / SEEN)["atac"]
    assert set(known.tolist()) <= set(load_file(runs / "fine" / SEEN)["atac"].tolist())
    out = tmp_path / "m.json"
    for run, name in (("fine", "other_again"), ("both", "other_again"), ("fine", "again"), ("data", "again")):
        with pytest.raises(InputError, match="were seen when the model"):
            evaluate_run(runs / run, datasets[name], out, progress=False)
        assert not list(tmp_path.iterdir())
    for run, name in (("fine", "other"), ("both", "other"), ("fine", "data"), ("data", "other_again")):
        assert evaluate_run(runs / run, datasets[name], out, progress=False)["split"] == "test"


WRONG = [
    (["--init", "fine"], "fine: its annatac was not pre-trained but trained. Pass a run of --stage pretrain"),
    (["--init", "centroid"], "centroid: its centroid was not pre-trained but trained"),
    (["--init", "crossrec"], "crossrec: its crossrec was not pre-trained but trained"),
    (["--init", "missing"], "missing holds no trained model"),
    (["--init", "data", "--mode", "OTHER"], "--init"),
    (
        ["--init", "data", "--model", "hitanno", "--mode", "default"],
        "hitanno (default mode) has no pre-training",
    ),
    (
        ["--init", "data", "--model", "crossrec", "--mode", "default"],
        "crossrec (default mode) has no pre-training",
    ),
    (["--init", "data", "--model", "svm", "--mode", "default"], "svm (default mode) has no pre-training"),
    (["--init", "data", "--set", "width=16"], "pre-trained with width=8 (asked for: 16)"),
    (["--init", "data", "--size", "s"], "pre-trained with width=8 (asked for: 64)"),
    (["--init", "data", "--stage", "pretrain"], "--init belongs to --stage finetune"),
    (["--init", "data", "DATASET=foreign"], "is on mm10, and the model on simulated"),
    (["--init", "data", "DATASET=rna"], "ATAC"),
    (["--size", "xl"], "--size xl: sizes of annatac are: s, m, l. Choose one"),
    (["--size", "s", "--model", "hitanno", "--mode", "default"], "--size s: sizes of hitanno are: none"),
    (["--stage", "sleep"], "--stage sleep: choose pretrain or finetune"),
    (["--stage", "pretrain", "--model", "hitanno", "--mode", "default"], "hitanno has none. Choose annatac"),
    (["--stage", "pretrain", "--fold", "0"], "no folds"),
    (["--stage", "pretrain", "DATASET=rna"], "ATAC"),
    (["--stage", "pretrain", "also=foreign"], "is on mm10, and the model on simulated"),
    (["--stage", "pretrain", "also=rna"], "ATAC"),
    (["--stage", "pretrain", "also=missing"], "is not a scweave dataset"),
    (["--stage", "pretrain", "also=other", "--fold", "0"], "--fold 0: 2 data sets have no folds in common"),
    (["also=other"], "2 data sets: only --stage pretrain takes several"),
    (["--mode", "old"], "annatac has"),
    (["--stage", "pretrain", "--set", "head=3"], "--set head=3: no such setting"),
    (["--set", "novel_below=1.5"], "novel_below=1.5: choose a number from 0 to 1"),
    (["--accumulate", "0"], "--accumulate 0: must be positive"),
    (["--devices", "0"], "--devices 0: must be positive"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(a) for a, _ in WRONG])
def test_bad_trainings_are_one_line(mode, datasets, runs, tmp_path, capsys, monkeypatch, arguments, message):
    crossrec = runs / "crossrec"
    if "crossrec" in arguments and not crossrec.exists():
        small = ["--epochs", 1, "--quiet", "--set", "width=8", "--out", crossrec]
        assert call(capsys, monkeypatch, "train", datasets["data"], "--model", "crossrec", *small)[0] == 0
    names = [arguments.index("--init") + 1] if "--init" in arguments else []
    words = [runs / word if i in names else word for i, word in enumerate(arguments)]
    words = [next(m for m in ("default", "published") if m != mode) if w == "OTHER" else w for w in words]
    first, also = datasets["data"], []
    for word in [word for word in words if str(word).startswith(("DATASET=", "also="))]:
        words.remove(word)
        kind, _, name = word.partition("=")
        path = datasets.get(name, tmp_path / name)
        first, also = (path, also) if kind == "DATASET" else (first, [path])
    usual = [] if "--model" in words else ["--model", "annatac"]
    usual += [] if "--mode" in words else ["--mode", mode]
    command = ["train", first, *also, *usual, *words, "--out", tmp_path / "out", "--quiet"]
    one_line(call(capsys, monkeypatch, *command), message)
    assert not list(tmp_path.iterdir())


def one_line(told, message):
    status, out, err = told
    assert (status, out) == (2, ""), err
    assert message in err, err
    assert err.count("\n") == 1 and err.startswith("scweave: ") and "Traceback" not in err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["predict", "data", "ATAC", "--out", "p.h5ad"], "was trained without labels and knows no types"),
        (["predict", "fine", "ATAC", "--novel-below", "1.5", "--out", "p.h5ad"], "--novel-below 1.5: choose"),
        (["predict", "fine", "ATAC", "--min-placed", "1.5", "--out", "p.h5ad"], "--min-placed 1.5: choose"),
        (["predict", "fine", "missing", "--novel-below", "2", "--out", "p.h5ad"], "--novel-below 2.0: choose"),
        (["predict", "fine", "ATAC", "--novel-below", "-0.1", "--out", "p.h5ad"], "--novel-below -0.1: choose"),
        (["predict", "fine", "ATAC", "--novel-below", "nan", "--out", "p.h5ad"], "--novel-below nan: choose"),
        (["predict", "crossrec", "ATAC", "--novel-below", "0.5", "--out", "p.h5ad"], "--novel-below belongs to models that"),
        (["predict", "fine", "RNA", "--out", "p.h5ad"], "ATAC"),
        (["predict", "fine", "rna", "--out", "p.h5ad"], "the query has no ATAC"),
        (["predict", "fine", "FOREIGN", "--out", "p.h5ad"], "is on mm10, and the model on simulated"),
        (["map", "fine", "data", "--per", "cell", "--out", "maps"], "--per cell: annatac attends to no peaks"),
        (["map", "data", "data", "--out", "maps"], "annatac"),
        (["evaluate", "data", "foreign", "--out", "m.json"], "is on mm10, and the model on simulated"),
        (["evaluate", "fine", "foreign", "--out", "m.json"], "is on mm10, and the model on simulated"),
        (["evaluate", "data", "rna", "--out", "m.json"], "ATAC"),
        (["evaluate", "data", "data", "--split", "all", "--out", "m.json"], "--split all: choose one of"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)  # fmt: skip
def test_bad_questions_are_one_line(
    datasets, runs, experiments, tmp_path, capsys, monkeypatch, command, message
):
    if "crossrec" in command and not (runs / "crossrec").exists():
        small = ["--epochs", 1, "--quiet", "--set", "width=8", "--out", runs / "crossrec"]
        assert call(capsys, monkeypatch, "train", datasets["data"], "--model", "crossrec", *small)[0] == 0
    foreign = experiments.atac.copy()
    foreign.uns["genome"] = "mm10"
    (queries := tmp_path / "queries").mkdir()
    files = {"ATAC": experiments.atac, "RNA": experiments.rna, "FOREIGN": foreign}
    files = {name: file_of(data, queries / f"{name}.h5ad") for name, data in files.items()}
    name, run, what, *more = command
    more = [tmp_path / word if i and more[i - 1] == "--out" else word for i, word in enumerate(more)]
    told = call(capsys, monkeypatch, name, runs / run, datasets.get(what, files.get(what)), *more, "--quiet")
    one_line(told, message)
    assert [path.name for path in tmp_path.iterdir()] == ["queries"]


def test_a_run_that_is_resumed_begins_with_the_same(mode, datasets, runs, tmp_path):
    shutil.copytree(runs / "data", tmp_path / "pre")
    job(mode, datasets["data"], tmp_path / "run", init=tmp_path / "pre")
    with pytest.raises(InputError, match="cannot be resumed: init was"):
        job(mode, datasets["data"], tmp_path / "run", init=runs / "other", epochs=2, resume=True)
    shutil.rmtree(tmp_path / "pre")
    job(mode, datasets["other_again"], tmp_path / "pre", stage="pretrain", settings=("width=4",))
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")}
    with pytest.raises(InputError, match="cannot be resumed: the run of --init is another one"):
        job(mode, datasets["data"], tmp_path / "run", init=tmp_path / "pre", epochs=2, resume=True)
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")}


def test_a_pre_trained_run_is_no_annotator(runs):
    with pytest.raises(InputError, match="without labels"):
        Annotator.load(runs / "data")


def test_damaged_pre_trainings_are_told(mode, datasets, runs, tmp_path):
    for name, text in (("model.json", "{"), ("model.safetensors", "no"), (SEEN, "no")):
        shutil.copytree(runs / "data", tmp_path / "pre")
        (tmp_path / "pre" / name).write_text(text)
        with pytest.raises(InputError, match=r"damaged") as met:
            job(mode, datasets["again"], tmp_path / "run", init=tmp_path / "pre")
        assert "\n" not in str(met.value)
        shutil.rmtree(tmp_path / "pre")
        assert not list(tmp_path.iterdir())
    told = json.loads((runs / "data" / "model.json").read_text())
    assert (told["stage"], told["cell_types"]) == ("pretrain", [])
