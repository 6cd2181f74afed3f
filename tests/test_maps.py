"""Maps as tables and folders: equal to dense sums, the columns of the contract, whole or not at all."""

from __future__ import annotations

import json
import os
import platform
import tracemalloc

import numpy as np
import pandas as pd
import psutil
import pytest

from random_dataset import write_random_dataset
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.interpret import map_folder
from scweave.interpret.attention import stream_links
from scweave.interpret.evidence.candidates import candidate_pairs
from scweave.interpret.evidence.correlation import correlation
from scweave.interpret.evidence.map_truth import LinkTruth
from scweave.interpret.links.shards import CellLinkShards
from scweave.interpret.links.table import COLUMNS, SCHEMA, link_frame
from scweave.interpret.links.type_links import type_links
from scweave.interpret.map_folder import write_map, write_maps
from scweave.interpret.motifs.context import PeakContext
from scweave.models.checkpoint import save_model
from test_attention import dense_links, make_model

DTYPES = {
    **dict.fromkeys(("gene", "peak", "chrom", "cell_type", "cell"), "object"),
    **dict.fromkeys(("start", "end"), "int64"),
    **dict.fromkeys(("tss", "distance", "n_cells"), "Int64"),
    **dict.fromkeys(("score", "zscore", "pvalue", "qvalue", "effect"), "float64"),
}
CONTRACT = [
    "gene",
    "peak",
    "chrom",
    "start",
    "end",
    "tss",
    "distance",
    "score",
    "zscore",
    "pvalue",
    "qvalue",
    "cell_type",
    "n_cells",
    "effect",
    "cell",
]


@pytest.fixture
def graphs(random_dataset):
    return MultiomeGraphs(random_dataset)


@pytest.fixture
def run(tmp_path, graphs):
    folder = tmp_path / "run"
    folder.mkdir()
    save_model(folder, make_model(graphs).float(), graphs)
    return folder


@pytest.fixture
def truth(tmp_path, graphs):
    table = some_truth(graphs)
    table.to_parquet(tmp_path / "truth.parquet")
    return tmp_path / "truth.parquet"


def some_truth(graphs):
    genes, peaks = graphs.genes.frame["gene"], graphs.peaks.frame["peak"]
    gene = np.repeat(np.arange(len(genes)), np.diff(graphs.cis.indptr))[::9]
    return pd.DataFrame({"gene": genes[gene].to_numpy(), "peak": peaks[graphs.cis.peak[::9]].to_numpy()})


def cell_type_map(model, graphs, **options):
    """The links of all types as one table."""
    frames = [frame for piece in type_links(model, graphs, **options) for frame in piece.frames(graphs)]
    return pd.concat(frames, ignore_index=True) if frames else SCHEMA.empty_table().to_pandas()


def expected_map(model, graphs):
    """(cell type, gene, peak) -> score, cells; by a plain loop over dense attention."""
    labels = graphs.cells["cell_type"].fillna("unlabelled")[graphs.pairs_of(range(len(graphs)))[0]]
    sizes, sums = labels.value_counts(), {}
    for (cell, gene, peak), weight in dense_links(model, graphs).items():
        key = labels[cell], graphs.genes.frame["gene"][gene], graphs.peaks.frame["peak"][peak]
        total, count = sums.get(key, (0.0, 0))
        sums[key] = total + weight, count + 1
    return {key: (total / sizes[key[0]], count) for key, (total, count) in sums.items()}


@pytest.mark.parametrize("split", [None, "test"])
def test_map_equals_dense_sums(random_dataset, split):
    graphs = MultiomeGraphs(random_dataset, split=split)
    model = make_model(graphs)
    table, expected = cell_type_map(model, graphs, batch_size=5, progress=False), expected_map(model, graphs)
    keys = list(zip(table["cell_type"], table["gene"], table["peak"], strict=True))
    assert set(table["cell_type"]) == {"A", "B", "unlabelled"}
    assert len(keys) == len(expected)
    np.testing.assert_allclose(table["score"], [expected[key][0] for key in keys], rtol=1e-6)
    assert table["n_cells"].tolist() == [expected[key][1] for key in keys]


