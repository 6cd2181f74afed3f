"""Sentences of peaks through several transformer blocks: full attention below, the sentence token alone on top."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .sentence_attention import OpenTokens
from .transformer_block import TransformerBlock

_NUMBERS = 1 << 22  # entries of the largest array that is held at a time


@dataclass(frozen=True)
class PeakPairs:
    """The strongest attention between peaks of a sentence, a cell at a time.

    Attributes
    ----------
    cell, sentence
        (edges,) places in the batch and among the types.
    query, key
        (edges,) tokens: which peak attends to which.
    weight
        (edges,) mean over heads; a cell's edges in a sentence come strongest first.
    """

    cell: Tensor
    sentence: Tensor
    query: Tensor
    key: Tensor
    weight: Tensor


@dataclass(frozen=True)
class DeepSentences:
    """Sentences [sentence token, peaks…] of which several blocks make one vector each.

    Attributes
    ----------
    blocks
        Two or more.
    sets, tokens, states
        (sentences, d), (peaks, d) and (2, d); as in `SentenceAttention.of`.
    ptr
        Pointers of the sentences into the tokens.
    keep
        (peaks,) mask of those that are not dropped; all when None.
    """

    blocks: Sequence[TransformerBlock]
    sets: Tensor
    tokens: Tensor
    states: Tensor
    ptr: tuple[int, ...]
    keep: Tensor | None = None

    def __call__(self, opened: OpenTokens) -> Tensor:
        """Return the sentence tokens behind the last block, (cells, sentences, d).

        A chunk holds cells of one sentence, so no token is padding. Where all tokens are more than a chunk
        holds and gradients are wanted, chunks are computed a second time for them.
        """
        again = torch.is_grad_enabled() and opened.n_cells * self.tokens.numel() > _NUMBERS
        found: dict[int, list[Tensor]] = {}
        for sentence, _, states in self._chunks(opened):
            given = (self._encode, sentence, states)
            rows = checkpoint(*given, use_reentrant=False) if again else self._encode(sentence, states)
            found.setdefault(sentence, []).append(rows)
        return torch.stack([torch.cat(rows) for rows in found.values()], 1)

    @torch.no_grad()
    def pairs(self, opened: OpenTokens, *, layer: int, top: int) -> Iterator[PeakPairs]:
        """Yield the ``top`` strongest pairs of peaks of each cell and sentence in a block's attention."""
        for sentence, first, states in self._chunks(opened):
            x = self._tokens(sentence, states)
            for block in self.blocks[:layer]:
                x = block(x)
            kept, n = self._kept(sentence), x.shape[1] - 1
            weight, place = _strongest(self.blocks[layer], x, min(top, n * n))
            cell = first + torch.arange(len(x), device=x.device).repeat_interleave(weight.shape[1])
            query, key = place // max(n, 1), place % max(n, 1)
            yield PeakPairs(
                cell,
                torch.full_like(cell, sentence),
                kept[query].flatten(),
                kept[key].flatten(),
                weight.flatten(),
            )

    def _chunks(self, opened: OpenTokens) -> Iterator[tuple[int, int, Tensor]]:
        """Yield sentence, first cell, and states (cells, peaks of the sentence) of some cells at a time."""
        n = opened.n_sentences
        row = opened.row
        cell, of_sentence = row // n, row % n
        for sentence, (begin, end) in enumerate(zip(self.ptr[:-1], self.ptr[1:], strict=True)):
            own = of_sentence == sentence
            cells, token = cell[own], opened.token[own] - begin
            step = max(1, _NUMBERS // ((end - begin + 1) * self.tokens.shape[1]))
            for first in range(0, max(opened.n_cells, 1), step):
                size = min(step, opened.n_cells - first)
                some = (cells >= first) & (cells < first + size)
                states = torch.zeros(size, end - begin, dtype=torch.long, device=token.device)
                states[cells[some] - first, token[some]] = 1
                yield sentence, first, states

    def _kept(self, sentence: int) -> Tensor:
        """Tokens of a sentence that are not dropped."""
        own = torch.arange(self.ptr[sentence], self.ptr[sentence + 1], device=self.tokens.device)
        return own if self.keep is None else own[self.keep[own]]

    def _tokens(self, sentence: int, states: Tensor) -> Tensor:
        """Return sentence token and peaks of cells, (cells, 1 + peaks, d)."""
        kept = self._kept(sentence)
        peaks = self.tokens[kept] + self.states[states[:, kept - self.ptr[sentence]]]
        return torch.cat([self.sets[sentence].expand(len(states), 1, -1), peaks], 1)

    def _encode(self, sentence: int, states: Tensor) -> Tensor:
        x = self._tokens(sentence, states)
        for block in self.blocks[:-1]:
            x = block(x)
        return self.blocks[-1].first(x)


def _strongest(block: TransformerBlock, x: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Find the strongest pairs of peaks, some queries at a time.

    Returns
    -------
    weight, place
        (rows, top) attention averaged over heads, and query · peaks + key.
    """
    rows, n = len(x), x.shape[1] - 1
    best, where = x.new_zeros(rows, 0), torch.zeros(rows, 0, dtype=torch.long, device=x.device)
    step = max(1, _NUMBERS // max(rows * block.attention.heads * (n + 1), 1))
    for begin in range(0, n, step):
        asked = slice(1 + begin, 1 + min(begin + step, n))
        weight = block.attention.weights(x, queries=asked).mean(1)[:, :, 1:].flatten(1)
        place = begin * n + torch.arange(weight.shape[1], device=x.device).expand(rows, -1)
        best, where = torch.cat([best, weight], 1), torch.cat([where, place], 1)
        best, order = best.topk(min(top, best.shape[1]), dim=1)
        where = where.gather(1, order)
    return best, where
