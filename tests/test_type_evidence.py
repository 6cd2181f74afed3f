"""What open peaks say for types, and how types are compared, against plain dense formulas and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.naive_bayes import MultinomialNB
from torch import nn

from dense_cis import profiles_of, same, same_gradients
from dense_evidence import DenseEvidence, dense_comparison, open_weights
from dense_hitanno import rows_of
from scweave.graphs.csr import CsrRows
from scweave.models.layers import profiles
from scweave.models.layers.profiles import Profiles
from scweave.models.layers.type_comparison import TypeComparison
from scweave.models.layers.type_evidence import TypeEvidence


def random_counts(seed=0, *, n_cells=30, n_peaks=25, density=0.3):
    """Cells of random counts; the third is empty, and no cell has the last peak."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(1.5, (n_cells, n_peaks)) * (rng.random((n_cells, n_peaks)) < density)
    counts[2:3], counts[:, -1] = 0, 0
    return counts


def random_codes(n_cells, n_types, seed=0):
    return np.random.default_rng([seed, 1]).integers(0, n_types, n_cells)


def fitted(counts, codes, n_types, *, smoothing=0.1, dtype=torch.float64):
    model = TypeEvidence(counts.shape[1], n_types, smoothing=smoothing).to(dtype)
    model.fit(Profiles.chunks(rows_of(counts), np.arange(len(counts))), codes)
    return model


def both(counts, codes, n_types, *, smoothing=0.1):
    """The layer and its plain formula."""
    model = fitted(counts, codes, n_types, smoothing=smoothing)
    return model, DenseEvidence.of(counts, codes, n_types, smoothing)


@pytest.mark.parametrize("smoothing", [1e-3, 0.1, 3.0])
def test_evidence_equals_the_dense_formula(smoothing):
    counts, codes = random_counts(), random_codes(30, 4)
    model, plain = both(counts, codes, 4, smoothing=smoothing)
    new = random_counts(7)
    new[:, -1] = 2
    same(model.table, torch.from_numpy(plain.table))
    same(model(profiles_of(new)), torch.from_numpy(plain.evidence(new)))


@pytest.mark.parametrize("smoothing", [1e-3, 0.1, 3.0])
def test_leaving_a_cell_out_equals_sums_without_it(smoothing):
    counts, codes = random_counts(), random_codes(30, 4)
    model, plain = both(counts, codes, 4, smoothing=smoothing)
    same(
        model.leave_one_out(profiles_of(counts), torch.from_numpy(codes)),
        torch.from_numpy(plain.leave_one_out(counts, codes)),
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 12),
    st.integers(2, 5),
    st.floats(0.0, 1.0),
    st.floats(1e-3, 10.0),
    st.integers(0, 1000),
)
def test_any_size(n_cells, n_peaks, n_types, density, smoothing, seed):
    """Types without a cell or with one, cells without peaks, peaks without cells, nothing open at all."""
    counts = random_counts(seed, n_cells=n_cells, n_peaks=n_peaks, density=density)
    codes = random_codes(n_cells, n_types, seed)
    model, plain = both(counts, codes, n_types, smoothing=smoothing)
    profiles = profiles_of(counts)
    same(model(profiles), torch.from_numpy(plain.evidence(counts)))
    left_out = model.leave_one_out(profiles, torch.from_numpy(codes))
    same(left_out, torch.from_numpy(plain.leave_one_out(counts, codes)))
    same(left_out.sum(1), torch.zeros(n_cells).double())


@pytest.mark.parametrize("smoothing", [0.02, 1.0])
def test_evidence_is_the_log_likelihood_of_naive_bayes(smoothing):
    """Multinomial naive Bayes on weights, with pseudocounts in the proportions of the background."""
    counts, codes = random_counts(n_cells=60), random_codes(60, 3)
    model, new = fitted(counts, codes, 3, smoothing=smoothing), random_counts(9)
    seen = (counts > 0).any(0)
    pseudocounts = smoothing * counts.shape[1] * model.background.numpy()[seen]
    bayes = MultinomialNB(alpha=pseudocounts, fit_prior=False).fit(open_weights(counts)[:, seen], codes)
    told = bayes.predict_log_proba(open_weights(new)[:, seen])
    ours = model(profiles_of(new))
    same(ours, torch.from_numpy(told - told.mean(1, keepdims=True)))
    shares = bayes.feature_log_prob_.T
    same(
        model.table[torch.from_numpy(seen)].diff(dim=1),
        torch.from_numpy(np.diff(shares, axis=1)),  # the background cancels between types
    )


