"""The same function on every device: on a machine with CUDA both are compared, elsewhere the interface is used."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from scweave.graphs.dataset import MultiomeGraphs
from scweave.models.crossrec import CrossRec, CrossRecConfig
from scweave.models.crossrec_cis import CisConfig, CisCrossRec
from scweave.models.devices import best_device, device_of
from scweave.models.layers.bags import bag
from scweave.models.layers.profiles import Profiles

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")),
]
SMALL = CisConfig(components=6, programmes=4, width=8, hidden=16, filters=4, dropout=0.0, token_dropout=0.0)


def test_the_best_device_is_a_gpu_where_there_is_one():
    assert best_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


def loss_and_gradients(model, batch):
    torch.manual_seed(0)
    parts = model.loss(batch)
    parts["loss"].backward()
    gradients = {
        name: (p.grad.to_dense() if p.grad.is_sparse else p.grad).cpu()
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    return {name: value.detach().cpu() for name, value in parts.items()}, gradients


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("config", [SMALL, CrossRecConfig(id_width=8, width=8, dropout=0.0)])
def test_losses_and_gradients_are_those_of_the_processor(random_dataset, device, config):
    graphs = MultiomeGraphs(random_dataset, view="pairs", split="train")
    torch.manual_seed(1)
    kind = CisCrossRec if isinstance(config, CisConfig) else CrossRec
    model = kind.from_graphs(graphs, config).double()
    if isinstance(config, CisConfig):
        model.dna = None  # which peaks are read is drawn on the device
    batch = graphs.batch(range(12), cis=False)
    expected = loss_and_gradients(model, batch)
    model.zero_grad()
    moved = model.to(device)
    assert device_of(moved).type == device
    found = loss_and_gradients(moved, batch.to(device))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("device", DEVICES)
def test_translations_and_links_are_those_of_the_processor(random_dataset, device):
    graphs = MultiomeGraphs(random_dataset)
    torch.manual_seed(1)
    model = CisCrossRec.from_graphs(graphs, SMALL).double().eval()
    model.refresh()
    batch = graphs.batch(range(10), cis=False)
    expected = model.translate(Profiles.peaks(batch)), model.link_weights(), model.attention(batch).weight
    model, batch = model.to(device), batch.to(device)
    found = model.translate(Profiles.peaks(batch)), model.link_weights(), model.attention(batch).weight
    for ours, theirs in zip((*found[0], *found[1:]), (*expected[0], *expected[1:]), strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("device", DEVICES)
def test_a_bag_is_an_embedding_bag(device):
    rng = torch.Generator().manual_seed(0)
    sizes = torch.tensor([3, 0, 5, 1, 0])
    ptr = F.pad(sizes.cumsum(0), (1, 0))
    ids = torch.cat([torch.randperm(7, generator=rng)[:n] for n in sizes.tolist()])
    values = torch.randn(len(ids), dtype=torch.float64, generator=rng)
    table = torch.randn(7, 4, dtype=torch.float64, generator=rng)
    weight = torch.randn(5, 4, dtype=torch.float64, generator=rng)

    plain = table.clone().requires_grad_()
    expected = F.embedding_bag(ids, plain, ptr[:-1], mode="sum", per_sample_weights=values)
    (expected * weight).sum().backward()
    ours = table.to(device).requires_grad_()
    found = bag(ours, ids.to(device), values.to(device), ptr.to(device))
    (found * weight.to(device)).sum().backward()
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.grad.cpu(), plain.grad, rtol=1e-12, atol=1e-12)
