"""Sum attention over the cells of one cell type after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm.auto import tqdm

from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from ...graphs.schema import UNLABELLED
from ..attention import CellLinks, LinkingModel, stream_links
from .edge_links import EdgeLinks, EdgeModel
from .sums import LinkSums
from .table import link_frame

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
    """

    cell_type: str
    type_cells: int
    gene: Int64
    peak: Int64
    score: Float64
    n_cells: Int64
    effect: Float64 | None = None

    def __len__(self) -> int:
        return len(self.gene)

    def frames(self, graphs: MultiomeGraphs) -> Iterator[pd.DataFrame]:
        """Yield link tables of at most a million rows."""
        for begin in range(0, len(self), _ROWS):
            part = slice(begin, begin + _ROWS)
            yield link_frame(
                graphs,
                self.gene[part],
                self.peak[part],
                score=self.score[part],
                cell_type=self.cell_type,
                n_cells=self.n_cells[part],
                effect=None if self.effect is None else self.effect[part],
            )


def type_links(
    model: LinkingModel,
    graphs: MultiomeGraphs,
    *,
    batch_size: int = 64,
    progress: bool = True,
    on_cells: Callable[[CellLinks, str], None] | None = None,
) -> Iterator[TypeLinks]:
    """Yield the links of one cell type after the other, in the order of their names.

    Memory is that of the distinct links of one type.

    Parameters
    ----------
    model, graphs, batch_size, progress
        As in `maps.cell_type_map`.
    on_cells
        Called with the links of each batch of cells and their type, before they are summed.
    """
    edges = EdgeLinks.of(model, graphs) if isinstance(model, EdgeModel) else None
    groups = cells_by_type(graphs)
    if edges is not None:
        edges.compare(graphs, [graphs.pairs_of(positions)[1] for _, positions in groups])
    with tqdm(total=len(graphs), desc="map", unit="cell", disable=not progress) as bar:
        for place, (name, positions) in enumerate(groups):
            sums = LinkSums()
            for links in stream_links(model, graphs[positions], batch_size=batch_size, progress=False):
                if on_cells is not None:
                    on_cells(links, name)
                sums.add(links.gene * len(graphs.peaks) + links.peak, links.weight)
                bar.update(links.n_cells)
            if edges is None:
                yield _summed(name, len(positions), sums, len(graphs.peaks))
            else:
                yield _of_edges(name, len(positions), sums, edges, place)


def _summed(name: str, n_cells: int, sums: LinkSums, n_peaks: int) -> TypeLinks:
    """Links whose attention was summed over cells."""
    keys, score, support = sums.totals()
    order = np.argsort(-score, kind="stable")
    keys = keys[order]
    return TypeLinks(name, n_cells, keys // n_peaks, keys % n_peaks, score[order] / n_cells, support[order])


def _of_edges(name: str, n_cells: int, sums: LinkSums, edges: EdgeLinks, place: int) -> TypeLinks:
    """Links whose attention is the same in all cells; the sums tell in how many they were seen."""
    keys, _, support = sums.totals()
    score, effect, order = edges.scores(place), edges.effects(place), edges.listed(place)
    wanted = edges.gene[order] * edges.n_peaks + edges.peak[order]
    at = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    seen = np.where(keys[at] == wanted, support[at], 0) if len(keys) else np.zeros(len(wanted), np.int64)
    return TypeLinks(name, n_cells, edges.gene[order], edges.peak[order], score[order], seen, effect[order])


def cells_by_type(graphs: MultiomeGraphs) -> list[tuple[str, Int64]]:
    """Return the names of the cell types in order, each with the positions of its cells in ``graphs``."""
    if not len(graphs):
        raise InputError("there are no cells to map. Choose another split.")
    names = np.array([*graphs.cell_types, NO_LABEL], dtype=object)
    codes = graphs.cell_type_codes[graphs.pairs_of(np.arange(len(graphs)))[0]]
    labels = names[np.where(codes == UNLABELLED, len(names) - 1, codes)]
    types, which = np.unique(labels.astype(str), return_inverse=True)
    return [(str(name), np.flatnonzero(which == code)) for code, name in enumerate(types)]
