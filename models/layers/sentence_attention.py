"""Attention of each cell type's sentence over its peaks, exact, at the cost of the cell's open peaks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from ...graphs.segments import unique_ids
from .bags import bag
from .profiles import Profiles
from .transformer_block import SelfAttention

CLOSED, OPEN = 0, 1  # rows of the state embedding


@dataclass(frozen=True)
class OpenTokens:
    """Open peaks of cells that some sentence has, by cell, then sentence.

    Attributes
    ----------
    token
        (nodes,) place of each peak among the tokens of all sentences.
    ptr
        (cells · sentences + 1,) pointers into the nodes.
    n_sentences
        Sentences of a cell.
    """

    token: Tensor
    ptr: Tensor
    n_sentences: int

    @classmethod
    def of(cls, profiles: Profiles, token_of_peak: Tensor, ptr: Tensor) -> OpenTokens:
        """Find the tokens of cells.

        Parameters
        ----------
        profiles
            Open peaks of cells.
        token_of_peak
            (peaks,) token of each peak, −1 where no sentence has it.
        ptr
            (sentences + 1,) pointers into the tokens.
        """
        n = len(ptr) - 1
        token = token_of_peak[profiles.ids]
        known = token >= 0
        token = token[known]
        row = profiles.cell[known] * n + torch.searchsorted(ptr[1:].contiguous(), token, right=True)
        sizes = torch.bincount(row, minlength=len(profiles) * n)
        return cls(token[row.argsort(stable=True)], F.pad(sizes.cumsum(0), (1, 0)), n)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return (len(self.ptr) - 1) // self.n_sentences

    @property
    def row(self) -> Tensor:
        """Cell · sentences + sentence of each node, (nodes,)."""
        return torch.repeat_interleave(self.ptr.diff())


@dataclass(frozen=True)
class CellAttention:
    """Where the sentences of cells look; the three parts of a sentence add up to 1.

    Attributes
    ----------
    cls
        (cells, sentences, heads) attention of the sentence token to itself.
    closed
        (cells, sentences, heads) attention to all closed peaks together.
    open
        (nodes, heads) attention to each open peak, in the order of the `OpenTokens`.
    closed_scale
        (cells, sentences, heads): times ``SentenceAttention.weight`` it is the attention to a closed peak.
    """

    cls: Tensor
    closed: Tensor
    open: Tensor
    closed_scale: Tensor


@dataclass(frozen=True)
class SentenceAttention:
    """The rows of the sentence tokens in an attention layer over [sentence token, peaks…], exactly.

    The query does not depend on the cell, and the key and value of a peak are a part of the peak plus a part of
    its state (closed or open). So the weight of a peak is w_p · f_state, and of a sentence with peaks S::

        closed mass = Σ_S w − Σ_open w,    closed values = Σ_S w·v − Σ_open w·v

    where the sums over S are the same for all cells of a step: what a cell costs is a sum over its open peaks,
    a product of a sparse matrix (cells · sentences × peaks) and a table (peaks × (d + heads)).

    Notes
    -----
    All weights are relative to the largest of their head and sentence, and the three parts (sentence token,
    closed, open) to the largest that the cell has, so that nothing overflows and no denominator vanishes.
    Closed masses are good to the precision ε of the numbers times Σ_S w, so attention is good to about
    ε · max(1, f_closed / f_open): for float32 to be felt, heads must prefer closed peaks e¹⁰ times. In half
    precision the difference of two sums is worth little: evaluate outside of autocast.

    Dropout of attention probabilities does not decompose: it takes a draw for every cell, sentence, peak and
    head, closed peaks included, so no sum over closed peaks would be shared by cells. Instead whole peaks are
    dropped for a step (``keep``) and the others share the attention, which adds up to 1 as without dropout.

    Attributes
    ----------
    attention
        The layer.
    tokens
        (peaks, d) parts of the peaks.
    ptr
        Pointers into the tokens, one more than there are sentences; blocks may be uneven or empty.
    weight
        (peaks, heads) w_p; 0 for dropped peaks.
    mass, values
        (sentences, heads) Σ_S w and (sentences, d) Σ_S w·v.
    level
        (sentences, heads, 3) logarithm of the factor of sentence token, closed, and open peaks.
    part
        (sentences, 3, d) values of the sentence token and of the two states.
    """

    attention: SelfAttention
    tokens: Tensor
    ptr: tuple[int, ...]
    weight: Tensor
    mass: Tensor
    values: Tensor
    level: Tensor
    part: Tensor

    @classmethod
    def of(
        cls,
        attention: SelfAttention,
        sets: Tensor,
        tokens: Tensor,
        states: Tensor,
        ptr: tuple[int, ...],
        *,
        keep: Tensor | None = None,
    ) -> SentenceAttention:
        """Make the tables of a step.

        Parameters
        ----------
        attention
            The layer.
        sets, tokens, states
            (sentences, d), (peaks, d) and (2, d): sentence tokens, peaks, and what is added to a closed or
            open peak.
        ptr
            Pointers of the sentences into the tokens.
        keep
            (peaks,) mask of those that are not dropped; all when None.
        """
        heads, width = attention.heads, attention.width
        query = attention.query(sets).view(-1, heads, width // heads) / math.sqrt(width // heads)
        fold = torch.einsum("che,hed->chd", query, _by_head(attention.key.weight, heads))
        weight, mass, mixed, top = _weigh(tokens, fold, ptr, keep)
        values = torch.einsum("chd,hed->che", mixed, _by_head(attention.value.weight, heads)).flatten(1)
        others = torch.stack([sets, *(state.expand_as(sets) for state in states)], 1)
        keys = attention.key(others).unflatten(-1, (heads, -1))
        level = torch.einsum("che,cshe->chs", query, keys) - F.pad(top[..., None], (0, 2))
        return cls(attention, tokens, ptr, weight, mass, values, level, attention.value(others))

    def __call__(self, opened: OpenTokens) -> Tensor:
        """Return the attention output of the sentence tokens, (cells, sentences, d)."""
        heads, width = self.attention.heads, self.attention.width
        used, place = unique_ids(opened.token, len(self.tokens))
        value, weight = F.linear(self.tokens[used], self.attention.value.weight), self.weight[used]
        table = torch.cat([(value.unflatten(1, (heads, -1)) * weight[..., None]).flatten(1), weight], 1)
        sums = self._sums(table, place, opened)
        in_open, mass = sums.split([width, heads], 2)
        masses, scale = self._shares(mass)
        fixed = (self.part.unflatten(2, (heads, -1)) * (masses * scale).movedim(3, 2)[..., None]).sum(2)
        found = (self.values - in_open).unflatten(2, (heads, -1)) * scale[..., 1, None]
        found = found + in_open.unflatten(2, (heads, -1)) * scale[..., 2, None]
        mixed: Tensor = self.attention.out((fixed + found).flatten(2))
        return mixed

    def weights(self, opened: OpenTokens) -> CellAttention:
        """Return where the sentences of cells look."""
        used, place = unique_ids(opened.token, len(self.tokens))
        weight = self.weight[used]
        masses, scale = self._shares(self._sums(weight, place, opened))
        cls, closed, _ = (masses * scale).unbind(3)
        of_open = weight[place] * scale[..., 2].flatten(0, 1)[opened.row]
        return CellAttention(cls, closed, of_open, scale[..., 1])

    def table(self) -> Tensor:
        """Return the attention to each peak when it is closed and when it is open, (2, peaks, heads).

        Every other peak is closed.
        """
        sentence = torch.repeat_interleave(torch.tensor(self.ptr, device=self.weight.device).diff())
        _, scale = self._shares(torch.zeros_like(self.mass)[None])
        shut = self.weight * scale[0, sentence, :, 1]
        level = self.level[sentence]  # one peak open, all others as they are
        rest = (self.mass[sentence] - self.weight).clamp_min(0)
        parts = torch.stack([torch.ones_like(rest), rest, self.weight], 2)
        factor = (level.masked_fill(parts == 0, -torch.inf) - _largest(level, parts)).exp()
        return torch.stack([shut, self.weight * factor[..., 2] / (parts * factor).sum(2)])

    def _sums(self, table: Tensor, place: Tensor, opened: OpenTokens) -> Tensor:
        """Add up rows of a table over the open peaks of sentences, (cells, sentences, width)."""
        table = table.to(torch.promote_types(table.dtype, torch.float32))
        ones = torch.ones(len(place), dtype=table.dtype, device=table.device)
        return bag(table, place, ones, opened.ptr).view(-1, opened.n_sentences, table.shape[1])

    def _shares(self, mass: Tensor) -> tuple[Tensor, Tensor]:
        """Compare sentence token, closed and open peaks.

        Parameters
        ----------
        mass
            (cells, sentences, heads) Σ_open w.

        Returns
        -------
        masses, scale
            (cells, sentences, heads, 3); their product is the attention to each of the three.
        """
        closed = (self.mass - mass).clamp_min(0)
        masses = torch.stack([torch.ones_like(mass), closed, mass], 3)
        level = self.level.expand_as(masses)
        factor = (level.masked_fill(masses == 0, -torch.inf) - _largest(level, masses)).exp()
        return masses, factor / (masses * factor).sum(3, keepdim=True)


def _largest(level: Tensor, masses: Tensor) -> Tensor:
    """The largest level that has any mass, (…, 1); a constant to gradients."""
    return level.detach().masked_fill(masses == 0, -torch.inf).amax(-1, keepdim=True)


def _by_head(weight: Tensor, heads: int) -> Tensor:
    found: Tensor = weight.unflatten(0, (heads, -1))
    return found


def _weigh(
    tokens: Tensor, fold: Tensor, ptr: tuple[int, ...], keep: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weigh the peaks of each sentence by folded queries (sentences, heads, d).

    Returns
    -------
    weight : (peaks, heads), relative to the largest of the sentence
    mass : (sentences, heads), sum of the weights
    mixed : (sentences, heads, d), sum of weight · token
    top : (sentences, heads), logarithm of what weights are relative to
    """
    found = []
    sizes = [end - begin for begin, end in pairwise(ptr)]
    kept = [None] * len(sizes) if keep is None else keep[:, None].split(sizes)
    for query, own, mask in zip(fold, tokens.split(sizes), kept, strict=True):
        scores = own @ query.T
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        floor = scores.new_full((1, scores.shape[1]), -torch.inf)  # of a sentence without peaks
        top = torch.cat([scores.detach(), floor]).amax(0).nan_to_num(neginf=0.0)
        weight = (scores - top).exp()
        found.append((weight, weight.sum(0), weight.T @ own, top))
    weights, mass, mixed, tops = zip(*found, strict=True)
    return torch.cat(weights), torch.stack(mass), torch.stack(mixed), torch.stack(tops)
