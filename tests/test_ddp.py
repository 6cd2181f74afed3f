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
from scweave.models.annotation.networks import NetworkConfig
from scweave.models.hitanno import SentenceConfig
from scweave.models.processes import run_together
from scweave.models.registry import kind_of
from scweave.models.train_options import TrainOptions
from scweave.models.training import fit
from tiny_pretraining import FAILING, TINY, TinyConfig
from tiny_work import die, exchange, fail

# 185 training cells: of the last batch the second process has none.
OPTIONS = {"epochs": 3, "batch_size": 46, "lr": 3e-3, "accelerator": "cpu", "patience": 50, "seed": 3}


def trained(kind, config, dataset, run, resume=False, **options):
    run.mkdir(exist_ok=True)
    fit(kind, dataset, run, config, TrainOptions(**(OPTIONS | options)), progress=False, resume=resume)
    return load_file(run / "model.safetensors"), pd.read_csv(run / "history.csv")


def same(found, expected, tolerance):
    for name, value in expected[0].items():
        torch.testing.assert_close(found[0][name], value, rtol=tolerance, atol=tolerance, msg=name)
    pd.testing.assert_frame_equal(found[1], expected[1], rtol=tolerance, atol=tolerance)


def test_two_processes_train_as_one_and_resume_to_the_same_bits(simulated_dataset, tmp_path, capfd):
    mlp, config = kind_of("mlp"), NetworkConfig(hidden=16, width=8, dropout=0.0)
    one = trained(mlp, config, simulated_dataset, tmp_path / "one", clip=0.5)
    two = trained(mlp, config, simulated_dataset, tmp_path / "two", clip=0.5, devices=2)
    same(two, one, 1e-4)
    trained(mlp, config, simulated_dataset, tmp_path / "parts", clip=0.5, devices=2, epochs=1)
    trained(mlp, config, simulated_dataset, tmp_path / "parts", clip=0.5, devices=2, resume=True)
    for name in ("model.safetensors", "history.csv", "state/epoch-2.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    assert (tmp_path / "two" / "curves.png").exists()
    told = capfd.readouterr()
    assert told.out + told.err == ""


def test_hitanno_stops_at_the_same_epoch_in_double_precision(simulated_dataset, tmp_path):
    kind, config = kind_of("hitanno"), SentenceConfig(dropout=0.0)
    options = {"precision": "64-true", "patience": 2, "epochs": 12, "lr": 0.3, "accumulate": 2}
    one = trained(kind, config, simulated_dataset, tmp_path / "one", **options)
    two = trained(kind, config, simulated_dataset, tmp_path / "two", devices=2, **options)
    assert len(one[1]) < 12
    same(two, one, 1e-8)


def test_pretraining_on_several_datasets_is_that_of_one_process(simulated_dataset, random_dataset, tmp_path):
    datasets = [simulated_dataset, random_dataset]
    one = trained(TINY, TinyConfig(), datasets, tmp_path / "one", accumulate=3, lr=0.1)
    two = trained(TINY, TinyConfig(), datasets, tmp_path / "two", accumulate=3, lr=0.1, devices=2)
    same(two, one, 1e-5)
    assert two[1]["validation_n"].tolist() == one[1]["validation_n"].tolist()


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


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_together(simulated_dataset, tmp_path, how):
    """Ctrl-C reaches all processes of the terminal; a kill only the one that started the others."""
    tests = os.path.dirname(__file__)
    path = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(simulated_dataset), str(tmp_path)],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )
    while process.poll() is None and not (tmp_path / "state" / "state.json").exists():
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
