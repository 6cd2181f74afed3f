"""Calibration against brute force, scipy and sklearn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis
from scipy.special import log_softmax
from sklearn.covariance import EmpiricalCovariance

from scweave.models.annotation.calibration import Calibration


def logits_and_codes(n, k, *, temperature, seed=0):
    """Cells whose types are drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3, size=(n, k))
    share = np.exp(log_softmax(logits / temperature, axis=1))
    codes = (share.cumsum(1) > rng.random((n, 1))).argmax(1)
    return torch.tensor(logits), torch.tensor(codes)


def same(cells, model):
    """Logits that doubt every cell alike, so that novelty is half of what distance says."""
    return torch.zeros(len(cells), len(model.centroids), dtype=cells.dtype)


def far(model, cells):
    """The share of reference cells that lie nearer to a type."""
    return 2 * model.novelty(same(cells, model), cells)


def fitted(n=300, k=4, width=6, *, seed=0, double=True, held_out=120):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(width, width))
    centres = rng.normal(scale=4, size=(k, width))
    codes = rng.permutation(np.arange(n) % k)
    embedding = centres[codes] + rng.normal(size=(n, width)) @ mixing
    others = centres[rng.integers(0, k, held_out)] + rng.normal(size=(held_out, width)) @ mixing
    dtype = torch.float64 if double else torch.float32
    model = Calibration(k, width).to(dtype)
    tensors = [torch.tensor(x, dtype=dtype) for x in (embedding, others)]
    model.fit_novelty(tensors[0], torch.tensor(codes), tensors[1], same(tensors[1], model))
    return model, tensors[0], torch.tensor(codes), tensors[1]


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 8), st.integers(0, 1000))
def test_temperature_equals_a_search_over_a_grid(temperature, seed):
    logits, codes = logits_and_codes(150, 4, temperature=temperature, seed=seed)
    model = Calibration(4, 2)
    model.fit_temperature(logits, codes)

    spread = (logits - logits.mean(1, keepdim=True)).std(correction=0).item()

    def loss(t):
        told = log_softmax(logits.numpy() / t, axis=1)[np.arange(len(codes)), codes.numpy()]
        return np.log(t / spread) ** 2 / 2 - told.sum()

    grid = spread * np.exp(np.linspace(-np.log(20), np.log(20), 2001))
    best = min(grid, key=loss)
    assert float(model.temperature) == pytest.approx(best, rel=0.004)
    assert loss(float(model.temperature)) <= loss(best) + 1e-5


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature):
    logits, codes = logits_and_codes(20_000, 5, temperature=temperature)
    model = Calibration(5, 2)
    model.fit_temperature(logits, codes)
    assert float(model.temperature) == pytest.approx(temperature, rel=0.04)
    probabilities = model.probabilities(logits)
    expected = np.exp(log_softmax(logits.numpy() / float(model.temperature), axis=1))
    np.testing.assert_allclose(probabilities.numpy(), expected, rtol=1e-12, atol=1e-15)
    assert torch.equal(probabilities.argmax(1), logits.argmax(1))
    confident, right = probabilities.max(1).values, logits.argmax(1) == codes
    assert float(confident.mean()) == pytest.approx(float(right.double().mean()), abs=0.02)


def test_without_held_out_cells_the_temperature_stays():
    model = Calibration(3, 2)
    model.fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    assert float(model.temperature) == 1


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_logits_that_are_always_right_or_wrong_leave_a_temperature_within_bounds(sign):
    codes = torch.arange(30) % 3
    model = Calibration(3, 2)
    model.fit_temperature(sign * torch.eye(3)[codes], codes)
    assert 1 / 100 <= float(model.temperature) <= 100
    assert float(model.probabilities(torch.eye(3)).sum()) == pytest.approx(3)


def test_distances_equal_scipy_with_the_covariance_of_sklearn():
    model, embedding, codes, others = fitted()
    wide = embedding.numpy()
    centroids = np.stack([wide[codes.numpy() == i].mean(0) for i in range(4)])
    covariance = EmpiricalCovariance(assume_centered=True).fit(wide - centroids[codes.numpy()]).covariance_
    ridge = 1e-3 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    inverse = np.linalg.inv(covariance + ridge)
    expected = [min(mahalanobis(cell, centre, inverse) for centre in centroids) for cell in others.numpy()]
    np.testing.assert_allclose(model.distance(others).numpy(), expected, rtol=1e-9)
    np.testing.assert_allclose(model.centroids.numpy(), centroids, rtol=1e-12)


def test_single_precision_agrees_with_double():
    double, _, _, others = fitted()
    single = fitted(double=False)[0]
    np.testing.assert_allclose(single.distance(others.float()), double.distance(others), rtol=1e-4)


