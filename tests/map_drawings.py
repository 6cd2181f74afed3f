"""Made maps, every plot of them, and what must hold of any picture."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

from scweave.interpret.plots import (
    plot_cell_attention,
    plot_distance_decay,
    plot_genome_track,
    plot_locus,
    plot_network,
    plot_overlap,
    plot_sharing,
)

CHROMOSOMES = ["chr1", "chr2", "chr10", "chrX", "GL456216.1_random"]


def a_map(n_links=600, n_genes=40, n_peaks=300, n_types=4, *, name="type", seed=0):
    """Random tables of a map; two genes are unplaced, and some links cross chromosomes."""
    rng = np.random.default_rng(seed)
    tss = rng.integers(10_000, 900_000, n_genes)
    genes = pd.DataFrame(
        {
            "gene": [f"G{i}" for i in range(n_genes)],
            "symbol": [f"Symbol{i}" for i in range(n_genes)],
            "chrom": rng.choice(CHROMOSOMES[:4], n_genes).astype(object),
            "start": pd.array(tss, dtype="Int64"),
            "end": pd.array(tss + 20_000, dtype="Int64"),
            "tss": pd.array(tss, dtype="Int64"),
            "strand": rng.choice(["+", "-"], n_genes).astype(object),
        }
    )
    genes.loc[:1, ["chrom", "start", "end", "tss", "strand"]] = None
    start = rng.permutation(np.arange(n_peaks) * (900_000 // n_peaks))
    peaks = pd.DataFrame(
        {"chrom": np.sort(rng.choice(CHROMOSOMES, n_peaks)), "start": start, "end": start + 400}
    )
    peaks.insert(0, "peak", [f"p{i}" for i in range(n_peaks)])
    types = [f"{name} {i}" for i in range(n_types)]
    keys = rng.choice(n_genes * n_peaks * n_types, n_links, replace=False)
    gene, peak, kind = keys // n_types // n_peaks, keys // n_types % n_peaks, keys % n_types
    own = genes["tss"].to_numpy(np.float64, na_value=np.nan)[gene]
    near = peaks["chrom"].to_numpy(object)[peak] == genes["chrom"].to_numpy(object)[gene]
    distance = np.where(near, start[peak] + 200 - own, np.nan)
    links = pd.DataFrame(
        {
            "gene": pd.Categorical(genes["gene"].to_numpy()[gene], genes["gene"]),
            "peak": pd.Categorical(peaks["peak"].to_numpy()[peak], peaks["peak"]),
            "chrom": peaks["chrom"].to_numpy(object)[peak],
            "start": start[peak],
            "end": start[peak] + 400,
            "tss": genes["tss"].to_numpy()[gene],
            "distance": pd.array(distance, dtype="Float64").astype("Int64"),
            "score": rng.exponential(0.1, n_links),
            "cell_type": pd.Categorical(np.array(types)[kind], types),
        }
    )
    openness = pd.DataFrame(
        rng.random((n_peaks, n_types)) * (rng.random((n_peaks, n_types)) < 0.5),
        index=peaks["peak"],
        columns=types,
    )
    expression = pd.DataFrame(rng.random((n_genes, n_types)), index=genes["gene"], columns=types)
    return links, genes, peaks, openness, expression


def new_axes(*, size=(7, 4), layout="constrained"):
    return Figure(figsize=size, dpi=90, layout=layout).subplots()


def texts(ax):
    return [t.get_text() for t in ax.findobj(Text) if t.get_visible() and t.get_text()]


def notes(ax):
    return " ".join(texts(ax))


def drawn_texts(figure):
    """Every text that a reader sees, and the box it takes, after the layout."""
    figure.draw_without_rendering()
    seen = []
    for ax in figure.findobj(lambda artist: hasattr(artist, "xaxis")):
        for axis in (ax.xaxis, ax.yaxis) if ax.axison else ():
            for tick in (
                t for t in axis.get_major_ticks() if t.label1.get_visible() or t.label2.get_visible()
            ):
                low, high = sorted(axis.get_view_interval())
                label = tick.label1 if tick.label1.get_visible() else tick.label2
                if low <= tick.get_loc() <= high:
                    seen.append(label)
            seen.append(axis.label)
        seen += [ax.title, *ax.texts]
        seen += ax.get_legend().get_texts() if ax.get_legend() else []
    shown = [t for t in seen if t.get_visible() and t.get_text().strip()]
    return [(t.get_text(), t.get_window_extent()) for t in dict.fromkeys(shown)]


def assert_legible(ax):
    figure = ax.get_figure(root=True)
    boxes = drawn_texts(figure)
    width, height = figure.bbox.width, figure.bbox.height
    for text, box in boxes:
        assert box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1, (
            f"{text!r} is cut off"
        )
    for i, (text, box) in enumerate(boxes):
        for other, second in boxes[i + 1 :]:
            inner = box.shrunk(0.9, 0.8), second.shrunk(0.9, 0.8)  # boxes have room for letters not written
            assert not inner[0].overlaps(inner[1]), f"{text!r} over {other!r}"


def graph_of(links, tfs=0):
    graph = nx.Graph()
    for row in links.itertuples():
        graph.add_node(row.gene, kind="gene")
        graph.add_node(row.peak, kind="peak")
        graph.add_edge(row.gene, row.peak, score=row.score)
    peaks = sorted(node for node, kind in graph.nodes("kind") if kind == "peak")
    for i in range(tfs):
        graph.add_node(f"TF{i}", kind="tf")
        graph.add_edges_from((f"TF{i}", peak, {"score": 10.0 + i}) for peak in peaks[i::5])
    return graph


def drawings(tables):
    """Every plot as a function of axes."""
    links, genes, peaks, openness, expression = tables
    first = links["cell_type"].cat.categories[0]
    one = links[links["cell_type"] == first]
    values = {
        "attention": openness.iloc[:, 0],
        "a transcription factor": openness.iloc[:, 1 % openness.shape[1]],
    }
    given = {"genes": genes, "peaks": peaks, "openness": openness, "expression": expression}
    return {
        "cell": lambda ax: plot_cell_attention(ax, one, genes, peaks),
        "locus": lambda ax: plot_locus(ax, links, "G5", **given),
        "decay": lambda ax: plot_distance_decay(ax, links, candidates=np.arange(1, 800_000, 999)),
        "decay by type": lambda ax: plot_distance_decay(ax, links, by="cell_type"),
        "sharing": lambda ax: plot_sharing(ax, links, n=50),
        "overlap": lambda ax: plot_overlap(ax, links, n=50),
        "track": lambda ax: plot_genome_track(ax, values, peaks),
        "track of a chromosome": lambda ax: plot_genome_track(ax, values, peaks, chrom="chr10"),
        "network": lambda ax: plot_network(ax, graph_of(one, tfs=3), strongest=30),
    }
