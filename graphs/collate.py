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
    """Restrict the window edges to the genes expressed and peaks open in each graph."""
    gene_ids, _, n_genes = genes
    peak_ids, _, n_open = peaks
    n_graphs = len(n_genes)
    starts = cis.indptr[gene_ids]
    width = cis.indptr[gene_ids + 1] - starts
    where = ranges(starts, width)
    gene = np.repeat(np.arange(len(gene_ids)), width)
    graph = np.repeat(np.repeat(np.arange(n_graphs), n_genes), width)
    open_keys = np.repeat(np.arange(n_graphs), n_open) * n_peaks + peak_ids  # ascending
    wanted = graph * n_peaks + cis.peak[where]
    position = np.searchsorted(open_keys, wanted)
    found = position < len(open_keys)
    found[found] = open_keys[position[found]] == wanted[found]
    edges = np.stack([position[found], gene[found]])
    return edges, cis.distance[where[found]], np.bincount(graph[found], minlength=n_graphs)
