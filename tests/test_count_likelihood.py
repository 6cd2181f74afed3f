"""Count likelihoods against scipy, and what they expect of unseen counts against sums over a pmf."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special, stats

from scweave.models.layers.count_likelihood import LIKELIHOODS, CountLikelihood

SIZES = np.array([0.05, 0.3, 1.0, 10.0, 400.0])
MEANS = np.array([1e-6, 1e-3, 0.1, 1.0, 5.0, 20.0, 100.0])


def make(kind, sizes=SIZES):
    likelihood = CountLikelihood(len(sizes), kind).double()
    if likelihood.log_size is not None:
        likelihood.log_size.data = torch.from_numpy(np.log(sizes))
    return likelihood


def log_pmf(kind, counts, mean):
    if kind == "poisson":
        return stats.poisson.logpmf(counts, mean)
    if kind == "nb":
        return stats.nbinom.logpmf(counts, SIZES, SIZES / (SIZES + mean))
    return stats.bernoulli.logpmf(counts > 0, -np.expm1(-mean))


def random_case(seed=0, n_cells=12):
    rng = np.random.default_rng(seed)
    log_mean = rng.normal(0, 1.5, (n_cells, len(SIZES)))
    counts = rng.poisson(np.exp(log_mean))
    counts[:2] = 0
    return torch.from_numpy(log_mean), torch.from_numpy(counts).double()


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_loss_equals_scipy_up_to_a_constant_of_the_counts(kind):
    likelihood = make(kind)
    log_mean, counts = random_case()
    constant = 0 if kind == "binary" else special.gammaln(counts.numpy() + 1).mean()
    for shift in (0.0, -2.0, 0.7):
        expected = -log_pmf(kind, counts.numpy(), np.exp(log_mean.numpy() + shift)).mean()
        ours = float(likelihood.loss(log_mean + shift, counts).detach())
        assert ours == pytest.approx(expected - constant, rel=1e-9)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_gradients_equal_finite_differences(kind):
    likelihood = make(kind)
    log_mean, counts = random_case(n_cells=4)
    parameters = list(likelihood.parameters())
    assert len(parameters) == (kind == "nb")

    def loss(log_mean, *_):
        return likelihood.loss(log_mean, counts)

    assert torch.autograd.gradcheck(loss, (log_mean.requires_grad_(), *parameters))


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_silent_and_missing_cells_have_a_loss(kind):
    likelihood = make(kind)
    silent = likelihood.loss(torch.zeros(3, 5).double(), torch.zeros(3, 5).double())
    expected = -log_pmf(kind, np.zeros((3, 5)), np.ones((3, 5))).mean()
    assert float(silent.detach()) == pytest.approx(expected, rel=1e-9)
    assert likelihood.loss(torch.zeros(0, 5).double(), torch.zeros(0, 5).double()) == 0


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_extreme_rates_have_finite_losses_and_gradients(kind):
    likelihood = make(kind)
    log_mean = torch.tensor([[-60.0, -30.0, 0.0, 8.0, 11.0]]).double().requires_grad_()
    for counts in (torch.zeros(1, 5).double(), torch.full((1, 5), 7.0).double()):
        loss = likelihood.loss(log_mean, counts)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(log_mean.grad).all()


def test_sizes_are_bounded():
    wild, bounded = make("nb", np.exp([-90.0, 90.0])), make("nb", np.exp([-6.0, 6.0]))
    log_mean, counts = (x[:, :2] for x in random_case())
    assert torch.equal(wild.loss(log_mean, counts), bounded.loss(log_mean, counts))
    assert torch.equal(wild.expect(log_mean)[1], bounded.expect(log_mean)[1])


def expected_of(kind, mean):
    """P(X > 0) and E ln(1 + X), (genes,), by sums over the pmf."""
    x = np.arange(40_000)[:, None]
    pmf = np.exp(log_pmf(kind, x, mean))
    return 1 - pmf[0], (pmf * np.log1p(x)).sum(0)


@pytest.mark.parametrize("kind", ["nb", "poisson"])
@pytest.mark.parametrize("mean", MEANS)
def test_expectations_equal_sums_over_the_pmf(kind, mean):
    on, log = make(kind).expect(torch.full((1, len(SIZES)), np.log(mean)).double())
    expected_on, expected_log = expected_of(kind, np.full(len(SIZES), mean))
    np.testing.assert_allclose(on[0], expected_on, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(log[0], expected_log, rtol=1e-5, atol=1e-12)


def test_on_off_genes_are_on_with_the_chance_that_was_trained():
    log_mean, counts = random_case()
    on, log = make("binary").expect(log_mean)
    loss = torch.nn.functional.binary_cross_entropy(on, (counts > 0).double())
    torch.testing.assert_close(make("binary").loss(log_mean, counts), loss, rtol=1e-9, atol=1e-9)
    assert torch.equal(log, make("poisson").expect(log_mean)[1])


@pytest.mark.parametrize("kind", ["nb", "poisson"])
@pytest.mark.parametrize("spread", [0.2, 0.5])
def test_expectations_are_averaged_over_the_library_size(kind, spread):
    log_mean = np.array([-4.0, -1.0, 0.0, 1.0, 2.0])
    points = np.linspace(-6, 6, 41)
    weights = stats.norm.pdf(points)
    each = np.array([expected_of(kind, np.exp(log_mean + spread * point)) for point in points])
    expected = np.tensordot(weights / weights.sum(), each, 1)
    ours = make(kind).expect(torch.from_numpy(log_mean[None]), spread)
    np.testing.assert_allclose(torch.cat(ours), expected, rtol=1e-3)
    certain = make(kind).expect(torch.from_numpy(log_mean[None]))
    assert max(float((a - b).abs().max()) for a, b in zip(ours, certain, strict=True)) > 1e-3


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_rare_genes_keep_their_order_in_single_precision(kind):
    log_mean = torch.linspace(-25, 3, 200)[:, None].expand(-1, len(SIZES))
    on, log = make(kind).float().expect(log_mean)
    for expected in (on, log):
        assert (expected.diff(dim=0) > 0)[:150].all()
        assert (expected.diff(dim=0) >= -1e-6).all()
        assert (expected >= 0).all()
