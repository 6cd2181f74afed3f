"""Several processes that train together: the result of one, resumed alike, and ended together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import load_file

from scweave.graphs.errors import InputError
from scweave.models import training as training_of_models
from scweave.models.annotation.networks import NetworkConfig
from scweave.models.checkpoint import load_model
from scweave.models.epochs import _Parcel, run_epochs
from scweave.models.hitanno import SentenceConfig
from scweave.models.processes import run_together
from scweave.models.registry import kind_of
from scweave.models.settings import parse_settings
from scweave.models.train_options import TrainOptions
from scweave.models.training import fit
from tiny_annatac import MODES, without_chance
from tiny_annatac import TINY as TINY_SIZES
from tiny_pretraining import FAILING, TINY, TinyConfig
from tiny_work import die, exchange, fail, train_all

# 185 training cells: of the last batch the second process has none.
OPTIONS = {"epochs": 3, "batch_size": 46, "lr": 3e-3, "accelerator": "cpu", "patience": 50, "seed": 3}


def trained(kind, config, dataset, run, resume=False, **options):
    run.mkdir(exist_ok=True)
    fit(kind, dataset, run, config, TrainOptions(**(OPTIONS | options)), progress=False, resume=resume)


def kept_back(kind, config, dataset, run, resume=False, init=None, **options):
    """A training that is ready to begin."""
    run.mkdir(parents=True, exist_ok=True)
    found = []

    def keep(training):
        found.append(training)
        raise InterruptedError

    chosen = TrainOptions(**(OPTIONS | options))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_of_models, "run_epochs", keep)
        with pytest.raises(InterruptedError):
            fit(kind, dataset, run, config, chosen, progress=False, resume=resume, init=init)
    return found[0]


def result(run):
    return load_file(run / "model.safetensors"), pd.read_csv(run / "history.csv")


def same(found, expected, tolerance):
    for name, value in expected[0].items():
        torch.testing.assert_close(found[0][name], value, rtol=tolerance, atol=tolerance)
    pd.testing.assert_frame_equal(found[1], expected[1], rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def cases(simulated_dataset, random_dataset, tmp_path_factory):
    """By name, what is trained on which data sets, how, and how near two processes come to one."""
    both, folder = [simulated_dataset, random_dataset], tmp_path_factory.mktemp("pretrained")
    mlp, hitanno = NetworkConfig(hidden=16, width=8, dropout=0.0), SentenceConfig(dropout=0.0)
    early = {"precision": "64-true", "patience": 2, "epochs": 12, "lr": 0.3, "accumulate": 2}
    double = {"precision": "64-true", "accumulate": 2, "clip": 1.0}
    found = {
        "mlp": (kind_of("mlp"), mlp, simulated_dataset, {"clip": 0.5}, 1e-4),
        "hitanno": (kind_of("hitanno"), hitanno, simulated_dataset, early, 1e-8),
        "tiny": (TINY, TinyConfig(), both, {"accumulate": 3, "lr": 0.1}, 1e-5),
    }
    for mode in MODES:
        kind = kind_of("annatac", mode)
        assert kind.pretraining is not None
        first, second = (
            parse_settings((*TINY_SIZES, *without_chance(mode, stage)), k.config)
            for stage, k in (("pretrain", kind.pretraining), ("finetune", kind))
        )
        trained(kind.pretraining, first, both, folder / mode, epochs=1)
        found[f"masked {mode}"] = (kind.pretraining, first, both, double, 1e-7)
        init = {"init": folder / mode}
        found[f"annatac {mode}"] = (kind, second, simulated_dataset, double | init, 1e-7)
    return found


@pytest.fixture(scope="module")
def together(cases, tmp_path_factory):
    """Folder of the results of two processes, which train all cases one after the other."""
    folder = tmp_path_factory.mktemp("together")
    trainings = [
        kept_back(kind, config, dataset, folder / name, devices=2, **options)
        for name, (kind, config, dataset, options, _) in cases.items()
    ]
    kind, config, dataset, options, _ = cases["mlp"]
    for epochs, resume in ((1, False), (3, True)):
        more = {"epochs": epochs, "resume": resume, "devices": 2}
        trainings.append(kept_back(kind, config, dataset, folder / "parts", **options, **more))
    run_together(train_all, [_Parcel.of(training) for training in trainings], 2)
    return folder


CASES = ["mlp", "hitanno", "tiny", *(f"{name} {mode}" for mode in MODES for name in ("masked", "annatac"))]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one(cases, together, tmp_path, name):
    """Accumulated, clipped, stopped early, on several data sets, begun with what was pre-trained."""
    kind, config, dataset, options, tolerance = cases[name]
    run_epochs(kept_back(kind, config, dataset, tmp_path / "one", **options))
    one, two = result(tmp_path / "one"), result(together / name)
    same(two, one, tolerance)
    assert len(one[1]) < options.get("epochs", 4)
    if "validation_n" in one[1]:
        assert two[1]["validation_n"].tolist() == one[1]["validation_n"].tolist()


def test_processes_resume_to_the_same_bits(together):
    for name in ("model.safetensors", "history.csv", "state/epoch-2.safetensors"):
        assert (together / "parts" / name).read_bytes() == (together / "mlp" / name).read_bytes(), name


def test_training_in_processes_leaves_a_whole_run(cases, together, tmp_path, capfd):
    kind, config, dataset, options, _ = cases["mlp"]
    trained(kind, config, dataset, tmp_path / "run", devices=2, **options)
    assert (tmp_path / "run" / "curves.png").exists()
    assert load_model(tmp_path / "run").model.calibration is not None
    told = capfd.readouterr()
    assert told.out + told.err == ""


def test_an_error_in_a_process_is_the_users_one_line(simulated_dataset, tmp_path, capfd):
    with pytest.raises(InputError, match=r"^cell 7: no such luck\. Try again\.$"):
        trained(FAILING, TinyConfig(), simulated_dataset, tmp_path / "run", devices=2)
    assert (tmp_path / "run" / "history.csv").exists()
    assert capfd.readouterr().err == ""
    assert not multiprocessing.active_children()


def test_processes_tell_each_other_what_they_have():
    run_together(exchange, 3, 3)


def test_a_killed_process_ends_the_others(capfd):
    with pytest.raises(InputError, match="process 2 of 2 was killed, perhaps for its memory"):
        run_together(die, None, 2)
    with pytest.raises(RuntimeError, match=r"(?s)process 1 of 1:.*Traceback.*KeyError: 'ours'"):
        run_together(fail, None, 1)
    assert capfd.readouterr().err == ""
    assert not multiprocessing.active_children()


ENDLESS = """
import signal, sys
from pathlib import Path
from scweave.models.train_options import TrainOptions
from scweave.models.training import fit
from tiny_pretraining import TINY, TinyConfig

