"""Which peaks may regulate a gene: those near its TSS (a chromosome prior needs no edges: peaks are sorted)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from ..graphs.collate import CisEdges
from ..graphs.errors import InputError
from .edges import edges_between, union
from .genomes.intervals import overlaps
from .loops import loop_edges, read_loops

Around = Literal["tss", "gene-body"]


def prior_edges(
    genes: pd.DataFrame,
    peaks: pd.DataFrame,
    *,
    window: int | Literal["chromosome", "none"],
    around: Around = "tss",
    loops: Path | None = None,
    notes: list[str],
) -> tuple[dict[str, Any], CisEdges | None]:
    """Make the prior of a dataset: a window, loops, both, or the whole chromosome.

    Parameters
    ----------
    genes, peaks, around
        As for :func:`window_edges`.
    window
        Reach in bp; ``chromosome`` for all peaks of a gene's chromosome; ``none`` for loops alone.
    loops
        BEDPE file whose loops become edges too.
    notes
        How many edges there are, and what the loops gave, is appended.

    Returns
    -------
    prior
        ``kind`` (``window``, ``chromosome``, ``loops`` or ``none``), and but for the chromosome
        ``edges`` and ``loops``, how many of them loops alone give; for a window ``bp`` and ``around``.
    edges
        None where the prior is the whole chromosome: ranges of the sorted peaks tell it.

    Raises
    ------
    InputError
        If loops are given beside the chromosome, or the file of loops is bad or gives no edge.
    """
    if window == "chromosome":
        if loops is not None:
            raise InputError(
                f"the chromosome prior joins a gene to every peak of its chromosome, so {loops.name} adds"
                " nothing. Leave out the loops, or pass --window BP or --window none with them."
            )
        return {"kind": "chromosome"}, None
    reach = None if window == "none" else window
    near = _no_edges(len(genes)) if reach is None else window_edges(genes, peaks, window=reach, around=around)
    edges = near
    if loops is not None:
        linked = loop_edges(read_loops(loops, notes=notes), genes, peaks, notes=notes)
        edges = union(near, linked, len(genes))
    found = {"edges": len(edges.peak), "loops": len(edges.peak) - len(near.peak)}
    genes_with = int((np.diff(edges.indptr) > 0).sum())
    notes.append(f"{len(edges.peak):,} prior edges between peaks and {genes_with:,} of {len(genes):,} genes")
    if reach is None:
        return {"kind": "none" if loops is None else "loops", **found}, edges
    return {"kind": "window", "bp": reach, "around": around, **found}, edges


def window_edges(
    genes: pd.DataFrame, peaks: pd.DataFrame, *, window: int = 250_000, around: Around = "tss"
) -> CisEdges:
    """Join each gene to the peaks that overlap the window around it.

    Parameters
    ----------
    genes
        Columns ``chrom`` (None where unknown), ``tss`` (0-based, missing where unknown), ``strand``
        ('+', '-' or None); for gene bodies also ``start`` and ``end`` (0-based half-open, missing
        where unknown).
    peaks
        Columns ``chrom`` (spelled as in `genes`), ``start``, ``end`` (0-based half-open).
    window
        Reach on either side, in bp.
    around
        ``tss`` for ``[tss - window, tss + window + 1)``, ``gene-body`` for
        ``[start - window, end + window)``; genes without start or end fall back to their TSS.

    Returns
    -------
    CisEdges
        Distances are from the TSS either way. Genes without a chromosome or TSS have no edges.

    Raises
    ------
    InputError
        If `window` is negative, or `around` is neither of the two.
    """
    if window < 0:
        raise InputError(f"the window around the TSS is {window:,} bp. Pass a positive number of bp.")
    if around not in get_args(Around):
        raise InputError(f"a window cannot lie around {around!r}. Pass one of {', '.join(get_args(Around))}.")
    return edges_between(genes, peaks, *overlaps(_reach(genes, window, around), peaks))


def _reach(genes: pd.DataFrame, window: int, around: Around) -> pd.DataFrame:
    """Lay out the window of every gene; without a TSS it has no chromosome and so overlaps nothing."""
    tss = genes["tss"].astype("Int64")
    start, end = tss, tss + 1
    if around == "gene-body":
        body = (genes["start"].notna() & genes["end"].notna()).to_numpy()
        start = genes["start"].astype("Int64").where(body, start)
        end = genes["end"].astype("Int64").where(body, end)
    chrom = genes["chrom"].astype(object).where(tss.notna())
    return pd.DataFrame({"chrom": chrom, "start": (start - window).clip(lower=0), "end": end + window})


def _no_edges(n_genes: int) -> CisEdges:
    nothing = np.zeros(0, dtype=np.int32)
    return CisEdges(np.zeros(n_genes + 1, dtype=np.int64), nothing, nothing)
