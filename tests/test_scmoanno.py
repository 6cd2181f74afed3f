"""The default scMoAnno: a cell at a time, from both modalities or either; against the plain function in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dense_cis import same, same_gradients
from dense_evidence import DenseEvidence
from dense_pairs import dense_encoder, dense_exchange, dense_tokens
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.models.annotation.paired_components import Pair
from scweave.models.layers.profiles import Profiles
from scweave.models.registry import kind_of
from scweave.models.scmoanno_config import TokenConfig
from tiny_pairs import TINY, cells_of, cells_with_gaps, dense_of, make_model, training_cells

STAGES = ["first", "train"]
SMOOTHING = 0.2
CALM = {"head_dropout": 0.0, "modality_dropout": 0.0, "smoothing": SMOOTHING}


@pytest.fixture(scope="module")
def graphs(simulated_dataset):
    return cells_with_gaps(simulated_dataset)


@pytest.fixture(scope="module")
def counted(graphs):
    """Evidence of training cells (cells, types) of RNA and of ATAC, as of new cells and without themselves."""
    return counted_evidence(graphs, SMOOTHING)


def counted_evidence(graphs, smoothing):
    cells = cells_of(graphs)
    codes = graphs.cell_type_codes[cells]
    whole, left_out = [], []
    for rows in (graphs.rna_rows, graphs.atac_rows):
        counts = dense_of(rows, cells)
        plain = DenseEvidence.of(counts, codes, codes.max() + 1, smoothing)
        left = torch.from_numpy(plain.leave_one_out(counts, codes))
        scale = left.std(correction=0)
        whole.append(torch.from_numpy(plain.evidence(counts)) / scale)
        left_out.append(left / scale)
    return whole, left_out


def dense_features(model, pair, evidence, cell):
    """Tokens of one cell after their exchange, (tokens, dim) of RNA and of ATAC."""
    beside = [told[cell] if model.config.evidence else None for told in evidence]
    has = pair.has[cell].tolist()
    tokens = [dense_tokens(model.tokens, i, pair.parts[i][cell], has[i], beside[i]) for i in range(2)]
    return dense_exchange(model.exchange, *tokens)


def dense_cell(model, pair, evidence, cell):
    """Logits and embedding of one cell, and the means of both modalities' tokens of stage 1."""
    features = dense_features(model, pair, evidence, cell)
    means = [x.mean(0) for x in features]
    head = model.head[1]
    if model.stage == "first":
        logits = [head.weight @ x + head.bias for x in means]
        return (logits[0] + logits[1]) / 2, (means[0] + means[1]) / 2, means
    rna, atac = (x.mean(0) for x in dense_encoder(model.encoder, *features))
    has_rna, has_atac = pair.has[cell].tolist()
    share = torch.sigmoid(model.gate.weight[0] @ torch.cat([rna, atac]) + model.gate.bias[0])
    if not (has_rna and has_atac):
        share = float(has_rna)
    fused = share * rna + (1 - share) * atac
    fused = torch.cat([rna, atac]) if model.config.fusion == "direct" else fused
    logits = head.weight @ fused + head.bias
    for i, has in enumerate((has_rna, has_atac)):
        if has and model.config.evidence:
            trust = torch.log(1 + torch.exp(model.trust.trust[i, int(has_rna and has_atac)]))
            logits = logits + trust * evidence[i][cell]
    if model.linear is not None and has_rna:
        logits = logits + model.linear.weight @ pair.rna[cell]
    return logits, fused, means


def dense_loss(model, logits, codes):
    """Cross entropy with smoothed labels, each cell weighed by its type."""
    smoothing, n_types = model.config.label_smoothing, logits.shape[1]
    total = 0
    for told, code in zip(logits.log_softmax(1), codes, strict=True):
        wanted = torch.full((n_types,), smoothing / n_types, dtype=told.dtype)
        wanted[code] += 1 - smoothing
        total = total - model.importance[code] * (wanted @ told)
    return total / len(codes)


