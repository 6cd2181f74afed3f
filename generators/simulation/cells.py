"""Cells of a simulation: types, donors, chromatin state in every cell, and the counts it gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit, ndtri

RARE_SHARES = (0.015, 0.010)  # of the cells, alternating over the rare types
_BLOCK_VALUES = 4_000_000  # cells × peaks held dense at once
# Fitted to 10x PBMC Multiome (benchmarks/simulate.py): library sizes as standard deviations of the
# log, their correlation, and the overdispersion of Poisson-gamma counts.
_RNA_LIBRARY, _ATAC_LIBRARY, _LIBRARY_CORRELATION = 0.50, 0.38, 0.4
_RNA_OVERDISPERSION, _ATAC_OVERDISPERSION = 0.35, 0.30
_RNA_MEDIAN, _RNA_SPREAD = 0.014, 2.0  # UMIs of the median gene in the mean cell, and their log deviation
_DISTAL_FRAGMENTS, _PROMOTER_FRAGMENTS, _FRAGMENT_SPREAD = 0.115, 0.75, 0.6  # of an open peak
_LEAK = 0.0025  # fragments from a closed peak
_MOTIF_LOGIT = 6.5  # full binding at full activity, on the log odds of opening
_DONOR_EFFECT = 0.15  # standard deviation of the log factor a feature and donor
_EDGE_BP = 40  # of a peak, over which fragments reach out
_CALIBRATION_CELLS = 500  # that fix the mean of every gene
_STATES = 2  # continuous programs that vary within every type


@dataclass(frozen=True)
class Cells:
    """Who the cells are, before anything is counted.

    Attributes
    ----------
    barcodes : list of str
        Unique 16-letter barcodes.
    cell_type, donor : (cells,) int64
        Codes.
    activity : (cells, factors) float32
        TF activity in each cell.
    rna_library, atac_library : (cells,) float64
        Depth factors with mean 1.
    """

    barcodes: list[str]
    cell_type: NDArray[np.int64]
    donor: NDArray[np.int64]
    activity: NDArray[np.float32]
    rna_library: NDArray[np.float64]
    atac_library: NDArray[np.float64]


def rare_codes(types: int, rare: int) -> NDArray[np.int64]:
    """Codes of the rare types: every second from the last, so that each has a common sibling."""
    return np.concatenate([np.arange(types - 1, -1, -2), np.arange(types - 2, -1, -2)])[:rare]


def type_sizes(cells: int, types: int, rare: int) -> NDArray[np.int64]:
    """Cells of each type; a rare type holds at most 1.5 %."""
    scarce = rare_codes(types, rare)
    sizes = np.zeros(types, dtype=np.int64)
    sizes[scarce] = (np.resize(RARE_SHARES, rare) * cells).astype(np.int64)
    common = np.setdiff1d(np.arange(types), scarce)
    weights = np.linspace(3.0, 1.0, len(common))
    borders = np.round(np.cumsum(weights) / weights.sum() * (cells - sizes.sum()))
    sizes[common] = np.diff(borders, prepend=0).astype(np.int64)
    return sizes


def make_cells(
    sizes: NDArray[np.int64], donors: int, activity: NDArray[np.float64], rng: np.random.Generator
) -> Cells:
    """Draw cells in random order; TF activity varies within a type too, along shared programs."""
    number, factors = int(sizes.sum()), activity.shape[1]
    kind = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    states = rng.standard_normal((number, _STATES)) @ rng.normal(0, 0.25, (_STATES, factors))
    noise = 1 + states + rng.normal(0, 0.2, (number, factors))
    cell_activity = np.clip(activity[kind] * noise, 0, 2).astype(np.float32)
    depth = rng.multivariate_normal([0, 0], [[1, _LIBRARY_CORRELATION], [_LIBRARY_CORRELATION, 1]], number)
    spread = np.array([_RNA_LIBRARY, _ATAC_LIBRARY])
    library = np.exp(depth * spread - spread**2 / 2)
    letters = np.array(list("ACGT"))[
        rng.choice(4**16, number, replace=False)[:, None] >> np.arange(0, 32, 2) & 3
    ]
    barcodes = ["".join(row) + "-1" for row in letters]
    return Cells(barcodes, kind, _donors(kind, donors, rng), cell_activity, library[:, 0], library[:, 1])


def _donors(kind: NDArray[np.int64], donors: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Unequal random donors, but each of them in every type."""
    rank = pd.Series(kind).groupby(kind).cumcount().to_numpy()
    weights = np.linspace(1.2, 0.8, donors)
    drawn = rng.choice(donors, len(kind), p=weights / weights.sum())
    return np.where(rank < donors, rank, drawn)


