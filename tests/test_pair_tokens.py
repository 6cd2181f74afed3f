"""Tokens of two modalities against loops over cells, heads and tokens; nothing passes from cell to cell."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dense_cis import same, same_gradients
from dense_pairs import dense_cross, dense_encoder, dense_exchange, dense_pre_norm, dense_tokens
from scweave.graphs.errors import InputError
from scweave.models.layers.cross_attention import CrossAttention
from scweave.models.layers.modality_tokens import cut, sinusoids
from scweave.models.layers.pair_tokens import PairEncoder, PairExchange, PairTokens
from scweave.models.layers.pre_norm_block import PreNormBlock

D, HEADS, HIDDEN = 6, 2, 5


def random(layer):
    """Random weights in float64."""
    torch.manual_seed(0)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer.double()


def given_cells(*shapes):
    torch.manual_seed(1)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def check(layer, ours, theirs, **inputs):
    """The same values and gradients, of inputs and of all weights; every weight has one."""
    same(ours, theirs)
    found = same_gradients(ours, theirs, {**inputs, **dict(layer.named_parameters())})
    # All queries agree on a bias of the keys.
    assert all(g.abs().max() > 1e-12 for name, g in found.items() if not name.endswith("key.bias"))


def test_attention_between_two_sequences():
    layer = random(CrossAttention(D, HEADS))
    x, context = given_cells((3, 4, D), (3, 5, D))
    theirs = torch.stack([dense_cross(layer, a, b) for a, b in zip(x, context, strict=True)])
    check(layer, layer.between(x, context), theirs, x=x, context=context)
    same(layer.between(x, x), layer(x))
    with pytest.raises(InputError, match="4 attention heads do not divide a width of 6"):
        CrossAttention(D, 4)


def test_a_pre_norm_block():
    layer = random(PreNormBlock(D, HEADS, HIDDEN))
    (x,) = given_cells((3, 4, D))
    check(layer, layer(x), torch.stack([dense_pre_norm(layer, cell) for cell in x]), x=x)


def test_dropout_of_a_block_is_off_when_it_is_evaluated():
    layer = random(PreNormBlock(D, HEADS, HIDDEN, dropout=0.5))
    (x,) = given_cells((3, 4, D))
    assert not torch.equal(layer(x), layer(x))
    same(layer.eval()(x), torch.stack([dense_pre_norm(layer, cell) for cell in x]))


@pytest.mark.parametrize("beside", [0, 3])
@pytest.mark.parametrize(("width", "gap"), [(6, 3), (7, 3), (2, 5), (4, 4)])
def test_tokens_of_two_vectors(width, gap, beside):
    layer = random(PairTokens(width, gap, D, beside=beside))
    has = torch.tensor([[True, True], [True, False], [False, True], [True, True]])
    rna, atac, more_rna, more_atac = given_cells((4, width), (4, width), (4, 3), (4, 3))
    more = (more_rna, more_atac) if beside else ()
    ours = layer((rna, atac), has, more)
    for found in ours:
        assert found.shape == (4, math.ceil(width / gap) + bool(beside), D)
    theirs = [
        torch.stack(
            [dense_tokens(layer, i, x[c], bool(has[c, i]), more[i][c] if beside else None) for c in range(4)]
        )
        for i, x in enumerate((rna, atac))
    ]
    inputs = {"rna": rna, "atac": atac, **({"more_rna": more_rna, "more_atac": more_atac} if beside else {})}
    check(layer, torch.cat(ours), torch.cat(theirs), **inputs)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 12), st.integers(1, 14))
def test_the_last_token_is_padded_and_cells_do_not_mix(cells, width, gap):
    """Reshaping all cells at once lets the end of one cell begin the next where gap does not divide the width."""
    vectors = 1 + torch.arange(cells * width).view(cells, width)
    tokens = cut(vectors, gap)
    assert tokens.shape == (cells, -(-width // gap), gap)
    for c in range(cells):
        flat = tokens[c].flatten().tolist()
        assert flat[:width] == vectors[c].tolist() and not any(flat[width:])


@pytest.mark.parametrize("attention", ["cross", "self", "none"])
def test_exchange_of_two_modalities(attention):
    layer = random(PairExchange(D, HEADS, HIDDEN, attention=attention, dropout=0.0))
    rna, atac = given_cells((3, 4, D), (3, 2, D))
    theirs = [dense_exchange(layer, a, b) for a, b in zip(rna, atac, strict=True)]
    ours = layer(rna, atac)
    both = [torch.cat([part.flatten() for part in ours])]
    both.append(torch.cat([torch.stack([cell[i] for cell in theirs]).flatten() for i in range(2)]))
    check(layer, *both, rna=rna, atac=atac)
    # Who is asked: only ``cross`` lets a modality know the other, and none lets a cell know another.
    for i in range(2):
        asked = layer(rna, atac)[i][1].square().sum()
        known = torch.autograd.grad(asked, (rna, atac), allow_unused=True, materialize_grads=True)
        told = [bool(g[1].any()) for g in known]
        assert told == [i == 0 or attention == "cross", i == 1 or attention == "cross"]
        assert not any(g[[0, 2]].any() for g in known)


def test_an_encoder_of_each_modality():
    layer = random(PairEncoder(D, HEADS, HIDDEN, dropout=0.0))
    rna, atac = given_cells((3, 4, D), (3, 2, D))
    theirs = [dense_encoder(layer, a, b) for a, b in zip(rna, atac, strict=True)]
    for i, found in enumerate(layer(rna, atac)):
        same(found, torch.stack([cell[i] for cell in theirs]))


def test_the_vector_of_a_missing_modality_does_not_matter():
    layer = random(PairTokens(7, 3, D, beside=2))
    exchange = random(PairExchange(D, HEADS, HIDDEN, attention="cross", dropout=0.0))
    has = torch.tensor([[True, False], [False, True], [True, True]])
    cells = [cell.detach() for cell in given_cells((3, 7), (3, 7), (3, 2), (3, 2))]
    expected = exchange(*layer(cells[:2], has, cells[2:]))
    for value in (1e9, math.inf, math.nan):
        odd = [cell.clone() for cell in cells]
        for i in range(2):
            odd[i][~has[:, i]] = odd[2 + i][~has[:, i]] = value
        for ours, theirs in zip(exchange(*layer(odd[:2], has, odd[2:])), expected, strict=True):
            assert torch.equal(ours, theirs)
    nothing = layer(cells[:2], torch.zeros(3, 2, dtype=torch.bool), cells[2:])
    for i in range(2):
        assert torch.equal(nothing[i], layer.missing[i].expand(3, -1, -1))


@pytest.mark.parametrize("width", [1, 2, 7, 10])
def test_sinusoids(width):
    found = sinusoids(5, width)
    assert found.shape == (5, width)
    for place in range(5):
        for column in range(width):
            angle = place / 1e4 ** (column // 2 * 2 / width)
            expected = math.cos(angle) if column % 2 else math.sin(angle)
            assert float(found[place, column]) == pytest.approx(expected, abs=1e-6)
