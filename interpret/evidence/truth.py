"""Known links found among the candidates of a dataset: which pairs are judged, and which of them are true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from .candidates import Candidates
from .intervals import Intervals, overlaps, require_common_chromosomes
from .loop_links import loop_elements
from .names import gene_ids, peak_ids
from .truth_tables import TRUTH_KINDS, read_truth, standard_links

__all__ = ["TRUTH_KINDS", "KnownLinks", "gene_ids", "locate", "peak_ids", "read_truth"]

Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_ELEMENT = ["chrom", "start", "end"]


@dataclass(frozen=True)
class KnownLinks:
    """The pairs that are judged.

    Where a truth lists tested elements, a judged pair is an element and a gene, and has one or more candidates:
    the gene's peaks that overlap the element. Otherwise every candidate is judged.

    Attributes
    ----------
    true
        (judged,) whether each is a true link.
    gene
        (judged,) int64 id.
    candidate
        (members,) int64, the candidates of the first pair, then those of the second …
    first
        (judged,) int64, where the candidates of each pair begin.
    coverage
        ``links, in_candidates, unknown_gene, unknown_peak, outside_window``: distinct true links, and how many
        have a candidate or why they have none; where a truth tells tested pairs, also ``tested`` and
        ``tested_in_candidates``.
    """

    true: Bool
    gene: Int64
    candidate: Int64
    first: Int64
    coverage: dict[str, int]

    def __len__(self) -> int:
        return len(self.true)

    def best(self, score: Float64) -> Float64:
        """Give each judged pair the highest score of its candidates; (candidates,) -> (judged,)."""
        if len(self.candidate) == len(self):
            return score[self.candidate]
        result: Float64 = np.maximum.reduceat(score[self.candidate], self.first)
        return result

    def mean(self, values: Float64) -> Float64:
        """Give each judged pair the mean over its candidates; (candidates,) -> (judged,)."""
        sizes = np.diff(np.append(self.first, len(self.candidate)))
        result: Float64 = (
            np.add.reduceat(values[self.candidate], self.first) / sizes if len(self) else values[:0]
        )
        return result

    @property
    def true_candidates(self) -> Int64:
        """Candidates of true pairs, ascending."""
        sizes = np.diff(np.append(self.first, len(self.candidate)))
        return np.unique(self.candidate[np.repeat(self.true, sizes)])


@dataclass(frozen=True)
class _Listed:
    """Distinct pairs of a truth: gene (pairs,) or -1, true (pairs,), and the peaks of each as (pair, peak) rows."""

    gene: Int64
    true: Bool
    pair: Int64
    peak: Int64
    labelled: bool


def locate(truth: pd.DataFrame, candidates: Candidates, graphs: MultiomeGraphs) -> KnownLinks:
    """Find the judged pairs, and count what became of every distinct true link.

    Parameters
    ----------
    truth
        As `read_truth` gives it. With a column that labels pairs, the listed pairs are judged; without one all
        candidates are, and those not listed count as untrue.
    candidates, graphs
        Pairs of a dataset.

    Raises
    ------
    InputError
        The truth lacks a column, or its names are not those of the dataset.
    """
    listed = _loops(truth, graphs) if "chrom1" in truth else _links(truth, graphs)
    known = listed.gene[listed.pair] >= 0
    pair, peak = listed.pair[known], listed.peak[known]
    position = candidates.find(listed.gene[pair], peak)
    pair_inside, inside = pair[position >= 0], position[position >= 0]
    coverage = _coverage(listed, pair_inside)
    if listed.labelled:
        units, first = np.unique(pair_inside, return_index=True)
        return KnownLinks(listed.true[units], listed.gene[units], inside, first, coverage)
    true, every = np.zeros(len(candidates), bool), np.arange(len(candidates))
    true[inside] = True
    return KnownLinks(true, candidates.gene, every, every, coverage)


def _coverage(listed: _Listed, inside: Int64) -> dict[str, int]:
    number = len(listed.gene)
    on_peak = np.bincount(listed.pair, minlength=number) > 0
    found = np.bincount(inside, minlength=number) > 0
    known, true = listed.gene >= 0, listed.true
    coverage = {
        "links": int(true.sum()),
        "in_candidates": int((true & found).sum()),
        "unknown_gene": int((true & ~known).sum()),
        "unknown_peak": int((true & known & ~on_peak).sum()),
        "outside_window": int((true & known & on_peak & ~found).sum()),
    }
    if listed.labelled:
        coverage |= {"tested": number, "tested_in_candidates": int(found.sum())}
    return coverage


def _links(truth: pd.DataFrame, graphs: MultiomeGraphs) -> _Listed:
    """Find pairs of a gene with a named peak, or with what overlaps an element."""
    table = standard_links(truth)
    labelled = "label" in table
    keys = [column for column in ("gene", "gene_id", "peak", *_ELEMENT) if column in table]
    if labelled:
        table = table.groupby(keys, sort=False)["label"].any().reset_index()
    else:
        table = table[keys].drop_duplicates(ignore_index=True)
    gene = gene_ids(graphs, table["gene"])
    if "gene_id" in table:
        gene = np.where(gene < 0, gene_ids(graphs, table["gene_id"]), gene)
    true = table["label"].to_numpy(bool) if labelled else np.ones(len(table), bool)
    if "peak" in table:
        peak = peak_ids(graphs, table["peak"])
        pair = np.flatnonzero(peak >= 0)
        _require_names(table, gene, graphs, unknown_peak=int((peak < 0).sum()))
        return _Listed(gene, true, pair, peak[pair], labelled)
    _require_names(table, gene, graphs)
    return _Listed(gene, true, *_on_peaks(table, graphs), labelled)


def _loops(truth: pd.DataFrame, graphs: MultiomeGraphs) -> _Listed:
    """Find pairs of a gene at one anchor with the peaks at the other."""
    table = loop_elements(truth, graphs).drop_duplicates(["gene", *_ELEMENT], ignore_index=True)
    named = table["name"].fillna(table["chrom"].astype(str) + ":" + table["start"].astype(str))
    pair, peak = _on_peaks(table, graphs)
    gene = table["gene"].to_numpy(np.int64)
    _require_names(pd.DataFrame({"gene": named}), gene, graphs)
    return _Listed(gene, np.ones(len(table), bool), pair, peak, False)


def _on_peaks(table: pd.DataFrame, graphs: MultiomeGraphs) -> tuple[Int64, Int64]:
    """Join elements with the peaks that they overlap: (element, peak) rows, elements ascending."""
    chromosomes = graphs.store.manifest["chromosomes"]
    elements = Intervals.of(table, chromosomes)
    require_common_chromosomes(elements, table["chrom"], chromosomes, "the truth")
    columns = (getattr(graphs.peaks, name).numpy() for name in ("chrom", "start", "end"))
    return overlaps(elements, Intervals(*columns))


def _require_names(
    table: pd.DataFrame, gene: Int64, graphs: MultiomeGraphs, *, unknown_peak: int = 0
) -> None:
    """Refuse a truth of which no gene, or no peak, is one of the dataset."""
    number = len(table)
    if not number:
        raise InputError("the truth has no links. Pass a table with at least one row.")
    unknown = {"gene": int((gene < 0).sum()), "peak": unknown_peak}
    told = [
        f"{count:,} have an unknown {what} (truth: {_some(table[what])} …; dataset: "
        f"{_some(getattr(graphs, what + 's').frame[what])} …)"
        for what, count in unknown.items()
        if count
    ]
    if number in unknown.values():
        raise InputError(
            f"none of the {number:,} known pairs is a candidate: {', '.join(told)}. "
            "Pass the truth of this dataset, named as it names genes and peaks."
        )


def _some(names: pd.Series[str]) -> str:
    return ", ".join(names.astype(str).head(2)) or "none"
