"""The folded Linformer block against the plain published one, and what it promises."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dense_cis import same, same_gradients
from dense_linformer import dense_block
from scweave.graphs.errors import InputError
from scweave.models.layers import linformer
from scweave.models.layers.linformer import LinformerBlock, first_projection

WIDTH, SLOTS = 6, 3
# cells, tokens, heads, slots; a tile is 4 tokens
SHAPES = [(1, 1, 1, 1), (1, 11, 2, 3), (3, 11, 4, 2), (3, 4, 2, 3), (5, 1, 2, 5), (6, 2, 1, 4), (2, 8, 3, 1)]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(linformer, "_TILE", 4)


def make(heads=2, **options):
    """A float64 block whose norms and biases are not those of the start."""
    torch.manual_seed(1)
    block = LinformerBlock(WIDTH, heads, 5, 7, **options).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


def inputs(cells=3, tokens=11, slots=SLOTS, *, own=False):
    """Tokens and a projection, both with gradients."""
    made = torch.Generator().manual_seed(2)
    shape = (cells, tokens, slots) if own else (tokens, slots)
    x, projection = (
        torch.randn(s, generator=made, dtype=torch.double) for s in ((cells, tokens, WIDTH), shape)
    )
    return x.requires_grad_(), projection.requires_grad_()


def parameters(block, x, projection):
    return {"x": x, "projection": projection} | dict(block.named_parameters())


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(("cells", "tokens", "heads", "slots"), SHAPES)
def test_a_block_equals_the_plain_one(cells, tokens, heads, slots, own):
    block, (x, projection) = make(heads), inputs(cells, tokens, slots, own=own)
    ours, plain = block(x, projection), dense_block(block, x, projection)
    same(ours, plain)
    same_gradients(ours, plain, parameters(block, x, projection))


def test_a_stack_that_shares_block_and_projection_equals_the_plain_one():
    block, (x, projection) = make(), inputs()
    ours = block(block(x, projection), projection) + block(x.flip(1), projection)
    plain = dense_block(block, x, projection)
    plain = dense_block(block, plain, projection) + dense_block(block, x.flip(1), projection)
    same(ours, plain)
    same_gradients(ours, plain, parameters(block, x, projection))


def test_gradients_equal_differences():
    block, (x, projection) = make(), inputs(2, 5)
    names, values = zip(*block.named_parameters(), strict=True)

    def run(x, projection, *values):
        return torch.func.functional_call(block, dict(zip(names, values, strict=True)), (x, projection))

    assert torch.autograd.gradcheck(run, (x, projection, *values))


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_tiles_of_any_size_give_the_same(monkeypatch, size):
    block, (x, projection) = make(), inputs(5, 3)
    monkeypatch.setattr(linformer, "_TILE", size)
    ours, plain = block(x, projection), dense_block(block, x, projection)
    same(ours, plain)
    same_gradients(ours, plain, parameters(block, x, projection))


@pytest.mark.parametrize("filler", [0.0, 50.0])
def test_padding_changes_nothing_for_the_tokens_of_a_cell(filler):
    lengths = [11, 1, 4]
    blocks, (x, projection) = [make(), make(4)], inputs(own=True)
    padding = (torch.arange(11) >= torch.tensor(lengths)[:, None])[..., None]
    together, rows = x.masked_fill(padding, filler), projection.masked_fill(padding, 0.0)
    for block in blocks:
        together = block(together, rows)
    named = {"x": x, "projection": projection}
    named |= {f"{i}.{name}": p for i, block in enumerate(blocks) for name, p in block.named_parameters()}
    alone = []
    for i, n in enumerate(lengths):
        one = x[i : i + 1, :n]
        for block in blocks:
            one = block(one, projection[i, :n])
        alone.append(one[0])
    together = torch.cat([row[:n] for row, n in zip(together, lengths, strict=True)])
    same(together, torch.cat(alone))
    same_gradients(together, torch.cat(alone), named)


def test_a_cell_alone_reads_as_in_a_batch():
    block, (x, projection) = make(), inputs(5, 3)
    same(torch.cat([block(one[None], projection) for one in x]), block(x, projection))


def test_a_frozen_block_still_passes_gradients_to_its_tokens():
    block, (x, projection) = make().requires_grad_(False), inputs()
    given = {"x": x, "projection": projection}
    same_gradients(block(x, projection), dense_block(block, x, projection), given)


def test_without_gradients_the_same_comes_out_and_nothing_is_kept():
    block, (x, projection) = make(), inputs()
    with torch.no_grad():
        found = block(x, projection)
    assert not found.requires_grad
    same(found, block(x, projection))


def test_half_as_much_is_kept_for_gradients_as_by_the_plain_block():
    block = LinformerBlock(25, 4, 16, 100)  # a published block, an eighth as wide
    x, projection = torch.randn(2, 333, 25, requires_grad=True), torch.randn(333, 8, requires_grad=True)

    def kept(run):
        seen = {}

        def pack(tensor):
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            run(block, x, projection)
        return sum(storage.nbytes() for storage in seen.values())

    assert kept(lambda block, *given: block(*given)) < 0.5 * kept(dense_block)


def given_embedding(own_positions=True):
    """Embedded islands, dense and as the open ones; the second cell has none, the last island is never open."""
    made = torch.Generator().manual_seed(3)
    values = torch.randint(0, 7, (4, 9), generator=made)
    values[1], values[:, -1] = 0, 0
    projection, states, positions = (
        torch.randn(shape, generator=made, dtype=torch.double).requires_grad_()
        for shape in ((9, SLOTS), (7, WIDTH), (9, WIDTH))
    )
    cell, island = values.nonzero(as_tuple=True)
    opened = {"cell": cell, "island": island, "value": values[cell, island], "n_cells": 4}
    return values, projection, states, positions.requires_grad_(own_positions), opened


@pytest.mark.parametrize("own_positions", [False, True])
def test_the_first_projection_equals_the_dense_one(own_positions):
    values, projection, states, positions, opened = given_embedding(own_positions)
    found = first_projection(projection, states, positions, **opened)
    dense = projection.mT @ (positions + states[values])
    same(found, dense)
    named = {"projection": projection, "states": states}
    same_gradients(found, dense, named | ({"positions": positions} if own_positions else {}))


def test_the_first_projection_takes_islands_in_any_order():
    _, projection, states, positions, opened = given_embedding()
    order = torch.randperm(len(opened["cell"]), generator=torch.Generator().manual_seed(4))
    mixed = {name: part[order] if name != "n_cells" else part for name, part in opened.items()}
    found = first_projection(projection, states, positions, **mixed)
    same(found, first_projection(projection, states, positions, **opened))


def test_a_block_takes_the_first_projection():
    values, projection, states, positions, opened = given_embedding()
    block = make()
    projected = first_projection(projection, states, positions, **opened)
    ours = block(positions + states[values], projection, projected=projected)
    plain = dense_block(block, positions + states[values], projection)
    same(ours, plain)
    named = {"projection": projection, "states": states, "positions": positions}
    same_gradients(ours, plain, named | dict(block.named_parameters()))


def test_half_precision_is_close_and_has_gradients(monkeypatch):
    monkeypatch.setattr(linformer, "_TILE", 16)
    torch.manual_seed(0)
    block = LinformerBlock(32, 2, 16, 64)
    x, projection = torch.randn(2, 50, 32, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    named = parameters(block, x, projection)
    exact = block(x, projection)
    with torch.autocast("cpu", torch.bfloat16):
        found = block(x, projection)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.05)
    weight = torch.randn(found.shape)
    rough, fine = (torch.autograd.grad((out * weight).sum(), list(named.values())) for out in (found, exact))
    for name, a, b in zip(named, rough, fine, strict=True):
        assert a.dtype == torch.float32, name
        assert (a - b).norm() < 0.05 * b.norm(), name


def test_dropout_drops_in_training_alone():
    block, (x, projection) = make(dropout=0.5), inputs()
    assert not torch.equal(block(x, projection), block(x, projection))
    torch.manual_seed(7)
    first = block(x, projection)
    torch.manual_seed(7)
    assert torch.equal(first, block(x, projection))
    first.sum().backward()
    assert all(p.grad.isfinite().all() for p in (x, projection, *block.parameters()))
    same(block.eval()(x, projection), dense_block(block, x, projection))


def test_dropping_everything_leaves_the_norms():
    block, (x, projection) = make(dropout=1.0), inputs()
    same(block(x, projection), block.last_norm(block.norm(x)))


def test_no_cells_give_no_cells():
    block, (x, projection) = make(), inputs()
    assert block(x[:0], projection).shape == (0, 11, WIDTH)


@pytest.mark.parametrize(
    ("tokens", "projection"),
    [
        ((3, 11, 5), (11, 2)),
        ((11, 6), (11, 2)),
        ((3, 11, 6), (10, 2)),
        ((3, 11, 6), (2, 11, 2)),
        ((3, 11, 6), (11,)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(tokens, projection):
    with pytest.raises(InputError, match=r"do not fit a block of width 6. Give \(cells, tokens, 6\)"):
        make()(torch.zeros(tokens).double(), torch.zeros(projection).double())


def test_projected_tokens_that_do_not_fit_are_refused():
    block, (x, projection) = make(), inputs()
    with pytest.raises(InputError, match=r"\(3, 4, 6\) where \(3, 3, 6\) is needed"):
        block(x, projection, projected=torch.zeros(3, 4, 6).double())
