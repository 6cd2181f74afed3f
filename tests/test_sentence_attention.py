"""Sparse attention of sentence tokens against dense attention over all tokens; blocks; the backend."""

from __future__ import annotations

import importlib.machinery
import math
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dense_cis import profiles_of, random_profiles, same, same_gradients
from dense_hitanno import (
    dense_attention,
    dense_block,
    dense_probabilities,
    opened_tokens,
    random_model,
    sentence,
)
from scweave.graphs.errors import InputError
from scweave.models.layers import attention_backend, deep_sentences
from scweave.models.layers.attention_backend import attend, backend_of
from scweave.models.layers.sentence_attention import OpenTokens, SentenceAttention
from scweave.models.layers.transformer_block import SelfAttention, TransformerBlock


def tables(model, **options):
    attention = model.peak_blocks[0].attention
    ptr = tuple(model.pointers.tolist())
    return SentenceAttention.of(attention, model.sets, model.tokens, model.states, ptr, **options)


def open_of(model, profiles):
    return OpenTokens.of(profiles, model.token_of_peak, model.pointers)


def dense_rows(model, profiles, kept=None):
    """Attention output of the sentence tokens from all tokens, (cells, sentences, d)."""
    attention, rows = model.peak_blocks[0].attention, []
    for opened in opened_tokens(model, profiles):
        for which, begin in enumerate(model.pointers[:-1].tolist()):
            x = sentence(model, which, opened)
            if kept is not None:
                own = kept[begin : begin + len(x) - 1]
                x = x[torch.cat([torch.tensor([True]), own])]
            rows.append(dense_attention(attention, x)[0])
    return torch.stack(rows).view(len(profiles), len(model.sets), -1)


def parameters(model):
    named = {"sets": model.sets, "tokens": model.tokens, "states": model.states}
    return named | dict(model.peak_blocks[0].attention.named_parameters())


SIZES = st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), SIZES, st.integers(0, 7), st.sampled_from([1, 2, 8]))
def test_outputs_and_gradients_equal_dense_attention(seed, sizes, n_cells, heads):
    model = random_model(sizes, n_peaks=sum(sizes) + 3, seed=seed, heads=heads)
    profiles = random_profiles(seed, n_cells=n_cells, n_features=sum(sizes) + 3)
    ours = tables(model)(open_of(model, profiles))
    if not n_cells:
        assert ours.shape == (0, len(sizes), 8)
        return
    theirs = dense_rows(model, profiles)
    same(ours, theirs)
    same_gradients(ours, theirs, parameters(model))


@pytest.mark.parametrize("open_share", [0.0, 1.0])
def test_all_peaks_closed_and_all_peaks_open(open_share):
    model = random_model()
    profiles = profiles_of(np.full((2, 12), int(open_share)))
    ours, theirs = tables(model)(open_of(model, profiles)), dense_rows(model, profiles)
    same(ours, theirs)
    same_gradients(ours, theirs, parameters(model))


def test_dropped_peaks_are_as_if_they_were_not_there():
    model, profiles = random_model(), random_profiles(n_features=12)
    keep = torch.tensor([True, False, True, True, False, True, True, False])
    ours, theirs = tables(model, keep=keep)(open_of(model, profiles)), dense_rows(model, profiles, keep)
    same(ours, theirs)
    same_gradients(ours, theirs, parameters(model))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("part", ["sets", "tokens", "states"])
def test_large_scores_neither_overflow_nor_vanish(part, dtype):
    model, profiles = random_model(), random_profiles(n_features=12)
    with torch.no_grad():
        getattr(model, part).mul_(1e3)
    truth = dense_rows(model, profiles)
    ours = tables(model.to(dtype))(open_of(model, profiles))
    assert ours.isfinite().all()
    if part == "tokens":  # the others make heads prefer a state by more than the precision
        torch.testing.assert_close(
            ours.double(), truth, rtol=1e-3 if dtype == torch.float32 else 1e-9, atol=1e-3
        )
    ours.sum().backward()
    assert all(p.grad.isfinite().all() for p in (model.sets, model.tokens, model.states))


