"""The corrected HitAnno: fitted on training cells alone, honest on noise, any setting trains and comes back."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from dense_cis import same
from dense_evidence import DenseEvidence, dense_comparison
from random_dataset import write_random_dataset
from scweave.graphs.csr import CsrRows
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.models.annotation.metrics import annotation_metrics
from scweave.models.annotation.model import labelled
from scweave.models.annotator import Annotator
from scweave.models.checkpoint import WEIGHTS
from scweave.models.hitanno import HitAnno, SentenceConfig
from scweave.models.layers.profiles import Profiles
from scweave.models.settings import parse_settings

CHOICES = {
    "usual": {},
    "in sample": {"leave_one_out": False},
    "no depth": {"depth": False},
    "blocks": {"cell_layers": 1},
    "unweighted": {"balance": 0.0, "shrinkage": 0.0, "smoothing": 1.0},
}


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Two types that differ in nothing but their names."""
    return write_random_dataset(
        tmp_path_factory.mktemp("noise") / "data", window=False, n_cells=480, n_peaks=200
    )


def training_cells(root):
    return labelled(MultiomeGraphs(root, split="train"))


def dense_of(graphs, cells):
    return graphs.atac_rows.matrix(cells).toarray()


def perturbed(graphs, split):
    """Other counts of as many cells, in the cells of these splits."""
    rng, rows = np.random.default_rng(1), graphs.atac_rows
    changed = graphs.cells["split"].isin(split).to_numpy()
    sizes = np.where(changed, rng.integers(0, rows.n_columns, rows.n_rows), np.diff(rows.indptr))
    old_ids, old_values, _ = rows.gather(np.flatnonzero(~changed))
    own = np.repeat(~changed, sizes)
    ids, values = np.zeros(sizes.sum(), np.int64), rng.integers(1, 9, sizes.sum())
    drawn = [np.sort(rng.choice(rows.n_columns, size, replace=False)) for size in sizes[changed]]
    ids[own], values[own], ids[~own] = old_ids, old_values, np.concatenate(drawn)
    return CsrRows(np.concatenate([[0], np.cumsum(sizes)]), ids, values, rows.n_columns)


def test_only_training_cells_are_read(simulated_dataset):
    graphs = training_cells(simulated_dataset)
    model = HitAnno.from_graphs(graphs, SentenceConfig())
    other = training_cells(simulated_dataset)
    other.atac_rows = perturbed(graphs, ["validation", "test"])
    assert len(other.atac_rows.indices) != len(graphs.atac_rows.indices)
    again = HitAnno.from_graphs(other, SentenceConfig())
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    other.atac_rows = perturbed(graphs, ["train"])  # so that the comparison can fail
    assert not torch.equal(HitAnno.from_graphs(other, SentenceConfig()).evidence.sums, model.evidence.sums)


def test_test_cells_change_no_bit_of_a_trained_model(simulated_dataset, tmp_path, monkeypatch):
    options = {"epochs": 2, "seed": 3}
    Annotator("hitanno", **options).fit(simulated_dataset, run=tmp_path / "one")
    original = MultiomeGraphs._open

    def opened(self):
        original(self)
        self.atac_rows = perturbed(self, ["test"])

    monkeypatch.setattr(MultiomeGraphs, "_open", opened)
    Annotator("hitanno", **options).fit(simulated_dataset, run=tmp_path / "other")
    one, other = ((tmp_path / name / WEIGHTS).read_bytes() for name in ("one", "other"))
    assert one == other


