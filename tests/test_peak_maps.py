"""Maps of annotators: equal to plain loops over cells and dense attention, with their columns, whole or not at all."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dense_evidence import open_weights
from dense_hitanno import dense_block, dense_probabilities, opened_tokens, sentence
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.graphs.loader import GraphLoader
from scweave.interpret.map_folder import write_maps
from scweave.interpret.motifs.marker_peaks import marker_peaks
from scweave.interpret.peaks import peak_maps
from scweave.interpret.peaks.peak_figures import draw_peaks, plot_top_peaks, plot_type_attention
from scweave.interpret.peaks.peak_maps import write_peak_map
from scweave.interpret.peaks.peak_pairs import reads_pairs, write_peak_pairs
from scweave.models.annotation.model import labelled
from scweave.models.checkpoint import load_model, save_model
from scweave.models.layers.profiles import Profiles
from scweave.models.registry import kind_of

SMALL = {"dim": 16, "heads": 4, "ffn": 6}
MODELS = {
    "hitanno": ("hitanno", "default", {}),
    "published": ("hitanno", "published", {**SMALL, "peaks_per_type": 30, "cell_layers": 2}),
    "deep": ("hitanno", "published", {**SMALL, "peaks_per_type": 6, "peak_layers": 3}),
    "svm": ("svm", "default", {"features": "tfidf"}),
}
COLUMNS = {
    "peaks.parquet": {
        "cell_type": "object",
        "peak": "object",
        "chrom": "object",
        "start": "int64",
        "end": "int64",
        "score": "float64",
        "n_cells": "int64",
    },
    "types.parquet": {
        "cell_type": "object",
        "sentence": "object",
        "score": "float64",
        "n_cells": "int64",
    },
    "markers.parquet": {"cell_type": "object", "peak": "object", "rank": "int64", "score": "float64"},
    "cells": {"cell": "object", "cell_type": "object", "peak": "object", "score": "float32"},
    "pairs.parquet": {
        "cell_type": "object",
        "layer": "int64",
        "peak": "object",
        "attends_to": "object",
        "score": "float64",
        "n_cells": "int64",
    },
}
READERS = ["hitanno", "published"]


def make(name, graphs):
    """A float64 model, fitted, with weights as if trained: it tells cells to be of either type."""
    kind, mode, settings = MODELS[name]
    found = kind_of(kind, mode)
    model = found.model.from_graphs(labelled(graphs.part(split="train")), found.config(**settings)).double()
    torch.manual_seed(3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.eval()
    if mode == "published":  # half of the cells are told to be of each type
        with torch.no_grad():
            logits = model(graphs.batch(range(len(graphs)), cis=False)).logits
            model.classifier[-1].bias -= logits.median(0).values
    return model


@pytest.fixture(scope="module")
def graphs(random_dataset):
    return MultiomeGraphs(random_dataset)


@pytest.fixture(scope="module")
def models(graphs):
    return {name: make(name, graphs) for name in MODELS}


@pytest.fixture(scope="module")
def runs(models, graphs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotators")
    for name, model in models.items():
        (folder / name).mkdir()
        save_model(folder / name, model, graphs)
    return folder


@pytest.fixture(scope="module")
def written(runs, random_dataset, tmp_path_factory):
    """Maps of single cells, and what was told of them."""
    folder = tmp_path_factory.mktemp("maps")
    told = {
        name: write_maps(runs / name, random_dataset, folder / name, per="cell", batch_size=7, progress=False)
        for name in READERS
    }
    return folder, told


def read(model, graphs, cell):
    """A cell alone, and the type it is told to be of."""
    batch = graphs.batch([cell], cis=False)
    return batch, int(model(batch).logits.argmax())


def dense_peaks(model, graphs, batch):
    """(sentence, peak) -> weight of each open peak of a cell, written plainly."""
    profiles = Profiles.peaks(batch)
    opened, found = profiles.ids.tolist(), {}
    if model.mode == "default":
        weights = open_weights(profiles.dense(len(graphs.peaks)).numpy())[0]
        for peak in opened:
            row = model.evidence.table[peak]
            for which, value in enumerate((row - row.mean()).tolist()):
                found[which, peak] = weights[peak] * value / float(model.scale)
        return found
    states = opened_tokens(model, profiles)[0]
    for which, (begin, end) in enumerate(zip(model.pointers[:-1], model.pointers[1:], strict=True)):
        x = sentence(model, which, states)
        attention = dense_probabilities(model.peak_blocks[0].attention, x).mean(0)[0, 1:]
        for token in range(int(begin), int(end)):
            if states[token]:
                found[which, int(model.marker_peaks[token])] = float(attention[token - begin])
    return found


def dense_types(model, batch):
    """(types,) what a cell makes of the sentences, written plainly."""
    if model.mode == "default":
        return (model.evidence(Profiles.peaks(batch))[0] / model.scale).exp()
    states = opened_tokens(model, Profiles.peaks(batch))[0]
    x = [model.cls]
    for which in range(len(model.cell_types)):
        x.append(dense_block(model.peak_blocks[0], sentence(model, which, states))[:1])
    x = torch.cat(x)
    for block in model.cell_blocks[:-1]:
        x = dense_block(block, x)
    return dense_probabilities(model.cell_blocks[-1].attention, x).mean(0)[0, 1:]


def expected_map(model, graphs):
    """Loop over cells: sums by (type, peak) and by (type, sentence), and the cells of each type."""
    peaks, types, cells = {}, {}, dict.fromkeys(range(len(model.cell_types)), 0)
    with torch.no_grad():
        for cell in range(len(graphs)):
            batch, told = read(model, graphs, cell)
            cells[told] += 1
            for (which, peak), weight in dense_peaks(model, graphs, batch).items():
                if which == told and weight:
                    peaks[told, peak] = peaks.get((told, peak), 0.0) + weight
            level = dense_types(model, batch)
            level = level / level.sum() if model.mode == "default" else level
            for which, weight in enumerate(level.tolist()):
                types[told, which] = types.get((told, which), 0.0) + weight
    return peaks, types, cells


@pytest.mark.parametrize("name", READERS)
def test_peaks_and_types_equal_a_plain_loop_over_cells(written, models, graphs, name):
    model, folder = models[name], written[0] / name
    peaks, types, cells = expected_map(model, graphs)
    assert min(cells.values()) > 3
    table = pd.read_parquet(folder / "peaks.parquet")
    place = {peak: i for i, peak in enumerate(graphs.peaks.frame["peak"])}
    keys = [(model.cell_types.index(row.cell_type), place[row.peak]) for row in table.itertuples(index=False)]
    assert set(keys) == set(peaks) and len(keys) == len(peaks)
    np.testing.assert_allclose(table["score"], [peaks[key] / cells[key[0]] for key in keys], rtol=1e-9)
    assert table["n_cells"].tolist() == [cells[code] for code, _ in keys]
    assert table.groupby("cell_type", sort=False)["score"].apply(lambda s: s.is_monotonic_decreasing).all()
    frame = graphs.peaks.frame.set_index("peak").loc[table["peak"]]
    for column in ("chrom", "start", "end"):
        assert (table[column].to_numpy() == frame[column].to_numpy()).all()
    level = pd.read_parquet(folder / "types.parquet")
    keys = [(model.cell_types.index(a), model.cell_types.index(b)) for a, b in level.iloc[:, :2].to_numpy()]
    np.testing.assert_allclose(level["score"], [types[key] / cells[key[0]] for key in keys], rtol=1e-9)
    assert level["n_cells"].tolist() == [cells[code] for code, _ in keys]


def test_attention_to_types_is_a_share(written):
    sums = {
        name: pd.read_parquet(written[0] / name / "types.parquet").groupby("cell_type")["score"].sum()
        for name in READERS
    }
    np.testing.assert_allclose(sums["hitanno"], 1)
    assert ((sums["published"] > 0) & (sums["published"] < 1)).all()  # the rest is to the cell itself


@pytest.mark.parametrize("name", READERS)
def test_single_cells_equal_what_each_attends_to(written, models, graphs, name):
    model, table = models[name], pd.read_parquet(written[0] / name / "cells")
    barcodes = graphs.cells["barcode"].to_numpy()
    place = {peak: i for i, peak in enumerate(graphs.peaks.frame["peak"])}
    found = {
        (row.cell, model.cell_types.index(row.cell_type), place[row.peak]): row.score
        for row in table.itertuples(index=False)
    }
    expected = {}
    with torch.no_grad():
        for cell in range(len(graphs)):
            batch, _ = read(model, graphs, cell)
            for (which, peak), weight in dense_peaks(model, graphs, batch).items():
                expected[barcodes[cell], which, peak] = weight
    assert set(found) == set(expected) and len(found) == len(table)
    np.testing.assert_allclose(list(found.values()), [expected[key] for key in found], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", READERS)
def test_markers_come_in_rank_order(written, models, graphs, name):
    table, model = pd.read_parquet(written[0] / name / "markers.parquet"), models[name]
    code, peak, score = (x.tolist() for x in model.ranked_markers())
    assert table["peak"].tolist() == graphs.peaks.frame["peak"].to_numpy()[peak].tolist()
    assert table["cell_type"].tolist() == [model.cell_types[i] for i in code]
    np.testing.assert_allclose(table["score"], score)
    for _, of_type in table.groupby("cell_type"):
        assert of_type["rank"].tolist() == list(range(1, len(of_type) + 1))
        assert of_type["score"].is_monotonic_decreasing
        assert of_type["peak"].is_unique
    assert table["peak"].is_unique or name == "hitanno"  # a published marker peak is that of one type


def dtypes(path):
    return pd.read_parquet(path).dtypes.astype(str).to_dict()


@pytest.mark.parametrize("name", READERS)
def test_a_folder_holds_the_tables_of_the_contract(written, graphs, random_dataset, runs, name):
    folder, summary = written[0] / name, written[1][name]
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(
        ["cells", "config.json", "summary.json", "peaks.png"]
        + [f"{name}.parquet" for name in ("markers", "peaks", "types", "predicted_markers")]
    )
    assert json.loads((folder / "summary.json").read_text()) == summary
    for table in ("peaks.parquet", "types.parquet", "markers.parquet", "cells"):
        assert dtypes(folder / table) == COLUMNS[table]
        assert list(dtypes(folder / table)) == list(COLUMNS[table])
    peaks = pd.read_parquet(folder / "peaks.parquet")
    assert summary["cells"] == len(graphs) == sum(summary["cell_types"].values())
    assert summary["peaks"] == peaks["peak"].nunique()
    assert (folder / "peaks.png").stat().st_size > 1000
    config = json.loads((folder / "config.json").read_text())
    assert config["dataset_fingerprint"] == graphs.fingerprint
    assert config["arguments"]["run"] == str(runs / name)
    assert config["cells"] == "all cells"


def test_a_split_is_mapped_and_batches_change_nothing(runs, models, random_dataset, tmp_path):
    tables = []
    for size in (1, 64):
        out = tmp_path / str(size)
        summary = write_maps(
            runs / "hitanno", random_dataset, out, split="test", batch_size=size, progress=False
        )
        assert not (out / "cells").exists()
        tables.append(
            pd.read_parquet(out / "peaks.parquet").sort_values(["cell_type", "peak"], ignore_index=True)
        )
    pd.testing.assert_frame_equal(*tables, rtol=1e-9)
    test = MultiomeGraphs(random_dataset, split="test")
    assert summary["cells"] == len(test)
    peaks, _, cells = expected_map(models["hitanno"], test)
    assert len(tables[0]) == len(peaks)
    assert list(summary["cell_types"].values()) == list(cells.values())


def expected_pairs(model, graphs, top):
    """(type, layer, query, key) -> sum over the cells told to be of the type of its strongest pairs."""
    sums, cells = {}, dict.fromkeys(range(len(model.cell_types)), 0)
    peaks = graphs.peaks.frame["peak"].to_numpy()[model.marker_peaks.numpy()]
    with torch.no_grad():
        for cell in range(len(graphs)):
            batch, told = read(model, graphs, cell)
            cells[told] += 1
            x, begin = (
                sentence(model, told, opened_tokens(model, Profiles.peaks(batch))[0]),
                int(model.pointers[told]),
            )
            for layer, block in enumerate(model.peak_blocks[:-1]):
                weights = dense_probabilities(block.attention, x).mean(0)[1:, 1:]
                strongest = weights.flatten().sort(descending=True).indices[:top]
                for place in strongest.tolist():
                    query, key = divmod(place, len(weights))
                    name = (model.cell_types[told], layer, peaks[begin + query], peaks[begin + key])
                    sums[name] = sums.get(name, 0.0) + float(weights[query, key])
                x = dense_block(block, x)
    return sums, dict(zip(model.cell_types, cells.values(), strict=True))


@pytest.mark.parametrize("top", [4, 100])
def test_pairs_equal_a_plain_loop_over_cells(models, graphs, tmp_path, top):
    model = models["deep"]
    summary = write_peak_pairs(model, graphs, tmp_path, top=top, batch_size=9, progress=False)
    table, (sums, cells) = pd.read_parquet(tmp_path / "pairs.parquet"), expected_pairs(model, graphs, top)
    assert min(cells.values()) > 3
    keys = list(table[["cell_type", "layer", "peak", "attends_to"]].itertuples(index=False, name=None))
    assert set(keys) == set(sums) and len(keys) == len(sums)
    np.testing.assert_allclose(table["score"], [sums[key] / cells[key[0]] for key in keys], rtol=1e-9)
    assert table["n_cells"].tolist() == [cells[key[0]] for key in keys]
    order = table.groupby(["cell_type", "layer"], sort=False)["score"]
    assert order.apply(lambda s: s.is_monotonic_decreasing).all()
    assert summary == {"cells": len(graphs), "pairs": len(table), "cell_types": cells}


def test_a_model_in_which_peaks_attend_to_each_other_is_mapped_by_pairs(
    runs, models, graphs, random_dataset, tmp_path
):
    assert [reads_pairs(models[name]) for name in MODELS] == [False, False, True, False]
    summary = write_maps(runs / "deep", random_dataset, tmp_path / "maps", progress=False)
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        "config.json",
        "pairs.parquet",
        "predicted_markers.parquet",
        "summary.json",
    ]
    assert dtypes(tmp_path / "maps" / "pairs.parquet") == COLUMNS["pairs.parquet"]
    assert summary["pairs"] == len(expected_pairs(models["deep"], graphs, 100)[0])


def test_cells_without_marker_peaks_give_tables_without_rows(models, graphs, tmp_path):
    empty = graphs.index_select([3])
    assert not len(Profiles.peaks(empty.batch([0])).ids)
    for name in READERS:
        (tmp_path / name).mkdir()
        summary = write_peak_map(models[name], empty, tmp_path / name, per="cell", progress=False)
        assert (summary["cells"], summary["peaks"]) == (1, 0)
        for table in ("peaks.parquet", "cells"):
            assert dtypes(tmp_path / name / table) == COLUMNS[table]
            assert not len(pd.read_parquet(tmp_path / name / table))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("svm", {"per": "cell"}, "--per cell: svm attends to no peaks"),
        ("hitanno", {"per": "cell", "resume": True}, "only crossrec's map of single cells is made in parts"),
        ("hitanno", {"per": "donor"}, "no map per 'donor'. Choose cell-type or cell"),
        ("deep", {"per": "cell"}, "--per cell: attention between peaks is told per cell type only"),
        ("hitanno", {"split": "holdout"}, "no split 'holdout'; there are train"),
        ("published", {"truth": "truth.parquet"}, "--truth: hitanno tells no links to compare with"),
        ("published", {"truth_kind": "links"}, "--truth-kind links: there is no --truth"),
    ],
)
def test_bad_input_leaves_nothing_behind(tmp_path, random_dataset, runs, name, change, message):
    asked = {key: tmp_path / value if key == "truth" else value for key, value in change.items()}
    out = tmp_path / "out" / "maps"
    with pytest.raises(InputError, match=message) as error:
        write_maps(runs / name, random_dataset, out, progress=False, **asked)
    assert not out.parent.exists()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["hitanno", "deep"])
def test_no_cells_are_an_error(models, graphs, tmp_path, name):
    with pytest.raises(InputError, match=r"no such cells\. Choose another --split"):
        write_peak_map(models[name], graphs.index_select([]), tmp_path, progress=False)


@pytest.mark.parametrize("where", ["draw_peaks", "_markers"])
def test_a_crash_or_a_full_disk_leaves_nothing_behind(tmp_path, random_dataset, runs, monkeypatch, where):
    for error, seen in (
        (OSError(28, "No space left on device"), InputError),
        (RuntimeError("bug"), RuntimeError),
    ):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(peak_maps, where, fail)
        with pytest.raises(seen, match=r"No space left|bug"):
            write_maps(
                runs / "hitanno", random_dataset, tmp_path / "out" / "maps", per="cell", progress=False
            )
        assert not (tmp_path / "out").exists()


def axes():
    figure = Figure()
    FigureCanvasAgg(figure)
    return figure.subplots()


def labels(ticks):
    return [tick.get_text() for tick in ticks]


def test_the_figure_shows_each_peak_beside_its_highest():
    peaks = pd.DataFrame(
        {
            "cell_type": ["A", "A", "A", "A", "B", "B"],
            "peak": ["p", "q", "r", "s", "q", "t"],
            "score": [4.0, 2.0, 1.0, 0.5, 1.0, 0.2],
        }
    )
    ax = plot_top_peaks(axes(), peaks)
    assert labels(ax.get_yticklabels()) == ["p", "q", "r", "t"] and labels(ax.get_xticklabels()) == ["A", "B"]
    np.testing.assert_allclose(ax.images[0].get_array(), [[1, 0], [1, 0.5], [1, 0], [0, 1]])


def test_types_that_no_cell_is_told_to_be_of_have_no_row_in_the_figure():
    types = pd.DataFrame(
        {
            "cell_type": ["B", "B", "A", "A"],
            "sentence": ["B", "A", "B", "A"],
            "score": [0.7, 0.2, 0.0, 0.0],
            "n_cells": [5, 5, 0, 0],
        }
    )
    ax = plot_type_attention(axes(), types)
    assert labels(ax.get_yticklabels()) == ["B"] and labels(ax.get_xticklabels()) == ["B", "A"]
    np.testing.assert_allclose(ax.images[0].get_array(), [[0.7, 0.2]])


def test_many_types_with_long_names_are_drawn(tmp_path):
    names = [f"a cell type with a long name, {i}" for i in range(25)]
    peaks = pd.DataFrame(
        [
            (name, f"chr12:1{i:03d}{j:03d}000-1{i:03d}{j:03d}900", 1 / (j + 1))
            for i, name in enumerate(names)
            for j in range(4)
        ],
        columns=["cell_type", "peak", "score"],
    )
    types = pd.DataFrame(
        [(a, b, float(a == b), 3) for a in names for b in names],
        columns=["cell_type", "sentence", "score", "n_cells"],
    )
    draw_peaks(tmp_path / "many.png", peaks, types)
    assert (tmp_path / "many.png").stat().st_size > 10_000


def test_predicted_types_have_marker_peaks_whatever_the_model(runs, models, graphs, random_dataset, tmp_path):
    summary = write_maps(runs / "svm", random_dataset, tmp_path / "maps", progress=False)
    loader = GraphLoader(graphs, 7, cis=False)
    svm = load_model(runs / "svm").model
    told = [svm.cell_types[code] for batch in loader for code in svm(batch).logits.argmax(1).tolist()]
    assert summary["cell_types"] == {name: told.count(name) for name in svm.cell_types}
    markers = pd.read_parquet(tmp_path / "maps" / "predicted_markers.parquet")
    pd.testing.assert_frame_equal(markers, marker_peaks(graphs, told))
    assert summary["peaks"] == summary["marker_peaks"] == markers["peak"].nunique()
