"""Transcription factors, peaks and genes as a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import networkx as nx
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D

from ...graphs.errors import InputError
from .labels import count, place_labels, say_nothing, shorten, size_in_points, title_with_notes
from .palette import INK, PALETTE

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

_KINDS: Final = {  # marker, size (points), colour, name in the legend
    "tf": ("D", 8.5, PALETTE[1], "transcription factor"),
    "gene": ("o", 8.0, PALETTE[0], "gene"),
    "peak": ("s", 3.6, "#8a9099", "peak"),
}
_LEGEND: Final = 16.0  # points
_SLOW: Final = 120  # nodes beyond which the better layout takes too long


@dataclass(frozen=True)
class _Edges:
    """Edges by position of their nodes, and their share of the highest score of edges between the same kinds."""

    names: list[Any]
    kinds: npt.NDArray[np.str_]
    ends: Int64  # (edges, 2)
    share: Float64  # (edges,)
    score: Float64  # (edges,)

    def subset(self, kept: Int64) -> _Edges:
        """Return some of the edges, and the nodes that they join."""
        nodes, ends = np.unique(self.ends[kept], return_inverse=True)
        return _Edges(
            [self.names[i] for i in nodes],
            self.kinds[nodes],
            ends.reshape(-1, 2),
            self.share[kept],
            self.score[kept],
        )

    @property
    def of_tf(self) -> npt.NDArray[np.bool_]:
        """Whether an edge leads to a transcription factor, (edges,)."""
        found: npt.NDArray[np.bool_] = (self.kinds[self.ends] == "tf").any(1)
        return found


def plot_network(ax: Axes, graph: nx.Graph[Any], *, strongest: int = 80, seed: int = 0) -> Axes:
    """Draw the strongest links of a network, parts that hang together side by side.

    Lines are the wider, the higher their score among edges between the same kinds of nodes. Genes and
    transcription factors have their names, as far as there is room.

    Parameters
    ----------
    ax
        Axes to draw on, at their final size.
    graph
        Nodes with ``kind`` (peak, gene or tf) and, where known, ``symbol``; edges with ``score``.
    strongest
        Links between peaks and genes to draw at most, and as many between transcription factors and the peaks of
        those links.
    seed
        Decides the layout of large parts.

    Raises
    ------
    InputError
        A node has no kind or another one, an edge has no score, or ``strongest`` is less than 1.
    """
    if strongest < 1:
        raise InputError(f"strongest: found {strongest}. Pass 1 or more edges.")
    edges = _read(graph)
    if not len(edges.ends):
        return say_nothing(ax, "The network has no links.")
    shown = edges.subset(_select(edges, strongest))
    width, height = size_in_points(ax)
    at = _layout(shown, width, height - _LEGEND, seed)
    at[:, 1] = height - at[:, 1]  # large parts on top
    ax.set(xlim=(0, width), ylim=(0, height), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    _draw(ax, shown, at)
    lost = _name(ax, graph, shown, at)
    drawn, whole = len(shown.ends), len(edges.ends)
    notes = [f"the {drawn:,} strongest of {whole:,} links" if drawn < whole else count(whole, "link")]
    if lost:
        notes.append(f"{lost:,} of the names found no room")
    title_with_notes(
        ax, "Regulatory network", [*notes, f"score up to {shown.score[~shown.of_tf].max(initial=0):.2g}"]
    )
    return ax


def _read(graph: nx.Graph[Any]) -> _Edges:
    """Take a graph apart, in an order that does not depend on how it was put together."""
    kinds = {node: str(data.get("kind")) for node, data in graph.nodes(data=True)}
    strange = next((node for node, kind in kinds.items() if kind not in _KINDS), None)
    if strange is not None:
        raise InputError(
            f"graph: node {strange} has the kind {kinds[strange]}. Set kind to {', '.join(_KINDS)}."
        )
    names = sorted(kinds, key=str)
    place = {name: i for i, name in enumerate(names)}
    ends = [sorted((place[a], place[b])) for a, b in graph.edges()]
    try:
        scores = [float(data["score"]) for *_, data in graph.edges(data=True)]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"graph: an edge has no score ({error}). Set a number as the score of every edge."
        ) from error
    joined, score = np.array(ends, np.int64).reshape(-1, 2), np.array(scores, np.float64)
    order = np.lexsort((joined[:, 1], joined[:, 0], -score))
    kind = np.array([kinds[name] for name in names], dtype=str)
    return _with_shares(names, kind, joined[order], score[order])


def _with_shares(names: list[Any], kinds: npt.NDArray[np.str_], ends: Int64, score: Float64) -> _Edges:
    tf = (kinds[ends] == "tf").any(1) if len(ends) else np.zeros(0, bool)
    share = np.zeros(len(score))
    for group in (tf, ~tf):
        highest = float(np.nanmax(score[group], initial=0.0))
        share[group] = np.clip(np.nan_to_num(score[group]) / (highest or 1.0), 0, 1)
    return _Edges(names, kinds, ends, share, score)


def _select(edges: _Edges, strongest: int) -> Int64:
    """Choose the strongest links of genes, then the strongest edges of TFs to the peaks of those."""
    tf, order = edges.of_tf, np.argsort(-edges.share, kind="stable")
    links = order[~tf[order]][:strongest]
    of_tf = order[tf[order]]
    if len(links):
        of_tf = of_tf[np.isin(edges.ends[of_tf], edges.ends[links]).any(1)]
    return np.sort(np.r_[links, of_tf[:strongest]])


def _layout(edges: _Edges, width: float, height: float, seed: int) -> Float64:
    """Place nodes in points: every part by itself, parts in rows from large to small."""
    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from(range(len(edges.names)))
    graph.add_edges_from(edges.ends.tolist())
    parts = sorted(
        (sorted(part) for part in nx.connected_components(graph)), key=lambda part: (-len(part), part[0])
    )
    sides = np.array([np.sqrt(len(part)) + 0.6 for part in parts])
    corners, room = _shelves(sides, width / height)
    at = np.zeros((len(edges.names), 2))
    for part, side, corner in zip(parts, sides, corners, strict=True):
        at[part] = corner + side * (0.1 + 0.8 * _unit(graph.subgraph(part), seed))
    edge = 0.02 * np.array([width, height]) + 8
    return edge + at / room * (np.array([width, height]) - 2 * edge)


def _unit(part: nx.Graph[int], seed: int) -> Float64:
    """Lay one part out in the square from 0 to 1; rows in ascending order of nodes."""
    if len(part) > _SLOW:
        found = nx.spring_layout(part, seed=seed, iterations=100, weight=None)
    else:
        ordered: nx.Graph[int] = nx.Graph()
        ordered.add_nodes_from(sorted(part))
        ordered.add_edges_from(sorted((min(edge), max(edge)) for edge in part.edges()))
        found = nx.kamada_kawai_layout(ordered, weight=None)
    at = np.array([found[node] for node in sorted(part)])
    low, span = at.min(0), np.ptp(at, 0)
    unit: Float64 = np.where(span > 1e-6, (at - low) / np.where(span > 1e-6, span, 1), 0.5)
    return unit


def _shelves(sides: Float64, aspect: float) -> tuple[Float64, Float64]:
    """Put squares in rows of a rectangle: their corners (squares, 2), and its width and height.

    Of several widths, the one whose rectangle comes nearest to the aspect.
    """
    best: tuple[float, Float64, Float64] | None = None
    for wide in np.linspace(max(sides.max(), 1e-9), sides.sum(), 60):
        corners, room = _rows(sides, float(wide))
        off = abs(float(np.log(room[0] / room[1] / aspect)))
        if best is None or off < best[0] - 1e-12:
            best = off, corners, room
    assert best is not None  # there is at least one part
    return best[1], best[2]


def _rows(sides: Float64, wide: float) -> tuple[Float64, Float64]:
    corners, x, y, tall, widest = [], 0.0, 0.0, 0.0, 0.0
    for side in sides.tolist():
        if x and x + side > wide + 1e-9:
            x, y, tall = 0.0, y + tall, 0.0
        corners.append((x, y))
        x, tall = x + side, max(tall, side)
        widest = max(widest, x)
    return np.array(corners), np.array([widest, y + tall])


def _draw(ax: Axes, edges: _Edges, at: Float64) -> None:
    order = np.argsort(edges.share, kind="stable")  # strong edges above weak ones
    share, tf = edges.share[order], edges.of_tf[order]
    colours = np.where(tf, PALETTE[1], "#5c6470").tolist()
    lines = LineCollection(
        list(at[edges.ends[order]]), colors=colours, linewidths=0.5 + 2.7 * share, zorder=1
    )
    lines.set_alpha((0.3 + 0.5 * share).tolist())
    ax.add_collection(lines)
    marks = [Line2D([], [], color="#5c6470", lw=2.2, label="link: the wider, the higher its score")]
    for kind, (marker, size, colour, name) in _KINDS.items():
        own = edges.kinds == kind
        if own.any():
            ax.plot(*at[own].T, marker, color=colour, ms=size, mec="white", mew=0.7, zorder=3)
            marks.append(Line2D([], [], color=colour, marker=marker, ms=size, mec="white", lw=0, label=name))
    if edges.of_tf.any():
        marks.insert(1, Line2D([], [], color=PALETTE[1], lw=1.6, label="motif"))
    ax.legend(
        handles=marks, loc="lower center", bbox_to_anchor=(0.5, -0.04), ncols=len(marks), frameon=False, fontsize=7.5,
        handletextpad=0.5, columnspacing=1.2,
    )  # fmt: skip


def _name(ax: Axes, graph: nx.Graph[Any], edges: _Edges, at: Float64) -> int:
    """Name TFs, then genes, those with the most links first; return how many found no room."""
    degree = np.bincount(edges.ends.ravel(), minlength=len(edges.names))
    named = np.flatnonzero(edges.kinds != "peak")
    named = named[np.lexsort((-degree[named], edges.kinds[named] != "tf"))]
    texts = [shorten(_shown(graph, edges.names[i]), 16) for i in named]
    colours = [_KINDS[kind][2] if kind == "tf" else INK for kind in edges.kinds[named]]
    return place_labels(ax, at[named], texts, at, colours=colours, lines=at[edges.ends])


def _shown(graph: nx.Graph[Any], node: Any) -> str:
    """Return a node's symbol or name, where it has one: a TF's key is not its name."""
    told = graph.nodes[node]
    return str(told.get("symbol") or told.get("name") or node)
