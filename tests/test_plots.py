"""Plots: they draw what the table says, on the axes given, and touch no global state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from scweave.graphs.dataset import MultiomeGraphs
from scweave.interpret import plots
from scweave.interpret.evidence.comparison import Curve
from scweave.interpret.figures import whole
from scweave.interpret.plots import PALETTE, plot_map, plot_recovery


@pytest.fixture
def links():
    starts = np.array([900, 2_900, 1_900, 90_000])
    return pd.DataFrame(
        {
            "gene": "Gad1",
            "peak": [f"p{i}" for i in range(4)],
            "chrom": "chr1",
            "start": starts,
            "end": starts + 200,
            "tss": pd.array([2_000] * 4, dtype="Int64"),
            "distance": pd.array(starts + 100 - 2_000, dtype="Int64"),
            "score": [0.1, 0.4, 0.2, 0.3],
            "cell_type": ["A", "A", "B", "B"],
        }
    )


def arcs(ax):
    found = [c for c in ax.collections if isinstance(c, LineCollection)]
    return [segment for c in found for segment in c.get_segments() if len(segment) > 2]


def test_arcs_join_peaks_to_the_tss_in_the_lane_of_their_type(links):
    ax = Figure().subplots()
    assert plot_map(ax, links, "Gad1", cell_types=["A", "B"], window=5_000) is ax
    ends = sorted((round(s[-1][0]), round(s[0][0]), round(s[0][1])) for s in arcs(ax))
    assert ends == [(1000, 2000, 1), (2000, 2000, 0), (2000, 3000, 1)]
    assert all(np.isclose(s[0][1], s[-1][1]) for s in arcs(ax))
    assert all(s[:, 1].max() < s[0][1] + 1 for s in arcs(ax))  # no arc leaves its lane
    assert [label.get_text() for label in ax.get_yticklabels()] == ["A", "B", "peaks"]
    assert ax.get_yticklabels()[1].get_color() == PALETTE[1]
    assert "+1 beyond" in [text.get_text() for text in ax.texts]
    assert ax.get_xlabel() == "chr1 (Mb)"


def test_peaks_and_known_links_are_marked(links):
    ax = Figure().subplots()
    peaks = links[["peak", "chrom", "start", "end"]]
    plot_map(ax, links, "Gad1", cell_types=["A", "B"], window=5_000, peaks=peaks, true_peaks=["p1", "p3"])
    marks = [line for line in ax.lines if line.get_marker() == "^"]
    assert marks[0].get_xdata().tolist() == [3000.0]


def test_a_gene_with_far_links_only_says_so(links):
    ax = Figure().subplots()
    plot_map(ax, links.iloc[3:], "Gad1", cell_types=["B"], window=5_000)
    assert "no link within 5 kb" in [text.get_text() for text in ax.texts]


def test_recovery_shows_every_method_best_first_and_chance():
    ax = Figure().subplots()
    recall = np.linspace(1, 0, 50)
    curves = {
        "map": Curve(recall, 0.2 + 0 * recall, 0.2),
        "distance": Curve(recall, 1 - 0.5 * recall, 0.7),
        "other": Curve(recall, 0.1 + 0 * recall, 0.1),
    }
    assert plot_recovery(ax, curves, chance=0.05) is ax
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["distance (0.700)", "map (0.200)", "other (0.100)", "chance (0.050)"]
    assert ax.get_ylim() == (0, 1.02)


def test_many_types_leave_the_strongest_ten_and_say_so(tmp_path, links, random_dataset):
    many = pd.concat([links.assign(cell_type=f"t{i:02d}", score=links["score"] / (i + 1)) for i in range(14)])
    many.to_parquet(tmp_path / "links.parquet")
    graphs = MultiomeGraphs(random_dataset)
    whole.draw_map(
        tmp_path / "map.png",
        tmp_path / "links.parquet",
        graphs,
        genes=["Gad1"],
        cells={f"t{i:02d}": 5 for i in range(14)},
    )
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    lanes, note = whole._lanes(many)
    assert lanes == [f"t{i:02d}" for i in range(10)]
    assert note == " (10 of 14 cell types)"


def test_pyplot_and_its_global_state_stay_out():
    for module in (plots, whole):
        assert "pyplot" not in Path(module.__file__).read_text()


def test_a_lane_has_the_colour_it_is_given(links):
    ax, given = Figure().subplots(), {"A": "#112233", "B": "#445566"}
    plot_map(ax, links, "Gad1", cell_types=["B"], window=5_000, colours=given)
    assert ax.get_yticklabels()[0].get_color() == given["B"]