def test_columns_order_and_places(graphs):
    table = cell_type_map(make_model(graphs), graphs, progress=False)
    assert list(COLUMNS) == list(table.columns) == CONTRACT
    assert table.dtypes.astype(str).to_dict() == DTYPES
    assert table[["zscore", "pvalue", "qvalue", "effect", "cell"]].isna().all(axis=None)
    by_type = table.groupby("cell_type", sort=False)
    assert list(by_type.groups) == sorted(by_type.groups)
    assert by_type["score"].apply(lambda s: s.is_monotonic_decreasing).all()
    genes, peaks = graphs.genes.frame.set_index("gene"), graphs.peaks.frame.set_index("peak")
    for row in table.iloc[::17].itertuples():
        gene, peak = genes.loc[row.gene], peaks.loc[row.peak]
        centre, sign = (peak.start + peak.end) // 2, -1 if gene.strand == "-" else 1
        assert (row.chrom, row.start, row.end) == (peak.chrom, peak.start, peak.end)
        assert (row.tss, row.distance) == (gene.tss, (centre - gene.tss) * sign)


def test_batch_size_changes_nothing(graphs):
    model = make_model(graphs)
    one, many = (cell_type_map(model, graphs, batch_size=n, progress=False) for n in (1, 33))
    order = ["cell_type", "gene", "peak"]
    one, many = (t.sort_values(order, ignore_index=True) for t in (one, many))
    pd.testing.assert_frame_equal(one, many, rtol=1e-6)


def test_links_across_chromosomes_and_unplaced_genes_have_no_distance(graphs):
    unplaced = int(np.flatnonzero(graphs.genes.chrom.numpy() < 0)[0])
    far = len(graphs.peaks) - 1
    table = link_frame(graphs, np.array([0, unplaced]), np.array([far, 0]), score=np.ones(2), cell_type="A")
    assert table["distance"].isna().all()
    assert table["tss"].isna().tolist() == [False, True]
    assert table["n_cells"].isna().all()


def test_a_threshold_nothing_passes_gives_an_empty_map(tmp_path, graphs):
    model = make_model(graphs, threshold=0.999999)
    table = cell_type_map(model, graphs, progress=False)
    assert len(table) == 0
    assert table.dtypes.astype(str).to_dict() == DTYPES
    assert (
        write_map(model, graphs, tmp_path, truth=LinkTruth.of(some_truth(graphs), graphs), progress=False)[
            "links"
        ]
        == 0
    )
    assert (tmp_path / "map.png").stat().st_size > 1000
    assert pd.read_parquet(tmp_path / "links.parquet").dtypes.astype(str).to_dict() == DTYPES


def test_folder_holds_all_that_was_asked_for(tmp_path, graphs, random_dataset, run, truth):
    out = tmp_path / "deep" / "maps"
    summary = write_maps(run, random_dataset, out, per="cell", truth=truth, progress=False, batch_size=9)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["links.parquet", "map.png", "config.json", "cells", "recovery.json", "recovery.png", "summary.json"]
        + [f"{name}.parquet" for name in ("types", "genes", "peaks", "openness", "expression")]
    )
    assert [path.name for path in out.parent.iterdir()] == ["maps"]
    assert not list(out.rglob(".*"))
    links, cells = pd.read_parquet(out / "links.parquet"), pd.read_parquet(out / "cells")
    table = cell_type_map(make_model(graphs).float(), graphs, progress=False)
    assert links.dtypes.astype(str).to_dict() == cells.dtypes.astype(str).to_dict() == DTYPES
    order = ["cell_type", "gene", "peak"]
    judged = ["zscore", "pvalue", "qvalue"]
    pd.testing.assert_frame_equal(
        links.drop(columns=judged).sort_values(order, ignore_index=True),
        table.drop(columns=judged).sort_values(order, ignore_index=True),
        rtol=1e-5,
    )
    assert links[["pvalue", "qvalue"]].notna().all(axis=None)
    assert links["pvalue"].between(0, 1, inclusive="right").all()
    counts = (summary["links"], summary["genes"], summary["peaks"], summary["cells"])
    assert counts == (len(links), links["gene"].nunique(), links["peak"].nunique(), len(graphs))
    assert {name: kind["links"] for name, kind in summary["cell_types"].items()} == links[
        "cell_type"
    ].value_counts().to_dict()
    assert json.loads((out / "recovery.json").read_text()) == summary["recovery"]
    config = json.loads((out / "config.json").read_text())
    assert config["dataset_fingerprint"] == graphs.fingerprint
    assert (config["cells"], config["arguments"]["truth_kind"]) == ("all cells", "links")
    assert config["arguments"]["run"] == str(run)


