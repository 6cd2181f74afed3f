"""Which links differ between two groups of cells, with a permutation test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from .attention import LinkingModel, stream_links
from .evidence.nulls import adjusted
from .links.edge_links import EdgeLinks, EdgeModel, relative_openness
from .links.table import link_frame

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Statistic = Callable[[Float64, Float64], Float64]

_SUMS = 1 << 22  # of permuted groups, held at a time (float64)
_ALIKE = 30  # cells of like depth that change places
_ROUNDING = 1e-9  # by which equal statistics may differ
_PLACED = ("gene", "peak", "chrom", "start", "end", "tss", "distance")


def cells_where(graphs: MultiomeGraphs, **values: str) -> Int64:
    """Return the positions of the cells with given values in columns of ``cells``.

    Parameters
    ----------
    graphs
        Cells.
    values
        Column of ``graphs.cells`` (``cell_type``, ``donor``, ``batch``, ``split``) = value.

    Raises
    ------
    InputError
        No such column, or no such cell.

    Examples
    --------
    >>> cells_where(graphs, cell_type="Astro", batch="09A")  # doctest: +SKIP
    """
    rows = graphs.cells.iloc[graphs.pairs_of(np.arange(len(graphs)))[0]]
    chosen = np.ones(len(rows), bool)
    for column, value in values.items():
        if column not in rows:
            raise InputError(f"cells have no column {column!r}; there are {', '.join(rows.columns)}.")
        chosen &= (rows[column] == value).to_numpy(bool)
        if not chosen.any():
            there = ", ".join(map(str, rows[column].dropna().unique()[:8])) or "none"
            raise InputError(f"no cell has {column} {value!r} among those asked for; there are {there}.")
    return np.flatnonzero(chosen)


def difference(
    model: LinkingModel,
    graphs: MultiomeGraphs,
    first: Int64,
    second: Int64,
    *,
    within: str | None = None,
    permutations: int = 5000,
    batch_size: int = 64,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare the links of two groups of cells: two cell types, or one type in two conditions.

    The scores are those of a map of the two groups alone. Cells are dealt out to groups of the same sizes at random
    ``permutations`` times, in runs of 30 with the most alike numbers of open peaks, for depth is no difference in
    regulation: where the groups hardly overlap in depth, little is found. The p-value of a link is
    (b + 1) / (m + 1), where b of m dealings differ by as much, either way. It says whether these cells differ, not
    whether donors do: cells of a donor are no replicates.

    Where attention does not depend on the cell, a link differs by how open its peak is, so the links of a peak share
    their p-value.

    Parameters
    ----------
    model
        With ``attention``, in evaluation mode.
    graphs
        Cells (``view="cells"``).
    first, second
        Positions in ``graphs`` of the cells of either group, see `cells_where`; no cell is in both.
    within
        Column of ``cells`` within whose values cells are dealt out (``batch``, ``donor``): what differs between
        them is then no difference between the groups.
    permutations
        Dealings.
    batch_size
        Cells at a time.
    seed
        Decides the dealings.

    Returns
    -------
    ``gene, peak, chrom, start, end, tss, distance, first, second, difference, pvalue, qvalue`` of the links that
    either group has: the smallest p-value first, then the largest difference.

    Raises
    ------
    InputError
        A group is empty, or a cell is in both.

    Examples
    --------
    >>> astro, oligo = (cells_where(graphs, cell_type=name) for name in ("Astro", "Oligo"))  # doctest: +SKIP
    >>> difference(model, graphs, astro, oligo, within="batch").head()  # doctest: +SKIP
    """
    _check(first, second, permutations)
    cells = np.concatenate([first, second])
    groups = np.repeat([0, 1], [len(first), len(second)])
    both = graphs[cells]
    depth = graphs.atac_rows.gather(graphs.pairs_of(cells)[1])[2]
    strata = alike_in_depth(_strata(graphs, cells, within), depth)
    if isinstance(model, EdgeModel):
        links = _edge_differences(model, both, groups, strata, permutations, seed)
    else:
        links = _link_differences(model, both, groups, strata, permutations, batch_size, seed)
    return _table(graphs, links)