class LargestTensor(TorchDispatchMode):
    """Remembers the most numbers that any operation gave."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple | list) else (found,):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return found


def test_nothing_is_as_large_as_cells_times_peaks(tmp_path):
    n_peaks, n_open = 6000, 20
    graphs = training_cells(
        write_random_dataset(tmp_path / "wide", window=False, n_cells=900, n_peaks=n_peaks)
    )
    starts = np.random.default_rng(0).integers(0, n_peaks - n_open, graphs.atac_rows.n_rows)
    ids = (starts[:, None] + np.arange(n_open)).ravel()
    graphs.atac_rows = CsrRows(np.arange(len(starts) + 1) * n_open, ids, np.ones(len(ids), np.uint8), n_peaks)
    dense = len(graphs) * n_peaks

    def everything():
        model = HitAnno.from_graphs(graphs, SentenceConfig(cell_layers=1))
        batch = graphs.batch(range(len(graphs)), cis=False)
        model.loss(batch, batch["cell"].cell_type)["loss"].backward()
        model(batch)
        model.attended_peaks(batch)
        model.attended_types(batch)

    everything()
    tracemalloc.start()
    with LargestTensor() as largest:
        everything()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 2 * n_peaks <= largest.numbers < dense / 20
    assert peak < 4 * dense


def test_reading_and_loss_equal_the_plain_formula(simulated_dataset):
    graphs, config = training_cells(simulated_dataset), SentenceConfig(cell_layers=1, dropout=0.0)
    cells, _ = graphs.pairs_of(range(len(graphs)))
    model = HitAnno.from_graphs(graphs, config).double()
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    counts, codes = dense_of(graphs, cells), graphs.cell_type_codes[cells]
    plain = DenseEvidence.of(counts, codes, len(model.cell_types), config.smoothing)
    left_out = torch.from_numpy(plain.leave_one_out(counts, codes))
    n = torch.from_numpy(np.log1p((counts > 0).sum(1)))
    np.testing.assert_allclose(model.scale, left_out.std(correction=0), rtol=1e-4)
    np.testing.assert_allclose(model.depth, [n.mean(), n.std(correction=0)], rtol=1e-4)
    code, batch = torch.from_numpy(codes), graphs.batch(range(len(graphs)), cis=False)
    importance = (1 / torch.bincount(code)[code].double()) ** config.balance
    depth = (n - model.depth[0]) / model.depth[1]
    logits = dense_comparison(model.comparison, left_out / model.scale, depth)
    told = F.cross_entropy(logits, code, reduction="none") * importance / importance.mean()
    penalty = config.shrinkage / len(cells) * model.comparison.map.weight.square().sum()
    found = model.loss(batch, code)
    torch.testing.assert_close(found["told"], told.mean(), rtol=1e-4, atol=1e-4)  # buffers were float32
    torch.testing.assert_close(found["loss"], told.mean() + penalty, rtol=1e-4, atol=1e-4)
    reading, z = model(batch), torch.from_numpy(plain.evidence(counts)) / model.scale
    torch.testing.assert_close(
        reading.logits, dense_comparison(model.comparison, z, depth), rtol=1e-4, atol=1e-3
    )
    torch.testing.assert_close(reading.embedding, z, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cell_layers", [0, 1])
def test_a_cell_alone_reads_as_in_a_batch(simulated_dataset, cell_layers):
    model = HitAnno.from_graphs(training_cells(simulated_dataset), SentenceConfig(cell_layers=cell_layers))
    model, every = model.double().eval(), MultiomeGraphs(simulated_dataset)
    together = model(every.batch(range(40), cis=False))
    alone = [model(every.batch([i], cis=False)) for i in range(40)]
    for part in ("logits", "embedding"):
        found = torch.cat([getattr(reading, part) for reading in alone])
        torch.testing.assert_close(found, getattr(together, part), atol=1e-10, rtol=1e-10)
    assert model(every.batch([], cis=False)).logits.shape == (0, len(model.cell_types))


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_learns_and_comes_back(simulated_dataset, choice, tmp_path):
    annotator = Annotator("hitanno", settings=CHOICES[choice], epochs=12)
    found = annotator.fit(simulated_dataset, run=tmp_path / "run").predict(simulated_dataset)
    graphs = MultiomeGraphs(simulated_dataset)
    test = (graphs.cells["split"] == "test").to_numpy()
    truth = graphs.cells["cell_type"].to_numpy()
    commonest = graphs.cells["cell_type"][test].value_counts(normalize=True).iloc[0]
    assert (found.labels == truth)[test].mean() > commonest + 0.1
    loaded = Annotator.load(tmp_path / "run")
    assert loaded.config == annotator.config == SentenceConfig(**CHOICES[choice])
    again = loaded.predict(simulated_dataset)
    assert np.array_equal(again.probabilities, found.probabilities)
    assert np.array_equal(again.embedding, found.embedding)


def test_settings_of_the_command_line_are_read():
    settings = ("leave_one_out=false", "depth=0", "cell_layers=1", "smoothing=0.3")
    expected = SentenceConfig(leave_one_out=False, depth=False, cell_layers=1, smoothing=0.3)
    assert parse_settings(settings, SentenceConfig) == expected
    with pytest.raises(InputError, match="--set leave_one_out=maybe: expected bool, like True"):
        parse_settings(("leave_one_out=maybe",), SentenceConfig)
    with pytest.raises(InputError, match="--set peaks_per_type=3: no such setting"):
        parse_settings(("peaks_per_type=3",), SentenceConfig)


@pytest.mark.parametrize("cell_layers", [0, 2])
def test_a_model_comes_back_from_its_tensors(simulated_dataset, cell_layers):
    graphs = training_cells(simulated_dataset)
    model = HitAnno.from_graphs(graphs, SentenceConfig(cell_layers=cell_layers)).eval()
    tensors = model.state_dict()
    again = HitAnno.from_tensors(tensors, SentenceConfig(**asdict(model.config)), 3)
    again.load_state_dict(tensors)
    batch = graphs.batch(range(9), cis=False)
    ours, theirs = model(batch), again.eval()(batch)
    assert torch.equal(ours.logits, theirs.logits) and torch.equal(ours.embedding, theirs.embedding)
    assert torch.equal(
        model.loss(batch, torch.arange(9) % 4)["loss"], again.loss(batch, torch.arange(9) % 4)["loss"]
    )


def test_weights_come_from_the_seed_and_leave_that_of_torch_alone(simulated_dataset):
    graphs, config = training_cells(simulated_dataset), SentenceConfig(cell_layers=1)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two, other = (HitAnno.from_graphs(graphs, config, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(v, two.state_dict()[name]) for name, v in one.state_dict().items())
    assert not torch.equal(one.comparison.types, other.comparison.types)
    assert torch.equal(one.evidence.table, other.evidence.table)


@pytest.mark.parametrize("choice", ["usual", "in sample", "blocks"])
def test_random_labels_do_not_give_a_confident_model(noise, choice):
    annotator = Annotator("hitanno", settings=CHOICES[choice], epochs=15).fit(noise)
    graphs = MultiomeGraphs(noise)
    test = ((graphs.cells["split"] == "test") & graphs.cells["cell_type"].notna()).to_numpy()
    found = annotator.predict(noise)
    prior = graphs.cells["cell_type"][test].value_counts(normalize=True).iloc[0]
    assert found.confidence[test].mean() < prior + 0.1
    codes = graphs.cell_type_codes[test]
    metrics = annotation_metrics(found.probabilities[test].astype(np.float64), codes, annotator.cell_types)
    assert metrics["ece"] < 0.15
    assert abs(metrics["accuracy"] - 0.5) < 0.15


def test_on_noise_only_evidence_that_knows_the_cell_seems_to_tell_types(noise):
    graphs = training_cells(noise)
    batch = graphs.batch(range(len(graphs)), cis=False)
    codes = batch["cell"].cell_type
    told = []
    for known in (True, False):
        model = HitAnno.from_graphs(graphs, SentenceConfig(leave_one_out=known))
        told.append(float(model.loss(batch, codes)["told"].detach()))
    honest, fooled = told
    assert honest > math.log(2) > 2 * fooled


@pytest.mark.parametrize("cell_layers", [0, 1])
def test_a_model_without_depth_does_not_know_it(simulated_dataset, cell_layers):
    graphs = training_cells(simulated_dataset)
    batch = graphs.batch(range(9), cis=False)
    for depth in (True, False):
        model = HitAnno.from_graphs(graphs, SentenceConfig(depth=depth, cell_layers=cell_layers)).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        before = model(batch).logits
        model.depth += 1
        assert torch.equal(model(batch).logits, before) != depth


def test_blocks_alone_decay(simulated_dataset):
    graphs = training_cells(simulated_dataset)
    for cell_layers, groups in ((0, 1), (1, 2)):
        model = HitAnno.from_graphs(graphs, SentenceConfig(cell_layers=cell_layers))
        (optimiser,) = model.optimisers(1e-2, 0.3)
        assert len(optimiser.param_groups) == groups
        assert optimiser.param_groups[0]["weight_decay"] == 0
        given = [id(p) for group in optimiser.param_groups for p in group["params"]]
        assert sorted(given) == sorted(id(p) for p in model.parameters())
    assert optimiser.param_groups[1]["weight_decay"] == 0.3
    assert [model.lr_factor(epoch) for epoch in (0, 5, 20)] == [1, 0.5, 0.2]


def test_what_peaks_add_sums_to_the_evidence(simulated_dataset):
    graphs = training_cells(simulated_dataset)
    model = HitAnno.from_graphs(graphs, SentenceConfig()).double()
    batch = graphs.batch(range(20), cis=False)
    told = model.attended_peaks(batch)
    n_types = len(model.cell_types)
    assert len(told.weight) == n_types * len(batch["peak"].id)
    sums = torch.zeros(20 * n_types).double().index_add(0, told.cell * n_types + told.sentence, told.weight)
    expected = model.evidence(Profiles.peaks(batch)) / model.scale
    same(sums.view(20, n_types), expected)
    same(model.attended_types(batch), expected.softmax(1))


def test_ranked_markers_come_best_first(simulated_dataset):
    model = HitAnno.from_graphs(training_cells(simulated_dataset), SentenceConfig()).double()
    code, peak, score = model.ranked_markers()
    assert code.tolist() == sorted(code.tolist()) and torch.bincount(code).tolist() == [100] * 4
    level = model.evidence
    one = level.sizes / level.totals  # a mean cell's weight of a peak, which is taken off
    rest = (level.sums - one).clamp_min(0)
    background, prior = level.background[:, None], level.prior
    table = torch.log((rest + prior * background) / ((level.totals - one + prior) * background))
    expected = rest / level.totals * (table - table.mean(1, keepdim=True))
    same(score, expected[peak, code])
    for which in range(4):
        best = expected[:, which].sort(descending=True).values[:100]
        same(score[code == which], best)


@pytest.mark.parametrize(
    "options",
    [
        {"smoothing": 0.0},
        {"smoothing": math.nan},
        {"cell_layers": -1},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"balance": 1.1},
        {"shrinkage": -1.0},
        {"shrinkage": math.inf},
    ],
)
def test_settings_that_mean_nothing_are_errors(options):
    ((name, value),) = options.items()
    with pytest.raises(InputError, match=f"--set {name}={value}: ") as error:
        SentenceConfig(**options)
    assert "\n" not in str(error.value)


def test_datasets_it_cannot_learn_from_are_errors(random_dataset, monkeypatch):
    graphs = training_cells(random_dataset)
    codes = graphs.cell_type_codes[graphs.pairs_of(range(len(graphs)))[0]]
    one = graphs.index_select(np.flatnonzero(codes == 0))
    with pytest.raises(InputError, match=r"training cells of 1 types \(A\).*--labels"):
        HitAnno.from_graphs(one, SentenceConfig())
    monkeypatch.setattr(graphs, "modalities", ("rna",))
    with pytest.raises(InputError, match="hitanno needs ATAC"):
        HitAnno.from_graphs(graphs, SentenceConfig())


def test_a_type_of_one_cell_and_cells_without_peaks_train(random_dataset):
    graphs = training_cells(random_dataset)
    codes = graphs.cell_type_codes[graphs.pairs_of(range(len(graphs)))[0]]
    few = graphs.index_select(np.r_[np.flatnonzero(codes == 0), np.flatnonzero(codes == 1)[:1]])
    model = HitAnno.from_graphs(few, SentenceConfig())
    batch = few.batch(range(len(few)), cis=False)
    assert (Profiles.peaks(batch).ptr.diff() == 0).any()
    loss = model.loss(batch, batch["cell"].cell_type)["loss"]
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in model.parameters())
    assert model(batch).logits.isfinite().all()
