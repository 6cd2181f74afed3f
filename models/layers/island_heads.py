"""Heads of annATAC: a convolution reads every token to a number, and a perceptron reads the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

HEADS = {2: (512, 128), 3: (512, 256, 128)}  # hidden layers by depth


class ConvolutionHead(nn.Module):
    """One number a token by a (1, width) convolution, ReLU, then a perceptron whose last hidden layer is 128 wide.

    Parameters
    ----------
    n_tokens, width
        Tokens of a cell and their width.
    n_types
        Cell types.
    depth
        Hidden layers, 2 or, for types that resemble each other, 3.
    dropout
        After hidden layers.
    """

    def __init__(
        self, n_tokens: int, width: int, n_types: int, *, depth: int = 2, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.convolution = nn.Linear(width, 1)  # a kernel as wide as the token sees one token at a time
        self.hidden = perceptron(n_tokens, HEADS[depth], dropout)
        self.classifier = nn.Linear(HEADS[depth][-1], n_types)

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (cells, types) and the last hidden layer (cells, 128) of tokens (cells, tokens, width)."""
        embedding = self.hidden(self.convolution(encoded).squeeze(-1).relu())
        return self.classifier(embedding), embedding


def perceptron(n_inputs: int, widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Return linear layers of some widths, with ReLU and dropout after each."""
    layers: list[nn.Module] = []
    for before, width in zip((n_inputs, *widths), widths, strict=False):
        layers += [nn.Linear(before, width), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)