signal.signal(signal.SIGINT, signal.default_int_handler)
options = TrainOptions(epochs=100_000, patience=100_000, batch_size=16, accelerator="cpu", devices=2)
try:
    fit(TINY, Path(sys.argv[1]), Path(sys.argv[2]), TinyConfig(), options, progress=False)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_processes_end_together(simulated_dataset, tmp_path):
    """Ctrl-C reaches all processes of the terminal; a kill only the one that started the others."""
    tests = os.path.dirname(__file__)
    path = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
    started = {}
    for how in (signal.SIGINT, signal.SIGKILL):
        (tmp_path / how.name).mkdir()
        started[how] = subprocess.Popen(
            [sys.executable, "-c", ENDLESS, str(simulated_dataset), str(tmp_path / how.name)],
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
    for how, process in started.items():
        while process.poll() is None and not (tmp_path / how.name / "state" / "state.json").exists():
            time.sleep(0.05)
        members = psutil.Process(process.pid).children(recursive=True)
        assert len(members) >= 2
        if how == signal.SIGINT:
            os.killpg(process.pid, how)
        else:
            process.kill()
        told = process.communicate(timeout=60)[1]
        assert process.returncode == (130 if how == signal.SIGINT else -9), told
        assert told == b""
        _, alive = psutil.wait_procs(members, timeout=30)
        assert not alive
