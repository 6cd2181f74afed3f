"""Which peaks drive which genes in a simulation, and which only look as if they did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...graphs.errors import InputError
from .factors import UBIQUITOUS, Programs
from .genome import Layout

WINDOW = (1_000, 200_000)  # least and greatest distance of a causal peak from its TSS, bp
_LINKS_PER_GENE = np.array([0.30, 0.35, 0.20, 0.15])  # share of genes with 1, 2, 3, 4 causal peaks
_TRIES = 24  # draws a gene, of which the first 1-4 distinct hits become links
_REPRESSING = 0.12


@dataclass(frozen=True)
class Regulation:
    """Causal links, decoys, and the TF that opens each peak.

    Attributes
    ----------
    links : DataFrame
        ``gene, peak`` (rows of the layout's tables), ``effect`` (change of log expression from
        closed to open), ``distance`` (bp, negative upstream); sorted by gene; every gene has 1-4.
    decoys : DataFrame
        ``gene, peak, kind, distance``: pairs that are not links though the peak shares a TF with one
        (``coaccessible``), lies between the TSS and one (``nearer``) or both (``both``).
    primary : (peaks,) int64
        TF that opens the peak.
    secondary : (peaks,) int64
        A second TF, or -1.
    """

    links: pd.DataFrame
    decoys: pd.DataFrame
    primary: NDArray[np.int64]
    secondary: NDArray[np.int64]


def make_regulation(layout: Layout, programs: Programs, rng: np.random.Generator) -> Regulation:
    """Choose causal peaks for every gene, the TF of every peak, and find the decoys."""
    links = _choose_links(layout, rng)
    primary = _choose_factors(layout, programs, links, rng)
    second = rng.integers(0, len(programs.factors), len(primary))
    lonely = layout.peaks["promoter"].to_numpy() | (rng.random(len(primary)) < 0.6) | (second == primary)
    secondary = np.where(lonely, -1, second)
    return Regulation(links, _find_decoys(layout, links, primary), primary, secondary)


def _choose_links(layout: Layout, rng: np.random.Generator) -> pd.DataFrame:
    """Draw log-uniform distances on both sides of each TSS and take the distal peaks nearest to them."""
    genes, shape = layout.genes, (len(layout.genes), _TRIES)
    distal = np.flatnonzero(~layout.peaks["promoter"].to_numpy())
    centres = _centres(layout)[distal]
    offset = np.exp(rng.uniform(np.log(WINDOW[0]), np.log(WINDOW[1]), shape)) * rng.choice([-1, 1], shape)
    tss = layout.line(genes["code"].to_numpy(), genes["tss"].to_numpy())
    nearest = _nearest(centres, (tss[:, None] + offset).ravel())
    table = pd.DataFrame({"gene": np.repeat(np.arange(len(genes)), _TRIES), "peak": distal[nearest]})
    gap = np.abs(centres[nearest] - np.repeat(tss, _TRIES))
    table = table[(gap >= WINDOW[0]) & (gap <= WINDOW[1])].drop_duplicates()
    wanted = rng.choice(np.arange(1, 5), size=len(genes), p=_LINKS_PER_GENE)
    table = table[table.groupby("gene").cumcount() < wanted[table["gene"]]]
    _check_every_gene_linked(table, len(genes), len(layout.peaks))
    table = table.sort_values(["gene", "peak"], ignore_index=True)
    repressing = rng.random(len(table)) < _REPRESSING
    table["effect"] = np.where(
        repressing, -rng.uniform(0.8, 1.6, len(table)), rng.uniform(1.0, 2.4, len(table))
    )
    table["distance"] = signed_distance(layout, table["gene"].to_numpy(), table["peak"].to_numpy())
    return table


def _check_every_gene_linked(links: pd.DataFrame, genes: int, peaks: int) -> None:
    bare = genes - links["gene"].nunique()
    if bare:
        raise InputError(
            f"{bare} of {genes} simulated genes have no distal peak within {WINDOW[1] // 1000} kb "
            f"of their TSS (peaks: {peaks}). Ask for more peaks or fewer genes."
        )


def _choose_factors(
    layout: Layout, programs: Programs, links: pd.DataFrame, rng: np.random.Generator
) -> NDArray[np.int64]:
    """TF of every peak: a gene's causal peaks answer to TFs of one cell type, decoys copy theirs."""
    types, factors = programs.activity.shape
    promoter = layout.peaks["promoter"].to_numpy()
    specific = rng.integers(UBIQUITOUS - 1, factors, len(promoter))  # a few distal peaks stay ubiquitous
    primary = np.where(promoter, rng.integers(0, UBIQUITOUS, len(promoter)), specific)

    target = rng.integers(0, types, len(layout.genes))[links["gene"]]
    active = programs.activity[target] > 0.5
    active[:, :UBIQUITOUS] = False
    chosen = (active * rng.random(active.shape)).argmax(axis=1)
    causal, first = np.unique(links["peak"], return_index=True)
    primary[causal] = chosen[first]

    distal = np.flatnonzero(~promoter)
    centres = _centres(layout)
    side = rng.uniform(-WINDOW[1], WINDOW[1], len(links))
    tss = layout.line(layout.genes["code"].to_numpy(), layout.genes["tss"].to_numpy())[links["gene"]]
    copies = distal[_nearest(centres[distal], tss + side)]
    free = ~np.isin(copies, causal)
    primary[copies[free]] = primary[links["peak"].to_numpy()[free]]
    return primary


