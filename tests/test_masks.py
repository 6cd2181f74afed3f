"""Masks of pre-training: the budget, its spread over values, and independence of batch and order."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scweave.models.annotation.masking import mask, mask_among_closed
from scweave.models.layers.even_masks import even_masks, random_keys
from scweave.models.layers.island_encoder import MASK
from scweave.models.layers.profiles import Profiles

N_ISLANDS = 60
OPENNESS = torch.linspace(0, 0.2, N_ISLANDS)

cells = st.lists(
    st.dictionaries(st.integers(0, N_ISLANDS - 1), st.integers(1, 5), max_size=40), min_size=1, max_size=5
)


def profiles(rows: list[dict[int, int]]) -> Profiles:
    ids = [i for row in rows for i in sorted(row)]
    values = [row[i] for row in rows for i in sorted(row)]
    ptr = np.cumsum([0, *map(len, rows)])
    return Profiles(
        torch.tensor(ids, dtype=torch.int64), torch.tensor(values, dtype=torch.float32), torch.tensor(ptr)
    )


def draws(n: int) -> torch.Tensor:
    return torch.arange(n) * 7919 + 3


def water(counts: list[int], budget: int) -> list[int]:
    """Give one island at a time to the value that has least, as long as it has more."""
    given_out = [0] * len(counts)
    for _ in range(budget):
        open_ones = [v for v in range(len(counts)) if given_out[v] < counts[v]]
        best = min(open_ones, key=lambda v: given_out[v])
        given_out[best] += 1
    return given_out


@given(cells, st.floats(0.01, 1.0))
def test_the_budget_is_met_and_spread_as_evenly_as_counts_allow(rows, share):
    islands = profiles(rows)
    chosen = even_masks(islands, share, torch.rand(len(islands.ids)))
    for cell, row in enumerate(rows):
        own = chosen[islands.ptr[cell] : islands.ptr[cell + 1]]
        values = islands.counts[islands.ptr[cell] : islands.ptr[cell + 1]]
        budget = max(round(float(np.float32(share) * np.float32(len(row)))), int(len(row) > 0))
        counts = [int((values == v).sum()) for v in range(1, 6)]
        taken = [int((values[own] == v).sum()) for v in range(1, 6)]
        assert sum(taken) == budget
        assert sorted(taken) == sorted(water(counts, budget))
        for one in range(5):  # a value gets less than another only where it has no more
            for other in range(5):
                assert taken[one] >= taken[other] - 1 or taken[one] == counts[one]


def test_300_tokens_are_not_220_masks():
    islands = profiles([{i: 1 + i % 5 for i in range(60)}])
    assert int(even_masks(islands, 0.15, torch.rand(60)).sum()) == 9
    rare = profiles([{i: 1 if i < 57 else i - 54 for i in range(60)}])
    chosen = even_masks(rare, 0.15, torch.rand(60))
    assert int(chosen.sum()) == 9
    assert chosen[57:].all()  # one of each rare value, and the rest of the commonest


@given(cells, st.integers(0, 1000))
def test_a_cell_is_masked_alike_alone_and_among_others(rows, epoch):
    together = mask(profiles(rows), draws(len(rows)) + epoch, share=0.3, hidden=0.9)
    closed = mask_among_closed(profiles(rows), draws(len(rows)) + epoch, OPENNESS, share=0.3)
    for cell, row in enumerate(rows):
        draw = draws(len(rows))[cell : cell + 1] + epoch
        for all_cells, alone in (
            (together, mask(profiles([row]), draw, share=0.3, hidden=0.9)),
            (closed, mask_among_closed(profiles([row]), draw, OPENNESS, share=0.3)),
        ):
            nodes = slice(int(all_cells.islands.ptr[cell]), int(all_cells.islands.ptr[cell + 1]))
            assert torch.equal(all_cells.islands.ids[nodes], alone.islands.ids)
            assert torch.equal(all_cells.islands.counts[nodes], alone.islands.counts)
            assert torch.equal(all_cells.asked[nodes], alone.asked)


def test_hidden_values_are_masked_nine_times_in_ten_and_asked_for_as_they_were():
    islands = profiles([{i: 1 + i % 5 for i in range(60)}] * 200)
    masked = mask(islands, draws(200), share=0.5, hidden=0.9)
    hidden = masked.islands.counts[masked.asked] == MASK
    assert stats.binomtest(int(hidden.sum()), len(hidden), 0.9).pvalue > 1e-4
    assert torch.equal(masked.truth, islands.counts[masked.asked].long())
    shown = masked.islands.counts[~masked.asked]
    assert torch.equal(shown, islands.counts[~masked.asked])


@given(cells)
def test_closed_islands_are_added_hidden_and_are_truly_closed(rows):
    islands = profiles(rows)
    masked = mask_among_closed(islands, draws(len(rows)), OPENNESS, share=0.3)
    for cell, row in enumerate(rows):
        nodes = slice(int(masked.islands.ptr[cell]), int(masked.islands.ptr[cell + 1]))
        ids, asked = masked.islands.ids[nodes], masked.asked[nodes]
        assert (ids.diff() > 0).all()
        added = [int(i) for i in ids if int(i) not in row]
        assert len(added) <= int(sum(int(i) in row for i in ids[asked]))
        assert set(row) <= set(ids.tolist())
    truth = torch.zeros(len(masked.islands.ids), dtype=torch.int64)
    truth[masked.asked] = masked.truth
    for node, (cell, island) in enumerate(zip(masked.islands.cell, masked.islands.ids, strict=True)):
        if masked.asked[node]:
            assert int(truth[node]) == rows[int(cell)].get(int(island), 0)
            assert masked.islands.counts[node] == MASK


def test_closed_islands_are_drawn_half_by_openness_and_half_alike():
    rows = [{0: 1}] * 4000
    masked = mask_among_closed(profiles(rows), draws(4000), OPENNESS, share=0.3)
    drawn = np.bincount(masked.islands.ids[masked.islands.ids > 0], minlength=N_ISLANDS)[1:]
    chances = (OPENNESS / OPENNESS.sum() + 1 / N_ISLANDS).numpy()[1:] / 2
    assert stats.chisquare(drawn, chances / chances.sum() * drawn.sum()).pvalue > 1e-4


def test_keys_are_uniform_and_depend_on_every_number():
    keys = random_keys(5, torch.arange(300)[:, None], torch.arange(300))
    assert stats.kstest(keys.flatten().numpy(), "uniform").pvalue > 1e-4
    assert len(keys.unique()) == keys.numel()
    assert not (random_keys(6, torch.arange(300)[:, None], torch.arange(300)) == keys).any()
    assert abs(np.corrcoef(keys[:-1].flatten(), keys[1:].flatten())[0, 1]) < 0.02
