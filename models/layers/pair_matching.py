"""PairMatching: which RNA encoding belongs to which ATAC encoding."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .profiles import DEPTHS

_START, _WARMEST = 1 / 0.07, 100.0  # inverse temperature at first and at most


class PairMatching(nn.Module):
    """Cosine of two encodings at a learned temperature, and a classifier of pairs beside it.

    Parameters
    ----------
    width
        Width of the encodings.
    hidden
        Width of the classifier's hidden layer.
    dropout
        In the classifier.
    """

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(math.log(_START)))
        self.classifier = nn.Sequential(
            nn.Linear(2 * width + 1 + 2 * DEPTHS, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 1),
        )

    def temperature(self) -> Tensor:
        """Return the inverse temperature."""
        return self.log_temperature.exp().clamp_max(_WARMEST)

    def contrast(self, rna: Tensor, atac: Tensor, rna_cell: Tensor, atac_cell: Tensor) -> Tensor:
        """Return the mean cross-entropy of finding a cell's partner among the batch, both ways.

        Parameters
        ----------
        rna, atac
            (pairs, width) unit encodings.
        rna_cell, atac_cell
            (pairs,) cells they come from. All profiles of a batch are candidates, those of negative pairs too;
            a second copy of the partner itself is none.

        Returns
        -------
        Zero where no pair of the batch is of one cell.
        """
        scores, match = self._candidates(rna, atac, rna_cell, atac_cell)
        if not len(match):
            return scores.new_zeros(())
        found: Tensor = 0.5 * (
            F.cross_entropy(scores[match], match) + F.cross_entropy(scores.T[match], match)
        )
        return found

    @torch.no_grad()
    def reciprocal_rank(self, rna: Tensor, atac: Tensor, rna_cell: Tensor, atac_cell: Tensor) -> Tensor:
        """Return the mean of 1 / rank of a cell's partner among the batch, both ways; arguments as in `contrast`.

        Ranks do not ask how sure the scores are, which the cross-entropy soon holds against a model.
        """
        scores, match = self._candidates(rna, atac, rna_cell, atac_cell)
        own = scores[match, match][:, None]
        # Ties count half, the partner's tie with itself not at all.
        ranks = [
            0.5 + (side[match] > own).sum(1) + 0.5 * (side[match] == own).sum(1)
            for side in (scores, scores.T)
        ]
        return torch.cat(ranks).double().reciprocal().mean()

    def _candidates(
        self, rna: Tensor, atac: Tensor, rna_cell: Tensor, atac_cell: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return scores (pairs, pairs), -inf for second copies of the partner, and the pairs of one cell."""
        scores = self.temperature() * (rna @ atac.T)
        own = torch.arange(len(rna), device=rna.device)
        same = rna_cell[:, None] == atac_cell
        scores = scores.masked_fill(same & (own[:, None] != own), -torch.inf)
        return scores, same.diagonal().nonzero().squeeze(1)

    def logits(self, rna: Tensor, atac: Tensor, depths: Tensor) -> Tensor:
        """Return the log odds that each pair is of one cell, (pairs,).

        Parameters
        ----------
        rna, atac
            (pairs, width) unit encodings.
        depths
            (pairs, 4) depths of both profiles.
        """
        alike = (rna * atac).sum(1, keepdim=True) * self.temperature().detach()
        features = torch.cat([rna * atac, (rna - atac).abs(), alike, depths], 1)
        logits: Tensor = self.classifier(features).squeeze(1)
        return logits
