"""The published annATAC against a plain dense model, its pre-training, and how one goes on from the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dense_cis import same, same_gradients
from dense_linformer import dense_block
from random_dataset import write_random_dataset
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.graphs.schema import CELL, CELL_TYPE, SOURCE
from scweave.models.annatac_config import IslandConfig
from scweave.models.annatac_published import AnnAtacConfig, PublishedAnnAtac, PublishedMaskedIslands
from scweave.models.annotation.island_places import island_places
from scweave.models.annotation.islands import Islands
from scweave.models.annotation.model import codes_of, labelled
from scweave.models.annotation.schedules import step_decay, warm_restarts
from scweave.models.layers.profiles import Profiles

SMALL = {
    "island": 1000,
    "tss": False,
    "width": 6,
    "layers": 2,
    "heads": 2,
    "head_width": 4,
    "hidden": 9,
    "slots": 3,
}
CONFIG = AnnAtacConfig(**SMALL, head_dropout=0.0)


@pytest.fixture
def graphs(random_dataset) -> MultiomeGraphs:
    return MultiomeGraphs(random_dataset, split="train")


@pytest.fixture
def annotator(graphs) -> PublishedAnnAtac:
    return PublishedAnnAtac.from_graphs(labelled(graphs), CONFIG, seed=4).double()


@pytest.fixture
def masked(graphs) -> PublishedMaskedIslands:
    return PublishedMaskedIslands.from_graphs([graphs], IslandConfig(**SMALL), seed=4).double()


def values(model, batch) -> torch.Tensor:
    """All islands of cells and the token that is appended, (cells, islands + 1)."""
    found = model.islands(batch)
    dense = torch.zeros(len(found), len(model.islands) + 1, dtype=torch.int64)
    dense[found.cell, found.ids] = found.counts.long()
    return dense


def dense_encoder(encoder, dense: torch.Tensor) -> torch.Tensor:
    x = F.embedding(dense, encoder.values.weight) + encoder.positions
    for block in encoder.blocks:
        x = dense_block(block, x, encoder.projection)
    return x


def batch_of(graphs, cells=range(12)):
    batch = graphs.batch(list(cells), cis=False)
    batch[SOURCE] = torch.tensor(0)
    return batch


def test_annotation_equals_the_plain_model(graphs, annotator):
    batch = batch_of(labelled(graphs), range(9))
    x = dense_encoder(annotator.encoder, values(annotator, batch))
    kernel = annotator.head.convolution
    numbers = F.conv2d(x[:, None], kernel.weight[None, None], kernel.bias).flatten(1).relu()  # as published
    first, _, _, second, _, _ = annotator.head.hidden
    embedding = second(first(numbers).relu()).relu()
    plain = annotator.head.classifier(embedding)
    reading = annotator(batch)
    same(reading.logits, plain)
    same(reading.embedding, embedding)
    codes = codes_of(annotator.cell_types, graphs)[batch[CELL][CELL_TYPE]]
    loss = annotator.loss(batch, codes)["loss"]
    told = (F.cross_entropy(plain, codes, reduction="none") * annotator.importance[codes]).mean()
    same(loss, told)
    same_gradients(loss, told, dict(annotator.named_parameters()))


def test_types_weigh_by_the_square_of_what_they_are_not(graphs, annotator):
    some = labelled(graphs)
    codes = codes_of(annotator.cell_types, some)[
        some.cell_type_codes[some.pairs_of(range(len(some)))[0]]
    ].numpy()
    share = np.bincount(codes) / len(codes)
    weight = annotator.importance.numpy()
    np.testing.assert_allclose(weight / weight[0], (1 - share) ** 2 / (1 - share[0]) ** 2)
    assert weight[codes].mean() == pytest.approx(1)


def test_masked_values_equal_the_plain_model_at_masked_positions_only(graphs, masked):
    batch = batch_of(graphs)
    asked, logits = masked.ask(batch)
    dense = torch.zeros(12, len(masked.islands) + 1, dtype=torch.int64)
    dense[asked.islands.cell, asked.islands.ids] = asked.islands.counts.long()
    plain = masked.classifier(dense_encoder(masked.encoder, dense))
    plain = plain[asked.islands.cell[asked.asked], asked.islands.ids[asked.asked]]
    same(logits, plain)
    loss, told = masked.loss(batch), F.cross_entropy(plain, asked.truth)
    same(loss["loss"], told)
    assert loss["weight"] == len(asked.truth)
    same_gradients(loss["loss"], told, dict(masked.named_parameters()))


def test_cells_without_open_islands_are_no_nan(graphs, masked):
    open_peaks = np.diff(graphs.atac_rows.indptr)
    closed = int(np.flatnonzero(open_peaks == 0)[0])
    batch = graphs.batch_of_pairs(np.array([closed]), np.array([closed]), cis=False)
    batch[SOURCE] = torch.tensor(0)
    found = masked.loss(batch)
    assert found["loss"] == 0
    assert found["weight"] == 0
    found["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in masked.parameters())


def test_a_cell_is_read_alike_alone_and_in_a_batch(graphs, annotator, masked):
    together = annotator(batch_of(graphs)).logits
    alone = torch.cat([annotator(batch_of(graphs, [i])).logits for i in range(12)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-10)
    sums = [masked.measure(batch_of(graphs, [i])) for i in range(12)]
    whole = masked.measure(batch_of(graphs))
    for name, value in whole.items():
        torch.testing.assert_close(sum(s[name] for s in sums), value)


def test_masks_are_new_each_epoch_and_fixed_for_held_out_cells(graphs, masked):
    batch = batch_of(graphs)
    asked = []
    for epoch in (0, 1, 0, None, None):
        masked.set_epoch(epoch)
        asked.append(masked.ask(batch)[0].asked)
    assert torch.equal(asked[0], asked[2])
    assert torch.equal(asked[3], asked[4])
    assert not torch.equal(asked[0], asked[1])


def test_figures_and_guesses_are_what_sklearn_says(graphs, masked):
    from sklearn.metrics import accuracy_score, f1_score

    batch = batch_of(graphs)
    asked, logits = masked.ask(batch)
    told = masked.told(masked.measure(batch))
    guess = logits.argmax(1)
    assert told["masked"]["masked_accuracy"] == pytest.approx(accuracy_score(asked.truth, guess))
    assert told["masked"]["masked_macro_f1"] == pytest.approx(
        f1_score(asked.truth, guess, average="macro", zero_division=0)
    )
    islands = masked.islands.read(Profiles.of(graphs.atac_rows, graphs.pairs_of(range(len(graphs)))[1]))
    counted = np.zeros((len(masked.islands), 6), int)
    np.add.at(counted, (islands.ids.numpy(), islands.counts.long().numpy()), 1)
    best = counted[:, 1:].argmax(1)[asked.islands.ids[asked.asked]] + 1
    own = told["baselines"]["masked"]["island"]
    assert own["masked_accuracy"] == pytest.approx(accuracy_score(asked.truth, best))
    assert masked.counted.sum(1).unique().tolist() == [len(graphs)]


def test_positions_are_the_svd_of_training_cells_and_padded(graphs):
    islands = Islands.of([graphs], 1000, tss=False)
    _, cells = graphs.pairs_of(range(len(graphs)))
    found = islands.read(Profiles.of(graphs.atac_rows, cells))
    dense = np.zeros((len(cells), len(islands)))
    dense[found.cell, found.ids] = found.counts
    _, _, vectors = np.linalg.svd(dense, full_matrices=False)
    places = island_places(islands, [graphs], 64, seed=0)
    table, rank = places.positions, places.rank
    np.testing.assert_allclose(places.openness, (dense > 0).mean(0), rtol=1e-6)
    assert rank == np.linalg.matrix_rank(dense) < 64
    assert not table[:, rank:].any()
    expected = vectors[:rank].T * np.sqrt(len(islands))
    products = table.double().numpy() @ table.double().numpy().T  # free of the vectors' signs
    np.testing.assert_allclose(products, expected @ expected.T, atol=1e-3)
    notes = PublishedAnnAtac.from_graphs(labelled(graphs), AnnAtacConfig(**{**SMALL, "width": 64})).notes
    assert notes == [
        f"positions: the training cells have rank {rank}; the other {64 - rank} of 64 numbers are 0"
    ]


def test_fine_tuning_takes_up_islands_and_encoder(graphs, tmp_path, masked):
    other = MultiomeGraphs(write_random_dataset(tmp_path / "other", window=True, n_peaks=60, seed=3))
    both = PublishedMaskedIslands.from_graphs(
        [other.part("cells", "train"), graphs], IslandConfig(**SMALL), seed=2
    )
    fewer = len(PublishedAnnAtac.from_graphs(labelled(graphs), CONFIG, seed=4).islands)
    annotator = PublishedAnnAtac.from_pretrained(both, labelled(graphs), CONFIG, seed=4)
    assert len(annotator.islands) == len(both.islands) >= fewer
    for (name, ours), theirs in zip(
        annotator.encoder.state_dict().items(), both.encoder.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    assert all(module.training for module in annotator.modules())
    reading = annotator(batch_of(graphs))
    plain = dense_encoder(annotator.encoder, values(annotator, batch_of(graphs)))
    torch.testing.assert_close(annotator.head(plain)[0], reading.logits, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_refused(graphs, masked):
    wider = AnnAtacConfig(**{**SMALL, "width": 8})
    with pytest.raises(InputError, match=r"pre-trained with width=6 \(asked for: 8\)"):
        PublishedAnnAtac.from_pretrained(masked, labelled(graphs), wider)
    for wrong, said in (
        ({"island": 0}, "island=0: must be positive"),
        ({"mask": 1.0}, "mask=1.0: choose"),
        ({"head": 4}, "head=4: choose 2 or 3"),
        ({"novel_below": 2.0}, "novel_below=2.0"),
    ):
        with pytest.raises(InputError, match=said):
            AnnAtacConfig(**wrong)


def test_learning_rates_restart_and_fall():
    rates = [warm_restarts(e, cycle=4) for e in np.linspace(0, 27.9, 280)]
    assert max(rates) <= 1
    assert rates[10] == pytest.approx(1.0)
    assert warm_restarts(5, cycle=4) == pytest.approx(0.9)  # the top of the second cycle
    assert warm_restarts(13, cycle=4) == pytest.approx(0.81)
    assert warm_restarts(3.999, cycle=4) < 0.02
    assert [warm_restarts(e, cycle=0) for e in (0, 7)] == [1.0, 1.0]
    assert step_decay(4.9, every=5, factor=0.5) == 1
    assert step_decay(10, every=5, factor=0.5) == 0.25
