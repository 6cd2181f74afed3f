"""Genes and peaks of a map: where they lie, and how cells of each type express and open them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...graphs.dataset import MultiomeGraphs
from ..evidence.correlation import gc_content, open_share

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

GENE_COLUMNS: Final = ("gene", "symbol", "chrom", "start", "end", "tss", "strand")
PEAK_COLUMNS: Final = ("peak", "chrom", "start", "end", "accessibility", "gc")
DEPTH: Final = 1e4  # counts that each cell is scaled to
_CELLS = 1024  # in memory at a time


def gene_table(graphs: MultiomeGraphs) -> pd.DataFrame:
    """Return where the genes lie.

    Parameters
    ----------
    graphs
        Dataset, or any subset of its cells.

    Returns
    -------
    ``gene, symbol, chrom, start, end, tss, strand`` in the dataset's order; positions in bp, 0-based,
    half-open, as Int64; strand ``+`` or ``-``. What is not known of a gene is null.

    Examples
    --------
    >>> gene_table(graphs).set_index("gene").loc["Gad1"]  # doctest: +SKIP
    """
    table = graphs.genes.frame.reindex(columns=list(GENE_COLUMNS))
    whole = {name: table[name].astype("Int64") for name in ("start", "end", "tss")}
    text = {name: _text(table[name]) for name in ("gene", "symbol", "chrom", "strand")}
    return table.assign(**whole, **text)


def peak_table(graphs: MultiomeGraphs) -> pd.DataFrame:
    """Return where the peaks lie, how often they are open, and of which bases they are.

    Parameters
    ----------
    graphs
        Cells over which accessibility is measured.

    Returns
    -------
    ``peak, chrom, start, end, accessibility, gc`` in the dataset's order: the share of cells that have the
    peak open, and the share of G and C among its known bases (null where there is no DNA), float64.

    Examples
    --------
    >>> peak_table(graphs).nlargest(10, "accessibility")  # doctest: +SKIP
    """
    table = graphs.peaks.frame[["peak", "chrom", "start", "end"]].copy()
    gc = gc_content(graphs)
    return table.assign(accessibility=open_share(graphs), gc=np.nan if gc is None else gc)


def openness(graphs: MultiomeGraphs, groups: Sequence[tuple[str, Int64]]) -> pd.DataFrame:
    """Return the share of the cells of each group that have a peak open.

    Parameters
    ----------
    graphs
        Cells.
    groups
        Names, and positions in ``graphs``; `type_links.cells_by_type` gives those of cell types.

    Returns
    -------
    (peaks, groups) float32; rows and columns have the names of peaks and groups.
    """
    shares = {name: open_share(graphs[cells]).astype(np.float32) for name, cells in groups}
    return pd.DataFrame(shares, index=pd.Index(graphs.peaks.frame["peak"], name="peak"))


def expression(graphs: MultiomeGraphs, groups: Sequence[tuple[str, Int64]]) -> pd.DataFrame:
    """Return the mean over the cells of each group of ln(1 + 10⁴ · count / counts of the cell).

    Parameters
    ----------
    graphs, groups
        As in `openness`.

    Returns
    -------
    (genes, groups) float32; rows and columns have the names of genes and groups.
    """
    means = {name: _log_mean(graphs, cells).astype(np.float32) for name, cells in groups}
    return pd.DataFrame(means, index=pd.Index(graphs.genes.frame["gene"], name="gene"))


def _log_mean(graphs: MultiomeGraphs, positions: Int64) -> Float64:
    """Mean over cells of the logarithm of each gene's scaled counts, (genes,)."""
    sums = np.zeros(len(graphs.genes))
    for begin in range(0, len(positions), _CELLS):
        cells = graphs.pairs_of(positions[begin : begin + _CELLS])[0]
        gene, counts, sizes = graphs.rna_rows.gather(cells)
        cell = np.repeat(np.arange(len(cells)), sizes)
        depth = np.bincount(cell, counts, minlength=len(cells))
        sums += np.bincount(gene, np.log1p(DEPTH * counts / depth[cell]), minlength=len(sums))
    return sums / max(len(positions), 1)


def _text(column: pd.Series[str]) -> npt.NDArray[np.object_]:
    """Give names as strings, None where there is none."""
    names: npt.NDArray[np.object_] = column.to_numpy(object, copy=True)
    names[column.isna().to_numpy()] = None
    return names
