"""A pre-norm transformer block over a few tokens."""

from __future__ import annotations

from torch import Tensor, nn

from .transformer_block import SelfAttention


class PreNormBlock(nn.Module):
    """h = x + drop(attention(LN(x))), then h + drop(W₂·drop(GELU(W₁·LN(h)))).

    Parameters
    ----------
    width, heads, hidden
        As of `TransformerBlock`.
    dropout
        Share of dropped entries behind attention, behind the feed-forward layer and in it.

    Shapes
    ------
    (rows, tokens, d), in and out.
    """

    def __init__(self, width: int, heads: int, hidden: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm, self.last_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return all tokens."""
        h = x + self.drop(self.attention(self.norm(x)))
        done: Tensor = h + self.drop(self.feed_forward(self.last_norm(h)))
        return done