def test_novelty_is_the_share_of_reference_cells_that_lie_nearer():
    model, _, _, others = fitted(held_out=400)
    rng = np.random.default_rng(5)
    cells = torch.tensor(rng.normal(scale=6, size=(500, 6)))
    novelty, distance = far(model, cells), model.distance(cells)
    share = (model.distance(others)[None] < distance[:, None]).double().mean(1)
    np.testing.assert_allclose(novelty, share, atol=1 / 300)
    order = distance.argsort()
    assert (novelty[order].diff() >= 0).all()
    assert float(novelty.min()) >= 0 and float(novelty.max()) <= 1


def test_novelty_runs_from_0_at_a_centroid_to_1_far_away():
    model, _, _, _ = fitted()
    assert far(model, model.centroids).tolist() == [0.0] * 4
    assert far(model, model.centroids + 1e6).tolist() == [1.0] * 4


def test_reference_cells_spread_evenly():
    model, _, _, others = fitted(held_out=500)
    novelty = np.sort(far(model, others).numpy())
    np.testing.assert_allclose(novelty, np.linspace(0, 1, 500), atol=0.005)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_one_cell_alone_equals_the_cell_in_a_batch(seed):
    model, _, _, _ = fitted()
    cells = torch.tensor(np.random.default_rng(seed).normal(scale=5, size=(40, 6)))
    alone = torch.cat([model.distance(cell[None]) for cell in cells])
    np.testing.assert_allclose(alone, model.distance(cells), rtol=1e-10)
    lone = torch.cat([far(model, cell[None]) for cell in cells])
    np.testing.assert_allclose(lone, far(model, cells), atol=1e-9)
    np.testing.assert_allclose(
        torch.cat([model.probabilities(cell[None]) for cell in cells]), model.probabilities(cells), atol=1e-10
    )


@pytest.mark.parametrize("double", [True, False])
def test_saved_and_loaded_it_is_the_same(double):
    model, embedding, codes, others = fitted(double=double)
    model.fit_temperature(embedding[:, :4], codes)
    again = Calibration(4, 6).to(embedding.dtype)
    state = model.state_dict()
    assert set(state) == {"temperature", "centroids", "whitening", "distances", "doubts"}
    again.load_state_dict(state)
    assert torch.equal(far(again, others), far(model, others))
    assert torch.equal(again.probabilities(embedding[:, :4]), model.probabilities(embedding[:, :4]))


def test_it_has_nothing_to_train():
    assert list(Calibration(3, 2).parameters()) == []


def test_a_type_with_one_cell_lies_at_that_cell():
    embedding = torch.tensor([[0.0, 0.0], [1.0, 0.5], [0.2, 1.0], [9.0, 9.0]])
    model = Calibration(2, 2)
    model.fit_novelty(embedding, torch.tensor([0, 0, 0, 1]), embedding, same(embedding, model))
    assert torch.equal(model.centroids[1], embedding[3])
    assert float(model.distance(embedding[3:])) == 0
    assert torch.isfinite(model.whitening).all()


def test_an_embedding_that_never_varies_has_no_novel_cells():
    embedding = torch.ones(6, 3)
    model = Calibration(2, 3)
    model.fit_novelty(embedding, torch.tensor([0, 0, 0, 1, 1, 1]), embedding, same(embedding, model))
    assert torch.isfinite(model.whitening).all()
    assert far(model, embedding).tolist() == [0.0] * 6
    assert far(model, embedding + 5).tolist() == [1.0] * 6


def test_a_constant_or_repeated_column_does_not_blow_up():
    rng = np.random.default_rng(0)
    column = rng.normal(size=(50, 1))
    embedding = torch.tensor(np.hstack([column, column, np.zeros((50, 1))]))
    model = Calibration(2, 3).double()
    model.fit_novelty(embedding, torch.arange(50) % 2, embedding, same(embedding, model))
    assert float(model.distance(embedding).max()) < 10
    assert torch.isfinite(far(model, embedding)).all()


def test_novelty_knows_doubt_too():
    rng = np.random.default_rng(5)
    model, others = Calibration(3, 2).double(), torch.tensor(rng.normal(size=(400, 2)))
    logits = torch.tensor(rng.normal(scale=2, size=(400, 3)))
    model.fit_novelty(others, torch.arange(400) % 3, others, logits)
    doubt = 1 - logits.softmax(1).amax(1)
    torch.testing.assert_close(model.doubt(logits), doubt)
    here = torch.zeros(400, 2, dtype=torch.float64)
    found = 2 * (model.novelty(logits, here) - model.novelty(logits, here).min())
    expected = torch.tensor([(doubt < own).double().mean() for own in doubt])
    assert float((found - expected).abs().max()) < 5e-3
    sure, unsure = torch.tensor([[50.0, 0, 0]]).double(), torch.zeros(1, 3).double()
    assert float(model.novelty(unsure, here[:1]) - model.novelty(sure, here[:1])) == pytest.approx(0.5)