CHOICES = [
    {},
    {"attention": "self", "fusion": "direct", "peaks": "pca"},
    {"attention": "none", "evidence": False, "stages": "second", "linear": False},
    {"stages": "unfrozen", "first_weight": 0.3, "label_smoothing": 0.1, "balance": 1.0},
]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("settings", CHOICES)
def test_reading_loss_and_gradients_equal_the_plain_function(graphs, counted, monkeypatch, stage, settings):
    model = make_model(graphs, "default", stage, **CALM, **settings)
    config, every = model.config, range(len(graphs))
    whole, left_out = counted
    batch, n = graphs.batch(range(12), cis=False), 12
    codes = batch["cell"].cell_type
    pair = model.pair(batch)
    pair = Pair(*(x.detach().requires_grad_() for x in pair.parts), pair.has)
    monkeypatch.setattr(model, "pair", lambda _: pair)
    assert pair.has.sum(0).tolist() == [9, 10]
    sizes = np.bincount(graphs.cell_type_codes[cells_of(graphs)]) ** -float(config.balance)
    mean = np.mean([sizes[graphs.cell_type_codes[cells_of(graphs)[c]]] for c in every])
    same(model.importance, torch.from_numpy(sizes / mean))
    found = [dense_cell(model, pair, whole, c) for c in range(n)]
    reading = model(batch)
    same(reading.logits, torch.stack([cell[0] for cell in found]))
    same(reading.embedding, torch.stack([cell[1] for cell in found]))
    trained = [dense_cell(model, pair, left_out, c) for c in range(n)]
    head = (model.head if stage == "first" else model.first_head)[1]
    means = [torch.stack([cell[2][i] for cell in trained]) for i in range(2)]
    rna, atac = (dense_loss(model, x @ head.weight.T + head.bias, codes) for x in means)
    expected = rna + atac
    if stage == "train":
        told = dense_loss(model, torch.stack([cell[0] for cell in trained]), codes)
        weight = config.first_weight if config.stages in ("together", "unfrozen") else 0
        expected = told + weight * expected
    loss = model.loss(batch, codes)["loss"]
    same(loss, expected)
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    same_gradients(loss, expected, {"rna": pair.rna, "atac": pair.atac, **weights})


def test_the_loss_knows_no_cell_by_its_own_share_of_the_evidence(graphs, counted):
    model = make_model(graphs, "default", **CALM)
    batch = graphs.batch(range(40), cis=False)
    codes = batch["cell"].cell_type
    whole, left_out = counted
    for found, expected, known in zip(
        model.training_view(batch, codes)[1], left_out, model.told(batch), strict=True
    ):
        same(found, expected[:40])
        assert (found - known).abs().max() > 0.1
    for found, expected in zip(model.told(batch), whole, strict=True):
        same(found, expected[:40])
    own = torch.arange(40), codes
    assert (model.told(batch)[0][own] >= model.training_view(batch, codes)[1][0][own] - 1e-9).all()


def test_modality_dropout_hides_one_modality_of_cells_that_have_both(graphs):
    model = make_model(graphs, "default", modality_dropout=0.4)
    batch = graphs.batch(np.tile(np.arange(20), 200), cis=False)
    codes, before = batch["cell"].cell_type, model.pair(batch)
    torch.manual_seed(1)
    pair, _ = model.training_view(batch, codes)
    both = before.has.all(1)
    assert (~both).sum() > 0 and pair.has.any(1).all()
    assert torch.equal(pair.has[~both], before.has[~both])
    for i in range(2):
        assert abs(float((~pair.has[both, i]).double().mean()) - 0.2) < 0.03
        assert torch.equal(pair.parts[i], before.parts[i])
    assert not torch.equal(model.training_view(batch, codes)[0].has, pair.has)  # anew in each step
    model = make_model(graphs, "default", modality_dropout=1.0)
    assert (model.training_view(batch, codes)[0].has.sum(1) == 1).all()
    assert torch.equal(model.pair(batch).has, before.has)  # never of cells that are told


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("attention", ["cross", "self"])
def test_pairing_matters(simulated_dataset, stage, attention):
    """Shuffled ATAC profiles change what is told, and with cross-attention also what is made of RNA."""
    graphs = training_cells(simulated_dataset)
    model = make_model(graphs, "default", stage, attention=attention)
    cells = cells_of(graphs)[:24]
    batches = [graphs.batch_of_pairs(cells, atac, cis=False) for atac in (cells, np.roll(cells, 1))]
    paired, shuffled = (model(batch).logits for batch in batches)
    assert ((paired - shuffled).abs().amax(1) > 1e-4).all()
    rna, other = (model.features(model.pair(batch), model.told(batch))[0] for batch in batches)
    changed = (rna - other).abs().amax((1, 2)) > 1e-6
    assert changed.all() if attention == "cross" else not changed.any()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("modalities", [["rna", "atac"], ["rna"], ["atac"]])