@dataclass(frozen=True)
class Rates:
    """What the counts of a cell depend on besides its library size and chromatin state.

    Attributes
    ----------
    baseline : (peaks,) float32
        Log odds of an allele being open without any TF.
    binding : (peaks, factors) float32
        Log odds that a TF at activity 1 adds.
    fragments : (donors, peaks) float64
        Mean fragments of the open peak in each donor.
    edge : (peaks,) float64
        Chance that one end of a fragment lies outside the peak.
    umis : (donors, genes) float64
        Mean UMIs with all causal peaks closed.
    link_gene, link_peak : (links,) int64
        Rows, sorted by gene; every gene has one.
    effect : (links,) float64
        Change of log expression from closed to open.
    """

    baseline: NDArray[np.float32]
    binding: NDArray[np.float32]
    fragments: NDArray[np.float64]
    edge: NDArray[np.float64]
    umis: NDArray[np.float64]
    link_gene: NDArray[np.int64]
    link_peak: NDArray[np.int64]
    effect: NDArray[np.float64]


def make_rates(
    peaks: pd.DataFrame,
    links: pd.DataFrame,
    occupancy: NDArray[np.float32],
    cells: Cells,
    donors: int,
    rng: np.random.Generator,
) -> Rates:
    """Draw baselines and depths of peaks and genes, and the donors' effect on each.

    Parameters
    ----------
    peaks, links : DataFrame
        ``Layout.peaks`` and ``Regulation.links``.
    occupancy : (peaks, factors) float32
        Share of full binding, from ``Sites.occupancy``.
    cells : Cells
        Their mean opening of the causal peaks scales a gene's UMIs to its drawn mean.
    donors : int
        Number of donors.
    rng : Generator
        Source of the draws.
    """
    promoter, width = peaks["promoter"].to_numpy(), (peaks["end"] - peaks["start"]).to_numpy()
    number, genes = len(peaks), int(promoter.sum())
    baseline = np.where(promoter, rng.normal(0.5, 0.7, number), rng.normal(-3.2, 0.7, number))
    # Promoters answer weakly to their ubiquitous TFs and stay open.
    binding = occupancy * np.where(promoter, 2.0, _MOTIF_LOGIT)[:, None].astype(np.float32)
    median = np.where(promoter, _PROMOTER_FRAGMENTS, _DISTAL_FRAGMENTS) * np.sqrt(width / 650)
    fragments = median * rng.lognormal(0, _FRAGMENT_SPREAD, number)
    link_gene, link_peak = links["gene"].to_numpy(), links["peak"].to_numpy()
    effect = links["effect"].to_numpy()
    boost = _mean_boost(
        open_chance(cells.activity[:_CALIBRATION_CELLS], baseline, binding, link_peak), effect, link_gene
    )
    umis = _quantiles(genes, rng) / boost
    return Rates(
        baseline=baseline.astype(np.float32),
        binding=binding,
        fragments=fragments * np.exp(rng.normal(0, _DONOR_EFFECT, (donors, number))),
        edge=np.minimum(_EDGE_BP / width, 0.5),
        umis=umis * np.exp(rng.normal(0, _DONOR_EFFECT, (donors, genes))),
        link_gene=link_gene,
        link_peak=link_peak,
        effect=effect,
    )


