"""The corrected HitAnno written plainly: dense tables of cells by peaks in float64, one type and one cell at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dense_hitanno import dense_block
from scweave.models.layers.type_comparison import TypeComparison

LEAST = 1e-3  # of a peak in the background
DEPTH = 0.3  # scale of what knows depth


def open_weights(counts: np.ndarray) -> np.ndarray:
    """(cells, peaks) of 1/√n at the n open peaks of a cell."""
    weights = np.zeros(counts.shape)
    for cell, row in enumerate(counts):
        for peak in np.flatnonzero(row):
            weights[cell, peak] = 1 / np.sqrt((row > 0).sum())
    return weights


@dataclass(frozen=True)
class DenseEvidence:
    """Sums (peaks, types) of open weights, their background (peaks,), and weight of the background in peaks."""

    sums: np.ndarray
    background: np.ndarray
    smoothing: float

    @classmethod
    def of(cls, counts: np.ndarray, codes: np.ndarray, n_types: int, smoothing: float) -> DenseEvidence:
        weights = open_weights(counts)
        sums = np.stack([weights[codes == code].sum(0) for code in range(n_types)], 1)
        pooled = sums.sum(1)
        shares = np.where(pooled > 0, pooled + LEAST, 0)
        return cls(sums, shares / max(shares.sum(), LEAST), smoothing)

    @property
    def table(self) -> np.ndarray:
        """(peaks, types), 0 where no training cell has the peak."""
        table, k = np.zeros(self.sums.shape), self.smoothing * len(self.sums)
        for peak in np.flatnonzero(self.background):
            b = self.background[peak]
            table[peak] = np.log((self.sums[peak] + k * b) / ((self.sums.sum(0) + k) * b))
        return table

    def evidence(self, counts: np.ndarray) -> np.ndarray:
        """(cells, types) of cells that were not fitted on."""
        found = open_weights(counts) @ self.table
        return found - found.mean(1, keepdims=True)

    def leave_one_out(self, counts: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """(cells, types) of training cells: sums anew without the cell, for each cell; the background stays."""
        found = []
        for weights, row, code in zip(open_weights(counts), counts, codes, strict=True):
            sums = self.sums.copy()
            sums[:, code] = np.maximum(sums[:, code] - weights, 0)  # rounding
            found.append(DenseEvidence(sums, self.background, self.smoothing).evidence(row[None])[0])
        return np.array(found)


def dense_comparison(model: TypeComparison, evidence: Tensor, depth: Tensor) -> Tensor:
    """Logits (cells, types), a cell at a time, without dropout."""
    n_types = evidence.shape[1]
    a, b, d = model.map.weight.split([n_types, n_types, 1], 1)
    rows = []
    for z, depth_of_cell in zip(evidence, depth, strict=True):
        n = DEPTH * depth_of_cell
        logits = a @ z + n * (b @ z) + n * d[:, 0] + model.map.bias
        if len(model.blocks):
            x = [model.types[0] + depth_of_cell * model.depth]
            for c in range(n_types):
                told = z[c] * (model.evidence[0, c] + depth_of_cell * model.evidence[1, c])
                x.append(model.types[1 + c] + depth_of_cell * model.depth + told)
            x = torch.stack(x)
            for block in model.blocks:
                x = dense_block(block, x)
            logits = logits + model.of_cell(x[0]) + torch.stack([model.of_type(t)[0] for t in x[1:]])
        rows.append(logits)
    return torch.stack(rows)
