"""Sum attention over the cells of one cell type after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from tqdm.auto import tqdm

from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from ...graphs.schema import UNLABELLED
from ..attention import CellLinks, LinkingModel, stream_links
from ..evidence.nulls import Significance
from .edge_links import EdgeLinks, EdgeModel
from .link_nulls import LinkNulls
from .shards import CellLinkShards
from .sums import LinkSums
from .table import LinkTables

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

NO_LABEL = "unlabelled"
_ROWS = 1 << 20  # of a table in memory


@dataclass(frozen=True)
class TypeLinks:
    """Links of one cell type, by descending score.

    Attributes
    ----------
    cell_type
        Name; ``unlabelled`` for cells without one.
    type_cells
        Cells of the type.
    gene, peak
        (links,) int64 ids.
    score
        (links,) sum of attention over the type's cells / number of cells of the type; where attention does
        not depend on the cell, attention beyond an even share of the gene's · openness of the peak in the type
        / in the type it is most open in.
    n_cells
        (links,) int64, cells that have the link: its gene is expressed and its peak is open.
    effect
        (links,) by how much the link changes the gene's predicted ln expression from the mean training cell to
        the mean cell of the type; None where the model does not say.
    significance
        How each link's affinity compares with that to matched peaks; None where it was not asked for.
    """

    cell_type: str
    type_cells: int
    gene: Int64
    peak: Int64
    score: Float64
    n_cells: Int64
    effect: Float64 | None = None
    significance: Significance | None = None

    def __len__(self) -> int:
        return len(self.gene)

    def tables(self, named: LinkTables) -> Iterator[pa.Table]:
        """Yield link tables of at most a million rows."""
        for begin in range(0, len(self), _ROWS):
            part = slice(begin, begin + _ROWS)
            yield named.table(
                self.gene[part],
                self.peak[part],
                score=self.score[part],
                cell_type=self.cell_type,
                n_cells=self.n_cells[part],
                effect=None if self.effect is None else self.effect[part],
                significance=None if self.significance is None else self.significance.of(part),
            )

    def frames(self, graphs: MultiomeGraphs) -> Iterator[pd.DataFrame]:
        """Yield them as frames."""
        yield from (table.to_pandas() for table in self.tables(LinkTables(graphs)))


def type_links(
    model: LinkingModel,
    graphs: MultiomeGraphs,
    *,
    batch_size: int = 64,
    progress: bool = True,
    nulls: LinkNulls | None = None,
    shards: CellLinkShards | None = None,
) -> Iterator[TypeLinks]:
    """Yield the links of one cell type after the other, in the order of their names.

    Memory is that of the distinct links of one type.

    Parameters
    ----------
    model, graphs, batch_size, progress
        As in `attention.stream_links`.
    nulls
        What links are held against; without it they have no significance.
    shards
        Receives the links of single cells; what it has already is not computed again.
    """
    groups = cells_by_type(graphs)
    edges = EdgeLinks.of(model, graphs) if isinstance(model, EdgeModel) else None
    if edges is not None:
        edges.compare(graphs, [graphs.pairs_of(positions)[1] for _, positions in groups])
        edges.judge(nulls)
    done = iter(()) if shards is None else shards.done()
    with tqdm(total=len(graphs), desc="map", unit="cell", disable=not progress) as bar:
        for place, (name, positions) in enumerate(groups):
            sums = LinkSums()
            for links, new in _of_cells(model, graphs[positions], batch_size, done):
                if new and shards is not None:
                    shards.add(links, name)
                sums.add(links.gene * len(graphs.peaks) + links.peak, links.weight)
                bar.update(links.n_cells)
            if edges is None:
                yield _summed(name, len(positions), sums, len(graphs.peaks), nulls)
            else:
                yield _of_edges(name, len(positions), sums, edges, place)


def _of_cells(
    model: LinkingModel, graphs: MultiomeGraphs, batch_size: int, done: Iterator[CellLinks]
) -> Iterator[tuple[CellLinks, bool]]:
    """Give the links of each batch, and whether they are new; batches done before come first."""
    begin = 0
    while begin < len(graphs) and (links := next(done, None)) is not None:
        yield links, False
        begin += links.n_cells
    if begin < len(graphs):
        rest = graphs[np.arange(begin, len(graphs))]
        for links in stream_links(model, rest, batch_size=batch_size, progress=False):
            yield links, True


def _summed(name: str, n_cells: int, sums: LinkSums, n_peaks: int, nulls: LinkNulls | None) -> TypeLinks:
    """Links whose attention was summed over cells; any pair on a chromosome could have been one."""
    keys, score, support = sums.totals()
    order = np.argsort(-score, kind="stable")
    gene, peak = keys[order] // n_peaks, keys[order] % n_peaks
    found = None if nulls is None else nulls.of(gene, peak, tests=nulls.pairs)
    return TypeLinks(name, n_cells, gene, peak, score[order] / n_cells, support[order], significance=found)


def _of_edges(name: str, n_cells: int, sums: LinkSums, edges: EdgeLinks, place: int) -> TypeLinks:
    """Links whose attention is the same in all cells; the sums tell in how many they were seen."""
    keys, _, support = sums.totals()
    score, effect, order = edges.scores(place), edges.effects(place), edges.listed(place)
    wanted = edges.gene[order] * edges.n_peaks + edges.peak[order]
    at = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    seen = np.where(keys[at] == wanted, support[at], 0) if len(keys) else np.zeros(len(wanted), np.int64)
    found = None if edges.significance is None else edges.significance.of(order)
    return TypeLinks(
        name, n_cells, edges.gene[order], edges.peak[order], score[order], seen, effect[order], found
    )


def cells_by_type(graphs: MultiomeGraphs) -> list[tuple[str, Int64]]:
    """Return the names of the cell types in order, each with the positions of its cells in ``graphs``."""
    if not len(graphs):
        raise InputError("there are no cells to map. Choose another split.")
    names = np.array([*graphs.cell_types, NO_LABEL], dtype=object)
    codes = graphs.cell_type_codes[graphs.pairs_of(np.arange(len(graphs)))[0]]
    labels = names[np.where(codes == UNLABELLED, len(names) - 1, codes)]
    types, which = np.unique(labels.astype(str), return_inverse=True)
    return [(str(name), np.flatnonzero(which == code)) for code, name in enumerate(types)]
