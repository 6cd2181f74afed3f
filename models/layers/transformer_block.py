"""A post-norm BERT block that is evaluated for all tokens, or for the first alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...graphs.errors import InputError
from .attention_backend import attend, key_mask


class SelfAttention(nn.Module):
    """Multi-head self-attention, softmax(Q·Kᵀ/√(d/heads))·V, and a map of the heads together.

    Parameters
    ----------
    width
        Width d of the tokens.
    heads
        Attention heads; divides the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise InputError(f"{heads} attention heads do not divide a width of {width}. Choose others.")
        self.width, self.heads = width, heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def split(self, x: Tensor) -> Tensor:
        """Turn (rows, tokens, d) into (rows, heads, tokens, d / heads)."""
        found: Tensor = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return found

    def forward(self, x: Tensor, lengths: Tensor | None = None, *, queries: int | None = None) -> Tensor:
        """Attend.

        Parameters
        ----------
        x
            (rows, tokens, d).
        lengths
            (rows,) tokens of each row that are no padding; all when None.
        queries
            Only the first so many tokens ask; all when None.

        Returns
        -------
        (rows, queries, d).
        """
        query, key, value = self.query(x[:, :queries]), self.key(x), self.value(x)
        found = attend(self.split(query), self.split(key), self.split(value), lengths)
        mixed: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return mixed

    def weights(self, x: Tensor, lengths: Tensor | None = None, *, queries: slice = slice(None)) -> Tensor:
        """Return the attention of some tokens to all, (rows, heads, queries, tokens)."""
        query, key = self.split(self.query(x[:, queries])), self.split(self.key(x))
        scores = query @ key.mT / math.sqrt(self.width // self.heads)
        if lengths is not None:
            scores = scores.masked_fill(~key_mask(lengths, x.shape[1])[:, None, None], -torch.inf)
        return scores.softmax(-1)


class TransformerBlock(nn.Module):
    """h = LN(x + drop(attention(x))), then LN(h + drop(W₂·GELU(W₁·h))), or another activation.

    Attention probabilities are not dropped: see `sentence_attention.SentenceAttention`.

    Parameters
    ----------
    width
        Width d of the tokens.
    heads
        Attention heads.
    hidden
        Width of the feed-forward layer.
    dropout
        Share of dropped entries behind attention and behind the feed-forward layer.
    activation
        Of the feed-forward layer.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        dropout: float = 0.0,
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), activation(), nn.Linear(hidden, width))
        self.last_norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return all tokens (rows, tokens, d), from (rows, tokens, d)."""
        return self.finish(x, self.attention(x, lengths))

    def first(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return only the first token of each row, (rows, d): no other asks, so the cost is linear in tokens."""
        return self.finish(x[:, 0], self.attention(x, lengths, queries=1)[:, 0])

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Do what follows attention; ``x`` and ``attended`` are (…, d)."""
        h = self.norm(x + self.drop(attended))
        done: Tensor = self.last_norm(h + self.drop(self.feed_forward(h)))
        return done
