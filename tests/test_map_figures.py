"""Figures of maps: artists hold what the table says, texts stay within the picture and apart, inputs stay as they were."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from scipy.stats import binom

from map_drawings import (
    CHROMOSOMES,
    a_map,
    assert_legible,
    drawings,
    graph_of,
    new_axes,
    notes,
    texts,
)
from scweave.graphs.errors import InputError
from scweave.interpret.figures.chromosomes import by_position, ordered
from scweave.interpret.plots import (
    plot_cell_attention,
    plot_distance_decay,
    plot_genome_track,
    plot_locus,
    plot_network,
    plot_overlap,
    plot_sharing,
    type_colours,
)


@pytest.fixture(scope="module")
def tables():
    return a_map()


PLOTS = list(drawings(a_map(60)))


@pytest.mark.parametrize("layout", ["constrained", None])
@pytest.mark.parametrize("which", PLOTS)
@pytest.mark.parametrize("kind", ["usual", "23 types of long names", "one type", "few links"])
def test_texts_stay_in_the_picture_and_apart(which, kind, layout):
    made = {
        "usual": lambda: a_map(),
        "23 types of long names": lambda: a_map(
            5_000, n_types=23, name="A population of cells, found once and named"
        ),
        "one type": lambda: a_map(n_types=1),
        "few links": lambda: a_map(6, n_types=2),
    }[kind]()
    size = (7, 6) if "23" in kind and which == "locus" else (7, 4)
    ax = new_axes(size=size, layout=layout)
    assert drawings(made)[which](ax) is ax
    assert_legible(ax)


@pytest.mark.parametrize("which", PLOTS)
def test_inputs_stay_as_they_were_and_the_picture_is_the_same_again(which, tables):
    before = [table.copy(deep=True) for table in tables]
    pictures = []
    for _ in range(2):
        figure = Figure(figsize=(5, 3), dpi=50)
        drawings(tables)[which](figure.subplots())
        FigureCanvasAgg(figure).draw()
        pictures.append(np.asarray(figure.canvas.buffer_rgba()).copy())
    assert np.array_equal(*pictures)
    for table, old in zip(tables, before, strict=True):
        pd.testing.assert_frame_equal(table, old)


@pytest.mark.parametrize("which", ["cell", "locus", "decay", "sharing", "overlap", "network"])
def test_without_links_the_axes_say_so(which, tables):
    links, genes, peaks, *_ = tables
    ax = new_axes()
    drawings((links.iloc[:0], genes, peaks, *tables[3:]))[which](ax)
    said = {
        "cell": "This cell has no links.", "locus": "no link within 250 kb",
        "decay": "There is no link with a distance.", "sharing": "There are no links to compare.",
        "overlap": "It takes links of two cell types to compare them.", "network": "The network has no links.",
    }[which]  # fmt: skip
    assert said in notes(ax)


def test_squares_hold_the_strongest_link_and_the_margins_the_sums(tables):
    links, genes, peaks, *_ = tables
    one = links[links["cell_type"] == "type 1"]
    ax = new_axes()
    plot_cell_attention(ax, one, genes, peaks, linked_only=False)
    heat, above, beside, _ = ax.child_axes
    squares = heat.images[0].get_array().filled(np.nan)
    order = {"GL456216.1_random": 8, "chr1": 1, "chr2": 2, "chr10": 3, "chrX": 4}
    gene_rank = {
        g.gene: i
        for i, g in enumerate(
            sorted(genes.itertuples(), key=lambda g: (order.get(g.chrom, 9), 0 if pd.isna(g.tss) else g.tss))
        )
    }
    peak_rank = {
        p.peak: i for i, p in enumerate(sorted(peaks.itertuples(), key=lambda p: (order[p.chrom], p.start)))
    }
    rows, columns = squares.shape
    assert rows == 40 and columns < 300  # genes have squares of their own, peaks share some
    strongest, down, across = {}, defaultdict(float), defaultdict(float)
    for link in one.itertuples():
        row, column = gene_rank[link.gene] * rows // 40, peak_rank[link.peak] * columns // 300
        strongest[row, column] = max(strongest.get((row, column), 0), link.score)
        down[column] += link.score
        across[row] += link.score
    assert set(zip(*(i.tolist() for i in np.nonzero(~np.isnan(squares))), strict=True)) == set(strongest)
    assert all(np.isclose(squares[at], score) for at, score in strongest.items())
    (over,), (beside_,) = ([p for p in a.patches if isinstance(p, StepPatch)] for a in (above, beside))
    assert np.allclose(over.get_data().values, [down[i] for i in range(columns)])
    assert np.allclose(beside_.get_data().values, [across[i] for i in range(rows)])
    assert "unplaced" in texts(heat) or "X" in texts(heat)
    assert f"{len(one)} links between 40 genes and 300 peaks (all)" in notes(ax)


def test_a_heat_map_of_many_features_is_no_larger_than_the_picture():
    links, genes, peaks, *_ = a_map(50_000, n_genes=3_000, n_peaks=30_000, n_types=1)
    ax = new_axes()
    plot_cell_attention(ax, links, genes, peaks)
    assert ax.child_axes[0].images[0].get_array().size < 40_000


def test_few_genes_are_named_by_their_symbol():
    links, genes, peaks, *_ = a_map(6, n_types=1)
    ax = new_axes()
    plot_cell_attention(ax, links, genes, peaks)
    shown = [label.get_text() for label in ax.child_axes[0].get_yticklabels()]
    assert sorted(shown) == sorted("Symbol" + name[1:] for name in set(links["gene"]))


def test_chromosomes_are_in_the_order_that_people_count_in():
    assert ordered(["chr10", None, "chr2", "unplaced", "GL4", "chrX", "chr2"]) == [
        "chr2",
        "chr10",
        "chrX",
        "GL4",
        "unplaced",
    ]
    rank, stretches = by_position(np.array(["chr2", None, "chr1", "chr2"], object), [9, 0, 5, 3])
    assert rank.tolist() == [2, 3, 0, 1]
    assert [(s.name, s.begin, s.end) for s in stretches] == [
        ("chr1", 0, 1),
        ("chr2", 1, 3),
        ("unplaced", 3, 4),
    ]


def segments(ax, points):
    found = [c for c in ax.collections if isinstance(c, LineCollection)]
    return [s for c in found for s in c.get_segments() if len(s) == points]


def test_a_locus_has_arcs_bars_and_expression_in_the_lane_of_their_type(tables):
    links, genes, peaks, openness, expression = tables
    gene, window = "G5", 200_000
    row = genes[genes["gene"] == gene].iloc[0]
    ax = new_axes()
    plot_locus(
        ax, links, gene, genes=genes, peaks=peaks, openness=openness, expression=expression, window=window
    )
    lanes = {name: 3 - i + 0.36 for i, name in enumerate(openness.columns)}
    wanted, elsewhere = [], defaultdict(int)
    for link in links.itertuples():
        if link.gene == gene:
            if not pd.isna(link.distance) and abs(link.distance) <= window:
                wanted.append((lanes[link.cell_type], *sorted((link.start + 200.0, float(row["tss"])))))
            else:
                elsewhere[link.cell_type] += 1
    found = [(float(s[0][1]), *sorted((s[0][0], s[-1][0]))) for s in segments(ax, 48)]
    assert np.allclose(sorted(found), sorted(wanted))
    for name, number in elsewhere.items():
        text = next(t for t in ax.texts if t.get_position()[1] == pytest.approx(lanes[name] + 0.5))
        assert text.get_text() == f"+{number} elsewhere"
    here = [
        p
        for p in peaks.itertuples()
        if p.chrom == row["chrom"] and p.end > row["tss"] - window and p.start < row["tss"] + window
    ]
    highest = max(openness.loc[p.peak].max() for p in here)
    colours = type_colours(list(openness.columns))
    for name, base in lanes.items():
        bars = next(
            c
            for c in ax.collections
            if isinstance(c, PolyCollection) and tuple(c.get_facecolor()[0]) == to_rgba(colours[name])
        )
        depth = sorted(
            (
                (b.vertices[0, 0] + b.vertices[2, 0]) / 2,
                base - b.vertices[:, 1].min(),
            )
            for b in bars.get_paths()
        )
        expected = sorted(
            (p.start + 200, 0.3 * openness.loc[p.peak, name] / highest)
            for p in here
            if openness.loc[p.peak, name] > 0
        )
        assert np.allclose(depth, expected)
    side = ax.child_axes[0]
    assert [bar.get_width() for bar in side.patches] == pytest.approx(expression.loc[gene].tolist())
    assert [bar.get_y() + bar.get_height() / 2 for bar in side.patches] == pytest.approx(
        [y + 0.1 for y in lanes.values()]
    )


def test_gene_models_show_exons_and_strand_and_do_not_overlap():
    _, _, peaks, *_ = a_map()
    tss = np.array([50_000, 52_000, 55_000, 90_000])
    genes = pd.DataFrame(
        {
            "gene": list("abcd"),
            "chrom": "chr1",
            "start": tss,
            "end": tss + 9_000,
            "tss": tss,
            "strand": ["+", "-", None, "+"],
        }
    )
    exons = pd.DataFrame(
        {"gene": ["a", "a", "zz"], "chrom": "chr1", "start": [50_000, 58_000, 1], "end": [50_500, 59_000, 2]}
    )
    links = pd.DataFrame({name: [] for name in ("gene", "start", "end", "score", "distance", "cell_type")})
    ax = new_axes()
    plot_locus(ax, links, "a", genes=genes, peaks=peaks, exons=exons, cell_types=["T"], window=60_000)
    boxes = [p.get_extents() for c in ax.collections if isinstance(c, PolyCollection) for p in c.get_paths()]
    assert {(b.x0, b.x1) for b in boxes} >= {(50_000, 50_500), (58_000, 59_000)}
    bodies = [s for s in segments(ax, 2) if s[0][1] == s[1][1]]
    level = {x: next(s[0][1] for s in bodies if s[0][0] == x) for x in tss.tolist()}
    assert len({level[x] for x in (50_000, 52_000, 55_000)}) == 3
    assert level[90_000] == level[50_000]
    heads = segments(ax, 3)
    for x, sign in ((50_000, 1), (52_000, -1)):
        own = [s for s in heads if s[1][1] == level[x] and x - 3_000 < s[1][0] < x + 12_000]
        assert own and all(np.sign(s[1][0] - s[0][0]) == sign for s in own)
    assert not [s for s in heads if s[1][1] == level[55_000]]  # its strand is not known


def test_a_gene_without_a_place_and_an_unknown_gene(tables):
    links, genes, peaks, openness, _ = tables
    ax = plot_locus(new_axes(), links, "G0", genes=genes, peaks=peaks, openness=openness)
    assert "G0 has no place on the genome." in notes(ax)
    with pytest.raises(InputError, match=r"no gene 'Sox2' among 40"):
        plot_locus(new_axes(), links, "Sox2", genes=genes, peaks=peaks)
    with pytest.raises(InputError, match=r"no cell type 'X' \(found: type 0"):
        plot_locus(new_axes(), links, "G5", genes=genes, peaks=peaks, openness=openness, cell_types=["X"])


def test_bins_of_a_track_are_means_of_their_peaks_and_the_correlation_is_of_single_peaks(tables):
    _, _, peaks, openness, _ = tables
    first, second = openness.iloc[:, 0].to_numpy(), openness.iloc[:, 1].to_numpy().copy()
    second[::7] = np.nan
    ax = new_axes()
    plot_genome_track(ax, {"a": first, "b": second}, peaks, bins=50)
    ends = {c: int(peaks.loc[peaks["chrom"] == c, "end"].max()) for c in CHROMOSOMES}
    begins, total = {}, 0
    for c in CHROMOSOMES:
        begins[c], total = total, total + ends[c]
    up, down = (p.get_data().values for p in ax.patches if isinstance(p, StepPatch))
    for heights, values, sign in ((up, first, 1), (down, second, -1)):
        held = defaultdict(list)
        for p, value in zip(peaks.itertuples(), values, strict=True):
            if not np.isnan(value):
                held[int((begins[p.chrom] + (p.start + p.end) / 2) / total * 50)].append(value)
        means = [np.mean(held[i]) if held[i] else 0.0 for i in range(50)]
        assert np.allclose(heights, sign * np.array(means) / max(means))
    both = ~np.isnan(second)
    assert f"Pearson r {np.corrcoef(first[both], second[both])[0, 1]:.2f} over {both.sum()} peaks" in notes(
        ax
    )


def test_three_tracks_are_one_below_the_other(tables):
    _, _, peaks, openness, _ = tables
    ax = new_axes()
    plot_genome_track(ax, {name: openness[name] for name in list(openness)[:3]}, peaks)
    assert [p.get_data().baseline for p in ax.patches] == [2.5, 1.25, 0]
    assert "Pearson" not in notes(ax)


def test_bars_count_links_and_the_line_is_their_mean(tables):
    links = tables[0]
    ax = new_axes()
    candidates = pd.array([1, -2_000, 50_000, 900_000, None], dtype="Int64")
    plot_distance_decay(ax, links, bins=12, candidates=candidates)
    known = links[links["distance"].notna()]
    away = [max(abs(d), 1_000) for d in known["distance"]]
    edges = np.geomspace(1_000, 900_000 * 1.0001, 13)
    held = defaultdict(list)
    for d, score in zip(away, known["score"], strict=True):
        held[max(i for i in range(12) if edges[i] <= d * (1 + 1e-12))].append(score)
    behind = next(a for a in ax.figure.axes if a is not ax)
    bars, even = (p.get_data().values for p in behind.patches)
    assert bars.tolist() == [len(held[i]) for i in range(12)]
    assert even.sum() == pytest.approx(len(known)) and even.max() == pytest.approx(len(known) / 4)
    line = next(line for line in ax.lines if line.get_label() == "mean score")
    assert line.get_ydata() == pytest.approx([np.mean(held[i]) for i in range(12) if held[i]])
    assert ax.lines[-1].get_ydata()[0] == pytest.approx(known["score"].mean())
    assert f"{len(links) - len(known)} links without a distance not shown" in notes(ax)


def test_of_many_types_eight_have_colours_that_are_theirs_everywhere():
    links = a_map(5_000, n_types=23)[0]
    ax = plot_distance_decay(new_axes(), links, by="cell_type")
    colours = type_colours(sorted(f"type {i}" for i in range(23)))
    named = [line for line in ax.lines if line.get_label() in colours]
    assert len(named) == 8 and all(line.get_color() == colours[line.get_label()] for line in named)
    assert "15 other types" in notes(ax)
    assert len(set(colours.values())) == 23


def strongest_sets(links, n):
    return {
        name: {(r.gene, r.peak) for r in sorted(own.itertuples(), key=lambda r: -r.score)[:n]}
        for name, own in links.groupby("cell_type", observed=True)
    }


def test_sharing_counts_types_of_each_strong_link_beside_chance(tables):
    links, n = tables[0], 60
    ax = plot_sharing(new_axes(), links, n=n)
    sets = strongest_sets(links, n)
    sharing = [sum(link in own for own in sets.values()) for link in set.union(*sets.values())]
    assert [bar.get_height() for bar in ax.patches] == [sharing.count(k) for k in range(1, 5)]
    distinct = len(set(zip(links["gene"], links["peak"], strict=True)))
    wanted = distinct * binom.pmf(np.arange(1, 5), 4, n / distinct)
    assert ax.lines[0].get_ydata() == pytest.approx(wanted)


def test_overlap_is_jaccard(tables):
    links, n = tables[0], 100
    ax = plot_overlap(new_axes(), links, n=n)
    sets = strongest_sets(links, n)
    names = [label.get_text() for label in ax.get_xticklabels()]
    shown = ax.images[0].get_array().filled(np.nan)
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            wanted = np.nan if i == j else len(sets[a] & sets[b]) / len(sets[a] | sets[b])
            assert shown[i, j] == pytest.approx(wanted, nan_ok=True)


def test_a_network_shows_its_strongest_links_and_the_factors_of_their_peaks(tables):
    links = tables[0]
    graph = graph_of(links[links["cell_type"] == "type 0"], tfs=3)
    ax = plot_network(new_axes(), graph, strongest=20)
    scores = sorted(
        (
            d["score"]
            for a, b, d in graph.edges(data=True)
            if "tf" not in {graph.nodes[a]["kind"], graph.nodes[b]["kind"]}
        ),
        reverse=True,
    )
    peaks = {
        b if graph.nodes[b]["kind"] == "peak" else a
        for a, b, d in graph.edges(data=True)
        if d["score"] in scores[:20]
    }
    of_tf = [
        (a, b)
        for a, b in graph.edges
        if "tf" in {graph.nodes[a]["kind"], graph.nodes[b]["kind"]} and {a, b} & peaks
    ]
    assert len(segments(ax, 2)) == 20 + len(of_tf)
    assert f"the {20 + len(of_tf)} strongest of {graph.number_of_edges()} links" in notes(ax)
    widths = np.sort(ax.collections[0].get_linewidths())
    assert widths[-1] == pytest.approx(3.2)
    assert len(next(line for line in ax.lines if line.get_marker() == "s").get_xdata()) == len(peaks)
    again = plot_network(new_axes(), nx.Graph(graph), strongest=20)
    assert np.allclose(segments(ax, 2), segments(again, 2))


def test_a_large_network_is_drawn_from_a_seed():
    graph = nx.star_graph(300)
    nx.set_node_attributes(graph, {i: "peak" if i else "gene" for i in graph}, "kind")
    nx.set_edge_attributes(graph, 0.5, "score")
    one, two = (plot_network(new_axes(), graph, strongest=400, seed=3) for _ in range(2))
    assert np.allclose(segments(one, 2), segments(two, 2))
    assert "300 links" in notes(one)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ax, t: plot_cell_attention(ax, t[0], t[1], t[2]), "of 4 cell types, and the plot is of one"),
        (lambda ax, t: plot_cell_attention(ax, t[0][["gene"]], t[1], t[2]), "links: no column peak, score"),
        (lambda ax, t: plot_cell_attention(ax, t[0][t[0]["cell_type"] == "type 0"], t[1].iloc[:2], t[2]), "is not among the"),
        (lambda ax, t: plot_genome_track(ax, {"a": [1.0]}, t[2]), r"has the shape \(1,\), for 300 peaks"),
        (lambda ax, t: plot_genome_track(ax, {"a": -np.ones(300)}, t[2]), "has negative numbers, the least -1"),
        (lambda ax, t: plot_genome_track(ax, {}, t[2]), "found no track"),
        (lambda ax, t: plot_genome_track(ax, {"a": np.ones(300)}, t[2], chrom="chr7"), "no peak is on 'chr7'"),
        (lambda ax, t: plot_genome_track(ax, {"a": np.ones(300)}, t[2], bins=0), "bins: found 0"),
        (lambda ax, t: plot_distance_decay(ax, t[0], by="gene"), "Pass all or cell_type"),
        (lambda ax, t: plot_sharing(ax, t[0], n=0), "n: found 0"),
        (lambda ax, t: plot_network(ax, nx.path_graph(2)), "node 0 has the kind None"),
        (lambda ax, t: plot_network(ax, nx.Graph(), strongest=0), "strongest: found 0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(call, message, tables):
    with pytest.raises(InputError, match=message) as caught:
        call(new_axes(), tables)
    assert "\n" not in str(caught.value)


def test_an_edge_without_a_score_is_refused():
    graph = nx.Graph()
    graph.add_node("g", kind="gene")
    graph.add_node("p", kind="peak")
    graph.add_edge("g", "p")
    with pytest.raises(InputError, match="an edge has no score"):
        plot_network(new_axes(), graph)


def test_pyplot_stays_out():
    code = "import sys, scweave.interpret.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