@dataclass(frozen=True)
class _Differences:
    """(links,) each: ids, scores in both groups and p-values."""

    gene: Int64
    peak: Int64
    first: Float64
    second: Float64
    pvalue: Float64


def _edge_differences(
    model: EdgeModel, graphs: MultiomeGraphs, groups: Int64, strata: Int64, permutations: int, seed: int
) -> _Differences:
    """Attention belongs to edges: what can differ is how open peaks are, as if all cells were as deep."""
    edges = EdgeLinks.of(model, graphs)
    opened = graphs.atac_rows.matrix(graphs.pairs_of(np.arange(len(graphs)))[1]).tocsr().astype(np.float64)
    opened.data[:] = 1.0
    depth = np.asarray(opened.sum(1)).ravel()
    sums = _Dealt(opened, depth / max(depth.mean(), 1e-12))
    relative = relative_openness(*sums.of(groups[:, None]))[:, :, 0]  # (groups, peaks)
    pvalue = openness_pvalues(sums, groups, strata, permutations, seed)
    first, second = (edges.weight * share[edges.peak] for share in relative)
    kept = np.maximum(first, second) > _ROUNDING
    gene, peak = edges.gene[kept], edges.peak[kept]
    return _Differences(gene, peak, first[kept], second[kept], pvalue[peak])


def openness_pvalues(sums: _Dealt, groups: Int64, strata: Int64, permutations: int, seed: int) -> Float64:
    """Hold differences of relative openness against those of dealings, (peaks,); see `permuted_pvalues`.

    The depth of each group is taken as it is. Dealings among cells of like depth change it by little, but that
    little is the same for all peaks and would break the ties of those that few cells have open.
    """
    _, cells = sums.of(groups[:, None])
    return permuted_pvalues(
        sums,
        groups,
        strata,
        lambda opened, _: np.subtract(*relative_openness(opened, cells)),
        permutations,
        seed,
    )