def test_float32_is_good_to_a_part_in_a_hundred_thousand():
    model, profiles = random_model((40, 7, 60), n_peaks=120), random_profiles(n_features=120)
    truth = dense_rows(model, profiles)
    ours = tables(model.float())(open_of(model, profiles))
    torch.testing.assert_close(ours.double(), truth, rtol=1e-5, atol=1e-5)


def test_attention_weights_are_those_of_the_dense_softmax():
    model, profiles = random_model((4, 0, 3)), random_profiles(n_features=12)
    opened, made = open_of(model, profiles), tables(model)
    found = made.weights(opened)
    for row, states in enumerate(opened_tokens(model, profiles)):
        for which, (begin, end) in enumerate([(0, 4), (4, 4), (4, 7)]):
            x = sentence(model, which, states)
            truth = dense_probabilities(model.peak_blocks[0].attention, x)[:, 0].T  # (tokens, heads)
            same(found.cls[row, which], truth[0])
            shut = states[begin:end] == 0
            same(found.closed[row, which], truth[1:][shut].sum(0))
            each = made.weight[begin:end][shut] * found.closed_scale[row, which]
            same(each, truth[1:][shut])
            nodes = slice(*opened.ptr[row * 3 + which : row * 3 + which + 2].tolist())
            order = opened.token[nodes] - begin
            same(found.open[nodes], truth[1:][order])
            total = found.cls[row, which] + found.closed[row, which] + found.open[nodes].sum(0)
            same(total, torch.ones(4).double())


def test_the_table_is_the_attention_to_a_peak_alone():
    model = random_model((4, 0, 3))
    found = tables(model).table()
    attention = model.peak_blocks[0].attention
    for which, (begin, end) in enumerate([(0, 4), (4, 4), (4, 7)]):
        for token in range(begin, end):
            for state in (0, 1):
                opened = torch.zeros(7, dtype=torch.long)
                opened[token] = state
                x = sentence(model, which, opened)
                same(found[state, token], dense_probabilities(attention, x)[:, 0, 1 + token - begin])


def test_open_tokens_are_sorted_by_cell_and_sentence():
    token_of_peak, ptr = torch.tensor([3, -1, 0, 4, 2, 1]), torch.tensor([0, 2, 2, 4, 5])
    found = OpenTokens.of(
        profiles_of(np.array([[1, 1, 1, 0, 0, 1], [0] * 6, [0, 1, 0, 1, 1, 0]])), token_of_peak, ptr
    )
    assert found.n_cells == 3
    assert found.token.tolist() == [0, 1, 3, 2, 4]
    assert found.ptr.tolist() == [0, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 4, 5]
    assert found.row.tolist() == [0, 0, 2, 10, 11]


@pytest.mark.parametrize("lengths", [None, [5, 1, 3]])
def test_a_block_equals_the_plain_formula_and_its_first_row_alone(lengths):
    torch.manual_seed(0)
    block, x = TransformerBlock(8, 4, 6).double(), torch.randn(3, 5, 8, dtype=torch.float64)
    given = None if lengths is None else torch.tensor(lengths)
    every, first = block(x, given), block.first(x, given)
    same(first, every[:, 0])
    for row, length in enumerate(lengths or [5] * 3):
        same(every[row, :length], dense_block(block, x[row, :length]))
        weights = block.attention.weights(x, given, queries=slice(0, 2))[row]
        same(weights[:, :1, :length], dense_probabilities(block.attention, x[row, :length])[:, :1])
        assert not weights[:, :, length:].any()
    same_gradients(first, every[:, 0], dict(block.named_parameters()))


def test_dropout_leaves_nothing_out_in_evaluation():
    torch.manual_seed(0)
    block, x = TransformerBlock(8, 4, 6, dropout=0.5), torch.randn(2, 3, 8)
    assert not torch.equal(block(x), block(x))
    assert torch.equal(block.eval()(x), block(x))