def test_links_of_single_cells_add_up_to_the_map(tmp_path, graphs):
    write_map(make_model(graphs), graphs, tmp_path, per="cell", progress=False)
    links, cells = pd.read_parquet(tmp_path / "links.parquet"), pd.read_parquet(tmp_path / "cells")
    sums = cells.groupby(["cell_type", "gene", "peak"])["score"].agg(["sum", "size"])
    sums["sum"] /= graphs.cells["cell_type"].fillna("unlabelled").value_counts().reindex(sums.index, level=0)
    own = links.set_index(["cell_type", "gene", "peak"]).loc[sums.index]
    np.testing.assert_allclose(own["score"], sums["sum"], rtol=1e-6)
    assert own["n_cells"].tolist() == sums["size"].tolist()
    assert set(cells["cell"]) <= set(graphs.cells["barcode"])


def test_shards_close_when_full_and_keep_every_link(tmp_path, graphs):
    with CellLinkShards(tmp_path / "cells", graphs, shard=150) as shards:
        n = 0
        for piece in stream_links(make_model(graphs), graphs, batch_size=4, progress=False):
            shards.add(piece, "A")
            n += len(piece)
    assert len(list((tmp_path / "cells").glob("part-*.parquet"))) > 1
    assert len(pd.read_parquet(tmp_path / "cells")) == n


def test_a_part_that_lost_its_content_is_named(tmp_path, graphs):
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "part-00000.parquet").touch()
    with pytest.raises(
        InputError, match=r"part-00000\.parquet is damaged\. Remove it and all parts after it"
    ):
        next(CellLinkShards(tmp_path / "cells", graphs).done())


def test_nothing_is_as_large_as_genes_times_peaks(tmp_path):
    path = write_random_dataset(tmp_path / "wide", window=False, n_genes=800, n_peaks=20_000)
    graphs = MultiomeGraphs(path)
    model, dense = make_model(graphs), 4 * len(graphs.genes) * len(graphs.peaks)
    pairs = candidate_pairs(graphs, window=20)
    tracemalloc.start()
    table = cell_type_map(model, graphs, batch_size=4, progress=False)
    correlation(graphs, pairs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(table) > 10_000
    assert peak < 0.6 * dense


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"per": "donor"}, "no map per 'donor'. Choose cell-type or cell"),
        ({"split": "holdout"}, "no split 'holdout'; there are train"),
        ({"truth_kind": "chip"}, "no truth kind 'chip'"),
        ({"run": "nowhere"}, "no trained model"),
        ({"dataset": "nowhere"}, "not a scweave dataset"),
    ],
)
def test_bad_input_leaves_nothing_behind(tmp_path, random_dataset, run, truth, change, message):
    asked = {"run": run, "dataset": random_dataset, "truth": truth, **change}
    asked |= {name: tmp_path / asked[name] for name in ("run", "dataset") if asked[name] == "nowhere"}
    out = tmp_path / "out" / "maps"
    with pytest.raises(InputError, match=message):
        write_maps(asked.pop("run"), asked.pop("dataset"), out, progress=False, **asked)
    assert not out.parent.exists()


def test_a_crash_or_a_full_disk_leaves_nothing_behind(tmp_path, random_dataset, run, monkeypatch):
    for error, seen in (
        (OSError(28, "No space left on device"), InputError),
        (RuntimeError("bug"), RuntimeError),
    ):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(map_folder, "draw_map", fail)
        with pytest.raises(seen, match=r"No space left|bug"):
            write_maps(run, random_dataset, tmp_path / "out" / "maps", progress=False)
        assert not (tmp_path / "out").exists()


def test_what_exists_is_not_touched(tmp_path, random_dataset, run):
    with pytest.raises(InputError, match=r"exists already\. Remove it or choose another --out"):
        write_maps(run, random_dataset, run, progress=False)


