"""The published scMoAnno against PyTorch's own layers over the cells of a batch; what that attention does to pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from dense_cis import same, same_gradients
from dense_pairs import torch_block, torch_cross
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.models.annotation.paired_components import Pair
from scweave.models.annotator import Annotator
from scweave.models.checkpoint import WEIGHTS, load_model, save_model
from scweave.models.registry import kind_of
from scweave.models.scmoanno_config import ScMoAnnoConfig
from scweave.models.training import FIRST
from tiny_pairs import MODES, annotator, cells_of, cells_with_gaps, make_model, training_cells

STAGES = ["first", "train"]


@pytest.fixture(scope="module")
def graphs(simulated_dataset):
    return cells_with_gaps(simulated_dataset)


@pytest.fixture(scope="module")
def runs(simulated_dataset, tmp_path_factory):
    """Trained with the attention of stage 1 frozen, and with it unfrozen."""
    folder = tmp_path_factory.mktemp("published")
    for stages in ("frozen", "unfrozen"):
        annotator("published", {"stages": stages}, epochs=2).fit(simulated_dataset, run=folder / stages)
    return folder


def dense_features(model, pair):
    """What the cells of a batch ask each other, (cells, width) of RNA and of ATAC."""
    rna, atac = list(pair.rna), list(pair.atac)
    for cell, (has_rna, has_atac) in enumerate(pair.has.tolist()):
        rna[cell] = pair.rna[cell] if has_rna else pair.atac[cell]
        atac[cell] = pair.atac[cell] if has_atac else pair.rna[cell]
    rna, atac = torch.stack(rna), torch.stack(atac)
    asks = model.config.attention
    if asks == "none" or model.config.stages == "second":
        return rna, atac
    of_rna, of_atac = (atac, rna) if asks == "cross" else (rna, atac)
    layer = model.exchange.attention
    return (rna + torch_cross(layer, rna, of_rna)) / 2, (atac + torch_cross(layer, atac, of_atac)) / 2


def dense_means(model, pair):
    """Mean tokens (cells, gap) of RNA and of ATAC."""
    found = []
    for block, features in zip(model.encoders, dense_features(model, pair), strict=True):
        cells = [torch.stack(x.split(model.gap)) + model.positions for x in features]
        tokens = torch.stack(cells)
        found.append(sum(torch_block(block, tokens).unbind(1)) / tokens.shape[1])
    return found


def dense_logits(model, pair):
    """Logits of each head that is trained: of RNA and of ATAC in stage 1, of the fused cells in stage 2."""
    rna, atac = dense_means(model, pair)
    if model.stage == "first":
        return [x @ model.head.weight.T + model.head.bias for x in (rna, atac)]
    fused = torch.cat([rna, atac], 1) if model.config.fusion == "direct" else 0.9 * rna + 0.1 * atac
    return [fused @ model.head.weight.T + model.head.bias]


def leaves(model, batch, monkeypatch):
    """The components of a batch, put into the model as numbers that take gradients."""
    pair = model.pair(batch)
    pair = Pair(*(x.detach().requires_grad_() for x in pair.parts), pair.has)
    monkeypatch.setattr(model, "pair", lambda _: pair)
    return pair


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"attention": "self"},
        {"attention": "none"},
        {"stages": "second"},
        {"fusion": "direct", "peaks": "lsi"},
        {"gap": 2048},
    ],
)
def test_logits_loss_and_gradients_equal_the_plain_function(graphs, monkeypatch, stage, settings):
    model = make_model(graphs, "published", stage, **{"stages": "unfrozen", **settings})
    batch = graphs.batch(range(12), cis=False)
    codes = batch["cell"].cell_type
    pair = leaves(model, batch, monkeypatch)
    assert pair.has.sum(0).tolist() == [9, 10]
    expected = dense_logits(model, pair)
    same(model(batch).logits, sum(expected) / len(expected))
    losses = [F.cross_entropy(logits, codes) for logits in expected]
    found = model.loss(batch, codes)
    same(found["loss"], sum(losses))
    if stage == "first":
        same(found["rna"], losses[0])
        same(found["atac"], losses[1])
    inputs = {"rna": pair.rna, "atac": pair.atac, **dict(model.named_parameters())}
    gradients = same_gradients(found["loss"], sum(losses), inputs)
    if model.gap < model.components.width:
        for name, gradient in gradients.items():
            assert gradient.abs().max() > 1e-9 or name.endswith("key.bias"), name


def test_a_present_modality_stands_in_for_one_that_is_missing(graphs):
    model, cells = make_model(graphs, "published", "first"), range(9, 20)
    whole = model.pair(graphs.batch(cells, cis=False))
    for i, name in enumerate(("rna", "atac")):
        batch = graphs.only([name]).batch(cells, cis=False)
        alone = model.pair(batch)
        assert alone.has.all(0).tolist() == [i == 0, i == 1]
        own = whole.parts[i]
        expected = dense_features(model, Pair(own, own, torch.ones_like(whole.has)))
        for found, x in zip(model.features(alone), expected, strict=True):
            same(found, x)
        same(*model.features(alone))


@pytest.mark.parametrize("stage", STAGES)
def test_shuffled_pairing_changes_nothing_of_rna_and_predictions_depend_on_batch_mates(
    simulated_dataset, stage
):
    """The defect of attention over cells, which the default mode does not have: see test_scmoanno."""
    graphs = training_cells(simulated_dataset)
    model = make_model(graphs, "published", stage, rna_share=1.0)
    cells = cells_of(graphs)[:24]
    order = np.random.default_rng(0).permutation(24)
    paired, shuffled = (
        model(graphs.batch_of_pairs(cells, atac, cis=False)) for atac in (cells, cells[order])
    )
    (rna, atac), (other, moved) = (
        model.encode(model.features(model.pair(graphs.batch_of_pairs(cells, some, cis=False))))
        for some in (cells, cells[order])
    )
    torch.testing.assert_close(rna, other, rtol=0, atol=1e-12)  # although other ATAC profiles are theirs
    torch.testing.assert_close(atac[order], moved, rtol=0, atol=1e-12)
    if stage == "train":
        torch.testing.assert_close(paired.logits, shuffled.logits, rtol=0, atol=1e-12)
    few, alone = (
        model(graphs.batch_of_pairs(some, some, cis=False)).logits for some in (cells[:3], cells[:1])
    )
    assert (few[0] - paired.logits[0]).abs().max() > 1e-3
    assert (alone[0] - paired.logits[0]).abs().max() > 1e-3


def test_frozen_attention_stays_as_stage_1_left_it(runs):
    for stages in ("frozen", "unfrozen"):
        first, second = (load_file(run / WEIGHTS) for run in (runs / stages / FIRST, runs / stages))
        names = [name for name in first if name.startswith(("exchange.", "components."))]
        assert sum(name.startswith("exchange.") for name in names) == 8
        for name in names:
            kept = stages == "frozen" or name.startswith("components.")
            if kept or not name.endswith("key.bias"):
                assert torch.equal(first[name], second[name]) == kept, name
        assert not torch.equal(first["encoders.0.norm.weight"], second["encoders.0.norm.weight"])


def test_a_model_comes_back_with_the_heads_it_was_trained_with(runs, graphs, tmp_path):
    """Weights do not tell heads: with others, they load as well and say something else."""
    for run, heads in ((runs / "frozen" / FIRST, 2), (runs / "frozen", 4)):
        loaded = load_model(run).model
        assert loaded.exchange.attention.heads == loaded.config.heads == 8
        assert [block.attention.heads for block in loaded.encoders] == [heads] * 2
    batch, kept = graphs.batch(range(12), cis=False), {}
    for heads in (2, 4):
        for encoder_heads in (1, 2):
            model = make_model(graphs, "published", "first", heads=heads, encoder_heads=encoder_heads)
            model.cell_types = tuple(graphs.cell_types)
            save_model(tmp_path, model, graphs)
            logits = model(batch).logits
            again = load_model(tmp_path).model(batch).logits
            torch.testing.assert_close(again, logits, rtol=0, atol=1e-6)  # positions are made anew
            kept[heads, encoder_heads] = logits
    found = list(kept.values())
    assert all((a - b).abs().max() > 1e-4 for i, a in enumerate(found) for b in found[:i])


@pytest.mark.parametrize("mode", MODES)
def test_dropout_is_on_in_every_epoch_of_both_stages(simulated_dataset, monkeypatch, mode):
    kind, seen = kind_of("scmoanno", mode), {}
    for stage, model in (("first", kind.first.model), ("second", kind.model)):

        def loss(self, batch, codes, own=model.loss, stage=stage):
            drops = [part for part in self.modules() if isinstance(part, nn.Dropout)]
            seen.setdefault(stage, []).append(
                torch.is_grad_enabled() and all(part.training and part.p > 0 for part in drops) and len(drops)
            )
            return own(self, batch, codes)

        monkeypatch.setattr(model, "loss", loss)
    annotator(mode, {"stages": "frozen"}, epochs=3, batch_size=100).fit(simulated_dataset)
    steps = -(-len(training_cells(simulated_dataset)) // 100)
    assert {stage: len(told) for stage, told in seen.items()} == {"first": 3 * steps, "second": 3 * steps}
    assert all(min(told) >= 2 for told in seen.values())


def test_one_token_has_nothing_to_attend_to(graphs):
    """With gap = width, as published, the attention of the encoders changes nothing."""
    batch = graphs.batch(range(12), cis=False)
    for gap, tokens in ((4, 4), (8, 2), (16, 1), (2048, 1)):
        model = make_model(graphs, "published", gap=gap)
        assert model.positions.shape == (tokens, 16 // tokens)
        before = model(batch).logits
        for block in model.encoders:
            nn.init.normal_(block.attention.query.weight)
        assert torch.equal(model(batch).logits, before) == (tokens == 1)


def test_usual_settings_are_the_published_ones():
    config = ScMoAnnoConfig()
    assert (config.width, config.gap, config.hidden) == (2048, 2048, 1024)
    assert (config.heads, config.encoder_heads, config.second_heads) == (8, 16, 64)
    assert (config.rna_share, config.stages, config.attention, config.fusion) == (
        0.9, "frozen", "cross", "fixed",
    )  # fmt: skip
    assert "batch" in (kind_of("scmoanno", "published").model.__doc__ or "").split("Warnings")[1]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"encoder_heads": 0}, "encoder_heads and second_heads must be positive"),
        ({"second_heads": -1}, "encoder_heads and second_heads must be positive"),
        ({"heads": 0}, "--set heads=0: must be positive"),
        ({"rna_share": 1.1}, "--set rna_share=1.1: choose a number from 0 to 1"),
        ({"gap": 100}, "--set gap=100: must be a multiple of encoder_heads=16 and second_heads=64"),
        ({"variable_peaks": -1}, "--set variable_peaks=-1: must not be negative"),
        ({"stages": "together"}, "--set stages=together: choose frozen, unfrozen, second"),
        ({"fusion": "learned"}, "--set fusion=learned: choose fixed, direct"),
        ({"dropout": 1.0}, "--set dropout=1.0: choose a number from 0 to below 1"),
    ],
)
def test_settings_that_mean_nothing_are_errors(settings, told):
    with pytest.raises(InputError, match=told) as error:
        ScMoAnnoConfig(**settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings", [{"stages": "second"}, {"attention": "self"}, {"attention": "none", "fusion": "direct"}]
)
def test_every_choice_trains_and_comes_back(simulated_dataset, tmp_path, settings):
    trained = annotator("published", settings).fit(simulated_dataset, run=tmp_path / "run")
    assert (tmp_path / "run" / FIRST).is_dir() == (settings.get("stages") != "second")
    again = Annotator.load(tmp_path / "run")
    assert again.config == trained.loaded.model.config
    every = MultiomeGraphs(simulated_dataset)
    for modalities in (["rna", "atac"], ["rna"], ["atac"]):
        query = every.only(modalities)
        one, other = trained.predict(query), again.predict(query)
        assert np.array_equal(one.probabilities, other.probabilities)
        assert np.isfinite(one.probabilities).all() and np.isfinite(one.embedding).all()
        told = " and ".join(name.upper() for name in modalities)
        depends = "and of the cells that are read with it"
        assert one.about["scweave_label"] == f"likeliest cell type, from the {told} profile, {depends}"