def test_heads_that_do_not_divide_the_width_are_an_error():
    with pytest.raises(InputError, match="3 attention heads do not divide a width of 8"):
        SelfAttention(8, 3)


def plain_attention(q, k, v, lengths=None):
    scores = q @ k.mT / math.sqrt(q.shape[3])
    if lengths is not None:
        scores = scores.masked_fill(torch.arange(k.shape[2]) >= lengths[:, None, None, None], -torch.inf)
    return scores.softmax(3) @ v


def random_heads(queries=4, keys=6):
    torch.manual_seed(1)
    return [torch.randn(3, 2, n, 8, dtype=torch.float64) for n in (queries, keys, keys)]


@pytest.mark.parametrize("lengths", [None, torch.tensor([6, 1, 4])])
@pytest.mark.parametrize("queries", [1, 4])
def test_attention_by_torch_is_the_plain_one(queries, lengths):
    q, k, v = random_heads(queries)
    same(attend(q, k, v, lengths), plain_attention(q, k, v, lengths))


@pytest.fixture
def flash(monkeypatch):
    """A stand-in for flash-attn: the two functions that are used, over its own layout, written plainly."""

    def flash_attn_func(q, k, v):
        return plain_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)

    def flash_attn_varlen_func(q, k, v, of_q, of_k, longest_q, longest_k):
        assert of_q.dtype == of_k.dtype == torch.int32
        assert (longest_q, longest_k) == (int(of_q.diff().max()), int(of_k.diff().max()))
        cuts = zip(of_q[:-1], of_q[1:], of_k[:-1], of_k[1:], strict=True)
        return torch.cat(
            [flash_attn_func(q[None, a:b], k[None, c:d], v[None, c:d])[0] for a, b, c, d in cuts]
        )

    fake = types.ModuleType("flash_attn")
    fake.__spec__ = importlib.machinery.ModuleSpec("flash_attn", None)
    fake.flash_attn_func, fake.flash_attn_varlen_func = flash_attn_func, flash_attn_varlen_func
    monkeypatch.setitem(sys.modules, "flash_attn", fake)


@pytest.mark.usefixtures("flash")
@pytest.mark.parametrize("lengths", [None, torch.tensor([6, 1, 4])])
@pytest.mark.parametrize("queries", [1, 4])
def test_attention_by_flash_is_the_plain_one(queries, lengths, monkeypatch):
    monkeypatch.setattr(attention_backend, "backend_of", lambda *_: "flash-attn")
    q, k, v = random_heads(queries)
    same(attend(q, k, v, lengths), plain_attention(q, k, v, lengths))


@pytest.mark.usefixtures("flash")
@pytest.mark.parametrize(
    ("device", "dtype", "width", "chosen"),
    [
        ("cuda", torch.float16, 8, "flash-attn"),
        ("cuda", torch.bfloat16, 64, "flash-attn"),
        ("cuda", torch.float32, 8, "sdpa"),
        ("cuda", torch.float16, 12, "sdpa"),
        ("cuda", torch.float16, 264, "sdpa"),
        ("cpu", torch.float16, 8, "sdpa"),
    ],
)
def test_flash_is_chosen_where_it_works(device, dtype, width, chosen):
    assert backend_of(torch.device(device), dtype, width) == chosen


def test_without_flash_torch_attends(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert backend_of(torch.device("cuda"), torch.float16, 8) == "sdpa"


def test_chunks_change_nothing(monkeypatch):
    model, profiles = random_model(peak_layers=2), random_profiles(n_features=12)
    opened = open_of(model, profiles)
    whole = model._deep(None)(opened)
    monkeypatch.setattr(deep_sentences, "_NUMBERS", 80)
    parts = model._deep(None)(opened)
    same(parts, whole)
    named = dict(model.named_parameters())
    same_gradients(parts, whole, {name: p for name, p in named.items() if name.startswith(("peak", "tok"))})