def test_a_model_of_other_features_is_refused(tmp_path, run):
    other = write_random_dataset(tmp_path / "other", window=True, n_genes=20)
    with pytest.raises(InputError, match="genes are not those of the model"):
        write_maps(run, other, tmp_path / "maps", progress=False)


def test_a_truth_that_does_not_fit_costs_no_pass_over_the_cells(tmp_path, random_dataset, run, monkeypatch):
    monkeypatch.setattr(map_folder, "type_links", lambda *_, **__: pytest.fail("streamed"))
    truth = tmp_path / "truth.csv"
    truth.write_text("gene,peak\nx,y\n")
    with pytest.raises(InputError, match="1 known pairs"):
        write_maps(run, random_dataset, tmp_path / "maps", truth=truth, progress=False)


class Stop(BaseException):
    """What a kill or Ctrl-C looks like from inside."""


def stopped_after(batches, monkeypatch):
    """Let the stream of a model stop after some batches."""
    n = 0

    def stop(model, graphs, **options):
        nonlocal n
        for links in stream_links(model, graphs, **options):
            if n == batches:
                raise Stop
            n += 1
            yield links

    monkeypatch.setattr("scweave.interpret.links.type_links.stream_links", stop)


def folder_bytes(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.parquet")}


@pytest.mark.parametrize("batches", [0, 1, 3, 6, 9])
@pytest.mark.parametrize("shard", [1, 150, 10**6])
def test_an_interrupted_map_of_cells_goes_on_to_the_same_bits(
    tmp_path, random_dataset, run, monkeypatch, shard, batches
):
    monkeypatch.setattr(CellLinkShards.__init__, "__kwdefaults__", {"shard": shard})
    options = {"per": "cell", "batch_size": 4, "progress": False}
    write_maps(run, random_dataset, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        stopped_after(batches, patch)
        with pytest.raises(Stop):
            write_maps(run, random_dataset, tmp_path / "maps", **options)
    assert not (tmp_path / "maps").exists()
    with pytest.raises(InputError, match=r"left by an interrupted command\. Pass --resume"):
        write_maps(run, random_dataset, tmp_path / "maps", **options)
    with pytest.raises(InputError, match="batch_size was 4 and is 5"):
        write_maps(run, random_dataset, tmp_path / "maps", **{**options, "batch_size": 5}, resume=True)
    done = sorted((tmp_path / ".maps.unfinished" / "cells").glob("part-*.parquet"))
    assert len(done) == (batches if shard == 1 else len(done))
    computed = []
    with monkeypatch.context() as patch:
        told = lambda *given, **also: computed.append(len(given[1])) or stream_links(*given, **also)  # noqa: E731
        patch.setattr("scweave.interpret.links.type_links.stream_links", told)
        summary = write_maps(run, random_dataset, tmp_path / "maps", **options, resume=True)
    if shard == 1:
        assert sum(computed) < summary["cells"] or batches == 0
    assert folder_bytes(tmp_path / "maps") == folder_bytes(tmp_path / "whole")
    assert sorted(p.name for p in tmp_path.iterdir() if "map" in p.name) == ["maps"]
    assert not list((tmp_path / "maps").rglob(".*")) + list((tmp_path / "maps").rglob("job.json"))


def test_there_must_be_something_to_resume(tmp_path, random_dataset, run):
    with pytest.raises(InputError, match=r"there is nothing to resume: .* Leave out --resume"):
        write_maps(run, random_dataset, tmp_path / "maps", per="cell", resume=True, progress=False)
    with pytest.raises(InputError, match="only crossrec's map of single cells is made in parts"):
        write_maps(run, random_dataset, tmp_path / "maps", resume=True, progress=False)
    (tmp_path / ".maps.unfinished").mkdir()
    with pytest.raises(InputError, match="is not what an interrupted command left"):
        write_maps(run, random_dataset, tmp_path / "maps", per="cell", resume=True, progress=False)


def test_two_processes_do_not_write_one_map(tmp_path, random_dataset, run):
    other = psutil.Process(os.getppid())
    told = {"process": other.pid, "started": other.create_time(), "host": platform.node()}
    (tmp_path / ".maps.unfinished").mkdir()
    (tmp_path / ".maps.unfinished" / "job.json").write_text(json.dumps({"job": {}, **told}))
    with pytest.raises(InputError, match=f"process {other.pid} is writing"):
        write_maps(run, random_dataset, tmp_path / "maps", per="cell", progress=False)


def test_bad_input_of_a_map_of_cells_leaves_nothing(tmp_path, random_dataset, run):
    truth = tmp_path / "truth.csv"
    truth.write_text("gene,peak\nx,y\n")
    with pytest.raises(InputError, match="1 known pairs"):
        write_maps(run, random_dataset, tmp_path / "a" / "maps", per="cell", truth=truth, progress=False)
    assert not (tmp_path / "a").exists()


def test_what_an_earlier_attempt_wrote_beside_cells_is_made_anew(
    tmp_path, random_dataset, run, truth, monkeypatch
):
    options = {"per": "cell", "progress": False, "batch_size": 4}
    with monkeypatch.context() as patch:
        patch.setattr(map_folder, "draw_map", stop_drawing)
        with pytest.raises(Stop):
            write_maps(run, random_dataset, tmp_path / "maps", truth=truth, **options)
    assert (tmp_path / ".maps.unfinished" / "recovery.json").exists()
    write_maps(run, random_dataset, tmp_path / "maps", **options, resume=True)
    assert not (tmp_path / "maps" / "recovery.json").exists()
    assert "truth" not in json.loads((tmp_path / "maps" / "config.json").read_text())["arguments"]


def stop_drawing(*_, **__):
    raise Stop


def test_a_process_number_given_anew_or_another_machine_stops_nobody(
    tmp_path, random_dataset, run, monkeypatch
):
    options = {"per": "cell", "progress": False}
    with monkeypatch.context() as patch:
        patch.setattr(map_folder, "draw_map", stop_drawing)
        with pytest.raises(Stop):
            write_maps(run, random_dataset, tmp_path / "maps", **options)
    job = tmp_path / ".maps.unfinished" / "job.json"
    told = json.loads(job.read_text())
    job.write_text(json.dumps(told | {"process": os.getppid(), "started": 1.0}))
    with pytest.raises(InputError, match="Pass --resume to go on"):
        write_maps(run, random_dataset, tmp_path / "maps", **options)
    job.write_text(json.dumps(told | {"process": os.getppid(), "host": "elsewhere"}))
    write_maps(run, random_dataset, tmp_path / "maps", **options, resume=True)
    assert (tmp_path / "maps" / "links.parquet").exists()


def test_bad_input_late_loses_no_cells(tmp_path, random_dataset, run, monkeypatch):
    def refuse(*_, **__):
        raise InputError("something was wrong")

    monkeypatch.setattr(map_folder, "draw_map", refuse)
    with pytest.raises(InputError, match="something was wrong"):
        write_maps(run, random_dataset, tmp_path / "maps", per="cell", progress=False)
    assert list((tmp_path / ".maps.unfinished" / "cells").glob("part-*.parquet"))


def test_motifs_without_dna_are_refused_before_any_work(tmp_path, monkeypatch):
    graphs = MultiomeGraphs(write_random_dataset(tmp_path / "plain", window=True, dna=False))
    (tmp_path / "run").mkdir()
    save_model(tmp_path / "run", make_model(graphs).float(), graphs)
    monkeypatch.setattr(map_folder, "type_links", lambda *_, **__: pytest.fail("streamed"))
    with pytest.raises(InputError, match="has no DNA of its peaks"):
        write_maps(tmp_path / "run", graphs.root, tmp_path / "maps", context=PeakContext(()), progress=False)
    assert not list(tmp_path.glob("*maps*"))


def test_a_full_disk_keeps_the_cells_that_are_done(tmp_path, random_dataset, run, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    options = {"per": "cell", "progress": False}
    with monkeypatch.context() as patch:
        patch.setattr(map_folder, "draw_map", full)
        with pytest.raises(InputError, match=r"No space left on device\. What was done is kept: free space"):
            write_maps(run, random_dataset, tmp_path / "maps", **options)
    done = folder_bytes(tmp_path / ".maps.unfinished" / "cells")
    assert done
    write_maps(run, random_dataset, tmp_path / "maps", **options, resume=True)
    assert folder_bytes(tmp_path / "maps" / "cells") == done
