"""How scMoAnno is trained: what its optimisers, schedules and settings promise."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

from scweave.models.annotation.paired_components import PairedComponents
from scweave.models.registry import kind_of
from scweave.models.scmoanno import ScMoAnno, TokenFeatures
from scweave.models.scmoanno_config import ScMoAnnoConfig, TokenConfig
from scweave.models.scmoanno_published import PublishedFeatures, PublishedScMoAnno


def default(**settings):
    return ScMoAnno(PairedComponents(7, 9, 8, "lsi"), 3, TokenConfig(width=8, gap=4, dim=8, **settings))


def published(model=PublishedScMoAnno, **settings):
    sizes = {"width": 8, "gap": 8, "heads": 2, "encoder_heads": 2, "second_heads": 2, "hidden": 4}
    return model(PairedComponents(7, 9, 8, "pca"), 3, ScMoAnnoConfig(**sizes, **settings))


def test_few_numbers_of_trust_learn_faster_and_do_not_decay():
    model = default()
    (optimiser,) = model.optimisers(0.01, 0.1)
    assert isinstance(optimiser, optim.AdamW)
    others, trust = optimiser.param_groups
    assert [(group["lr"], group["weight_decay"]) for group in (others, trust)] == [(0.01, 0.1), (0.1, 0.0)]
    assert [id(p) for p in trust["params"]] == [id(p) for p in model.trust.parameters()]
    told = {id(p) for group in (others, trust) for p in group["params"]}
    assert told == {id(p) for p in model.parameters() if p.requires_grad}


@pytest.mark.parametrize("model", [PublishedScMoAnno, PublishedFeatures])
def test_the_published_mode_takes_adam(model):
    (optimiser,) = published(model).optimisers(1e-4, 0.0)
    assert type(optimiser) is optim.Adam
    assert optimiser.param_groups[0]["lr"] == 1e-4


def test_the_epoch_is_chosen_by_both_losses():
    figures = {"loss": 1.0, "balanced_loss": 3.0, "macro_f1": 0.9}
    assert default().score(figures) == -2.0
    assert published().score(figures) == -1.0


def test_the_learning_rate_rises_for_half_an_epoch_and_falls_over_a_cycle():
    model = default(cycle=8)
    assert model.lr_factor(0.25) == pytest.approx(0.5)
    assert model.lr_factor(0.5) == pytest.approx(1.0)
    falling = [model.lr_factor(epoch) for epoch in (0.5, 2.0, 4.0, 7.99)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] < 0.02
    assert default(cycle=0).lr_factor(5.0) == 1.0


def test_dropout_stands_where_it_is_said_to():
    model = default(dropout=0.1, head_dropout=0.6)
    shares = {name: part.p for name, part in model.named_modules() if isinstance(part, nn.Dropout)}
    heads = {name for name in shares if name.startswith(("head.", "first_head."))}
    assert {shares[name] for name in heads} == {0.6}
    assert len(heads) == 2
    assert {shares[name] for name in set(shares) - heads} == {0.1}


@pytest.mark.parametrize(("cells", "balance", "linear"), [(999, 1.0, True), (1000, 0.5, False)])
def test_few_cells_get_balanced_types_and_a_linear_map(cells, balance, linear):
    settled = TokenConfig().settled(cells)
    assert (settled.balance, settled.linear) == (balance, linear)
    chosen = TokenConfig(balance=0.2, linear=True).settled(cells)
    assert (chosen.balance, chosen.linear) == (0.2, True)


def test_the_usual_training_is_the_documented_one():
    for stage in ("train", "first"):
        kind = kind_of("scmoanno", "default", stage)
        assert (kind.epochs, kind.batch_size, kind.lr, kind.clip, kind.fewest_steps) == (
            8,
            128,
            2e-3,
            1.0,
            32,
        )
        assert kind.usual_batch(350) == 10
        kind = kind_of("scmoanno", "published", stage)
        assert (kind.epochs, kind.patience, kind.batch_size, kind.lr) == (30, 5, 64, 1e-4)
    assert kind_of("scmoanno", "default", "first").model is TokenFeatures


def test_settings_are_the_documented_ones():
    ours, theirs = TokenConfig(), ScMoAnnoConfig()
    assert (ours.width, ours.gap, ours.dim, ours.heads, ours.hidden) == (256, 32, 64, 4, 128)
    assert (ours.stages, ours.peaks, ours.modality_dropout) == ("together", "lsi", 0.2)
    assert (theirs.width, theirs.gap, theirs.heads, theirs.encoder_heads) == (2048, 2048, 8, 16)
    assert (theirs.second_heads, theirs.hidden, theirs.rna_share) == (64, 1024, 0.9)
    assert theirs.unit == 64


def test_labels_weigh_by_rarity_and_are_smoothed():
    model = default(label_smoothing=0.1)
    model.importance.copy_(torch.tensor([1.0, 2.0, 4.0]))
    logits, codes = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    log_p = logits.log_softmax(1)
    smooth = 0.9 * nn.functional.one_hot(codes, 3) + 0.1 / 3
    expected = (-(smooth * log_p).sum(1) * model.importance[codes]).mean()
    torch.testing.assert_close(model.told_loss(logits, codes), expected)