def _find_decoys(layout: Layout, links: pd.DataFrame, primary: NDArray[np.int64]) -> pd.DataFrame:
    pairs = _pairs_in_window(layout)
    linked = pd.MultiIndex.from_frame(links[["gene", "peak"]])
    pairs = pairs[~pd.MultiIndex.from_frame(pairs).isin(linked)].reset_index(drop=True)
    gene, peak = pairs["gene"].to_numpy(), pairs["peak"].to_numpy()

    shares = np.zeros((len(layout.genes), int(primary.max()) + 1), dtype=bool)
    shares[links["gene"], primary[links["peak"]]] = True
    coaccessible = shares[gene, primary[peak]]
    reach = np.zeros((2, len(layout.genes)))  # farthest causal peak downstream and upstream
    distance = links["distance"].to_numpy()
    np.maximum.at(reach, ((distance < 0).astype(np.intp), links["gene"].to_numpy()), np.abs(distance))
    pairs["distance"] = signed_distance(layout, gene, peak)
    own = pairs["distance"].to_numpy()
    nearer = np.abs(own) < reach[(own < 0).astype(np.intp), gene]
    kinds = {"both": coaccessible & nearer, "coaccessible": coaccessible, "nearer": nearer}
    pairs["kind"] = np.select(list(kinds.values()), list(kinds), "")
    decoys: pd.DataFrame = pairs[coaccessible | nearer].reset_index(drop=True)
    return decoys


def _pairs_in_window(layout: Layout) -> pd.DataFrame:
    """All pairs of a gene and a distal peak within the window."""
    distal = np.flatnonzero(~layout.peaks["promoter"].to_numpy())
    centres = _centres(layout)[distal]
    tss = layout.line(layout.genes["code"].to_numpy(), layout.genes["tss"].to_numpy())
    low = np.searchsorted(centres, tss - WINDOW[1])
    counts = np.searchsorted(centres, tss + WINDOW[1], side="right") - low
    rank = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return pd.DataFrame(
        {"gene": np.repeat(np.arange(len(tss)), counts), "peak": distal[np.repeat(low, counts) + rank]}
    )


def signed_distance(layout: Layout, gene: NDArray[np.int64], peak: NDArray[np.int64]) -> NDArray[np.int64]:
    """Peak centre from TSS in bp, negative upstream; (pairs,) rows in, (pairs,) out."""
    sign = np.where(layout.genes["strand"].to_numpy()[gene] == "+", 1, -1)
    centre, tss = layout.peaks["centre"].to_numpy()[peak], layout.genes["tss"].to_numpy()[gene]
    return np.asarray((centre - tss) * sign, dtype=np.int64)


def _centres(layout: Layout) -> NDArray[np.int64]:
    return layout.line(layout.peaks["code"].to_numpy(), layout.peaks["centre"].to_numpy())


def _nearest(ordered: NDArray[np.int64], positions: NDArray[np.float64]) -> NDArray[np.int64]:
    right = np.clip(np.searchsorted(ordered, positions), 1, len(ordered) - 1)
    closer_left = positions - ordered[right - 1] < ordered[right] - positions
    return np.asarray(right - closer_left, dtype=np.int64)
