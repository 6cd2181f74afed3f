"""The corrected CrossRec: its loss against the plain formula, what sees what, and every switch."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dense_cis import dense_attention, dense_expression, same
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.graphs.segments import segment_sum
from scweave.models.crossrec_cis import CisConfig, CisCrossRec
from scweave.models.layers.profiles import Profiles

SMALL = {"components": 6, "width": 5, "hidden": 7, "programmes": 4, "filters": 3}
STILL = {"dropout": 0.0, "token_dropout": 0.0}
BATCH = [0, 1, 2, 3, 41, 42, 43, 0]  # matched pairs, one of them twice, an empty cell, other pairs


@pytest.fixture(scope="module")
def graphs(random_dataset):
    return MultiomeGraphs(random_dataset, view="pairs")


@pytest.fixture(scope="module")
def wide(chromosome_dataset):
    return MultiomeGraphs(chromosome_dataset, view="pairs")


def make(graphs, **options):
    """A model in double precision whose parts that begin at zero are not zero any more."""
    torch.manual_seed(0)
    model = CisCrossRec.from_graphs(graphs, CisConfig(**{**SMALL, **STILL, **options})).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.refresh()
    return model


def sides(batch):
    return Profiles.genes(batch), Profiles.peaks(batch)


def gradients(model, loss):
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
    return dict(zip(dict(model.named_parameters()), found, strict=True))


def reaches(model, loss):
    """Names of the parts that a loss trains."""
    return {
        name.split(".")[0] for name, grad in gradients(model, loss).items() if grad is not None and grad.any()
    }


def dense_loss(model, batch):
    """Every part of the loss from dense cells x peaks x genes; all open peaks are read anew."""
    config, (rna, atac), cells = model.config, sides(batch), batch["cell"]
    z_rna, z_atac = (F.normalize(encoder(x)) for encoder, x in ((model.rna, rna), (model.atac, atac)))
    depths = torch.cat([model.rna.depths(rna), model.atac.depths(atac)], 1)
    odds = model.matching.logits(z_rna, z_atac, depths)
    parts = {
        "retrieval": model.matching.contrast(z_rna, z_atac, cells.rna, cells.atac),
        "pairs": F.binary_cross_entropy(torch.sigmoid(odds), cells.match.double()),
    }
    paired = cells.match > 0
    rna, atac = rna.some(paired), atac.some(paired)
    programme = model.expression.programme * config.programmes**0.5
    seen = atac.dense(len(programme)).any(0)
    dna = model.dna.encoder(model.dna.codes)
    parts["dna"] = ((dna - programme)[seen] ** 2).mean()
    key = programme + torch.where(seen[:, None], dna, model.dna.encoded) @ model.dna.mix.weight.T
    counts = rna.dense(model.edges.n_genes).double()
    links = dense_expression(model.expression, key, atac, model.atac.position(atac)[:, : config.programmes])
    links = links + model.depth(model.atac.depths(atac), counts.sum(1))
    parts["links"] = nll(model, links, counts) + model.expression.penalty(config.query_precision) / (
        model.n_cells * counts.shape[1]
    )
    parts["trans"] = nll(model, links.detach() + model.trans(z_atac[paired]), counts)
    translation = parts["links"] + parts["trans"] + parts["dna"]
    return parts["retrieval"] + parts["pairs"] + config.alpha * translation, parts


def nll(model, log_mean, counts):
    size = model.likelihood.log_size.exp()
    law = torch.distributions.NegativeBinomial(size, logits=log_mean - size.log())
    return -(law.log_prob(counts) + torch.lgamma(counts + 1)).mean()


@pytest.mark.parametrize("options", [{}, {"heads": 2, "top": 3}, {"threshold": 0.5, "alpha": 3.0}], ids=str)
def test_loss_and_gradients_equal_the_dense_formula(graphs, options):
    model, batch = make(graphs, **options), graphs.batch(BATCH)
    theirs, expected = dense_loss(model, batch)
    ours = model.loss(batch)
    for name, part in expected.items():
        torch.testing.assert_close(ours[name], part, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
    same(ours["loss"], theirs)
    other = gradients(model, theirs)
    for name, grad in gradients(model, ours["loss"]).items():
        torch.testing.assert_close(grad, other[name], rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
        assert grad.any(), name


@torch.no_grad()
def test_an_encoding_never_sees_its_partner(graphs):
    model, cells = make(graphs).eval(), np.arange(12)
    batch, swapped = graphs.batch_of_pairs(cells, cells), graphs.batch_of_pairs(cells, cells[::-1].copy())
    assert torch.equal(model.encode(model.rna, sides(batch)[0]), model.encode(model.rna, sides(swapped)[0]))
    before = model.encode(model.atac, sides(batch)[1])
    batch["gene"].expression = torch.randint(1, 50, batch["gene"].expression.shape).float()
    assert torch.equal(model.encode(model.atac, sides(batch)[1]), before)
    assert not torch.equal(model.match(batch), model.match(swapped))


def test_translation_depends_on_open_peaks_alone(graphs):
    model, cells = make(graphs).eval(), np.arange(12)
    expected = model.translate(sides(graphs.batch_of_pairs(cells, cells))[1])
    batch = graphs.batch_of_pairs(cells[::-1].copy(), cells)
    for ours, theirs in zip(model.translate(sides(batch)[1]), expected, strict=True):
        assert torch.equal(ours, theirs)
    batch["gene"].expression.requires_grad_()
    batch["peak"].accessibility.requires_grad_()
    rates = model.rates(sides(batch)[1]).square().sum()
    counted = (batch["gene"].expression, batch["peak"].accessibility)
    rna, atac = torch.autograd.grad(rates, counted, allow_unused=True)
    assert rna is None
    assert atac.any()


@torch.no_grad()
def test_the_batch_around_a_cell_changes_nothing(graphs):
    model = make(graphs, heads=2, top=5).eval()
    together = graphs.batch(range(20))
    batches = [graphs.batch([i]) for i in range(20)]
    for predict in (
        model.match,
        lambda batch: model.embed(*sides(batch)),
        lambda batch: model.rates(sides(batch)[1]),
        lambda batch: torch.cat(model.translate(sides(batch)[1], links_only=True), 1),
    ):
        alone = torch.cat([predict(batch) for batch in batches])
        torch.testing.assert_close(alone, predict(together), rtol=0, atol=1e-10)
        backwards = predict(graphs.batch(range(19, -1, -1))).flip(0)
        torch.testing.assert_close(backwards, predict(together), rtol=0, atol=1e-10)


@torch.no_grad()
def test_the_embedding_is_the_mean_of_the_modalities_that_there_are(graphs):
    model = make(graphs).eval()
    rna, atac = sides(graphs.batch(range(6)))
    first, second = model.encode(model.rna, rna), model.encode(model.atac, atac)
    same(model.embed(rna, None), first)
    same(model.embed(None, atac), second)
    same(model.embed(rna, atac), F.normalize(first + second))
    same(first.norm(dim=1), torch.ones(6).double())


def test_links_are_trained_by_their_own_prediction_alone(graphs):
    model = make(graphs)
    parts = model.loss(graphs.batch(BATCH))
    assert reaches(model, parts["links"]) == {"expression", "dna", "likelihood"}
    assert reaches(model, parts["trans"]) == {"trans", "atac", "likelihood"}
    assert reaches(model, parts["retrieval"]) == {"rna", "atac", "matching"}
    assert reaches(model, parts["pairs"]) == {"rna", "atac", "matching"}
    assert reaches(model, parts["dna"]) == {"dna"}


@torch.no_grad()
def test_weights_of_links_add_up_to_one_and_effects_to_the_rate(graphs):
    model = make(graphs, heads=2).eval()
    atac = sides(graphs.batch(range(9)))[1]
    edges = model.edges
    total = segment_sum(model.link_weights(), edges.gene, edges.n_genes)
    linked = torch.bincount(edges.gene, minlength=edges.n_genes) > 0
    assert not linked.all()
    same(total, linked.double())
    added = segment_sum(model.link_gains() * model.openness(atac)[edges.peak], edges.gene, edges.n_genes)
    depth = model.depth(model.atac.depths(atac)).mean()
    same(model.expression.bias + added + depth, model.rates(atac, links_only=True).mean(0))


@torch.no_grad()
@pytest.mark.parametrize("which", [[0, 3, 5, 41], [3]])
def test_links_of_a_batch_are_the_weights_between_its_nodes(graphs, which):
    model, batch = make(graphs, heads=2).eval(), graphs.batch(which)
    links = model.attention(batch)
    key = model.expression.programme * 2 + model.dna()
    dense = dense_attention(model.expression.attention, key)
    gene, peak = batch["gene"], batch["peak"]
    expected = dense[gene.id][:, peak.id] * (gene.batch[:, None] == peak.batch)[..., None]
    ours = torch.zeros_like(expected)
    ours[links.gene, links.peak] = links.weight
    same(ours, expected)
    assert len(links.gene) == int(expected.any(2).sum())
    assert bool(len(links.gene)) == (which != [3])


@torch.no_grad()
def test_the_published_switches_keep_ten_that_pass(wide):
    model = make(wide, top=10, threshold=0.8, distance=False)
    attention = model.expression.attention
    attention.query.mul_(20)
    key = model.expression.programme * 2 + model.dna()
    weights, scores = model.link_weights(), attention.scores(key)[:, 0]
    same(weights, dense_attention(attention, key)[model.edges.gene, model.edges.peak, 0])
    passed = weights > 0
    assert 0 < int(passed.sum()) < len(weights)
    assert (torch.sigmoid(scores[passed]) > 0.8).all()
    assert int(segment_sum(passed.long(), model.edges.gene, model.edges.n_genes).max()) == 10
    assert torch.bincount(model.edges.gene).max() > 10


SWITCHES = {field.name: not field.default for field in fields(CisConfig) if isinstance(field.default, bool)}
OTHERS = [
    {"alpha": 0.0},
    {"likelihood": "poisson"},
    {"likelihood": "binary"},
    {"heads": 3},
    {"top": 10, "threshold": 0.8},
    {"sequence_peaks": 2},
    {"known_depth": 0.0},
    {"known_depth": 1.0},
    {"components": 40, "programmes": 40},  # more than there are training cells
    {"width": 20},
    {"own": False, "trans": False, "sequence": False, "classifier": False},
    {"smooth": False, "distance": False, "contrastive": False, "adaptive_alpha": True},
]


@pytest.mark.parametrize("options", [*({name: value} for name, value in SWITCHES.items()), *OTHERS], ids=str)
def test_every_switch_leaves_a_model_that_trains_and_predicts(graphs, options):
    model, batch = make(graphs, **options), graphs.batch(BATCH)
    config, parts = model.config, model.loss(batch)
    expected = {"loss", "matching", "translation"}
    for name, there in (
        ("retrieval", config.contrastive),
        ("pairs", config.classifier),
        ("links", config.alpha > 0),
        ("trans", config.alpha > 0 and config.trans),
        ("dna", config.alpha > 0 and config.sequence),
    ):
        expected |= {name} if there else set()
    assert set(parts) == expected
    found = gradients(model, parts["loss"])
    assert all(torch.isfinite(grad).all() for grad in found.values() if grad is not None)
    trained = {"rna", "atac"} | ({"matching"} if config.contrastive or config.classifier else set())
    trained |= {"expression"} if config.alpha else set()
    trained |= {"trans"} if config.alpha and config.trans else set()
    trained |= {"dna"} if config.alpha and config.sequence else set()
    assert reaches(model, parts["loss"]) - {"likelihood"} == trained
    model.eval()
    on, log = model.translate(sides(batch)[1])
    assert ((on >= 0) & (on <= 1)).all()
    assert torch.isfinite(log).all() and torch.isfinite(model.match(batch)).all()
    assert "dna" not in model.loss(batch)


def test_switches_take_their_part_away(graphs):
    assert set(SWITCHES) == {
        "distance",
        "sequence",
        "own",
        "smooth",
        "trans",
        "contrastive",
        "classifier",
        "adaptive_alpha",
    }
    model = make(graphs, trans=False, sequence=False, distance=False, own=False)
    assert (model.trans, model.dna, model.expression.own) == (None, None, None)
    assert model.expression.attention.bias is None
    atac = sides(graphs.batch(BATCH))[1]
    assert torch.equal(model.rates(atac), model.rates(atac, links_only=True))
    full = make(graphs)
    assert not torch.equal(full.rates(atac), full.rates(atac, links_only=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(
            ({name: 0}, "must be positive")
            for name in ("components", "width", "hidden", "programmes", "heads")
        ),
        ({"filters": -1}, "must be positive"),
        ({"sequence_peaks": 0}, "must be positive"),
        ({"programmes": 31}, "at most components=30"),
        ({"top": -1}, "top=-1"),
        ({"threshold": 1.0}, "threshold=1.0"),
        ({"threshold": -0.1}, "threshold=-0.1"),
        ({"own": False, "smooth": False}, "expression needs one of them"),
        ({"dropout": 1.0}, "dropout and token_dropout"),
        ({"token_dropout": -0.1}, "dropout and token_dropout"),
        ({"query_precision": -1.0}, "query_precision=-1.0"),
        ({"known_depth": 1.1}, "known_depth=1.1"),
        ({"likelihood": "normal"}, "likelihood=normal: choose nb, poisson, binary"),
        ({"alpha": -1.0}, "alpha=-1.0"),
        ({"contrastive": False, "classifier": False, "alpha": 0.0}, "nothing is left to train"),
    ],
    ids=str,
)
def test_settings_without_meaning_are_refused(options, message):
    with pytest.raises(InputError, match=f"^--set .*{message}"):
        CisConfig(**options)


def test_adaptive_alpha_keeps_translation_at_a_tenth(graphs):
    parts = make(graphs, adaptive_alpha=True).loss(graphs.batch(BATCH))
    same(parts["loss"], 1.1 * parts["matching"])


def test_a_batch_without_pairs_trains_matching_alone(graphs):
    model = make(graphs)
    parts = model.loss(graphs.batch([41, 42, 43]))
    assert parts["translation"] == parts["retrieval"] == 0
    same(parts["loss"], parts["pairs"])


def test_it_begins_from_training_cells_alone(random_dataset):
    options = CisConfig(**SMALL)
    models = []
    for change in (False, True):
        graphs = MultiomeGraphs(random_dataset)
        if change:
            unseen = graphs.cells["split"] != "train"
            for name in ("rna_rows", "atac_rows"):
                rows = getattr(graphs, name)
                held = np.repeat(unseen.to_numpy(), np.diff(rows.indptr))
                setattr(graphs, name, replace(rows, values=np.where(held, 200, rows.values)))
        torch.manual_seed(0)
        models.append(CisCrossRec.from_graphs(graphs, options).state_dict())
    for name, tensor in models[0].items():
        assert torch.equal(tensor, models[1][name]), name


def test_it_begins_near_the_answer(graphs):
    torch.manual_seed(0)
    model = CisCrossRec.from_graphs(graphs, CisConfig(**SMALL)).eval()
    train = np.flatnonzero(graphs.cells["split"] == "train")
    counts = graphs.rna_rows.matrix(train)
    share = (np.asarray(counts.sum(0))[0] + 0.5) / counts.sum()
    np.testing.assert_allclose(model.expression.bias.detach(), np.log(share), rtol=1e-5)
    assert model.n_cells == len(train)
    with torch.no_grad():
        rna, atac = sides(graphs.batch_of_pairs(train, train))
        alike = model.encode(model.rna, rna) @ model.encode(model.atac, atac).T
        assert alike.diagonal().mean() > 0.5 > alike.mean() + 0.3
        assert torch.equal(model.rates(atac), model.rates(atac, links_only=True))
        assert not model.dna().any()


def test_every_parameter_is_stepped_once_and_the_loss_falls(graphs):
    torch.manual_seed(0)
    model = CisCrossRec.from_graphs(graphs, CisConfig(**SMALL))
    (optimiser,) = model.optimisers(5e-3, 0.01)
    stepped = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert sorted(stepped) == sorted(id(p) for p in model.parameters())
    batch, losses = graphs.batch(range(0, 40, 3)), []
    for _ in range(30):
        optimiser.zero_grad()
        loss = model.loss(batch)["loss"]
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


@torch.no_grad()
def test_a_saved_model_predicts_the_same_without_dna(graphs):
    model = make(graphs).eval()
    again = CisCrossRec.from_tensors(model.state_dict(), model.config, 3).double().eval()
    again.load_state_dict(model.state_dict())
    again.refresh()
    batch = graphs.batch(BATCH)
    assert torch.equal(again.match(batch), model.match(batch))
    assert torch.equal(again.rates(sides(batch)[1]), model.rates(sides(batch)[1]))
    assert torch.equal(again.link_weights(), model.link_weights())


def test_a_threshold_that_nothing_passes_at_first_still_learns(graphs):
    torch.manual_seed(0)
    model = CisCrossRec.from_graphs(graphs, CisConfig(**SMALL, threshold=0.8))
    assert not model.link_weights().any()
    model.loss(graphs.batch(range(8), cis=False))["links"].backward()
    assert model.expression.attention.query.grad.abs().max() > 0


def test_a_cell_of_hardly_any_peaks_expresses_no_more_than_the_shallowest_of_training(graphs):
    model = make(graphs).eval()
    shallow = Profiles(torch.tensor([3]), torch.ones(1), torch.tensor([0, 1, 1]))  # one open peak, and none
    lowest, highest = model.depth.range
    inside = torch.stack([lowest, highest])
    limit = float(model.depth(torch.cartesian_prod(*inside.T)).max())
    assert float(model.depth(model.atac.depths(shallow)).max()) <= limit + 1e-9
