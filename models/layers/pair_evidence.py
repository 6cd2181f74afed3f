"""Counted evidence of genes and of peaks for types."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...graphs.csr import CsrRows
from .profiles import Profiles
from .type_evidence import TypeEvidence

Int64 = NDArray[np.int64]
_LEAST = 1e-6


class PairEvidence(nn.Module):
    """`TypeEvidence` of expressed genes and of open peaks, each in units of its spread over training cells.

    Parameters
    ----------
    n_genes, n_peaks, n_types
        Sizes.
    smoothing
        As of `TypeEvidence`.

    Shapes
    ------
    (cells, types) of RNA and of ATAC; 0 where a modality is missing.
    """

    def __init__(self, n_genes: int, n_peaks: int, n_types: int, *, smoothing: float) -> None:
        super().__init__()
        self.rna = TypeEvidence(n_genes, n_types, smoothing=smoothing)
        self.atac = TypeEvidence(n_peaks, n_types, smoothing=smoothing)
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(2))

    @torch.no_grad()
    def fit(self, rna: CsrRows, atac: CsrRows, cells: Int64, codes: Int64) -> tuple[Tensor, Tensor]:
        """Count the evidence of labelled training cells.

        Returns
        -------
        What it is for these cells, each as if it had not been fitted on.
        """
        types, left = torch.from_numpy(codes), []
        for i, (rows, part) in enumerate(((rna, self.rna), (atac, self.atac))):
            part.fit(Profiles.chunks(rows, cells), codes)
            found = [
                part.leave_one_out(some, own) for some, own in _with(types, Profiles.chunks(rows, cells))
            ]
            left.append(torch.cat(found))
            self.scale[i] = left[i].std(correction=0).clamp_min(_LEAST)
        return left[0] / self.scale[0], left[1] / self.scale[1]

    def forward(self, rna: Profiles, atac: Profiles) -> tuple[Tensor, Tensor]:
        """Return the evidence of cells that were not fitted on."""
        return self.rna(rna) / self.scale[0], self.atac(atac) / self.scale[1]

    def leave_one_out(self, rna: Profiles, atac: Profiles, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the evidence of training cells of types ``codes``, each as if it had not been fitted on."""
        found = self.rna.leave_one_out(rna, codes), self.atac.leave_one_out(atac, codes)
        return found[0] / self.scale[0], found[1] / self.scale[1]


def _with(codes: Tensor, chunks: Iterator[Profiles]) -> Iterator[tuple[Profiles, Tensor]]:
    """Give each chunk with the types of its cells."""
    begin = 0
    for some in chunks:
        yield some, codes[begin : begin + len(some)]
        begin += len(some)
