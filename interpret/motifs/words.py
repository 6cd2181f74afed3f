"""Scores of every place in many sequences at once, added up from tables of words of three bases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ...graphs.bases import N
from .scoring import Float64, Int64, Scoring

Codes = npt.NDArray[np.uint8]

WORD: Final = 3  # bases that a table is asked for at once
_WORDS: Final = (N + 1) ** WORD
_COLUMNS: Final = 256  # motifs and strands a table, so that it stays in the cache
_NEVER: Final = -float(1 << 22)  # what N scores: below any threshold


@dataclass(frozen=True)
class WordTables:
    """Tables of motifs with the same number of words.

    ``columns`` are motif · 2 + strand; ``tables`` hold up to 256 columns each, (words · 125, columns).
    """

    words: int
    shortest: int
    columns: list[Tensor]
    tables: list[Tensor]


def words_of(padded: Codes) -> npt.NDArray[np.int32]:
    """Code of the word that begins at each place of codes (peaks, places + 2), (peaks, places)."""
    codes = padded.astype(np.int32)
    return (codes[:, :-2] * (N + 1) + codes[:, 1:-1]) * (N + 1) + codes[:, 2:]


def matches(words: Tensor, width: int, tables: WordTables, batch: int) -> tuple[Int64, Int64, Int64, Int64]:
    """Find the matches of one group of motifs.

    Parameters
    ----------
    words
        (peaks, places) of `words_of`, of sequences that N follows.
    width
        Bases of a sequence.
    tables
        Of the group.
    batch
        Peaks scored at once.

    Returns
    -------
    (matches,) each: peak, position, motif · 2 + strand, level above the threshold.
    """
    places = max(width - tables.shortest + 1, 0)
    parts = [words[:, WORD * j : WORD * j + places] + _WORDS * j for j in range(tables.words)]
    which = torch.stack(parts, dim=2)  # (peaks, places, words)
    rows, columns, above = [], [], []
    for own, table in zip(tables.columns, tables.tables, strict=True):
        for begin in range(0, len(which), batch):
            row, column, value = _reaching(which[begin : begin + batch].reshape(-1, tables.words), table)
            rows.append(row + begin * places)
            columns.append(own[column])
            above.append(value.long())
    place, column_of, level = (torch.cat(own).cpu().numpy() for own in (rows, columns, above))
    return place // max(places, 1), place % max(places, 1), column_of, level


def _reaching(which: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Places (rows) and columns that reach the threshold, and by how much."""
    if not len(which):
        nothing = torch.zeros(0, dtype=torch.int64, device=which.device)
        return nothing, nothing, nothing.float()
    scores = functional.embedding_bag(which, table, mode="sum")
    rows = (scores.amax(1) >= 0).nonzero()[:, 0]
    few = scores[rows]
    row, column = (few >= 0).nonzero(as_tuple=True)
    return rows[row], column, few[row, column]


def all_tables(scoring: Scoring, device: torch.device) -> Iterator[WordTables]:
    """Make the tables of all motifs, a group for each number of words."""
    lengths = np.array([len(own) for own in scoring.levels], np.int64)
    needed = -(-lengths // WORD)
    for words in np.unique(needed).tolist():
        motifs = np.flatnonzero(needed == words)
        columns, tables = [], []
        for begin in range(0, len(motifs), _COLUMNS // 2):
            some = motifs[begin : begin + _COLUMNS // 2]
            columns.append(torch.from_numpy((some[:, None] * 2 + [0, 1]).ravel()).to(device))
            table = np.concatenate([_both_strands(scoring, int(motif), words) for motif in some], axis=1)
            tables.append(torch.from_numpy(table).to(device))
        yield WordTables(words, int(lengths[motifs].min()), columns, tables)


def _both_strands(scoring: Scoring, motif: int, words: int) -> npt.NDArray[np.float32]:
    """Levels of all words at each place of a motif, less its threshold, (words · 125, 2)."""
    forward = scoring.levels[motif].astype(np.float64)
    table = np.stack([_table(own, words) for own in (forward, forward[::-1, ::-1])], axis=1)
    table[:_WORDS] -= scoring.threshold[motif]
    return table.astype(np.float32)


def _table(levels: Float64, words: int) -> Float64:
    """Sum of the levels of three bases, for every word and third; (words · 125,)."""
    own = np.zeros((words * WORD, N + 1))
    own[: len(levels), :N], own[: len(levels), N] = levels, _NEVER
    a, b, c = own.reshape(words, WORD, N + 1).transpose(1, 0, 2)
    return (a[:, :, None, None] + b[:, None, :, None] + c[:, None, None, :]).reshape(-1)
