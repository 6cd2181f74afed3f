"""SequenceKeys: what the DNA of each peak says about when it opens, read for some peaks a step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .sequence_encoder import SequenceEncoder

_ROWS = 4096


class SequenceKeys(nn.Module):
    """An encoding of every peak's DNA, of which a step reads some anew.

    Reading the DNA of all peaks at each step would outweigh all else, and it changes slowly: a step
    encodes the peaks it is given, with gradients, and takes the others as they were last.

    Parameters
    ----------
    codes
        (peaks, bases) uint8; empty where DNA is not at hand, as in a trained model.
    n_peaks, width
        Shape of the encodings.
    filters
        See `SequenceEncoder`.
    """

    def __init__(self, codes: Tensor, n_peaks: int, width: int, filters: int) -> None:
        super().__init__()
        self.codes: Tensor
        self.encoded: Tensor
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("encoded", torch.zeros(n_peaks, width))
        self.encoder = SequenceEncoder(width, filters=filters)
        self.mix = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.mix.weight)

    def read(self, peaks: Tensor) -> Tensor:
        """Encode peaks (n,) anew and remember it, (n, width)."""
        fresh: Tensor = self.encoder(self.codes[peaks])
        self.encoded[peaks] = fresh.detach()
        return fresh

    @torch.no_grad()
    def read_all(self) -> None:
        """Encode all peaks anew, where their DNA is at hand."""
        for peaks in torch.arange(len(self.codes), device=self.codes.device).split(_ROWS):
            self.read(peaks)

    def forward(self, peaks: Tensor | None = None, fresh: Tensor | None = None) -> Tensor:
        """Return what all peaks' DNA adds to their keys, (peaks, width).

        Parameters
        ----------
        peaks, fresh
            Peaks that were just read, and what `read` returned; gradients flow through these.
        """
        table = self.encoded
        if peaks is not None and fresh is not None:
            table = table.index_copy(0, peaks, fresh)
        added: Tensor = self.mix(table)
        return added
