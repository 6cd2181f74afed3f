"""Steps of several batches: the weighted mean of their gradients, clipped where that is asked for."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from scweave.graphs.errors import InputError
from scweave.models.annotation.networks import NetworkConfig
from scweave.models.crossrec import CrossRecConfig
from scweave.models.registry import kind_of
from scweave.models.step_gradients import StepGradients
from scweave.models.train_options import TrainOptions
from scweave.models.training import fit

PLAIN = NetworkConfig(hidden=16, width=8, dropout=0.0)


def trained(dataset, run, name="mlp", config=PLAIN, resume=False, **options):
    """Weights and history of a short training, before calibration changes anything but the calibration."""
    run.mkdir(exist_ok=True)
    usual = {"epochs": 3, "batch_size": 32, "lr": 3e-3, "accelerator": "cpu", "patience": 50, "seed": 2}
    fit(
        kind_of(name),
        dataset,
        run,
        config,
        TrainOptions(**(usual | options)),
        progress=False,
        resume=resume,
    )
    return load_file(run / "model.safetensors"), pd.read_csv(run / "history.csv")


def same(found, expected, tolerance):
    for name, value in expected[0].items():
        torch.testing.assert_close(found[0][name], value, rtol=tolerance, atol=tolerance, msg=name)
    pd.testing.assert_frame_equal(found[1], expected[1], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_of_a_batch_make_the_step_of_the_whole(simulated_dataset, tmp_path, parts):
    size = 12 * parts  # 185 cells: the last batches are smaller
    precise = {"precision": "64-true"}
    whole = trained(simulated_dataset, tmp_path / "whole", batch_size=size, **precise)
    split = trained(
        simulated_dataset, tmp_path / "parts", batch_size=size // parts, accumulate=parts, **precise
    )
    same(split, whole, 1e-7)
    alone = trained(simulated_dataset, tmp_path / "alone", batch_size=size // parts, **precise)
    assert abs(alone[1]["train_loss"].iloc[-1] - whole[1]["train_loss"].iloc[-1]) > 1e-3


def test_accumulated_training_resumes_to_the_same_bits(simulated_dataset, tmp_path):
    options = {"batch_size": 8, "accumulate": 5, "clip": 0.5}
    trained(simulated_dataset, tmp_path / "whole", **options)
    trained(simulated_dataset, tmp_path / "parts", **(options | {"epochs": 1}))
    trained(simulated_dataset, tmp_path / "parts", resume=True, **options)
    for name in ("model.safetensors", "history.csv", "state/epoch-2.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_recommenders_with_sparse_tables_accumulate(simulated_dataset, tmp_path):
    kind, config = kind_of("crossrec", "published"), CrossRecConfig(id_width=16, width=16)
    options = TrainOptions(epochs=2, accumulate=3, clip=1.0, accelerator="cpu")
    fit(kind, simulated_dataset, tmp_path, config, options, progress=False)
    assert pd.read_csv(tmp_path / "history.csv")["train_loss"].is_monotonic_decreasing


def gradients_of(clip, weights, losses, model):
    """What `StepGradients` makes of batches."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    step = StepGradients([optimiser], several=len(losses) > 1, clip=clip)
    step.begin()
    for loss, weight in zip(losses, weights, strict=True):
        step.add(loss(), torch.tensor(float(weight))).backward()
    step.finish()
    return [p.grad.to_dense() if p.grad.is_sparse else p.grad for p in model.parameters()]


@pytest.mark.parametrize("clip", [None, 1e-3, 1e3])
@pytest.mark.parametrize("weights", [(3, 5, 0), (7, 7, 7), (4,), (0,)])
def test_gradients_are_weighted_means_of_sparse_and_dense_parameters(clip, weights):
    torch.manual_seed(0)
    model = nn.ModuleDict({"table": nn.Embedding(6, 4, sparse=True), "map": nn.Linear(4, 3)}).double()
    batches = [torch.tensor([0, 2, 2, i]) for i in range(len(weights))]
    losses = [lambda ids=ids: model["map"](model["table"](ids)).square().mean() for ids in batches]
    found = gradients_of(clip, weights, losses, model)
    for parameter in model.parameters():
        parameter.grad = None
    total = sum(weights) if len(weights) > 1 else 1  # the gradient of one batch is left as it is
    mean = (
        sum((w if len(weights) > 1 else 1) * loss() for w, loss in zip(weights, losses, strict=True)) / total
    )
    mean.backward()
    expected = [p.grad.to_dense() if p.grad.is_sparse else p.grad for p in model.parameters()]
    norm = math.sqrt(sum(float(grad.square().sum()) for grad in expected))
    shrink = 1.0 if clip is None else min(1.0, clip / norm)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs * shrink, rtol=1e-12, atol=1e-14)


def test_steps_that_ask_for_nothing_do_not_move():
    model = nn.Linear(2, 1)
    found = gradients_of(1.0, (0, 0), [lambda: model(torch.ones(1, 2)).sum()] * 2, model)
    assert all((grad == 0).all() for grad in found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 0}, "--accumulate 0: must be positive"),
        ({"accumulate": 1.5}, "--accumulate 1.5: must be a whole number"),
        ({"devices": -1}, "--devices -1: must be positive"),
        ({"clip": 0.0}, "--clip 0.0: must be positive"),
        ({"clip": float("nan")}, "--clip nan: must be positive"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        TrainOptions(**options)
