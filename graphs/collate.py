"""Build a PyG batch of cell graphs from sparse rows, with no per-cell Python objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch_geometric.data import Batch, HeteroData

from .csr import ranges
from .schema import ACCESSIBILITY, CELL, CIS, DISTANCE, EXPRESSES, EXPRESSION, GENE, ID, OPENS, PEAK

_TABLE = 1 << 23  # bytes
Int64 = npt.NDArray[np.int64]
Rows = tuple[Int64, npt.NDArray[np.float32], Int64]  # ids, values, non-zeros of each row


@dataclass(frozen=True)
class CisEdges:
    """Peak-gene edges stored by gene.

    Attributes
    ----------
    indptr
        (genes + 1,) int64.
    peak
        (edges,) int32, ascending in a gene.
    distance
        (edges,) int32: peak centre from TSS in bp, negative upstream.
    """

    indptr: Int64
    peak: npt.NDArray[np.int32]
    distance: npt.NDArray[np.int32]


def assemble(
    cells: dict[str, Tensor],
    genes: Rows,
    peaks: Rows,
    *,
    attributes: dict[str, dict[str, Tensor]],
    cis: CisEdges | None,
    n_peaks: int,
) -> Batch:
    """Lay graphs side by side exactly as ``Batch.from_data_list`` does.

    Parameters
    ----------
    cells
        Fields of the cell nodes, (graphs,) each.
    genes, peaks
        Rows of the two modalities, one a graph.
    attributes
        Static attributes of the gene and of the peak nodes, by node type.
    cis
        Window edges to restrict to the nodes of each graph, or None for a batch without them.
    n_peaks
        Number of peaks of the dataset.
    """
    n_graphs = len(genes[2])
    batch = Batch(_base_cls=HeteroData)
    batch._num_graphs, batch._slice_dict, batch._inc_dict = n_graphs, {}, {}
    _add_nodes(batch, CELL, cells, np.ones(n_graphs, np.int64))
    for node, field, (ids, values, counts) in ((GENE, EXPRESSION, genes), (PEAK, ACCESSIBILITY, peaks)):
        fields = {ID: torch.from_numpy(ids), field: torch.from_numpy(values), **attributes[node]}
        _add_nodes(batch, node, fields, counts)
    for kind, (_, _, counts) in ((EXPRESSES, genes), (OPENS, peaks)):
        cell = np.repeat(np.arange(n_graphs), counts)
        _add_edges(batch, kind, np.stack([cell, np.arange(len(cell))]), counts, {})
    if cis is not None:
        edges, distance, counts = _cis_between(genes, peaks, cis, n_peaks)
        _add_edges(batch, CIS, edges, counts, {DISTANCE: torch.from_numpy(distance)})
    return batch


def _add_nodes(batch: Batch, node: str, fields: dict[str, Tensor], counts: Int64) -> None:
    ptr = torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]))
    store = batch[node]
    for name, values in fields.items():
        store[name] = values
    store._num_nodes = counts.tolist()
    store.num_nodes = int(counts.sum())
    store.batch = torch.repeat_interleave(torch.from_numpy(counts))
    store.ptr = ptr
    zeros = torch.zeros(len(counts), dtype=torch.long)
    batch._slice_dict[node] = dict.fromkeys(fields, ptr)
    batch._inc_dict[node] = dict.fromkeys(fields, zeros)


def _add_edges(
    batch: Batch, kind: tuple[str, str, str], edges: Int64, counts: Int64, fields: dict[str, Tensor]
) -> None:
    ptr = torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]))
    before = torch.stack([batch[kind[0]].ptr[:-1], batch[kind[2]].ptr[:-1]], 1)
    store = batch[kind]
    store.edge_index = torch.from_numpy(edges)
    for name, values in fields.items():
        store[name] = values
    zeros = torch.zeros(len(counts), dtype=torch.long)
    batch._slice_dict[kind] = {"edge_index": ptr, **dict.fromkeys(fields, ptr)}
    batch._inc_dict[kind] = {"edge_index": before.unsqueeze(-1), **dict.fromkeys(fields, zeros)}


def _cis_between(
    genes: Rows, peaks: Rows, cis: CisEdges, n_peaks: int
) -> tuple[Int64, npt.NDArray[np.int32], Int64]:
    """Restrict the prior edges to the genes expressed and peaks open in each graph."""
    block = max(1, _TABLE // max(n_peaks, 1))  # graphs whose table of open peaks stays in the cache
    ptr = [np.concatenate([[0], np.cumsum(rows[2])]) for rows in (genes, peaks)]
    parts = []
    for first in range(0, len(genes[2]), block):
        bounds = [p[[first, min(first + block, len(p) - 1)]] for p in ptr]
        some = [
            (rows[0][start:stop], rows[2][first : first + block])
            for rows, (start, stop) in zip((genes, peaks), bounds, strict=True)
        ]
        peak, gene, where, counts = _cis_of_some(*some[0], *some[1], cis, n_peaks)
        parts.append((peak + bounds[1][0], gene + bounds[0][0], cis.distance[where], counts))
    peak, gene, distance, counts = (np.concatenate(part) for part in zip(*parts, strict=True))
    return np.stack([peak, gene]), distance, counts


def _cis_of_some(
    gene_ids: Int64, n_genes: Int64, peak_ids: Int64, n_open: Int64, cis: CisEdges, n_peaks: int
) -> tuple[Int64, Int64, Int64, Int64]:
    """Find peak and gene nodes of the edges of some graphs, where these are stored, and how many a graph has."""
    base_of_gene, base_of_peak = (np.repeat(np.arange(len(n)) * n_peaks, n) for n in (n_genes, n_open))
    keys = base_of_peak + peak_ids  # ascending
    is_open = np.zeros(len(n_genes) * n_peaks, dtype=bool)
    is_open[keys] = True
    starts = cis.indptr[gene_ids]
    width = cis.indptr[gene_ids + 1] - starts
    where = ranges(starts, width)
    wanted = np.repeat(base_of_gene, width) + cis.peak[where]
    kept = np.flatnonzero(is_open[wanted])
    before = np.searchsorted(kept, np.concatenate([[0], np.cumsum(width)]))
    gene = np.repeat(np.arange(len(gene_ids)), np.diff(before))
    counts = np.diff(before[np.concatenate([[0], np.cumsum(n_genes)])])
    return np.searchsorted(keys, wanted[kept]), gene, where[kept], counts
