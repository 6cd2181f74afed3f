"""Links as a network of TFs, peaks and genes: nodes and edges with attributes, hubs, communities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import networkx as nx
import numpy as np
import pandas as pd

from ...graphs.errors import InputError
from .categories import codes_of
from .network_edges import best_links, tf_peaks
from .selection import check_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..maps import RegulatoryMap

KINDS: Final = ("tf", "peak", "gene")
_EDGES: Final = 3_000_000  # at most; one takes about a kilobyte
_LINK: Final = ("score", "effect", "distance", "n_cells", "zscore", "qvalue")
_PEAK: Final = ("chrom", "start", "end", "accessibility", "gc")
_GENE: Final = ("symbol", "chrom", "tss", "strand")


def to_networkx(regulatory_map: RegulatoryMap, *, cell_type: str | None = None) -> nx.DiGraph[str]:
    """Return a directed network of linked peaks, genes and, where the map has sites, TFs.

    Nodes are peaks and genes by their names and TFs as ``tf:NAME``; all have ``name`` and ``kind`` (``peak``,
    ``gene`` or ``tf``). Peaks have ``chrom, start, end, accessibility, gc``, genes ``symbol, chrom, tss, strand``;
    a TF has ``gene``, the gene of the map whose symbol is its name (whatever the case), where there is one.

    Edges run from a peak to a gene (``score, effect, distance, n_cells, zscore, qvalue``) and from a TF to a linked
    peak (``score`` of the best site, ``n_sites``). Of several cell types, an edge has what the type with the highest
    score says, the type's name as ``cell_type``, and all types that have the link as ``cell_types`` ("A; B").
    An attribute that is not known is left out.

    Parameters
    ----------
    regulatory_map
        Map; `RegulatoryMap.filter` takes the links that matter out of a large one.
    cell_type
        Of this type only; of all when None.

    Raises
    ------
    InputError
        The cell type is not in the map, or there are more than three million edges.

    Examples
    --------
    >>> network = to_networkx(found.filter(top=3), cell_type="Pvalb")  # doctest: +SKIP
    >>> network.predecessors("Gad1")  # doctest: +SKIP
    """
    links = best_links(regulatory_map, cell_type)
    sites = tf_peaks(regulatory_map, links)
    if (n := len(links) + len(sites)) > _EDGES:
        raise InputError(
            f"the network has {n:,} edges, too many to hold ({_EDGES:,}). Filter the map first, for example top=5."
        )
    graph: nx.DiGraph[str] = nx.DiGraph()
    _add_nodes(graph, regulatory_map, links, sites)
    attributes = [name for name in (*_LINK, "cell_type", "cell_types") if name in links]
    graph.add_edges_from(zip(links["peak"], links["gene"], _records(links[attributes]), strict=True))
    graph.add_edges_from(
        zip(_keys(sites["tf"]), sites["peak"], _records(sites[["score", "n_sites"]]), strict=True)
    )
    return graph


def hubs(graph: nx.DiGraph[str], n: int = 20) -> pd.DataFrame:
    """Return the nodes of each kind with the most edges.

    Parameters
    ----------
    graph
        Of `to_networkx`.
    n
        Nodes of each kind, at most.

    Returns
    -------
    ``node, name, kind, degree, weighted_degree``: TFs, then peaks, then genes, by descending degree, then
    weighted degree. The degree counts all edges; the weighted degree adds up scores, of links for peaks and
    genes, of sites for TFs.

    Examples
    --------
    >>> hubs(to_networkx(found), n=5)  # doctest: +SKIP
    """
    check_number(n, "n")
    table = _node_frame(graph)
    degree, weighted = dict(graph.degree()), dict.fromkeys(graph, 0.0)
    for start, end, score in graph.edges(data="score", default=0.0):
        weighted[start] += score
        if graph.nodes[start]["kind"] == "peak":
            weighted[end] += score
    table["degree"] = table["node"].map(degree).astype(np.int64)
    table["weighted_degree"] = table["node"].map(weighted).astype(np.float64)
    order = table.assign(rank=table["kind"].map({kind: i for i, kind in enumerate(KINDS)})).sort_values(
        ["rank", "degree", "weighted_degree"], ascending=[True, False, False], kind="stable"
    )
    return order.groupby("kind", sort=False).head(n).drop(columns="rank").reset_index(drop=True)


def communities(graph: nx.DiGraph[str], *, resolution: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """Divide a network into communities of densely joined nodes, by Louvain's method.

    Directions are left out, and scores divided by the mean of their kind, so that those of sites and of links
    weigh alike. Edges without a positive score join nothing.

    Parameters
    ----------
    graph
        Of `to_networkx`.
    resolution
        Above 1 for smaller communities.
    seed
        Decides the order in which nodes are moved.

    Returns
    -------
    ``node, name, kind, community``: communities are numbered by descending size from 0; nodes by community.

    References
    ----------
    Blondel et al., Fast unfolding of communities in large networks. J. Stat. Mech. P10008 (2008).

    Examples
    --------
    >>> communities(to_networkx(found))["community"].value_counts()  # doctest: +SKIP
    """
    joined: nx.Graph[str] = nx.Graph()
    joined.add_nodes_from(graph)
    kinds = [graph.nodes[start]["kind"] for start, _ in graph.edges]
    scores = np.array([score for _, _, score in graph.edges(data="score", default=0.0)], np.float64)
    for kind in ("tf", "peak"):
        own = (np.array(kinds, object) == kind) & (scores > 0)
        scores[own] /= scores[own].mean() if own.any() else 1.0
    edges = zip(graph.edges, scores.tolist(), strict=True)
    joined.add_weighted_edges_from((start, end, score) for (start, end), score in edges if score > 0)
    found = nx.community.louvain_communities(joined, resolution=resolution, seed=seed)
    member = {
        node: i
        for i, nodes in enumerate(sorted(found, key=lambda some: (-len(some), min(some))))
        for node in nodes
    }
    table = _node_frame(graph)
    table["community"] = table["node"].map(member).astype(np.int64)
    return table.sort_values("community", kind="stable", ignore_index=True)


def _add_nodes(
    graph: nx.DiGraph[str], regulatory_map: RegulatoryMap, links: pd.DataFrame, sites: pd.DataFrame
) -> None:
    for kind, table, columns in (
        ("peak", regulatory_map.peaks, _PEAK),
        ("gene", regulatory_map.genes, _GENE),
    ):
        own = table.iloc[np.unique(codes_of(links[kind]))]
        told = own[list(columns)].assign(name=own[kind], kind=kind)
        graph.add_nodes_from(zip(own[kind], _records(told), strict=True))
    genes = regulatory_map.genes[regulatory_map.genes["symbol"].notna()]
    by_symbol = dict(zip(genes["symbol"].str.casefold(), genes["gene"], strict=True))
    names = pd.Series(sites["tf"].unique(), dtype=object)
    tfs = pd.DataFrame({"name": names, "kind": "tf", "gene": names.str.casefold().map(by_symbol)})
    graph.add_nodes_from(zip(_keys(tfs["name"]), _records(tfs), strict=True))


def _keys(tfs: pd.Series[str]) -> list[str]:
    """Name nodes of TFs; genes may have the same names."""
    return [f"tf:{name}" for name in tfs]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as Python values, without what is null."""
    names = [str(name) for name in table.columns]
    columns, known = ([at[name].tolist() for name in names] for at in (table, table.notna()))
    if table.notna().all(axis=None):
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return [
        {name: value for name, value, there in zip(names, row, has, strict=True) if there}
        for row, has in zip(zip(*columns, strict=True), zip(*known, strict=True), strict=True)
    ]


def _node_frame(graph: nx.DiGraph[str]) -> pd.DataFrame:
    """Return ``node, name, kind`` of all nodes."""
    rows: Sequence[tuple[str, Any, Any]] = [
        (node, at["name"], at["kind"]) for node, at in graph.nodes(data=True)
    ]
    return pd.DataFrame(rows, columns=["node", "name", "kind"], dtype=object)
