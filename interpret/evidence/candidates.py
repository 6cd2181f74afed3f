"""Candidates: the peak-gene pairs on which every method is judged, and the scores of a map on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...graphs.csr import ranges
from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

DEFAULT_WINDOW = 250_000


@dataclass(frozen=True)
class Candidates:
    """Peak-gene pairs, sorted by gene, then peak.

    Attributes
    ----------
    gene, peak
        (pairs,) int64 ids.
    distance
        (pairs,) int64, peak centre from TSS in bp, negative upstream.
    window
        Reach around the TSS in bp.
    n_peaks
        Number of peaks of the dataset.
    """

    gene: Int64
    peak: Int64
    distance: Int64
    window: int
    n_peaks: int

    def __len__(self) -> int:
        return len(self.gene)

    def find(self, gene: Int64, peak: Int64) -> Int64:
        """Return the position of each pair among the candidates, -1 where it is none."""
        keys, wanted = self.gene * self.n_peaks + self.peak, gene * self.n_peaks + peak
        position = np.searchsorted(keys, wanted)
        found = position < len(keys)
        found[found] = keys[position[found]] == wanted[found]
        return np.where(found, position, -1)


def candidate_pairs(graphs: MultiomeGraphs, *, window: int | None = None) -> Candidates:
    """Return all pairs of a placed gene and a peak that overlaps its TSS ± ``window``.

    Parameters
    ----------
    graphs
        Dataset.
    window
        Reach in bp. None takes the window around TSSs that the dataset was built with, or 250 kb where
        it has another prior.

    Raises
    ------
    InputError
        No peak lies within the window of any gene.
    """
    prior = graphs.store.manifest["prior"]
    around_tss = prior["kind"] == "window" and prior["around"] == "tss" and not prior["loops"]
    stored = int(prior["bp"]) if prior["kind"] == "window" else DEFAULT_WINDOW
    reach = stored if window is None else window
    cis = graphs.cis
    if cis is not None and around_tss and reach == stored:
        gene = np.repeat(np.arange(len(graphs.genes)), np.diff(cis.indptr))
        found = Candidates(
            gene, cis.peak.astype(np.int64), cis.distance.astype(np.int64), reach, len(graphs.peaks)
        )
    else:
        found = _overlaps(graphs, reach)
    if not len(found):
        raise InputError(
            f"no peak lies within {reach:,} bp of any TSS of {graphs.root}. Build it with a GTF and a wider --window."
        )
    return found


def _overlaps(graphs: MultiomeGraphs, reach: int) -> Candidates:
    """Join by position along the concatenated chromosomes: peaks are stored sorted by (chrom, start)."""
    chrom, start, end = (getattr(graphs.peaks, name).numpy() for name in ("chrom", "start", "end"))
    gene_chrom, tss = graphs.genes.chrom.numpy(), graphs.genes.tss.numpy()
    widest = int((end - start).max(initial=0))
    stride = 2 * (int(max(end.max(initial=0), tss.max(initial=0))) + reach + widest) + 2
    line = chrom * stride + start
    first = np.searchsorted(line, gene_chrom * stride + np.maximum(tss - reach - widest, -1), side="right")
    last = np.searchsorted(line, gene_chrom * stride + tss + reach, side="right")
    width = np.where((gene_chrom >= 0) & (tss >= 0), last - first, 0)
    gene, peak = np.repeat(np.arange(len(tss)), width), ranges(first, width)
    overlap = end[peak] > tss[gene] - reach
    gene, peak = gene[overlap], peak[overlap]
    sign = np.where(graphs.genes.strand.numpy()[gene] < 0, -1, 1)
    distance = ((start[peak] + end[peak]) // 2 - tss[gene]) * sign
    return Candidates(gene, peak, distance, reach, len(start))


class MapScores:
    """Scores of a map on the candidates, gathered a cell type at a time; a pair without a link scores 0.

    Attributes
    ----------
    best, total
        (candidates,) largest score over cell types, and their sum.
    n_links, n_outside
        Links seen, and those of them that are no candidates.
    """

    def __init__(self, candidates: Candidates) -> None:
        self.candidates = candidates
        self.best: Float64 = np.zeros(len(candidates))
        self.total: Float64 = np.zeros(len(candidates))
        self.n_links = self.n_outside = 0

    def add(self, gene: Int64, peak: Int64, score: Float64) -> None:
        """Take links of any number of cell types, (links,) each."""
        position = self.candidates.find(gene, peak)
        inside = position >= 0
        np.maximum.at(self.best, position[inside], score[inside])
        np.add.at(self.total, position[inside], score[inside])
        self.n_links += len(gene)
        self.n_outside += int((~inside).sum())
