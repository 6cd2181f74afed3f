"""Loops as links: the gene at one anchor of a BEDPE line, and what lies at the other."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...graphs.dataset import MultiomeGraphs
from .intervals import Intervals, overlaps
from .names import gene_ids

Int64 = npt.NDArray[np.int64]

PROMOTER: Final = 1_000  # bp to either side of the TSS
_BRACKETS: Final = r"^<([^<>]*)><([^<>]*)>$"
_SIDES: Final = {"gene-peak": 0, "peak-gene": 1}


def loop_elements(loops: pd.DataFrame, graphs: MultiomeGraphs) -> pd.DataFrame:
    """Turn loops into pairs of a gene and an element.

    A line's name tells the gene where it is ``<first><second>`` and one of the two is a gene of the
    dataset, or where it is such a gene as a whole; then the element is the other anchor, or that farther
    from the TSS. A line of which 10x says that one anchor is a gene (``peak-gene``) means this gene
    or none. All others pair each gene whose TSS ± 1 kb overlaps an anchor with the other anchor.

    Parameters
    ----------
    loops
        ``chrom1, start1, end1, chrom2, start2, end2, name, kind``.
    graphs
        Dataset with placed genes.

    Returns
    -------
    ``gene`` (id, -1 where the loop has none), ``name`` (what the file calls it), ``chrom, start, end``
    (of the element; of the first anchor where there is no gene).
    """
    gene, anchor, told = _named(loops, graphs)
    free, at = _by_promoter(loops, graphs, np.flatnonzero(~told))
    lost = np.setdiff1d(np.flatnonzero(~told), free // 2)
    rows = np.concatenate([np.flatnonzero(told), free // 2, lost])
    genes = np.concatenate([gene[told], at, np.full(len(lost), -1)])
    sides = np.concatenate([anchor[told], 1 - free % 2, np.zeros(len(lost), np.int64)])
    columns = {"gene": genes, "name": loops["name"].astype(object).to_numpy()[rows]}
    for field in ("chrom", "start", "end"):
        both = np.stack([loops[f"{field}1"].to_numpy(object), loops[f"{field}2"].to_numpy(object)])
        columns[field] = both[sides, rows]
    return pd.DataFrame(columns).astype({"gene": np.int64, "start": np.int64, "end": np.int64})


def _named(loops: pd.DataFrame, graphs: MultiomeGraphs) -> tuple[Int64, Int64, npt.NDArray[np.bool_]]:
    """Gene of each loop by its name (-1 for none), the anchor of the element, and whether the name decides."""
    names = loops["name"].astype("string")
    parts = names.str.extract(_BRACKETS)
    sides = np.stack([gene_ids(graphs, parts[side].fillna("")) for side in (0, 1)])
    whole = gene_ids(graphs, names.fillna(""))
    said = loops["kind"].map(_SIDES)
    at = np.where(said.notna(), said.fillna(0), np.where(sides[0] >= 0, 0, 1)).astype(np.int64)
    gene = sides[at, np.arange(len(loops))]
    element = np.where((gene < 0) & (whole >= 0), _farther(loops, graphs, whole), 1 - at)
    gene = np.where(gene < 0, whole, gene)
    return gene, element, (gene >= 0) | said.notna().to_numpy()


def _farther(loops: pd.DataFrame, graphs: MultiomeGraphs, gene: Int64) -> Int64:
    """Return which anchor lies farther from the TSS."""
    tss = graphs.genes.tss.numpy()[np.maximum(gene, 0)]
    away = [
        np.abs((loops[f"start{side}"] + loops[f"end{side}"]).to_numpy(np.int64) - 2 * tss) for side in "12"
    ]
    result: Int64 = (away[1] >= away[0]).astype(np.int64)
    return result


def _by_promoter(loops: pd.DataFrame, graphs: MultiomeGraphs, rows: Int64) -> tuple[Int64, Int64]:
    """Pair anchors (2 · loop, + 1 for the second) with the genes whose promoter they overlap."""
    chromosomes = graphs.store.manifest["chromosomes"]
    tss = graphs.genes.tss.numpy()
    chrom = np.where(tss >= 0, graphs.genes.chrom.numpy(), -1)
    promoters = Intervals(chrom, np.maximum(tss - PROMOTER, 0), tss + PROMOTER + 1)
    anchors, genes = [], []
    for side in (0, 1):
        columns = [f"{field}{side + 1}" for field in ("chrom", "start", "end")]
        table = loops.loc[rows, columns].set_axis(["chrom", "start", "end"], axis=1)
        loop, gene = overlaps(Intervals.of(table, chromosomes), promoters)
        anchors.append(2 * rows[loop] + side)
        genes.append(gene)
    return np.concatenate(anchors), np.concatenate(genes)