def test_a_cell_alone_reads_as_in_any_batch(graphs, stage, modalities):
    model, some = make_model(graphs, "default", stage), graphs.only(modalities)
    together = model(some.batch(range(30), cis=False))
    order = np.random.default_rng(0).permutation(30)
    few = [model(some.batch(order[i : i + 7], cis=False)) for i in range(0, 30, 7)]
    alone = [model(some.batch([i], cis=False)) for i in range(30)]
    for part in ("logits", "embedding"):
        expected = getattr(together, part)
        for found, which in ((few, order), (alone, np.arange(30))):
            found = torch.cat([getattr(reading, part) for reading in found])
            torch.testing.assert_close(found, expected[which], rtol=0, atol=1e-10)
    assert torch.equal(torch.cat([r.logits for r in alone]).argmax(1), together.logits.argmax(1))
    assert model(some.batch([], cis=False)).logits.shape == (0, 4)


def test_the_gate_gives_all_to_the_modality_that_is_there(graphs):
    model = make_model(graphs, "default")
    torch.manual_seed(3)
    rna, atac = torch.randn(2, 3, 8, dtype=torch.float64)
    has = torch.tensor([[True, True], [True, False], [False, True]])
    fused = model._fused(rna, atac, has)
    assert torch.equal(fused[1], rna[1]) and torch.equal(fused[2], atac[2])
    share = model.gate(torch.cat([rna, atac], 1)).sigmoid()[0]
    assert 0 < share < 1
    same(fused[0], share * rna[0] + (1 - share) * atac[0])


@pytest.mark.parametrize("missing", [0, 1])
def test_what_a_missing_modality_would_hold_does_not_matter(graphs, missing):
    model, batch = make_model(graphs, "default"), graphs.batch(range(10, 20), cis=False)
    pair = model.pair(batch)
    has = pair.has.clone()
    has[:, missing] = False
    evidence = list(model.told(batch))
    found = []
    for scale in (1.0, 1e6):
        parts, told = list(pair.parts), list(evidence)
        parts[missing], told[missing] = scale * parts[missing], scale * told[missing]
        one = Pair(*parts, has)
        found.append(model._read(one, tuple(told), model.features(one, tuple(told))).logits)
    assert torch.equal(*found)
    alone = model(graphs.only([["atac"], ["rna"]][missing]).batch(range(10, 20), cis=False)).logits
    same(found[0], alone)


