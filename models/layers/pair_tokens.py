"""Tokens of the two modalities of a cell, and what they ask each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .cross_attention import CrossAttention
from .modality_tokens import cut
from .pre_norm_block import PreNormBlock

Attention = Literal["cross", "self", "none"]
_SPREAD = 0.1  # of positions and missing tokens as training begins


class PairTokens(nn.Module):
    """Pieces of two vectors a cell, RNA's and ATAC's, as tokens; learned ones stand for a modality that is missing.

    token = W · piece + position. Beside its pieces a modality may have one more token, of a vector of its own.

    Parameters
    ----------
    width, gap
        Of the vectors, and of their pieces; the last piece is padded.
    d
        Width of the tokens.
    beside
        Width of the vector that makes one more token; none when 0.

    Shapes
    ------
    Tokens are (cells, ⌈width / gap⌉ + (beside > 0), d).
    """

    def __init__(self, width: int, gap: int, d: int, *, beside: int = 0) -> None:
        super().__init__()
        self.gap = gap
        n = -(-width // gap) + (beside > 0)
        self.embed = nn.ModuleList(nn.Linear(gap, d) for _ in range(2))
        self.embed_beside = nn.ModuleList(nn.Linear(beside, d) for _ in range(2 * (beside > 0)))
        self.position = nn.Parameter(_SPREAD * torch.randn(2, n, d))
        self.missing = nn.Parameter(_SPREAD * torch.randn(2, n, d))

    def forward(
        self, vectors: Sequence[Tensor], has: Tensor, beside: Sequence[Tensor] = ()
    ) -> tuple[Tensor, Tensor]:
        """Make tokens.

        Parameters
        ----------
        vectors
            (cells, width) of RNA and of ATAC.
        has
            (cells, 2) whether each is there.
        beside
            (cells, beside) of RNA and of ATAC.
        """
        rna, atac = (self._one(i, vectors[i], has[:, i], beside[i : i + 1]) for i in range(2))
        return rna, atac

    def _one(self, i: int, vectors: Tensor, has: Tensor, beside: Sequence[Tensor]) -> Tensor:
        tokens = self.embed[i](cut(vectors, self.gap))
        more = [self.embed_beside[i](some)[:, None] for some in beside] if len(self.embed_beside) else []
        return torch.where(
            has[:, None, None], torch.cat([tokens, *more], 1) + self.position[i], self.missing[i]
        )


class PairExchange(nn.Module):
    """f = (x + attended) / 2, each modality asking the other, and then a transformer block and a norm a modality.

    Attention is over the tokens of one cell.

    Parameters
    ----------
    d, heads, hidden
        Width of the tokens, attention heads, width of the feed-forward layers.
    attention
        ``cross``; ``self``: each modality asks itself; ``none``: f = x.
    dropout
        In the blocks.

    Shapes
    ------
    (cells, tokens, d) for each modality, in and out.
    """

    def __init__(self, d: int, heads: int, hidden: int, *, attention: Attention, dropout: float) -> None:
        super().__init__()
        self.asks: Attention = attention
        asked = 0 if attention == "none" else 2
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(asked))
        self.attention = nn.ModuleList(CrossAttention(d, heads) for _ in range(asked))
        self.encoders = PairEncoder(d, heads, hidden, dropout=dropout)

    def forward(self, rna: Tensor, atac: Tensor) -> tuple[Tensor, Tensor]:
        """Exchange."""
        if self.asks != "none":
            tokens = (rna, atac)
            asked = [norm(x) for norm, x in zip(self.norms, tokens, strict=True)]
            other = asked[::-1] if self.asks == "cross" else asked
            ways: Any = self.attention
            rna, atac = (
                (x + way.between(own, context)) / 2
                for x, way, own, context in zip(tokens, ways, asked, other, strict=True)
            )
        found: tuple[Tensor, Tensor] = self.encoders(rna, atac)
        return found


class PairEncoder(nn.Module):
    """A transformer block and a norm a modality.

    Parameters
    ----------
    d, heads, hidden, dropout
        As of `PreNormBlock`.
    """

    def __init__(self, d: int, heads: int, hidden: int, *, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(PreNormBlock(d, heads, hidden, dropout=dropout) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(2))

    def forward(self, rna: Tensor, atac: Tensor) -> tuple[Tensor, Tensor]:
        """Encode the tokens of each."""
        rna, atac = (
            norm(block(x)) for norm, block, x in zip(self.norms, self.blocks, (rna, atac), strict=True)
        )
        return rna, atac
