"""The corrected annATAC against plain loops, and what its pre-training hides and tells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dense_cis import same, same_gradients
from dense_linformer import dense_block
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.graphs.schema import CELL, CELL_TYPE, SOURCE
from scweave.models.annatac import (
    AnnAtac,
    MaskedOpenIslands,
    OpenAnnAtacConfig,
    OpenIslandConfig,
    _thinned,
)
from scweave.models.annotation.model import codes_of, labelled
from scweave.models.layers.island_encoder import MASK
from scweave.models.layers.open_islands import _of_like_size
from scweave.models.layers.profiles import Profiles

SMALL = {"island": 1000, "width": 6, "layers": 2, "heads": 2, "head_width": 4, "hidden": 9, "slots": 3}
SMALL |= {"pools": 2, "channels": 3, "summary": 5, "dropout": 0.0, "summary_dropout": 0.0}
CONFIG = OpenAnnAtacConfig(**SMALL, head_dropout=0.0, thinning=0.0, label_smoothing=0.0)


@pytest.fixture
def graphs(random_dataset) -> MultiomeGraphs:
    return MultiomeGraphs(random_dataset, split="train")


def moved(model):
    """Weights that are not those of the start, where blocks add nothing."""
    torch.manual_seed(2)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model.double()


@pytest.fixture
def annotator(graphs) -> AnnAtac:
    return moved(AnnAtac.from_graphs(labelled(graphs), CONFIG, seed=4))


@pytest.fixture
def masked(graphs) -> MaskedOpenIslands:
    return moved(MaskedOpenIslands.from_graphs([graphs], OpenIslandConfig(**SMALL), seed=4))


def batch_of(graphs, cells=range(12)):
    batch = graphs.batch(list(cells), cis=False)
    batch[SOURCE] = torch.tensor(0)
    return batch


def plain_cell(encoder, ids, values):
    """Tokens and summary of one cell, written as the formulas are."""
    x = encoder.entry(encoder.positions[ids]) + encoder.values(values)
    shown = values != MASK
    weight = encoder.rarity[ids] * shown
    weight = weight / weight.square().sum().sqrt().clamp_min(1e-6)
    projection = encoder.slot(encoder.positions[ids]) * weight[:, None]
    for block in encoder.blocks:
        x = dense_block(block, x[None], projection)[0]
    x = encoder.norm(x)
    read = []
    for p in range(encoder.pool.out_features):
        score = encoder.pool(x)[:, p][shown]
        read.append((score.softmax(0)[:, None] * x[shown]).sum(0))
    for c in range(encoder.channel.out_features):
        read.append(((encoder.channel(x)[:, c].relu() * weight)[:, None] * x).sum(0))
    return x, encoder.summary(encoder.summary_norm(torch.cat(read)))


def cells_of(islands):
    values = islands.counts.long()
    return [(islands.ids[a:b], values[a:b]) for a, b in zip(islands.ptr[:-1], islands.ptr[1:], strict=True)]


def test_logits_loss_and_gradients_equal_the_plain_model(graphs, annotator):
    some = labelled(graphs)
    batch = batch_of(some, range(9))
    islands = annotator.islands(batch)
    found = torch.stack([plain_cell(annotator.encoder, *cell)[1].relu() for cell in cells_of(islands)])
    evidence = annotator.evidence(islands)
    trust = torch.log1p(annotator.trust.exp())
    plain = annotator.head[1](found) + trust * evidence
    same(annotator(batch).logits, plain)
    codes = codes_of(annotator.cell_types, graphs)[batch[CELL][CELL_TYPE]]
    left_out = annotator.head[1](found) + trust * annotator.evidence.leave_one_out(islands, codes)
    told = (F.cross_entropy(left_out, codes, reduction="none") * annotator.importance[codes]).mean()
    loss = annotator.loss(batch, codes)["loss"]
    same(loss, told)
    trained = {n: p for n, p in annotator.named_parameters() if p.requires_grad}
    assert not annotator.encoder.positions.requires_grad
    same_gradients(loss, told, trained)


def test_hidden_islands_are_told_from_token_times_summary(graphs, masked):
    batch = batch_of(graphs)
    asked, logits = masked.ask(batch)
    assert asked.truth.eq(0).any()
    assert asked.truth.gt(0).any()
    rows, begin = [], 0
    for ids, values in cells_of(asked.islands):
        x, summary = plain_cell(masked.encoder, ids, values)
        own = asked.asked[begin : begin + len(ids)]
        rows.append(masked.classifier(x[own] * masked.cell(summary.relu())))
        begin += len(ids)
    plain = torch.cat(rows)
    same(logits, plain)
    loss, told = masked.loss(batch), F.cross_entropy(plain, asked.truth)
    same(loss["loss"], told)
    same_gradients(loss["loss"], told, dict(masked.named_parameters()))
    assert masked.encoder.positions.grad is None or masked.encoder.positions.requires_grad


def test_what_is_hidden_does_not_reach_the_summary(graphs, masked):
    """Which of the hidden islands are open must not be seen anywhere but in the answer."""
    islands = masked.islands(batch_of(graphs))
    masked.set_epoch(0)
    hidden = masked.ask(batch_of(graphs))[0]
    shown = hidden.islands.counts != MASK
    kept = torch.bincount(hidden.islands.cell[shown], minlength=len(islands))
    without = Profiles(hidden.islands.ids[shown], hidden.islands.counts[shown], F.pad(kept.cumsum(0), (1, 0)))
    torch.testing.assert_close(masked.encoder(hidden.islands), masked.encoder(without), rtol=0, atol=1e-10)


def test_a_cell_is_read_alike_alone_and_in_a_batch(graphs, annotator, masked):
    together = annotator(batch_of(graphs))
    alone = [annotator(batch_of(graphs, [i])) for i in range(12)]
    torch.testing.assert_close(together.logits, torch.cat([r.logits for r in alone]), rtol=0, atol=1e-10)
    torch.testing.assert_close(
        together.embedding, torch.cat([r.embedding for r in alone]), rtol=0, atol=1e-10
    )
    whole, parts = (
        masked.measure(batch_of(graphs)),
        [masked.measure(batch_of(graphs, [i])) for i in range(12)],
    )
    for name, value in whole.items():
        torch.testing.assert_close(sum(p[name] for p in parts), value)


def test_cells_without_open_islands_are_read_and_ask_nothing(graphs, annotator, masked):
    closed = int(np.flatnonzero(np.diff(graphs.atac_rows.indptr) == 0)[0])
    batch = graphs.batch_of_pairs(np.array([closed, closed]), np.array([closed, closed]), cis=False)
    batch[SOURCE] = torch.tensor(0)
    reading = annotator(batch)
    assert reading.logits.isfinite().all()
    annotator.loss(batch, torch.tensor([0, 1]))["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in annotator.parameters())
    found = masked.loss(batch)
    assert found["loss"] == 0
    assert found["weight"] == 0
    found["loss"].backward()


def test_padding_is_less_than_half():
    sizes = torch.tensor([0, 1, 1, 2, 3, 4, 7, 9, 100, 130, 260])
    islands = Profiles(
        torch.arange(sizes.sum()), torch.ones(int(sizes.sum())), F.pad(sizes.cumsum(0), (1, 0))
    )
    groups = _of_like_size(islands)
    assert torch.equal(torch.cat([g.cells for g in groups]).sort().values, torch.arange(11))
    for group in groups:
        assert group.there.sum() == sizes[group.cells].sum()
        assert group.there.numel() < 2 * max(int(group.there.sum()), len(group.cells))
        assert torch.equal(group.ids[group.there], group.node[group.there])


def test_thinning_drops_up_to_a_share_anew_for_each_cell():
    torch.manual_seed(0)
    islands = Profiles(torch.arange(400).repeat(50), torch.ones(20_000), torch.arange(51) * 400)
    kept = _thinned(islands, 0.5).ptr.diff() / 400
    assert 0.45 < kept.min() < 0.65
    assert kept.max() > 0.93
    assert kept.std() > 0.1
    assert torch.equal(_thinned(islands, 0.0).ids, islands.ids)


def test_evidence_is_of_labelled_training_cells_and_can_be_left_out(graphs, annotator):
    some = labelled(graphs)
    _, cells = some.pairs_of(range(len(some)))
    islands = annotator.islands.read(Profiles.of(some.atac_rows, cells))
    codes = codes_of(annotator.cell_types, some)[torch.from_numpy(some.cell_type_codes[cells])]
    sums = torch.zeros(len(annotator.islands), 2, dtype=torch.double)
    sums.index_put_(
        (islands.ids, codes[islands.cell]), islands.ptr.diff().double().rsqrt()[islands.cell], accumulate=True
    )
    torch.testing.assert_close(annotator.evidence.sums, sums, rtol=1e-6, atol=1e-6)
    plain = AnnAtac.from_graphs(some, OpenAnnAtacConfig(**SMALL, evidence=False), seed=4)
    assert not plain.trust.requires_grad
    batch = batch_of(some, range(5))
    before = plain.eval()(batch).logits
    assert plain.state_dict().keys() == annotator.state_dict().keys()
    assert not plain.evidence.sums.any()  # nothing is counted in vain
    plain.evidence.table += 100
    assert torch.equal(plain(batch).logits, before)


def test_fine_tuning_takes_up_positions_that_pre_training_moved(graphs, masked):
    masked = masked.float()
    annotator = AnnAtac.from_pretrained(masked, labelled(graphs), CONFIG, seed=4)
    for name, value in annotator.encoder.state_dict().items():
        assert torch.equal(value, masked.encoder.state_dict()[name]), name
    assert not annotator.encoder.positions.requires_grad
    assert annotator.evidence.sums.sum() > 0
    assert all(module.training for module in annotator.modules())
    other = OpenAnnAtacConfig(**{**SMALL, "pools": 4})
    with pytest.raises(InputError, match=r"pre-trained with pools=2 \(asked for: 4\)"):
        AnnAtac.from_pretrained(masked, labelled(graphs), other)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"layers": -1}, "layers=-1: choose 0 or more"),
        ({"pools": 0}, "pools=0: must be positive"),
        ({"thinning": 1.0}, "thinning=1.0: choose a number from 0 to below 1"),
        ({"balance": 2.0}, "balance=2.0"),
        ({"smoothing": 0.0}, "smoothing=0.0"),
        ({"cycle": -1}, "cycle=-1: must not be negative"),
    ],
)
def test_settings_outside_their_range_are_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        OpenAnnAtacConfig(**wrong)