def _link_differences(
    model: LinkingModel,
    graphs: MultiomeGraphs,
    groups: Int64,
    strata: Int64,
    permutations: int,
    batch_size: int,
    seed: int,
) -> _Differences:
    """Attention depends on the cell: a group's score is its mean over cells."""
    row_of = np.empty(len(graphs.cells), np.int64)
    row_of[graphs.pairs_of(np.arange(len(graphs)))[0]] = np.arange(len(graphs))
    pieces = list(stream_links(model, graphs, batch_size=batch_size, progress=False))
    key = np.concatenate([piece.gene * len(graphs.peaks) + piece.peak for piece in pieces])
    distinct, column = np.unique(key, return_inverse=True)
    row = row_of[np.concatenate([piece.cell for piece in pieces])]
    weight = np.concatenate([piece.weight for piece in pieces]).astype(np.float64)
    values = sparse.csr_matrix((weight, (row, column)), shape=(len(groups), len(distinct)))
    sums = _Dealt(values, np.ones(len(groups)))
    (first, second) = (means[:, 0] for means in _means(*sums.of(groups[:, None])))
    pvalue = permuted_pvalues(
        sums, groups, strata, lambda added, cells: np.subtract(*_means(added, cells)), permutations, seed
    )
    return _Differences(distinct // len(graphs.peaks), distinct % len(graphs.peaks), first, second, pvalue)


def _means(added: Float64, cells: Float64) -> Float64:
    means: Float64 = added / np.maximum(cells, 1e-12)[:, None]
    return means


@dataclass(frozen=True)
class _Dealt:
    """Values of cells, (cells, features), and what each cell counts, (cells,), to be added up by group."""

    values: sparse.csr_matrix
    cells: Float64

    def of(self, groups: Int64) -> tuple[Float64, Float64]:
        """Add up by group (cells, dealings) of 0 or 1: (groups, features, dealings) and (groups, dealings)."""
        second = groups.astype(np.float64)
        of_second, cells = self.values.T @ second, self.cells @ second
        total = np.asarray(self.values.sum(0)).ravel()[:, None]
        return np.stack([total - of_second, of_second]), np.stack([self.cells.sum() - cells, cells])


def permuted_pvalues(
    sums: _Dealt, groups: Int64, strata: Int64, statistic: Statistic, permutations: int, seed: int
) -> Float64:
    """Return by two-sided permutation how rarely a statistic is as large, (features,).

    Parameters
    ----------
    sums
        Values of cells.
    groups, strata
        (cells,) group 0 or 1; group labels change places within a stratum.
    statistic
        Turns sums (groups, features, dealings) and cells (groups, dealings) into (features, dealings).
    permutations, seed
        Dealings, and what decides them.
    """
    observed = np.abs(statistic(*sums.of(groups[:, None])))
    reached = np.zeros(len(observed))
    rng = np.random.default_rng(seed)
    for size in _parts(permutations, max(_SUMS // max(max(sums.values.shape), 1), 1)):
        dealt = np.abs(statistic(*sums.of(_deal(groups, strata, size, rng))))
        reached += (dealt >= observed * (1 - _ROUNDING)).sum(1)
    return (reached + 1) / (permutations + 1)


def alike_in_depth(strata: Int64, depth: Int64) -> Int64:
    """Divide each stratum into runs of 30 cells by depth, (cells,)."""
    order = np.lexsort((depth, strata))
    sizes = np.bincount(strata)
    rank = np.empty(len(strata), np.int64)
    rank[order] = np.arange(len(strata)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return strata * (len(strata) // _ALIKE + 1) + rank // _ALIKE


def _deal(groups: Int64, strata: Int64, n: int, rng: np.random.Generator) -> Int64:
    """Deal the labels of each stratum out anew, (cells, dealings)."""
    by_stratum = np.argsort(strata, kind="stable")
    order = np.argsort(strata[:, None] + rng.random((len(groups), n)), axis=0)
    dealt = np.empty((len(groups), n), np.int64)
    np.put_along_axis(dealt, order, np.broadcast_to(groups[by_stratum, None], dealt.shape), axis=0)
    return dealt


def _parts(whole: int, largest: int) -> Iterator[int]:
    for begin in range(0, whole, largest):
        yield min(largest, whole - begin)


def _strata(graphs: MultiomeGraphs, cells: Int64, within: str | None) -> Int64:
    if within is None:
        return np.zeros(len(cells), np.int64)
    if within not in graphs.cells or graphs.cells[within].isna().all():
        named = [str(name) for name in graphs.cells if not graphs.cells[name].isna().all()]
        raise InputError(f"cells have no {within!r} to compare within; there are {', '.join(named)}.")
    values = graphs.cells[within].iloc[graphs.pairs_of(cells)[0]]
    return pd.factorize(values, use_na_sentinel=False)[0].astype(np.int64)


def _check(first: Int64, second: Int64, permutations: int) -> None:
    if not len(first) or not len(second):
        raise InputError("a group has no cells. Give the positions of the cells of both groups.")
    if shared := len(np.intersect1d(first, second)):
        raise InputError(f"{shared:,} cells are in both groups. Give groups that share none.")
    if permutations < 1:
        raise InputError(f"{permutations} permutations were asked for. Pass 1 or more.")


def _table(graphs: MultiomeGraphs, links: _Differences) -> pd.DataFrame:
    change = links.first - links.second
    frame = link_frame(graphs, links.gene, links.peak, score=links.first, cell_type="")[list(_PLACED)]
    frame = frame.assign(
        first=links.first,
        second=links.second,
        difference=change,
        pvalue=links.pvalue,
        qvalue=adjusted(links.pvalue),
    )
    return frame.iloc[np.lexsort((-np.abs(change), links.pvalue))].reset_index(drop=True)