def test_chunks_and_the_order_of_cells_change_nothing(monkeypatch):
    counts, codes = random_counts(), random_codes(30, 4)
    whole = fitted(counts, codes, 4)
    monkeypatch.setattr(profiles, "_CHUNK", 7)
    order = np.random.default_rng(3).permutation(30)
    model = TypeEvidence(counts.shape[1], 4).double()
    model.fit(Profiles.chunks(rows_of(counts), order), codes[order])
    for name, buffer in model.named_buffers():
        same(buffer, whole.get_buffer(name))


def test_only_the_cells_given_are_counted():
    counts, codes, kept = random_counts(), random_codes(30, 4), np.arange(0, 30, 2)
    some = TypeEvidence(counts.shape[1], 4).double()
    some.fit(Profiles.chunks(rows_of(counts), kept), codes[kept])
    same(some.table, fitted(counts[kept], codes[kept], 4).table)


def test_a_cell_alone_has_the_evidence_it_has_among_others():
    counts, codes = random_counts(), random_codes(30, 4)
    model, code = fitted(counts, codes, 4), torch.from_numpy(codes)
    together = model(profiles_of(counts)), model.leave_one_out(profiles_of(counts), code)
    for cell in range(30):
        alone = profiles_of(counts[cell : cell + 1])
        same(model(alone), together[0][cell : cell + 1])
        same(model.leave_one_out(alone, code[cell : cell + 1]), together[1][cell : cell + 1])
    none = profiles_of(counts[:0])
    assert model(none).shape == model.leave_one_out(none, code[:0]).shape == (0, 4)


def test_peaks_that_no_training_cell_has_say_nothing():
    counts, codes = random_counts(), random_codes(30, 4)
    model = fitted(counts, codes, 4)
    assert (model.table[-1] == 0).all()
    only = np.zeros((1, 25), int)
    only[0, -1] = 5
    assert (model(profiles_of(only)) == 0).all()


def test_cells_without_open_peaks_have_no_evidence():
    counts, codes = random_counts(), random_codes(30, 4)
    model = fitted(counts, codes, 4)
    empty = profiles_of(counts[2:3])
    assert (model(empty) == 0).all()
    assert (model.leave_one_out(empty, torch.from_numpy(codes[2:3])) == 0).all()


def test_counts_above_one_say_no_more():
    counts, codes = random_counts(), random_codes(30, 4)
    one, many = (fitted(x, codes, 4) for x in (np.minimum(counts, 1), counts * 3))
    same(one.table, many.table)


def test_a_type_with_one_training_cell_says_nothing_of_that_cell():
    """Without its only cell a type is the background, for which all ratios are 1."""
    counts, codes = random_counts(), random_codes(30, 3)
    codes[10] = 3
    model, profiles = fitted(counts, codes, 4), profiles_of(counts[10:11])
    in_sample = model(profiles)[0]
    left_out = model.leave_one_out(profiles, torch.tensor([3]))[0]
    assert in_sample.argmax() == 3 and in_sample[3] > 0.5
    others = open_weights(counts[10:11])[0] @ model.table[:, :3].numpy()
    expected = np.append(others, 0.0)
    same(left_out, torch.from_numpy(expected - expected.mean()))


@pytest.mark.parametrize("seed", range(3))
def test_on_noise_evidence_that_knows_the_cell_is_confident_and_the_rest_is_not(seed):
    counts = random_counts(seed, n_cells=600, n_peaks=300, density=0.1)
    codes = random_codes(600, 5, seed)
    model, profiles, code = fitted(counts, codes, 5), profiles_of(counts), torch.from_numpy(codes)

    def margin(evidence):
        """How far the own type is above the mean of others, in standard errors."""
        own = evidence.gather(1, code[:, None])[:, 0] * 5 / 4
        return float(own.mean() / (own.std() / len(own) ** 0.5))

    assert margin(model(profiles)) > 10
    assert margin(model.leave_one_out(profiles, code)) < 2