def test_a_cell_without_any_counts_is_told_something(random_dataset):
    graphs = MultiomeGraphs(random_dataset)
    model = make_model(training_cells(random_dataset), "default")
    batch = graphs.batch(range(len(graphs)), cis=False)
    assert not model.pair(batch).has[3].any()
    assert model(batch).logits.isfinite().all()
    codes = batch["cell"].cell_type.clamp_min(0)
    loss = model.loss(batch, codes)["loss"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert Profiles.genes(batch).ptr.diff()[3] == 0


def test_training_begins_with_the_evidence_under_the_weights_that_tell_training_cells_best(graphs, counted):
    kind = kind_of("scmoanno")
    model = kind.model.from_graphs(graphs, kind.config(**{**TINY["default"], **CALM})).eval()
    batch = graphs.batch(range(20), cis=False)
    torch.testing.assert_close(model(batch).logits, model.trust(model.told(batch), model.pair(batch).has))
    codes = torch.from_numpy(graphs.cell_type_codes[cells_of(graphs)])
    model, left_out = model.double(), counted[1]
    for seen, paired in (((1, 0), 0), ((0, 1), 0), ((1, 1), 1)):

        def loss(shift, seen=seen, paired=paired, sign=1.0):
            weights = [F.softplus(model.trust.trust[i, paired].detach()) + sign * shift[i] for i in range(2)]
            told = sum(w * z * s for w, z, s in zip(weights, left_out, seen, strict=True))
            return float(dense_loss(model, told, codes))

        best = loss((0, 0))
        for shift in ((0.1, 0), (0, 0.1)):
            for sign in (1.0, -1.0):
                assert loss(shift, sign=sign) > best - 1e-6


BAD = [
    ({"dim": 10, "heads": 4}, "--set dim=10: must be a multiple of heads=4"),
    ({"dim": 0}, "--set dim=0: must be a multiple"),
    *[({name: 0}, f"--set {name}=0: must be positive") for name in ("width", "gap", "heads", "hidden")],
    *[
        ({name: value}, f"--set {name}={value}: choose a number from 0 to below 1")
        for name in ("dropout", "head_dropout", "label_smoothing")
        for value in (1.0, -0.1, math.nan)
    ],
    *[
        ({name: value}, f"--set {name}={value}: choose a number from 0 to 1")
        for name in ("modality_dropout", "balance")
        for value in (1.1, -0.1, math.nan)
    ],
    *[({"smoothing": value}, f"--set smoothing={value}: must be positive") for value in (0.0, math.inf)],
    *[({"first_weight": value}, f"--set first_weight={value}: must") for value in (-1.0, math.inf, math.nan)],
    ({"cycle": -1}, "--set cycle=-1: must not be negative"),
    ({"stages": "third"}, "--set stages=third: choose together, frozen, unfrozen, second"),
    ({"attention": "all"}, "--set attention=all: choose cross, self, none"),
    ({"fusion": "fixed"}, "--set fusion=fixed: choose learned, direct"),
    ({"peaks": "tfidf"}, "--set peaks=tfidf: choose lsi, pca"),
]


@pytest.mark.parametrize(("settings", "told"), BAD)
def test_settings_that_mean_nothing_are_errors(settings, told):
    with pytest.raises(InputError, match=told) as error:
        TokenConfig(**settings)
    assert "\n" not in str(error.value)


def test_training_needs_both_modalities_and_telling_needs_one(simulated_dataset):
    graphs, kind = training_cells(simulated_dataset), kind_of("scmoanno")
    for name, missing in (("rna", "ATAC"), ("atac", "RNA")):
        told = f"training scmoanno needs RNA and ATAC, and .* has no {missing}"
        with pytest.raises(InputError, match=told) as error:
            kind.model.from_graphs(graphs.only([name]), kind.config())
        assert "\n" not in str(error.value)


def test_one_type_or_one_cell_of_a_type(random_dataset):
    graphs, kind = training_cells(random_dataset), kind_of("scmoanno")
    codes = graphs.cell_type_codes[cells_of(graphs)]
    with pytest.raises(InputError, match="training cells of 1 types"):
        kind.model.from_graphs(graphs.index_select(np.flatnonzero(codes == 0)), kind.config())
    few = graphs.index_select(np.r_[np.flatnonzero(codes == 0), np.flatnonzero(codes == 1)[:1]])
    model = make_model(few, "default")
    batch = few.batch(range(len(few)), cis=False)
    assert model.loss(batch, batch["cell"].cell_type)["loss"].isfinite()
