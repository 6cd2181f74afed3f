"""The published HitAnno against its dense formula, cell by cell, and what it promises."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch_geometric.data import HeteroData

from dense_cis import random_profiles, same, same_gradients
from dense_hitanno import (
    dense_block,
    dense_probabilities,
    dense_reading,
    opened_tokens,
    random_model,
    sentence,
)
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.models.annotation.model import labelled
from scweave.models.hitanno_published import HitAnnoConfig, PublishedHitAnno
from scweave.models.layers import deep_sentences
from scweave.models.layers.profiles import Profiles

SMALL = {"dim": 8, "heads": 4, "ffn": 6, "dropout": 0.0, "token_dropout": 0.0}
LAYERS = [(1, 1), (2, 1), (1, 2), (3, 2)]


@pytest.fixture(scope="module")
def graphs(random_dataset):
    return labelled(MultiomeGraphs(random_dataset, split="train"))


def make(graphs, **options):
    return PublishedHitAnno.from_graphs(graphs, HitAnnoConfig(**{**SMALL, **options})).double()


def batch_of(profiles):
    data = HeteroData()
    data["peak"].id, data["peak"].accessibility = profiles.ids, profiles.counts
    data["peak"].ptr = profiles.ptr
    return data


@pytest.mark.parametrize(("peak_layers", "cell_layers"), LAYERS)
@pytest.mark.parametrize("sizes", [(3, 3), (4, 1, 0, 3)])
def test_reading_and_gradients_equal_the_dense_formula(sizes, peak_layers, cell_layers):
    model = random_model(sizes, peak_layers=peak_layers, cell_layers=cell_layers).eval()
    profiles = random_profiles(n_features=12)
    ours = model(batch_of(profiles))
    logits, embedding = dense_reading(model, profiles)
    same(ours.logits, logits)
    same(ours.embedding, embedding)
    same_gradients(ours.logits, logits, dict(model.named_parameters()))


@pytest.mark.parametrize("layers", [1, 2])
def test_a_dataset_gives_the_same_as_the_dense_formula(graphs, layers):
    model = make(graphs, peak_layers=layers).eval()
    batch = graphs.batch(range(len(graphs)), cis=False)
    ours = model(batch)
    profiles = Profiles.peaks(batch)
    same(ours.logits, dense_reading(model, profiles)[0])
    codes = torch.arange(len(profiles)) % 2
    same(model.loss(batch, codes)["loss"], F.cross_entropy(ours.logits, codes))


@pytest.mark.parametrize("layers", [1, 2])
def test_a_cell_alone_reads_as_in_a_batch(random_dataset, graphs, layers):
    model = make(graphs, peak_layers=layers).eval()
    every = MultiomeGraphs(random_dataset)
    together = model(every.batch(range(len(every)), cis=False)).logits
    alone = torch.cat([model(every.batch([i], cis=False)).logits for i in range(len(every))])
    same(alone, together)
    empty = 3  # a cell without open peaks
    assert not Profiles.peaks(every.batch([empty])).ptr[-1]
    assert together[empty].isfinite().all()
    assert model(every.batch([], cis=False)).logits.shape == (0, 2)


def test_marker_peaks_come_from_the_cells_given(graphs):
    model = make(graphs)
    assert model.cell_types == ("A", "B")
    assert model.kind == "hitanno" and model.mode == "published" and model.modalities == ("atac",)
    assert model.pointers.tolist() == [0, 45, 90]
    assert torch.equal(model.token_of_peak[model.marker_peaks], torch.arange(90))
    some = make(graphs, peaks_per_type=5)
    assert torch.equal(some.marker_peaks[5:], model.marker_peaks[45:50])  # B is the rarer one
    assert (some.token_of_peak >= 0).sum() == 10
    assert (some.selection[:5].diff() <= 0).all() and some.notes == []


def test_a_type_of_one_cell_is_told(graphs):
    codes = graphs.cell_type_codes[graphs.pairs_of(range(len(graphs)))[0]]
    few = graphs.index_select(np.r_[np.flatnonzero(codes == 0), np.flatnonzero(codes == 1)[:1]])
    notes = make(few).notes
    assert [note.split(" training")[0] for note in notes] == ["A: fewer than two", "B: fewer than two"]


def test_weights_come_from_the_seed_and_leave_that_of_torch_alone(graphs):
    config = HitAnnoConfig(**SMALL)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two, other = (PublishedHitAnno.from_graphs(graphs, config, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one.tokens, two.tokens) and not torch.equal(one.tokens, other.tokens)


def test_a_model_comes_back_from_its_tensors(graphs):
    model = make(graphs, peaks_per_type=7, peak_layers=2).eval()
    tensors = model.state_dict()
    again = PublishedHitAnno.from_tensors(tensors, HitAnnoConfig(**asdict(model.config)), 3).double()
    again.load_state_dict(tensors)
    batch = graphs.batch(range(4), cis=False)
    assert torch.equal(again.eval()(batch).logits, model(batch).logits)


@pytest.mark.parametrize("layers", [1, 2])
def test_training_leaves_out_peaks(graphs, layers):
    model = make(graphs, token_dropout=0.5, peak_layers=layers)
    batch = graphs.batch(range(4), cis=False)
    first, second = model(batch).logits, model(batch).logits
    assert not torch.equal(first, second)
    assert torch.equal(model.eval()(batch).logits, model(batch).logits)
    model.train()(batch).logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_it_learns(graphs):
    torch.manual_seed(0)
    model = PublishedHitAnno.from_graphs(graphs, HitAnnoConfig(dim=16, heads=4, ffn=16, dropout=0.0))
    batch = graphs.batch(range(len(graphs)), cis=False)
    codes = batch["cell"].cell_type
    (optimiser,) = model.optimisers(1e-2, 0.0)
    for _ in range(60):
        optimiser.zero_grad()
        loss = model.loss(batch, codes)["loss"]
        loss.backward()
        optimiser.step()
    assert (model.eval()(batch).logits.argmax(1) == codes).float().mean() > 0.9


@pytest.mark.parametrize("layers", [1, 2])
def test_mixed_precision_is_close(layers):
    model = random_model((40, 30), n_peaks=90, peak_layers=layers).float().eval()
    batch = batch_of(random_profiles(n_features=90))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(batch).logits
    assert (mixed.float() - model(batch).logits).abs().max() < 0.03


def test_the_learning_rate_rises_and_stays():
    model = random_model(warmup=4)
    assert [model.lr_factor(epoch) for epoch in (0, 1, 2, 4, 19.5)] == [0, 0.25, 0.5, 1, 1]
    assert random_model(warmup=0).lr_factor(0) == 1


def test_attention_of_sentences_and_types():
    model, profiles = random_model(cell_layers=2).eval(), random_profiles(n_features=12)
    batch = batch_of(profiles)
    found = model.type_attention(batch)
    assert found.shape == (5, 4, 4)
    same(found.sum(2), torch.ones(5, 4).double())
    x = model._cell_tokens(batch)[0]
    truth = dense_probabilities(model.cell_blocks[1].attention, dense_block(model.cell_blocks[0], x))
    same(found[0], truth[:, 0])
    assert model.peak_weights().shape == (2, 8, 4)
    cells, opened = model.sentence_attention(batch), model.open_tokens(batch)
    of_open = torch.zeros(15, 4).double().index_add(0, opened.row, cells.open).view(5, 3, 4)
    same(cells.cls + cells.closed + of_open, torch.ones(5, 3, 4).double())


@pytest.mark.parametrize("numbers", [1 << 24, 60])
@pytest.mark.parametrize("layer", [0, 1])
def test_the_strongest_pairs_of_peaks(numbers, layer, monkeypatch):
    monkeypatch.setattr(deep_sentences, "_NUMBERS", numbers)
    model, profiles = random_model((4, 0, 3), peak_layers=3).eval(), random_profiles(n_features=12)
    parts = list(model.peak_attention(batch_of(profiles), top=5, layer=layer))
    found = {(c, s): [] for c in range(5) for s in (0, 2)}
    for part in parts:
        for c, s, q, k, w in zip(part.cell, part.sentence, part.query, part.key, part.weight, strict=True):
            found[int(c), int(s)].append((int(q), int(k), float(w)))
    for (cell, which), edges in found.items():
        x = sentence(model, which, opened_tokens(model, profiles)[cell])
        for block in model.peak_blocks[:layer]:
            x = dense_block(block, x)
        truth = dense_probabilities(model.peak_blocks[layer].attention, x).mean(0)[1:, 1:].detach()
        begin = int(model.pointers[which])
        assert len(edges) == 5
        expected = truth.flatten().sort(descending=True).values[:5]
        same(torch.tensor([w for *_, w in edges], dtype=torch.float64), expected)
        same(truth[[q - begin for q, *_ in edges], [k - begin for _, k, _ in edges]], expected)


def test_what_a_model_cannot_tell_is_an_error():
    batch = batch_of(random_profiles(n_features=12))
    with pytest.raises(InputError, match="0 of the 1 blocks"):
        random_model().peak_attention(batch)
    with pytest.raises(InputError, match="1 of the 2 blocks of this model, and block 1"):
        random_model(peak_layers=2).peak_attention(batch, layer=1)
    with pytest.raises(InputError, match="this one has 2"):
        random_model(peak_layers=2).peak_weights()


@pytest.mark.parametrize(
    "options",
    [
        {"heads": 3},
        {"heads": 0},
        {"dim": 0},
        {"dim": 1, "heads": 1},
        {"peaks_per_type": -1},
        {"dropout": 1.0},
        {"token_dropout": -0.1},
        {"peak_layers": 0},
        {"cell_layers": 0},
        {"ffn": 0},
        {"warmup": -1},
    ],
)
def test_settings_that_mean_nothing_are_errors(options):
    with pytest.raises(InputError, match=f"--set .*{next(iter(options))}"):
        HitAnnoConfig(**options)


def test_a_dataset_without_atac_is_an_error(graphs, monkeypatch):
    monkeypatch.setattr(graphs, "modalities", ("rna",))
    with pytest.raises(InputError, match="hitanno needs ATAC"):
        make(graphs)
