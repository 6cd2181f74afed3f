"""`scweave map` and `scweave report`: what stands in their folders, and what they print."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from random_dataset import write_random_dataset
from scweave.cli import main
from scweave.commands.jobs import Job
from scweave.commands.maps import map_run
from scweave.graphs.dataset import MultiomeGraphs
from scweave.interpret.evidence.bed import read_bed
from scweave.interpret.evidence.candidates import candidate_pairs
from scweave.interpret.evidence.map_truth import nearness
from scweave.interpret.evidence.tf_binding import binding, compare_binding
from scweave.interpret.figures.binding import plot_binding
from scweave.interpret.map_folder import NO_GC, write_map
from scweave.interpret.maps import RegulatoryMap
from scweave.interpret.motifs.marker_peaks import top_peaks
from scweave.interpret.terminal import show_binding, show_map, show_recovery
from scweave.train import run as train
from test_attention import make_model


@pytest.fixture(scope="module")
def trained(simulated_dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    train(Job(simulated_dataset, out / "crossrec", "crossrec", epochs=8, batch_size=64), progress=False)
    train(Job(simulated_dataset, out / "logreg", "logreg"), progress=False)
    return out


@pytest.fixture(scope="module")
def written(trained, simulated, simulated_dataset, tmp_path_factory):
    """A map with everything that can be asked for, and its summary."""
    out = tmp_path_factory.mktemp("maps") / "maps"
    summary = map_run(
        trained / "crossrec", simulated_dataset, out, truth=simulated.links, truth_kind="links",
        motifs=simulated.meme, gtf=simulated.gtf, per="cell", progress=False,
    )  # fmt: skip
    return out, summary


def call(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["scweave", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_a_map_reads_back_with_all_its_tables(written, simulated_dataset):
    out, summary = written
    regulatory, graphs = RegulatoryMap.read(out), MultiomeGraphs(simulated_dataset)
    assert len(regulatory.links) == summary["links"]
    assert regulatory.cells.to_dict() == {n: k["cells"] for n, k in summary["cell_types"].items()}
    assert regulatory.openness.shape == (len(graphs.peaks), len(regulatory.cells))
    assert regulatory.expression.shape == (len(graphs.genes), len(regulatory.cells))
    assert set(regulatory.exons["gene"]) <= set(graphs.genes.frame["gene"])
    assert len(regulatory.sites) == summary["motif_sites"] > 0
    assert json.loads((out / "summary.json").read_text()) == json.loads(json.dumps(summary))
    arguments = json.loads((out / "config.json").read_text())["arguments"]
    assert {"motifs", "gtf", "truth", "per"} <= set(arguments)
    cells = pd.read_parquet(out / "cells")
    assert set(cells["cell"]) <= set(graphs.cells["barcode"])
    assert cells["cell"].notna().all()


def test_links_have_a_significance_that_is_alike_in_all_types(written):
    links = RegulatoryMap.read(written[0]).links
    assert links["pvalue"].between(1 / 1001, 1).all()
    assert (links["qvalue"] >= links["pvalue"] - 1e-12).all()
    assert links.groupby(["gene", "peak"], observed=True)["pvalue"].nunique().max() == 1
    order = links.drop_duplicates(["gene", "peak"]).sort_values("pvalue")
    assert order["qvalue"].is_monotonic_increasing


def test_without_dna_it_is_said_that_gc_is_not_matched(written, tmp_path):
    assert not [note for note in written[1]["notes"] if "GC" in note]
    graphs = MultiomeGraphs(write_random_dataset(tmp_path / "plain", window=True, dna=False))
    (tmp_path / "map").mkdir()
    summary = write_map(make_model(graphs).float(), graphs, tmp_path / "map", progress=False)
    assert summary["notes"] == [NO_GC]


def test_motifs_and_regions_are_of_the_top_peaks_of_each_type(written):
    out, summary = written
    regions, enrichment = (pd.read_parquet(out / f"{name}.parquet") for name in ("regions", "enrichment"))
    top = top_peaks(RegulatoryMap.read(out).links)
    assert regions.groupby("cell_type")["peaks"].sum().to_dict() == {n: len(p) for n, p in top.items()}
    assert set(regions["kind"]) == {"promoter", "exon", "intron", "distal"}
    np.testing.assert_allclose(regions.groupby("cell_type")["share"].sum(), 1)
    sure = enrichment[enrichment["qvalue"] < 0.05]
    assert set(summary["enriched"]) == set(sure["cell_type"])
    assert set(enrichment["cell_type"]) == set(top)


def test_binding_of_a_factor_is_compared_beside_accessibility(
    trained, simulated, simulated_dataset, tmp_path
):
    bed = pd.read_csv(simulated.sites_bed, sep="\t", header=None)
    factor = bed[3].value_counts().index[0]
    bed[bed[3] == factor].to_csv(tmp_path / "tf.bed", sep="\t", header=False, index=False)
    out = tmp_path / "maps"
    summary = map_run(
        trained / "crossrec", simulated_dataset, out, truth=tmp_path / "tf.bed", truth_kind="tf", progress=False
    )  # fmt: skip
    found = json.loads((out / "binding.json").read_text())
    assert found == json.loads(json.dumps(summary["binding"]))
    graphs, regulatory = MultiomeGraphs(simulated_dataset), RegulatoryMap.read(out)
    peaks = graphs.peaks.frame["peak"]
    sums = regulatory.links.groupby(["cell_type", "peak"], observed=False)["score"].sum()
    scores = {name: sums[name].reindex(peaks).fillna(0).to_numpy() for name in regulatory.cells.index}
    opened = {name: regulatory.openness[name].to_numpy(float) for name in regulatory.cells.index}
    among = np.zeros(len(peaks), bool)
    among[candidate_pairs(graphs).peak] = True
    expected = compare_binding(
        scores, binding(graphs.peaks.frame, read_bed(tmp_path / "tf.bed")), opened, among=among
    )
    assert found["coverage"] == expected["coverage"]
    assert ("baselines" in found) == expected["judged"]
    if expected["judged"]:
        for name, kinds in expected["cell_types"].items():
            value = found["cell_types"][name]["map"]["pearson"]["value"]
            assert value == pytest.approx(kinds["map"]["pearson"]["value"], abs=1e-9)
    assert (out / "binding.png").stat().st_size > 1000


def test_nearness_is_that_to_the_next_tss(simulated_dataset):
    graphs = MultiomeGraphs(simulated_dataset)
    pairs = candidate_pairs(graphs)
    near = nearness(pairs)
    for peak in range(0, len(near), 17):
        own = np.abs(pairs.distance[pairs.peak == peak])
        assert near[peak] == pytest.approx(np.exp(-own.min() / 10_000) if len(own) else 0.0)


def test_what_is_printed_states_coverage_first(written, capsys, tmp_path):
    show_map(written[1], tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    told = next(i for i, line in enumerate(lines) if "known links among the candidates" in line)
    assert told < next(i for i, line in enumerate(lines) if line.startswith("recovery of known links"))


def test_too_few_known_links_are_only_counted(capsys):
    coverage = {"links": 40, "in_candidates": 12}
    told = {
        "coverage": coverage,
        "true_pairs": 12,
        "judged_pairs": 90,
        "judged": False,
        "reason": "12 are too few",
    }
    show_recovery(told)
    assert capsys.readouterr().out.splitlines() == [
        "known links among the candidates: 12 of 40; true among the judged pairs: 12 of 90",
        "12 are too few",
    ]
    show_binding(
        {
            "coverage": {"bound_compared_peaks": 3, "compared_peaks": 70},
            "judged": False,
            "reason": "3 are too few",
        }
    )
    assert capsys.readouterr().out.splitlines() == ["3 of 70 peaks near a gene are bound", "3 are too few"]


def test_commands_end_to_end(trained, simulated, simulated_dataset, tmp_path, capsys, monkeypatch):
    maps, page = tmp_path / "maps", tmp_path / "report.html"
    status, out, err = call(
        capsys, monkeypatch, "map", trained / "logreg", simulated_dataset, "--motifs", simulated.meme,
        "--gtf", simulated.gtf, "--out", maps, "--quiet",
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert "marker peaks" in out
    assert {"predicted_markers.parquet", "regions.parquet", "enrichment.parquet"} <= {
        path.name for path in maps.iterdir()
    }
    status, out, err = call(
        capsys, monkeypatch, "report", trained / "crossrec", maps, "--out", page, "--json"
    )
    assert (status, err) == (0, "")
    assert [part["kind"] for part in json.loads(out)["parts"]] == ["run", "peaks"]
    assert page.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--motifs", "nowhere.meme"], "nowhere.meme"),
        (["--gtf", "nowhere.gtf"], "nowhere.gtf"),
        (["--truth", "nowhere.bed", "--truth-kind", "tf"], "nowhere.bed"),
        (["--truth", "nowhere.csv", "--truth-kind", "chip"], "no truth kind 'chip'"),
        (["--resume"], "--resume: only crossrec's map of single cells"),
    ],
)
def test_bad_files_are_one_line_and_leave_nothing(
    trained, simulated_dataset, tmp_path, capsys, monkeypatch, options, message
):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(
        capsys, monkeypatch, "map", trained / "crossrec", simulated_dataset, "--out", "maps", *options
    )
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_binding_is_printed_beside_accessibility_and_nearness(capsys):
    def figures(value):
        told = {"value": value, "free": None, "matched": {"mean": 0.0, "sd": 0.1, "p": 0.001}}
        return dict.fromkeys(("cosine", "pearson", "jaccard", "partial"), told)

    types = {
        f"type {i:02}": {"map": figures(0.1 + i / 100), "accessibility": figures(0.2)} for i in range(23)
    }
    show_binding(
        {
            "coverage": {"bound_compared_peaks": 300, "compared_peaks": 700},
            "judged": True,
            "chance_jaccard": 0.05,
            "cell_types": types,
            "baselines": {"nearness": figures(0.305), "accessibility": figures(0.2)},
        }
    )
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[-3:] == [
        "nearness to the next TSS: Pearson 0.305, Jaccard 0.305",
        "the map is above accessibility by Pearson in 12 of 23, by Jaccard in 12 of 23 cell types",
        "the map is above nearness to the next TSS by Pearson in 2 of 23, by Jaccard in 2 of 23 cell types",
    ]


def test_an_interrupted_map_of_cells_says_that_it_can_go_on(
    trained, simulated_dataset, tmp_path, capsys, monkeypatch
):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("scweave.interpret.map_folder.write_map", stop)
    for per, told in (("cell", True), ("cell-type", False)):
        with pytest.raises(KeyboardInterrupt):
            map_run(trained / "crossrec", simulated_dataset, tmp_path / per, per=per, progress=False)
        assert ("--resume goes on" in capsys.readouterr().err) is told


def test_the_picture_of_binding_has_a_line_for_nearness():
    figure = {"value": 0.1, "free": None, "matched": {"mean": 0.0, "sd": 0.1, "p": 0.2}}
    types = {"A": {name: {"pearson": figure} for name in ("map", "accessibility")}}
    told = {"judged": True, "k": 5, "cell_types": types}
    for beside, lines in (({}, 0), ({"baselines": {"nearness": {"pearson": figure | {"value": 0.3}}}}, 1)):
        ax = plot_binding(Figure().subplots(), told | beside)
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        assert labels.count("nearness to the next TSS") == lines
        assert any(label.startswith("hollow: p > 0.05") for label in labels)
