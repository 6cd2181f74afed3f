"""Plots of annotation: they draw what the figures say, on the axes given, and touch no global state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.text import Text

from scweave.graphs.errors import InputError
from scweave.interpret.figures import annotation_plots
from scweave.interpret.figures.annotation_plots import (
    alluvial,
    colours_of,
    confusion_matrix,
    embedding_map,
    reliability_curve,
    spread,
    write_figures,
)
from scweave.interpret.figures.umap import umap_of
from scweave.models.annotation.metrics import calibration_error, reliability

CONFUSION = {
    "types": ["B", "NK", "unseen", "T"],
    "counts": [[8, 2, 0, 0], [0, 0, 0, 5], [0] * 4, [1, 0, 0, 1200]],
}
NOBODY = {"types": ["A", "B"], "counts": [[0, 0], [0, 0]]}


def many(k, seed=0):
    counts = np.random.default_rng(seed).integers(0, 4, (k, k)) + 30 * np.eye(k, dtype=int)
    return {"types": [f"cell type {i}" for i in range(k)], "counts": counts.tolist()}


def axes(size=(8, 7)):
    return Figure(figsize=size).subplots()


def texts(ax):
    return [text.get_text() for text in ax.texts]


def boxes_of(ax):
    """The boxes of the names alone, without the lines to what they name."""
    ax.figure.draw_without_rendering()
    return [Text.get_window_extent(text) for text in ax.texts]


def overlapping(ax):
    boxes = boxes_of(ax)
    return [(i, j) for j in range(len(boxes)) for i in range(j) if boxes[i].overlaps(boxes[j])]


def test_confusion_shows_shares_of_rows_and_numbers_of_cells():
    ax = axes()
    assert confusion_matrix(ax, CONFUSION) is ax
    np.testing.assert_allclose(
        ax.images[0].get_array(), [[0.8, 0.2, 0], [0, 0, 1], [1 / 1201, 0, 1200 / 1201]]
    )
    assert sorted(texts(ax)) == ["1", "1,200", "2", "5", "8"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["B (10)", "NK (5)", "T (1,201)"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["B", "NK", "T"]


@pytest.mark.parametrize(("k", "written"), [(25, True), (26, False)])
def test_numbers_are_left_out_where_they_cannot_be_read(k, written):
    ax = axes()
    confusion_matrix(ax, many(k))
    assert bool(ax.texts) == written
    assert not overlapping(ax)


def test_a_type_that_was_only_told_has_an_empty_row():
    ax = axes()
    confusion_matrix(ax, {"types": ["A", "B"], "counts": [[1, 3], [0, 0]]})
    np.testing.assert_allclose(ax.images[0].get_array(), [[0.25, 0.75], [0, 0]])


@pytest.mark.parametrize("plot", [confusion_matrix, alluvial])
def test_without_cells_the_plots_say_so(plot):
    ax = axes()
    assert plot(ax, NOBODY) is ax
    assert texts(ax) == ["No cell has a type that the model knows."]
    ax = axes()
    reliability_curve(ax, reliability(np.zeros(0), np.zeros(0, bool)))
    assert texts(ax) == ["No cell has a type that the model knows."]


def test_reliability_shows_filled_bins_all_cells_and_the_error():
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.3, 1, 500)
    table = reliability(sure, rng.random(500) < sure**2)
    ax = axes()
    assert reliability_curve(ax, table) is ax
    filled = table[table["cells"] > 0]
    np.testing.assert_allclose(ax.lines[1].get_xydata(), filled[["confidence", "accuracy"]])
    behind = next(other for other in ax.figure.axes if other is not ax)
    assert [bar.get_height() for bar in behind.patches] == table["cells"].tolist()
    assert ax.get_title() == f"expected calibration error {calibration_error(table):.3f}, 500 cells"
    assert behind.get_zorder() < ax.get_zorder()


def test_map_colours_cells_and_names_types_at_their_medians():
    rng = np.random.default_rng(0)
    names = np.repeat(["A", "B", "novel"], 20).astype(object)
    points = rng.normal(size=(60, 2)) + np.repeat([[0, 0], [20, 0], [0, 20]], 20, axis=0)
    names[0] = None
    ax = axes()
    assert embedding_map(ax, points, names, cell_types=["B", "A"], title="cells") is ax
    shown = {
        tuple(xy): to_hex(c)
        for xy, c in zip(
            ax.collections[0].get_offsets().data, ax.collections[0].get_facecolors(), strict=True
        )
    }
    colours = colours_of(["B", "A"])
    assert {shown[tuple(xy)] for xy in points[1:20]} == {colours["A"]}
    assert {shown[tuple(xy)] for xy in points[20:40]} == {colours["B"]}
    assert shown[tuple(points[0])] not in colours.values()
    assert {shown[tuple(xy)] for xy in points[40:]}.isdisjoint(colours.values())
    labels = {text.get_text(): text for text in ax.texts}
    assert sorted(labels) == ["A", "B", "novel"]
    np.testing.assert_allclose(labels["B"].xy, np.median(points[20:40], axis=0))
    assert np.hypot(*labels["B"].xyann) < 2 and not labels["B"].arrow_patch.get_visible()
    assert ax.get_title() == "cells"


@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0])
def test_thirty_names_are_moved_apart_and_stay_within_the_axes(scale):
    rng = np.random.default_rng(1)
    names = [f"cell type {i % 30}" for i in range(3000)]
    points = rng.normal(size=(3000, 2)) + scale * rng.normal(size=(30, 2))[np.arange(3000) % 30]
    ax = axes()
    embedding_map(ax, points, names)
    assert len(ax.texts) == 30
    assert overlapping(ax) == []
    frame = ax.get_window_extent()
    for box in boxes_of(ax):
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1


def test_a_map_of_cells_without_labels_has_no_names():
    ax = axes()
    embedding_map(ax, np.zeros((3, 2)), [None, None, None])
    assert texts(ax) == []
    assert len(ax.collections[0].get_offsets()) == 3


def test_flows_are_as_wide_as_their_cells_and_end_at_their_blocks():
    ax = axes()
    assert alluvial(ax, CONFUSION) is ax
    ribbons = [patch for patch in ax.patches if isinstance(patch, PathPatch)]
    blocks = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    flows = sorted([8, 2, 5, 1, 1200])
    widths = sorted(patch.get_path().vertices[0, 1] - patch.get_path().vertices[7, 1] for patch in ribbons)
    np.testing.assert_allclose(np.array(widths) / widths[-1], np.array(flows) / 1200)
    left = sorted(-block.get_height() for block in blocks if block.get_x() == 0)
    right = sorted(-block.get_height() for block in blocks if block.get_x() > 0)
    np.testing.assert_allclose(np.array(left) / widths[-1], np.array([5, 10, 1201]) / 1200)
    np.testing.assert_allclose(np.array(right) / widths[-1], np.array([2, 9, 1205]) / 1200)
    shown = texts(ax)
    assert shown[:6] == ["T  1,201", "B  10", "NK  5", "T  1,205", "B  9", "NK  2"]
    inside = [(block.get_y() + block.get_height(), block.get_y()) for block in blocks if block.get_x() == 0]
    for patch in ribbons:
        low, high = patch.get_path().vertices[7, 1], patch.get_path().vertices[0, 1]
        assert any(a - 1e-12 <= low and high <= b + 1e-12 for a, b in inside)


@pytest.mark.parametrize("k", [2, 15, 30, 60])
def test_names_of_blocks_do_not_overlap(k):
    confusion = many(k)
    skewed = (np.array(confusion["counts"]) * np.array([1000] + [1] * (k - 1))[:, None]).tolist()
    ax = axes((8, 2 + 0.26 * max(k, 8)))
    alluvial(ax, {**confusion, "counts": skewed})
    assert len(ax.texts) == 2 * k + 2
    assert overlapping(ax) == []


def test_a_type_that_was_never_told_has_no_block_on_the_right():
    ax = axes()
    alluvial(ax, {"types": ["A", "B"], "counts": [[4, 0], [3, 0]]})
    blocks = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert sum(block.get_x() == 0 for block in blocks) == 2
    assert sum(block.get_x() > 0 for block in blocks) == 1
    assert texts(ax)[:3] == ["A  4", "B  3", "A  7"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0, 0.2))
def test_spread_positions_keep_order_gap_and_bounds(centres, gap):
    centres = np.sort(centres)
    at = spread(centres, gap=gap, low=0, high=1)
    least = min(gap, 1 / max(len(centres) - 1, 1))
    assert (np.diff(at) >= least - 1e-9).all()
    assert at[0] >= -1e-9 and at[-1] <= 1 + 1e-9
    if len(centres) == 1 or (np.diff(centres) >= gap).all():
        np.testing.assert_allclose(at, centres, atol=1e-9)


def test_thirty_six_types_have_colours_of_their_own():
    assert len(set(colours_of([str(i) for i in range(36)]).values())) == 36


@pytest.mark.parametrize("n", [4, 5, 14, 60])
def test_umap_of_few_cells(n):
    embedding = np.random.default_rng(0).normal(size=(n, 5)).astype(np.float32)
    cells, points = umap_of(embedding)
    assert cells.tolist() == list(range(n))
    assert points.shape == (n, 2) and np.isfinite(points).all()
    np.testing.assert_array_equal(points, umap_of(embedding)[1])


def test_umap_keeps_types_apart_and_draws_some_of_many_cells():
    rng = np.random.default_rng(0)
    types = rng.integers(0, 2, 300)
    embedding = rng.normal(size=(300, 8)) + 12 * types[:, None]
    cells, points = umap_of(embedding, most=120, seed=3)
    assert len(cells) == len(np.unique(cells)) == 120 and (np.diff(cells) > 0).all()
    centres = [points[types[cells] == t].mean(0) for t in (0, 1)]
    nearest = np.argmin([((points - centre) ** 2).sum(1) for centre in centres], axis=0)
    assert (nearest == types[cells]).all()


def test_umap_of_cells_that_are_all_alike():
    points = umap_of(np.ones((20, 3)))[1]
    assert np.isfinite(points).all()


@pytest.mark.parametrize("n", [0, 1, 3])
def test_fewer_than_four_cells_have_no_umap(n):
    assert umap_of(np.ones((n, 3))) is None


def test_an_embedding_that_is_not_finite_is_told():
    with pytest.raises(InputError, match=r"^1 of 9 cells have an embedding that is not finite\. .*$"):
        umap_of(np.where(np.arange(9)[:, None] == 2, np.nan, np.ones((9, 2))))


def write(folder, n=40, confusion=CONFUSION):
    rng = np.random.default_rng(0)
    names = [[*CONFUSION["types"], None][i % 5] for i in range(n)]
    sure = rng.random(n)
    table = reliability(sure, rng.random(n) < sure)
    return write_figures(
        folder, confusion=confusion, reliability=table, embedding=rng.normal(size=(n, 4)), names=names
    )


def test_four_pictures_are_written_whole(tmp_path):
    paths = write(tmp_path)
    assert [path.name for path in paths] == ["confusion.png", "reliability.png", "umap.png", "alluvial.png"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_pictures_of_few_cells_of_unknown_types(tmp_path):
    paths = write(tmp_path, n=2, confusion=NOBODY)
    assert [path.name for path in paths] == ["confusion.png", "reliability.png", "alluvial.png"]


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(InputError, match=r"cannot write .*confusion\.png: No such file or directory"):
        write(tmp_path / "none")


def test_a_failed_picture_leaves_nothing(tmp_path, monkeypatch):
    def fail(self, where, **_):
        Path(where).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(InputError, match="No space left"):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_pyplot_and_its_global_state_stay_out():
    assert "pyplot" not in Path(annotation_plots.__file__).read_text()
