"""MapTally: the figures of a map as it streams past, and which genes to show first."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...graphs.dataset import MultiomeGraphs
from ..evidence.candidates import DEFAULT_WINDOW
from .table import signed_distance
from .type_links import TypeLinks

TOP = 1000  # peaks that stand for a cell type


class MapTally:
    """Count links, and add up each gene's attention (or effects, where known) near its TSS in each cell type.

    Parameters
    ----------
    graphs
        Dataset that is mapped.
    window
        What counts as near, in bp.
    """

    def __init__(self, graphs: MultiomeGraphs, *, window: int = DEFAULT_WINDOW) -> None:
        self.window = window
        self._graphs = graphs
        self._genes = np.zeros(len(graphs.genes), bool)
        self._peaks = np.zeros(len(graphs.peaks), bool)
        self._types: dict[str, dict[str, int]] = {}
        self._near: list[npt.NDArray[np.float64]] = []  # (genes,) a type
        self._best: dict[str, npt.NDArray[np.int64]] = {}  # peaks with the most score

    def add(self, piece: TypeLinks) -> None:
        """Take the links of one cell type."""
        self._types[piece.cell_type] = {
            "cells": piece.type_cells,
            "links": len(piece),
            "seen": int((piece.n_cells > 0).sum()),
        }
        self._genes[piece.gene] = True
        self._peaks[piece.peak] = True
        of_peaks = np.bincount(piece.peak, piece.score, minlength=len(self._peaks))
        best = np.argsort(-of_peaks, kind="stable")[:TOP]
        self._best[piece.cell_type] = best[of_peaks[best] > 0]
        _, distance, placed = signed_distance(self._graphs, piece.gene, piece.peak)
        strength = piece.score if piece.effect is None else np.maximum(piece.effect, 0.0)
        score = np.where(placed & (np.abs(distance) <= self.window), strength, 0.0)
        self._near.append(np.bincount(piece.gene, score, minlength=len(self._genes)).astype(np.float64))

    def summary(self) -> dict[str, Any]:
        """Return ``cells``, ``links``, ``genes``, ``peaks`` and, by name, the cells and links of each type.

        Links are seen where a cell expresses the gene and has the peak open.
        """
        types = self._types.values()
        return {
            "cells": sum(kind["cells"] for kind in types),
            "links": sum(kind["links"] for kind in types),
            "links seen in cells": sum(kind["seen"] for kind in types),
            "genes": int(self._genes.sum()),
            "peaks": int(self._peaks.sum()),
            "cell_types": self._types,
        }

    def top_peaks(self) -> dict[str, list[str]]:
        """Name the peaks of each cell type whose links have the most score in all, at most a thousand."""
        names = self._graphs.peaks.frame["peak"].to_numpy(object)
        return {name: names[best].tolist() for name, best in self._best.items()}

    def telling_genes(self, n: int = 3) -> list[str]:
        """Name the genes whose nearby attention differs most between cell types, weighed by their cells."""
        near = np.stack(self._near)  # (types, genes)
        cells = np.array([kind["cells"] for kind in self._types.values()], np.float64)[:, None]
        mean = (near * cells).sum(0) / cells.sum()
        # One type alone has no differences: show the genes with the most attention then.
        contrast = ((near - mean) ** 2 * cells).sum(0) if len(near) > 1 else mean
        best = np.argsort(-contrast, kind="stable")[:n]
        names: list[str] = self._graphs.genes.frame["gene"].iloc[best[contrast[best] > 0]].tolist()
        return names
