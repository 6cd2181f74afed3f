"""SequenceEncoder: motif-like filters over the DNA of peaks, read on both strands."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...graphs.schema import BASES

_BASES = len(BASES) - 1  # N is no base: all of its channels are zero
_ROWS = 128  # sequences whose filter responses are held at a time: they stay in the cache


class SequenceEncoder(nn.Module):
    """One-hot convolution, the strongest response of each filter on either strand, two linear maps.

    Taking the larger strand makes the encoding that of the unordered double helix: a sequence and its
    reverse complement encode to the same vector.

    Parameters
    ----------
    width
        Width of the encoding.
    filters
        Motif-like filters.
    length
        Bases a filter spans.

    Shapes
    ------
    (n, bases) uint8 codes to (n, width). Sequences shorter than a filter are padded with N at
    both ends.
    """

    def __init__(self, width: int, *, filters: int = 32, length: int = 12) -> None:
        super().__init__()
        self.motifs = nn.Conv1d(_BASES, filters, length)
        self.read = nn.Sequential(nn.Linear(filters, 2 * filters), nn.GELU(), nn.Linear(2 * filters, width))

    def forward(self, codes: Tensor) -> Tensor:
        """Encode sequences."""
        parts = [self._strongest(some) for some in codes.split(_ROWS)]
        encoded: Tensor = self.read(
            torch.cat(parts) if parts else self.motifs.weight.new_zeros(0, self.motifs.out_channels)
        )
        return encoded

    def _strongest(self, codes: Tensor) -> Tensor:
        """Largest response of each filter over positions and strands, (n, filters)."""
        if torch.is_grad_enabled():  # responses at every base outweigh all else: they are computed again
            kept: Tensor = checkpoint(self._responses, codes, use_reentrant=False)
            return kept
        return self._responses(codes)

    def _responses(self, codes: Tensor) -> Tensor:
        weight, bias = self.motifs.weight, self.motifs.bias
        assert bias is not None
        known = F.one_hot(codes.long(), _BASES + 1)[..., :_BASES].to(weight.dtype).transpose(1, 2)
        short = max(0, weight.shape[2] - known.shape[2])
        known = F.pad(known, (short, short))  # alike at both ends, so that strands stay alike
        # Turned filters on the sequence respond as the filters do on its reverse complement.
        both = torch.cat([weight, weight.flip(1, 2)])
        response = F.conv1d(known, both).amax(2)
        ahead, back = response.chunk(2, 1)
        return torch.relu(torch.maximum(ahead, back) + bias)
