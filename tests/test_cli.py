"""The command line: help within a second, one clear line and status 2 for bad input, the commands end to end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from scweave.cli import app, main
from scweave.graphs.dataset import MultiomeGraphs
from scweave.interpret.terminal import show_table

ROOT = Path(__file__).parents[1]
COMMANDS = ("demo", "simulate", "build", "train", "evaluate", "predict", "map", "report", "study")


def call(capsys, monkeypatch, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["scweave", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_every_command_of_this_version_is_there():
    assert {command.name or command.callback.__name__ for command in app.registered_commands} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(capsys, monkeypatch, command):
    status, out, _ = call(capsys, monkeypatch, command, "--help")
    assert status == 0
    assert "Example:" in out
    assert f"scweave {command}" in out


@pytest.mark.parametrize(
    "command",
    [("-m", "scweave.cli", "build"), ("-m", "scweave.cli", "study"), (str(ROOT / "train.py"),)],
    ids=["build", "study", "train.py"],
)
def test_help_is_quick(command):
    spent = []
    for _ in range(3):  # the quickest of three: other work on the machine is not ours
        start = time.monotonic()
        subprocess.run([sys.executable, *command, "--help"], check=True, capture_output=True)
        spent.append(time.monotonic() - start)
    assert min(spent) < 1


def test_train_script_is_the_train_command():
    ours = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "--help"], check=True, capture_output=True, text=True
    )
    assert "crossrec" in ours.stdout
    assert "--resume" in ours.stdout


@pytest.fixture(scope="module")
def run_folder(simulated_dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "run"
    arguments = [
        "--model",
        "crossrec",
        "--mode",
        "published",
        "--epochs",
        "1",
        "--set",
        "width=16",
        "--quiet",
    ]
    command = [sys.executable, str(ROOT / "train.py"), str(simulated_dataset), *arguments, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return out


def test_ctrl_c_ends_training_in_one_line(simulated_dataset, tmp_path):
    out = tmp_path / "run"
    arguments = ["--model", "crossrec", "--mode", "published", "--set", "width=16", "--epochs", "5000"]
    command = [sys.executable, "-m", "scweave.cli", "train", str(simulated_dataset), *arguments]
    process = subprocess.Popen(
        [*command, "--patience", "5000", "--quiet", "--out", str(out)], stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not (out / "state" / "state.json").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "scweave: interrupted\n")


def test_commands_end_to_end(capsys, monkeypatch, simulated, simulated_dataset, run_folder, tmp_path):
    status, out, err = call(capsys, monkeypatch, "build", "--verify", simulated_dataset)
    assert (status, err) == (0, "")
    assert f"{len(MultiomeGraphs(simulated_dataset))} cells" in out
    metrics = tmp_path / "metrics.json"
    status, out, _ = call(
        capsys, monkeypatch, "evaluate", run_folder, simulated_dataset, "--out", metrics, "--quiet"
    )
    assert status == 0
    assert "foscttm" in out
    assert max(len(line) for line in out.splitlines() if not line.startswith("written")) <= 80
    assert json.loads(metrics.read_text())["split"] == "test"
    maps = tmp_path / "maps"
    status, out, _ = call(
        capsys, monkeypatch, "map", run_folder, simulated_dataset, "--out", maps, "--truth", simulated.links,
        "--truth-kind", "links", "--quiet",
    )  # fmt: skip
    assert status == 0
    assert "auprc" in out
    assert {"gene", "peak", "score", "cell_type"} <= set(pd.read_parquet(maps / "links.parquet").columns)


def test_the_title_of_a_narrow_table_is_one_line(capsys):
    show_table("a title that is wider than its table", ["n"], {"a": {"n": 1}})
    assert capsys.readouterr().out.splitlines()[0] == "a title that is wider than its table"


def test_json_is_one_line(capsys, monkeypatch, simulated, simulated_dataset, tmp_path):
    status, out, _ = call(
        capsys, monkeypatch, "build", simulated.h5mu, "--gtf", simulated.gtf, "--labels", "cell_type",
        "--out", tmp_path / "d", "--json", "--quiet",
    )  # fmt: skip
    assert status == 0
    assert json.loads(out)["cells"] == len(MultiomeGraphs(simulated_dataset))
    assert out.count("\n") == 1


def test_a_dry_run_tells_the_cost_and_writes_nothing(capsys, monkeypatch, simulated, tmp_path):
    files = [simulated.h5mu, "--gtf", simulated.gtf, "--fasta", simulated.fasta, "--labels", "cell_type"]
    out = ["--out", tmp_path / "d", "--dry-run", "--quiet"]
    status, human, err = call(capsys, monkeypatch, "build", *files, *out)
    assert (status, err) == (0, "")
    assert "60 genes, 600 peaks" in human
    assert "MB on disk; building takes" in human
    status, line, _ = call(capsys, monkeypatch, "build", *files, *out, "--json")
    assert {"cells", "pairs", "nonzeros", "disk_bytes", "memory_bytes", "notes"} <= set(json.loads(line))
    assert list(tmp_path.iterdir()) == []


def test_generators_run_as_a_module(simulated, tmp_path):
    command = [sys.executable, "-m", "scweave.generators", str(simulated.h5mu), "--gtf", str(simulated.gtf)]
    options = [
        "--labels",
        "cell_type",
        "--cell-types",
        "type_1,type_3",
        "--negatives",
        "both",
        "--folds",
        "2",
    ]
    done = subprocess.run(
        [*command, *options, "--json", "--quiet", "--out", str(tmp_path / "d")],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["cells"] == len(MultiomeGraphs(tmp_path / "d", fold=1))
    assert MultiomeGraphs(tmp_path / "d").cell_types == ["type_1", "type_3"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "--out", "OUT"], "nothing to build"),
        (["build", "missing.h5mu", "--gtf", "GTF", "--out", "OUT"], "missing.h5mu"),
        (["build", "H5MU", "--out", "OUT"], "Pass --gtf"),
        (["build", "H5MU", "--gtf", "GTF", "--labels", "colour", "--out", "OUT"], "cell_type, donor"),
        (["build", "H5MU", "--gtf", "GTF", "--window", "near", "--out", "OUT"], "--window near"),
        (["build", "H5MU", "--gtf", "GTF", "--out", "DATASET"], "exists already"),
        (["build", "H5MU", "--gtf", "GTF", "--preset", "mars", "--out", "OUT"], "issaac, pbmc, share"),
        (["build", "H5MU", "--discovery", "--out", "OUT"], "with --like"),
        (
            ["train", "DATASET", "--model", "crossrec", "--mode", "published", "--fold", "1", "--out", "OUT"],
            "no folds",
        ),
        (["build", "--verify", "OUT"], "is not a scweave dataset"),
        (["build", "H5MU", "--verify", "DATASET"], "leave out inputs and --out"),
        (
            ["build", "H5MU", "--gtf", "GTF", "--cell-types", ",", "--out", "OUT"],
            "--cell-types names nothing",
        ),
        (["build", "H5MU", "--gtf", "GTF", "--seed", "-1", "--out", "OUT"], "--seed"),
        (["simulate", "OUT.h5mu", "--types", "1"], "types"),
        (["simulate", "OUT.txt"], ".h5mu"),
        (
            ["train", "DATASET", "--model", "crossrec", "--mode", "old", "--out", "OUT"],
            "crossrec has default and published",
        ),
        (["train", "DATASET", "--model", "hitano", "--out", "OUT"], "--model hitano"),
        (
            ["train", "OUT", "--model", "crossrec", "--mode", "published", "--out", "OUT"],
            "not a scweave dataset",
        ),
        (["train", "DATASET", "--out", "OUT"], "Missing option '--model'"),
        (["train", "DATASET", "--modle", "x"], "No such option"),
        (["evaluate", "OUT", "DATASET", "--out", "OUT.json"], "holds no trained model"),
        (["predict", "OUT", "DATASET", "--out", "OUT.h5ad"], "holds no trained model"),
        (["predict", "OUT", "DATASET"], "Missing option '--out'"),
        (["map", "OUT", "DATASET", "--out", "MAPS"], "holds no trained model"),
        (["demo", "--out", "DATASET"], "no demo made it"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    capsys, monkeypatch, simulated, simulated_dataset, tmp_path, arguments, message
):
    places = {
        "OUT": tmp_path / "out", "H5MU": simulated.h5mu, "GTF": simulated.gtf, "DATASET": simulated_dataset,
        "MAPS": tmp_path / "maps", "OUT.h5mu": tmp_path / "out.h5mu", "OUT.txt": tmp_path / "out.txt",
        "OUT.json": tmp_path / "out.json", "OUT.h5ad": tmp_path / "out.h5ad",
    }  # fmt: skip
    status, out, err = call(capsys, monkeypatch, *(places.get(a, a) for a in arguments))
    assert status == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["scweave", "build", "--verify", str(tmp_path), "--debug"])
    with pytest.raises(ValueError, match="is not a scweave dataset"):
        main()


def test_demo_runs_twice(capsys, monkeypatch, tmp_path):
    small = ["--cells", 200, "--genes", 60, "--peaks", 600, "--epochs", 1, "--quiet"]
    for _ in range(2):
        status, out, _ = call(capsys, monkeypatch, "demo", "--out", tmp_path / "demo", *small)
        assert status == 0
        assert "recovery of known links" in out
    assert (tmp_path / "demo" / "maps" / "map.png").stat().st_size > 0