def test_single_precision_is_close():
    counts, codes = random_counts(n_cells=200), random_codes(200, 4)
    exact, single = (fitted(counts, codes, 4, dtype=dtype) for dtype in (torch.float64, torch.float32))
    profiles, code = profiles_of(counts), torch.from_numpy(codes)
    for ours, truth in (
        (single(profiles), exact(profiles)),
        (single.leave_one_out(profiles, code), exact.leave_one_out(profiles, code)),
    ):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), truth, atol=1e-4, rtol=1e-4)


def comparison(n_types, blocks, *, trained=True, seed=0):
    """A float64 comparison whose weights are as if trained, or as they begin."""
    torch.manual_seed(seed)
    model = TypeComparison(n_types, blocks=blocks, dropout=0.0).double()
    if trained:
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
    return model


def random_evidence(n_types, n_cells=6, seed=1):
    made = torch.Generator().manual_seed(seed)
    evidence = torch.randn(n_cells, n_types, generator=made, dtype=torch.float64, requires_grad=True)
    return evidence, torch.randn(n_cells, generator=made, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("blocks", [0, 1, 2])
@pytest.mark.parametrize("n_types", [2, 5])
def test_comparison_equals_the_plain_formula(n_types, blocks):
    model, (evidence, depth) = comparison(n_types, blocks), random_evidence(n_types)
    ours, theirs = model(evidence, depth), dense_comparison(model, evidence, depth)
    same(ours, theirs)
    inputs = {**dict(model.named_parameters()), "evidence": evidence, "depth": depth}
    gradients = same_gradients(ours, theirs, inputs)
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_comparison_begins_with_the_evidence_itself(blocks):
    model, (evidence, depth) = comparison(4, blocks, trained=False), random_evidence(4)
    same(model(evidence, depth), evidence)
    same(model.penalty(), torch.tensor(4.0).double())


def test_blocks_that_add_nothing_learn():
    """Maps to logits begin at 0, and still have a gradient; what lies below gets one once they have moved."""
    model, (evidence, depth) = comparison(4, 1, trained=False), random_evidence(4, n_cells=40)
    code = torch.arange(40) % 4
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(evidence, depth), code)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.3
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    # Softmax does not notice what is the same for all keys, or for all types.
    constant = {"blocks.0.attention.key.bias", "of_type.bias"}
    assert all(g.abs().max() > 1e-9 for name, g in gradients.items() if name not in constant)


@pytest.mark.parametrize("blocks", [0, 2])
def test_comparison_of_a_cell_does_not_know_the_others(blocks):
    model, (evidence, depth) = comparison(4, blocks), random_evidence(4)
    alone = torch.cat([model(z[None], n[None]) for z, n in zip(evidence, depth, strict=True)])
    same(alone, model(evidence, depth))
    assert model(evidence[:0], depth[:0]).shape == (0, 4)


def test_dropout_is_in_the_blocks_alone():
    evidence, depth = random_evidence(4)
    with_blocks = TypeComparison(4, blocks=1, dropout=0.5).double()
    nn.init.normal_(with_blocks.of_type.weight)
    assert not torch.equal(with_blocks(evidence, depth), with_blocks(evidence, depth))
    assert torch.equal(with_blocks.eval()(evidence, depth), with_blocks(evidence, depth))
    plain = TypeComparison(4, dropout=0.5).double()
    assert torch.equal(plain(evidence, depth), plain(evidence, depth))


def test_a_peak_of_a_single_cell_is_no_marker():
    """Of a rare type's peaks, one open in three of its cells ranks above one that is open in one of them alone."""
    n_peaks, codes = 40, np.repeat([0, 1], [60, 4])
    rng = np.random.default_rng(0)
    opened = rng.random((64, n_peaks)) < 0.4
    opened[:, :2] = False
    opened[60:63, 0] = True
    opened[63, 1] = True
    rows = CsrRows(
        np.r_[0, np.cumsum(opened.sum(1))],
        opened.nonzero()[1].astype(np.uint16),
        np.ones(opened.sum(), np.uint8),
        n_peaks,
    )
    model = TypeEvidence(n_peaks, 2)
    model.fit(Profiles.chunks(rows, np.arange(64)), codes)
    assert model.table[1, 1] > 0  # its evidence stays
    scores = model.markers()[:, 1]
    assert scores[0] == scores.max()
    assert abs(float(scores[1])) < 0.1 * float(scores[0])
