"""Pairs found again against plain loops; what matching starts from against sklearn and numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cross_decomposition import CCA

from dense_cis import same, same_gradients
from scweave.models.layers.canonical import canonical_maps
from scweave.models.layers.depth_offset import DepthOffset
from scweave.models.layers.pair_matching import PairMatching

WIDTH = 4


def make(log_temperature=0.8):
    torch.manual_seed(0)
    matching = PairMatching(WIDTH, 6, 0.0).double()
    matching.log_temperature.data.fill_(log_temperature)
    return matching


def encodings(n, seed=1):
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(2, n, WIDTH, generator=generator, dtype=torch.float64)
    return [F.normalize(side, dim=1).requires_grad_() for side in both]


def plain_contrast(matching, rna, atac, rna_cell, atac_cell):
    """Cross-entropy of each positive pair among all profiles but further copies of its partner."""
    losses = []
    for i in range(len(rna)):
        if rna_cell[i] != atac_cell[i]:
            continue
        for own, others, cells, cell in (
            (rna[i], atac, atac_cell, rna_cell[i]),
            (atac[i], rna, rna_cell, atac_cell[i]),
        ):
            candidates = [j for j in range(len(others)) if j == i or cells[j] != cell]
            scores = [torch.exp(matching.log_temperature) * (own @ others[j]) for j in candidates]
            losses.append(torch.logsumexp(torch.stack(scores), 0) - scores[candidates.index(i)])
    return torch.stack(losses).mean()


@pytest.mark.parametrize(
    ("rna_cell", "atac_cell"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3]),
        ([0, 1, 2, 0, 1], [0, 1, 2, 2, 0]),  # negatives made of the same cells
        ([0, 0, 1, 2], [0, 0, 1, 2]),  # the same pair twice
        ([5, 0, 0, 7], [3, 0, 1, 0]),
        ([4], [4]),
    ],
)
def test_contrast_and_gradients_equal_plain_loops(rna_cell, atac_cell):
    matching, (rna, atac) = make(), encodings(len(rna_cell))
    ours = matching.contrast(rna, atac, torch.tensor(rna_cell), torch.tensor(atac_cell))
    theirs = plain_contrast(matching, rna, atac, rna_cell, atac_cell)
    same(ours, theirs)
    inputs = {"rna": rna, "atac": atac, "temperature": matching.log_temperature}
    found = same_gradients(ours, theirs, inputs)
    assert all(bool(grad.any()) for grad in found.values()) == (len(rna_cell) > 1)


@pytest.mark.parametrize("cells", [([0, 1, 2, 3], [0, 1, 2, 3]), ([0, 1, 2, 0, 1], [0, 1, 2, 2, 0])])
def test_reciprocal_ranks_equal_plain_loops(cells):
    matching, (rna, atac) = make(), (side.detach() for side in encodings(len(cells[0])))
    found = []
    for i, cell in enumerate(cells[0]):
        if cell != cells[1][i]:
            continue
        for own, others, names in ((rna[i], atac, cells[1]), (atac[i], rna, cells[0])):
            rivals = [j for j in range(len(others)) if j != i and names[j] != cell]
            better = sum(float(own @ others[j]) > float(own @ others[i]) for j in rivals)
            found.append(1 / (1 + better))
    rank = matching.reciprocal_rank(rna, atac, *map(torch.tensor, cells))
    assert float(rank) == pytest.approx(np.mean(found), abs=1e-12)
    assert float(rank) < 1


def test_copies_of_one_cell_are_no_candidates_for_each_other():
    matching, (rna, atac) = make(), encodings(4)
    same_cell = torch.full((4,), 9)
    assert matching.contrast(rna, atac, same_cell, same_cell) == 0


def test_a_batch_without_pairs_has_no_contrast():
    matching, (rna, atac) = make(), encodings(3)
    loss = matching.contrast(rna, atac, torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0]))
    assert loss == 0
    assert loss.shape == ()


def test_the_temperature_has_a_floor():
    assert make(2.0).temperature() == math.exp(2.0)
    hot = make(9.0)
    assert hot.temperature() == 100
    start = float(PairMatching(WIDTH, 6, 0.0).temperature().detach())
    assert start == pytest.approx(1 / 0.07)


def test_logits_read_the_pair_and_leave_the_temperature_alone():
    matching, (rna, atac) = make(), encodings(5)
    depths = torch.randn(5, 4).double()
    first, _, _, last = matching.classifier
    logits = matching.logits(rna, atac, depths)
    for i in range(5):
        read = torch.cat(
            [
                rna[i] * atac[i],
                (rna[i] - atac[i]).abs(),
                (math.exp(0.8) * (rna[i] @ atac[i]))[None],
                depths[i],
            ]
        )
        same(logits[i], (last.weight @ F.gelu(first.weight @ read + first.bias) + last.bias)[0])
    logits.sum().backward()
    assert matching.log_temperature.grad is None
    assert rna.grad.abs().sum() > 0


def two_views(seed=0, n=300):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 3)) * [3.0, 2.0, 1.0]
    views = [shared @ rng.normal(size=(3, d)) + rng.normal(size=(n, d)) * 2 for d in (6, 4)]
    return [(view - view.mean(0)) / view.std(0) for view in views]


def columns_agree(first, second):
    for a, b in zip(first.T, second.T, strict=True):
        assert abs(np.corrcoef(a, b)[0, 1]) == pytest.approx(1, abs=1e-6)


def test_canonical_directions_equal_sklearn():
    left, right = two_views()
    maps = canonical_maps(left, right, width=3, ridge=1e-10)
    oracle = CCA(3, max_iter=10_000, tol=1e-14).fit(left, right)
    ours = [side @ linear for side, linear in zip((left, right), maps, strict=True)]
    for mine, theirs in zip(ours, oracle.transform(left, right), strict=True):
        columns_agree(mine, theirs)
    strength = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours[0].T, ours[1].T, strict=True)]
    assert strength == sorted(strength, reverse=True)
    for mine in ours:  # uncorrelated, and each as long as it correlates
        np.testing.assert_allclose(mine.T @ mine / len(mine), np.diag(np.square(strength)), atol=1e-6)


@pytest.mark.parametrize("width", [1, 4, 64])
def test_canonical_maps_have_as_many_directions_as_there_are(width):
    left, right = canonical_maps(*two_views(), width=width)
    assert (left.shape, right.shape) == ((6, min(width, 4)), (4, min(width, 4)))


def test_a_ridge_keeps_rare_directions_small_and_empty_ones_finite():
    left, right = two_views()
    left[:, 0] = right[:, 0] * 1e-3  # agrees perfectly, but hardly varies
    right[:, 1] = 0
    first, second = canonical_maps(left, right, width=4)
    assert np.isfinite(first).all()
    np.testing.assert_allclose(second[1], 0, atol=1e-9)
    reached = np.abs(left[:, :1] * first[:1]).max()
    assert reached < 0.05 * np.abs(left @ first).max()


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    depths = rng.normal(size=(200, 2))
    mean = 7 + depths @ [0.4, 0.2] - 0.1 * depths[:, 0] ** 2
    counts = np.round(np.exp(mean + rng.normal(0, 0.3, 200)))
    counts[5] = 0
    return torch.from_numpy(depths), torch.from_numpy(counts)


@pytest.mark.parametrize("known", [0.0, 0.5, 1.0])
def test_depth_offset_equals_least_squares(cells, known):
    depths, counts = cells
    offset = DepthOffset(known).double()
    offset.fit(depths, counts)
    seen = np.log(np.maximum(counts.numpy(), 1))
    terms = np.column_stack([depths, depths**2, np.ones(200)])
    expected = terms @ np.linalg.lstsq(terms, seen, rcond=None)[0]
    found = offset(depths)
    assert found.shape == (200, 1)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-6)
    np.testing.assert_allclose(offset(depths, counts)[:, 0], (1 - known) * expected + known * seen, atol=1e-6)
    assert offset.spread == pytest.approx(known * (seen - expected).std(), rel=1e-6)


def test_depths_that_are_all_alike_can_be_fitted():
    offset = DepthOffset(0.5)
    offset.fit(torch.zeros(10, 2), torch.full((10,), 50.0))
    torch.testing.assert_close(offset(torch.zeros(3, 2)), torch.full((3, 1), math.log(50)))
    assert offset.spread == pytest.approx(0, abs=1e-4)


def test_depths_beyond_those_of_training_are_as_the_nearest(cells):
    depths, counts = cells
    offset = DepthOffset(0.0).double()
    offset.fit(depths, counts)
    inside = torch.stack([depths.amin(0), depths.amax(0)])
    torch.testing.assert_close(offset(inside + torch.tensor([[-50.0], [50.0]])), offset(inside))


def test_encodings_that_are_all_alike_rank_in_the_middle():
    matching, same_vector = make(), F.normalize(torch.ones(9, WIDTH, dtype=torch.float64), dim=1)
    cells = torch.arange(9)
    assert float(matching.reciprocal_rank(same_vector, same_vector, cells, cells)) == pytest.approx(1 / 5)