def _quantiles(genes: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Log-normal means at even quantiles, shuffled: few genes have the same total as many."""
    ranks = (rng.permutation(genes) + 0.5) / genes
    return np.asarray(_RNA_MEDIAN * np.exp(_RNA_SPREAD * ndtri(ranks)))


def _mean_boost(
    chance: NDArray[np.float32], effect: NDArray[np.float64], link_gene: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(genes,) mean factor that the causal peaks give, over both alleles and the cells of ``chance``."""
    log_factor = 2 * np.log1p(chance * np.expm1(effect / 2))
    return np.asarray(np.exp(_sum_by_gene(log_factor, link_gene)).mean(axis=0))


def _sum_by_gene(values: NDArray[np.float64], link_gene: NDArray[np.int64]) -> NDArray[np.float64]:
    """(cells, links) to (cells, genes); every gene has a link and links are sorted by gene."""
    return np.asarray(np.add.reduceat(values, np.searchsorted(link_gene, np.unique(link_gene)), axis=1))


def open_chance(
    activity: NDArray[np.float32],
    baseline: NDArray[np.floating],
    binding: NDArray[np.float32],
    peaks: NDArray[np.int64] | slice = slice(None),
) -> NDArray[np.float32]:
    """Chance that an allele of a peak is open: logistic in motif × activity; (cells, peaks)."""
    logit = activity @ binding[peaks].T + baseline[peaks].astype(np.float32)
    return np.asarray(expit(logit), dtype=np.float32)


@dataclass(frozen=True)
class Block:
    """Consecutive cells.

    Attributes
    ----------
    rows : slice
        Which cells.
    open_alleles : (cells, peaks) uint8
        The truth below the counts: 0, 1 or 2 open alleles.
    rna, atac : csr_matrix float32
        Counts.
    """

    rows: slice
    open_alleles: NDArray[np.uint8]
    rna: sparse.csr_matrix
    atac: sparse.csr_matrix


def count_blocks(cells: Cells, rates: Rates, seed: np.random.SeedSequence) -> Iterator[Block]:
    """Yield the counts of all cells, a few hundred cells at a time and a random stream each."""
    number, size = len(cells.donor), max(16, min(512, _BLOCK_VALUES // len(rates.baseline)))
    starts = range(0, number, size)
    for start, stream in zip(starts, seed.spawn(len(starts)), strict=True):
        rng, rows = np.random.default_rng(stream), slice(start, min(start + size, number))
        chance = open_chance(cells.activity[rows], rates.baseline, rates.binding)
        alleles = (rng.random(chance.shape, np.float32) < chance).astype(np.uint8)
        alleles += rng.random(chance.shape, np.float32) < chance
        donor = cells.donor[rows]
        rna = _count_rna(alleles, donor, cells.rna_library[rows], rates, rng)
        yield Block(rows, alleles, rna, _count_atac(alleles, donor, cells.atac_library[rows], rates, rng))


def _count_rna(
    alleles: NDArray[np.uint8],
    donor: NDArray[np.int64],
    library: NDArray[np.float64],
    rates: Rates,
    rng: np.random.Generator,
) -> sparse.csr_matrix:
    """Poisson-gamma UMIs whose mean follows the causal peaks' state in the very cell."""
    log_factor = _sum_by_gene(alleles[:, rates.link_peak] * (rates.effect / 2), rates.link_gene)
    mean = np.exp(log_factor) * rates.umis[donor] * library[:, None]
    return sparse.csr_matrix(_poisson_gamma(mean, _RNA_OVERDISPERSION, rng).astype(np.float32))


def _count_atac(
    alleles: NDArray[np.uint8],
    donor: NDArray[np.int64],
    library: NDArray[np.float64],
    rates: Rates,
    rng: np.random.Generator,
) -> sparse.csr_matrix:
    """Cut sites in peaks: two a fragment, one where the fragment reaches over the peak's edge."""
    row, peak = np.nonzero(alleles)
    mean = rates.fragments[donor[row], peak] * library[row] * (alleles[row, peak] / 2)
    fragments = _poisson_gamma(mean, _ATAC_OVERDISPERSION, rng)
    seen = np.flatnonzero(fragments)
    stray = np.repeat(np.arange(len(library)), rng.poisson(library * _LEAK * alleles.shape[1]))
    rows = np.concatenate([row[seen], stray])
    columns = np.concatenate([peak[seen], rng.integers(0, alleles.shape[1], len(stray))])
    values = np.concatenate([fragments[seen], np.ones(len(stray), dtype=np.int64)])
    matrix = sparse.coo_matrix((values, (rows, columns)), shape=alleles.shape).tocsr()  # adds duplicates
    matrix.sort_indices()
    one_ended = rng.binomial(matrix.data, rates.edge[matrix.indices])
    matrix.data = (2 * matrix.data - one_ended).astype(np.float32)
    return matrix


def _poisson_gamma(
    mean: NDArray[np.float64], overdispersion: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Negative binomial counts with variance mean + overdispersion × mean²."""
    return rng.poisson(mean * rng.gamma(1 / overdispersion, overdispersion, mean.shape))
