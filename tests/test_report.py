"""The report as a file: what it holds, that names cannot break out of it, and what it says of folders that are none."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from report_pages import EVIL, Tags, decoded, page_of, write_run
from scweave.interpret.maps import RegulatoryMap
from scweave.interpret.report import write_report
from scweave.interpret.reports.columns import figures, shares, signed_numbers, whole_numbers
from scweave.interpret.reports.curves import curves
from scweave.interpret.reports.map_data import map_data, strongest
from scweave.interpret.reports.markup import data_block, escape, finite, number
from scweave.interpret.reports.metrics_part import best_methods
from tiny_map import TinyMap, write_tiny_map


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> TinyMap:
    return write_tiny_map(tmp_path_factory.mktemp("map") / "maps")


def test_a_page_asks_for_nothing_and_holds_its_parts(tmp_path, tiny) -> None:
    run = write_run(tmp_path / "run", notes=("a note of the training",))
    out = tmp_path / "report.html"
    summary = write_report([run, tiny.folder], out)
    assert [(part["kind"], part.get("links")) for part in summary["parts"]] == [
        ("run", None),
        ("map", len(tiny.links)),
    ]
    assert summary["bytes"] == out.stat().st_size
    text = out.read_text(encoding="utf-8")
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttpRequest|WebSocket|import\(", text)
    page = Tags(text)
    loading = [attrs.get(key) for _, attrs in page.tags for key in ("src", "href") if key in attrs]
    assert all(place.startswith(("data:", "#")) for place in loading)
    assert "default-src 'none'" in text
    for told in (
        "feedbeef00000001",
        "0123456789abcdef",
        "seed 7",
        "a note of the training",
        "0.01",
        "Figures of each type",
    ):
        assert told in page.words


def test_metrics_stand_beside_baselines_with_the_best_marked(tmp_path) -> None:
    write_report([write_run(tmp_path / "run")], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<strong class="best">0.900</strong>' in text  # peeking knows the answer
    assert '<strong class="best">0.010</strong>' in text  # lower is better
    assert "(knows the answer)" in text and "n 30" in text
    assert text.count('data-tip="') == 4 and "5 cells of B told T (50.0%)" in text


def test_curves_tell_every_epoch_and_mark_the_one_that_is_kept(tmp_path) -> None:
    history = pd.read_csv(write_run(tmp_path / "run") / "history.csv")
    page = Tags(curves(history))
    told = [json.loads(attrs["data-curve"]) for tag, attrs in page.tags if tag == "svg"]
    assert told[0]["series"] == {"train": [3.0, 2.0, 1.0], "validation": [3.0, None, 2.5]}
    assert told[0]["epochs"] == [1, 2, 3] and "epoch 2, whose weights are kept" in page.words
    lines = [attrs["points"].split() for tag, attrs in page.tags if tag == "polyline"]
    assert [len(line) for line in lines] == [3, 2, 3]
    heights = [float(point.split(",")[1]) for point in lines[0]]
    assert heights == sorted(heights)  # a falling loss falls on the page


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [0.0, 0.0], [-5e-9, 3e9], [np.nan, 1.0]])
def test_any_history_can_be_drawn(values) -> None:
    page = Tags(curves(pd.DataFrame({"epoch": range(1, len(values) + 1), "train_loss": values})))
    places = [float(n) for _, attrs in page.tags for n in re.findall(r"-?[\d.]+", attrs.get("points") or "")]
    assert all(0 <= place <= 300 for place in places)
    assert Tags(curves(pd.DataFrame({"epoch": []}))).words == "No epoch was written down."


def test_columns_hold_the_map(tiny) -> None:
    content = map_data(RegulatoryMap.read(tiny.folder))
    links, genes, peaks = content["links"], content["genes"], content["peaks"]
    assert (content["total"], content["shown"]) == (len(tiny.links), len(tiny.links))
    first, found = decoded(links["first"]), []
    for gene, name in enumerate(genes["name"]):
        rows = range(first[gene], first[gene + 1])
        own = [decoded(links["score"])[i] for i in rows]
        assert own == sorted(own, reverse=True)
        for i in rows:
            peak, kind = (
                tiny.peaks["peak"][decoded(links["peak"])[i]],
                content["types"]["name"][decoded(links["type"])[i]],
            )
            found.append((name, peak, kind, i))
    assert peaks["name"] is None  # names follow from places
    table = tiny.links.set_index(["gene", "peak", "cell_type"])
    assert table.index.is_unique and sorted(key[:3] for key in found) == sorted(table.index)
    for gene, peak, kind, i in found:
        row = table.loc[(gene, peak, kind)]
        for name in ("score", "effect", "zscore", "pvalue", "qvalue"):
            np.testing.assert_allclose(decoded(links[name])[i], row[name], rtol=1e-6)
        far = decoded(links["distance"])[i]
        assert pd.isna(row["distance"]) if far == -(2**31) else far == row["distance"]
        assert decoded(links["cells"])[i] == row["n_cells"] + 1
    n = len(tiny.peaks)
    np.testing.assert_allclose(
        decoded(content["openness"]).reshape(-1, n).T / 65535, tiny.openness, atol=1e-5
    )
    np.testing.assert_allclose(decoded(content["expression"]).reshape(4, -1), tiny.expression)
    assert decoded(genes["tss"]).tolist() == [100_000, 160_000, 50_000, -1]
    assert decoded(content["exons"]["first"]).tolist() == [0, 2, 3, 3, 3]
    best = tiny.links.groupby("gene")["score"].max()
    np.testing.assert_allclose(decoded(genes["best"])[:2], best[["Gad1", "Gad2"]], rtol=1e-6)


def test_how_much_types_differ_is_the_best_type_less_the_second(tiny) -> None:
    told = decoded(map_data(RegulatoryMap.read(tiny.folder))["genes"]["different"])
    for gene, name in enumerate(("Gad1", "Gad2")):
        widest = 0.0
        for _, own in tiny.of(name).groupby("peak"):
            scores = sorted([*own["score"], 0.0], reverse=True)
            widest = max(widest, scores[0] - scores[1])
        assert told[gene] == pytest.approx(widest, rel=1e-6)
    assert np.isnan(told[2:]).all()


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 9)), max_size=40),
    st.integers(1, 45),
)
def test_the_strongest_of_each_gene_and_type_are_kept(rows, most) -> None:
    gene, kind, score = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    kept = strongest(gene, kind, score.astype(float), most)
    assert len(kept) == min(most, len(rows)) == len(set(kept.tolist()))
    left = set(range(len(rows))) - set(kept.tolist())
    for i in left:  # nothing weaker of the same gene and type was kept
        mine = [k for k in kept if gene[k] == gene[i] and kind[k] == kind[i]]
        assert all(score[k] >= score[i] for k in mine)
    sizes = [sum(gene[k] == g and kind[k] == t for k in kept) for g, t in {(gene[i], kind[i]) for i in left}]
    every = [
        sum(gene[k] == g and kind[k] == t for k in kept)
        for g, t in set(zip(gene.tolist(), kind.tolist(), strict=True))
    ]
    assert not sizes or max(every) - min(sizes) <= 1  # no gene is served before the others


def test_a_page_says_how_many_links_it_leaves_out(tmp_path, tiny) -> None:
    page = page_of(tmp_path / "few.html", tiny.folder, max_links=20)
    assert f"20 of the map's {len(tiny.links)} links are in this page" in page.words
    assert page.data["map0-data"]["shown"] == 20
    assert "All 57 links of the map" in page_of(tmp_path / "all.html", tiny.folder).words


def test_a_map_without_links_nulls_exons_or_sites(tmp_path) -> None:
    bare = write_tiny_map(tmp_path / "bare", nulls=False, exons=False, sites=False)
    for name in ("openness", "expression"):
        (bare.folder / f"{name}.parquet").unlink()
    content = page_of(tmp_path / "bare.html", bare.folder).data["map0-data"]
    assert (
        "qvalue" not in content["links"] and content["exons"] is content["tfs"] is content["openness"] is None
    )
    empty = write_tiny_map(tmp_path / "empty")
    table = pq.read_table(empty.folder / "links.parquet")
    pq.write_table(table.slice(0, 0), empty.folder / "links.parquet")
    assert page_of(tmp_path / "empty.html", empty.folder).data["map0-data"]["shown"] == 0


def test_names_cannot_break_out(tmp_path) -> None:
    maps = write_tiny_map(
        tmp_path / f"maps {EVIL[:20].replace('/', '')}", cell_types=(EVIL, "\u2028 'β'&amp;"), gene=f"G{EVIL}"
    )
    run = write_run(tmp_path / "run", model=EVIL, notes=(EVIL,))
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["annotation"]["confusion"]["types"] = [EVIL, "T"]
    metrics["baselines"]["annotation"][EVIL] = {"accuracy": 0.5, EVIL: 3.0}
    (run / "metrics.json").write_text(json.dumps(metrics))
    page = page_of(tmp_path / "report.html", run, maps.folder, title=EVIL)
    assert not any(tag == "img" and attrs.get("src") == "x" for tag, attrs in page.tags)
    assert [attrs.get("type") for tag, attrs in page.tags if tag == "script"] == ["application/json", None]
    assert page.data["map1-data"]["types"]["name"] == [EVIL, "\u2028 'β'&amp;"]


@given(st.text())
def test_text_comes_back_from_markup_as_it_went_in(text) -> None:
    kept = text.replace("\r", "").replace("\x00", "")
    page = Tags(f'<p title="{escape(kept)}">{escape(kept)}</p>{data_block("x", {"name": text})}')
    assert page.tags[0] == ("p", {"title": kept}) and page.data["x"] == {"name": text}
    assert "".join(page.text) == kept


def test_numbers_that_are_not_finite_are_null() -> None:
    assert finite({"a": [np.inf, 1.0, (float("nan"),)], 3: None}) == {"a": [None, 1.0, [None]], "3": None}
    assert [number(value) for value in (None, float("nan"), 1234, 0.12345, 1e-7, True)] == [
        "–",
        "–",
        "1,234",
        "0.123",
        "1.0e-07",
        "True",
    ]


def test_numbers_keep_their_values_in_few_bytes() -> None:
    for values, kind in (([0, 255], "u1"), ([256], "u2"), ([65536, 2**32 - 1], "u4"), ([], "u1")):
        column = whole_numbers(values)
        assert column["type"] == kind and decoded(column).tolist() == values
    assert decoded(signed_numbers(np.array([-(2**31), 2**31 - 1]))).tolist() == [-(2**31), 2**31 - 1]
    assert np.isnan(decoded(figures([np.inf, np.nan]))).all()
    np.testing.assert_allclose(decoded(shares([0.0, 0.5, 1.0, np.nan])) / 65535, [0, 0.5, 1, 0], atol=1e-5)
    for wrong in ([-1], [2**32]):
        with pytest.raises(ValueError, match="do not fit"):
            whole_numbers(wrong)


def test_no_method_is_best_where_no_direction_is_known() -> None:
    rows = {
        "model": {"n": 3, "mae": 0.2, "auroc": {"mean": 0.7, "std": 0.1}},
        "other": {"n": 2, "mae": 0.3, "auroc": {"mean": 0.7}},
    }
    assert [best_methods(rows, name) for name in ("n", "mae", "auroc", "rmse")] == [
        set(),
        {"model"},
        {"model", "other"},
        set(),
    ]


def test_evidence_is_told_with_coverage_first(tmp_path) -> None:
    maps = write_tiny_map(tmp_path / "maps").folder
    methods = {"map": {"auprc": 0.3, "auroc": None}, "distance": {"auprc": 0.2, "auroc": 0.6}}
    intervals = {
        "map": {"auprc": [0.25, 0.35], "auroc": None},
        "distance": {"auprc": [0.15, 0.21], "auroc": [0.5, 0.7]},
    }
    recovery = {
        "coverage": {"links": 100, "in_candidates": 60},
        "window": 250_000,
        "judged": True,
        "judged_pairs": 900,
        "methods": methods,
        "intervals": intervals,
        "map_minus_best": {"baseline": "distance", "auprc": 0.1, "interval": [0.05, 0.15]},
        "matched_on": ["accessibility", "distance"],
        "strata": [
            {"from": 0, "to": 10_000, "pairs": 90, "true": 40, "methods": methods, "intervals": intervals},
            {"from": 10_000, "to": None, "pairs": 9, "true": 3},
        ],
    }
    (maps / "recovery.json").write_text(json.dumps(recovery))
    figure = {
        "value": 0.25,
        "free": {"mean": 0.0, "sd": 0.1, "p": 0.001},
        "matched": {"mean": 0.2, "sd": 0.1, "p": 0.4},
    }
    told = {
        name: dict.fromkeys(("cosine", "pearson", "jaccard", "partial"), figure)
        for name in ("map", "accessibility")
    }
    binding = {
        "coverage": {"sites": 50, "bound_peaks": 40},
        "judged": True,
        "k": 2,
        "chance_jaccard": 0.05,
        "permutations": 1000,
        "cell_types": {"Sst": told},
    }
    (maps / "binding.json").write_text(json.dumps(binding))
    pd.DataFrame(
        {
            "cell_type": ["Sst", "Sst"],
            "kind": ["promoter", "distal"],
            "share": [0.3, 0.7],
            "peaks": [30, 70],
            "baseline": [0.2, 0.8],
        }
    ).to_parquet(maps / "regions.parquet")
    pd.DataFrame(
        {
            "cell_type": ["Sst"] * 2,
            "tf": ["Lhx6", "Sox9"],
            "odds_ratio": [3.0, 1.0],
            "pvalue": [1e-5, 0.5],
            "qvalue": [1e-4, 0.5],
        }
    ).to_parquet(maps / "enrichment.parquet")
    words = page_of(tmp_path / "report.html", maps).words
    order = [
        words.index(text)
        for text in (
            "in candidates 60",
            "0.300",
            "0.250–0.350",
            "By distance",
            "Agreement with TF binding",
            "bound peaks 40",
            "p 0.001, 0.400",
            "promoter",
            "Lhx6 ×3.00",
        )
    ]
    assert order == sorted(order)
    assert "0.100 (0.050 to 0.150)" in words and "Too few true pairs" in words and "Sox9" not in words


def test_too_little_truth_is_told_without_figures(tmp_path) -> None:
    maps = write_tiny_map(tmp_path / "maps").folder
    recovery = {
        "coverage": {"links": 3, "in_candidates": 2},
        "judged": False,
        "reason": "2 true pairs; figures need at least 30",
    }
    (maps / "recovery.json").write_text(json.dumps(recovery))
    words = page_of(tmp_path / "report.html", maps).words
    assert (
        "in candidates 2" in words
        and "Nothing is judged: 2 true pairs" in words
        and "method" not in words.split("Map browser")[0].split("Coverage")[1]
    )


def test_folds_studies_and_maps_of_peaks(tmp_path) -> None:
    folds = write_run(tmp_path / "folds")
    (folds / "model.json").unlink()
    (folds / "history.csv").unlink()
    spread = {"mean": 0.8, "std": 0.05}
    metrics = {
        "model": "hitanno",
        "mode": "default",
        "split": "test",
        "folds": 5,
        "annotation": {"accuracy": spread, "n": {"mean": 30.0, "std": 0.0}},
        "pooled": {"annotation": {"confusion": {"types": ["B"], "counts": [[7]]}}},
        "notes": [],
        "baselines": {
            "annotation": {"knn": {"accuracy": {"mean": 0.7, "std": None}, "n": {"mean": 30.0, "std": 0.0}}}
        },
    }
    (folds / "metrics.json").write_text(json.dumps(metrics))
    words = page_of(tmp_path / "folds.html", folds).words
    assert "mean ± sd of 5 folds" in words and "0.800 ± 0.050" in words and "n 30 " in words
    study = tmp_path / "study"
    study.mkdir()
    entry = {
        "setting": "0.5",
        "training_cells": 120,
        "repeats": 2,
        "annotation": {"accuracy": {"mean": 0.9, "sd": 0.01}},
        "baselines": {"annotation": {"knn": {"accuracy": {"mean": 0.95, "sd": 0.0}}}},
        "against_best_baseline": {
            "annotation": {
                "metric": "accuracy",
                "better": "larger",
                "baseline": "knn",
                "difference": {"mean": -0.05, "sd": 0.01},
                "p": 0.03,
            }
        },
    }
    (study / "study.json").write_text(
        json.dumps({"study": "fractions", "model": "hitanno", "notes": ["told"], "settings": [entry]})
    )
    words = page_of(tmp_path / "study.html", study).words
    assert (
        "120 training cells" in words and "differs by -0.050 ± 0.010 from knn" in words and "p 0.030" in words
    )
    peaks = tmp_path / "peaks"
    peaks.mkdir()
    (peaks / "config.json").write_text(
        json.dumps({"model": {"kind": "hitanno"}, "dataset_fingerprint": "abc"})
    )
    pd.DataFrame(
        {
            "cell_type": ["B"] * 30,
            "peak": [f"chr1:{i}-{i + 9}" for i in range(30)],
            "rank": range(1, 31),
            "score": 0.5,
        }
    ).to_parquet(peaks / "markers.parquet")
    pd.DataFrame(
        {"cell_type": ["B", "B", "T", "T"], "sentence": ["B", "T"] * 2, "score": [0.9, 0.1, np.nan, np.nan]}
    ).to_parquet(peaks / "types.parquet")
    words = page_of(tmp_path / "peaks.html", peaks).words
    assert (
        "25 of 30 rows" in words
        and "0.90" in words
        and "–" in words
        and "chr1:24-33" in words
        and "chr1:25-34" not in words
    )


def test_only_what_is_given_is_read(tmp_path) -> None:
    run = write_run(tmp_path / "run", notes=("of the run alone",))
    maps = write_tiny_map(tmp_path / "maps").folder
    config = json.loads((maps / "config.json").read_text())
    config["arguments"]["run"] = str(run)
    (maps / "config.json").write_text(json.dumps(config))
    with_run = page_of(tmp_path / "a.html", maps).words
    shutil.rmtree(run)
    without = page_of(tmp_path / "b.html", maps).words
    assert "of the run alone" not in with_run
    made = re.compile(r"made \S+ \S+ UTC")
    assert made.sub("", with_run) == made.sub("", without)


def test_regions_stand_below_all_peaks_and_notes_and_the_truth_are_named(tmp_path) -> None:
    maps = write_tiny_map(tmp_path / "maps").folder
    config = json.loads((maps / "config.json").read_text())
    config.setdefault("arguments", {})["truth"] = "somewhere/CTCF.bed.gz"
    (maps / "config.json").write_text(json.dumps(config))
    (maps / "summary.json").write_text(json.dumps({"notes": ["genes.gtf has no exon lines"]}))
    low, high = (
        {"value": value, "free": {"mean": 0.0, "sd": 0.1, "p": 1 / 1001}, "matched": None}
        for value in (0.1, 0.2)
    )
    keys = ("cosine", "pearson", "jaccard", "partial")
    types = {
        "Sst": {"map": dict.fromkeys(keys, low), "accessibility": dict.fromkeys(keys, high)},
        "Pv": {
            "map": dict.fromkeys(keys, low) | {"jaccard": high},
            "accessibility": dict.fromkeys(keys, high) | {"jaccard": low},
        },
    }
    binding = {"coverage": {"sites": 5}, "judged": True, "k": 2, "chance_jaccard": 0.05, "permutations": 1000}
    beside = {"nearness": dict.fromkeys(keys, high), "accessibility": dict.fromkeys(keys, low)}
    (maps / "binding.json").write_text(json.dumps(binding | {"cell_types": types, "baselines": beside}))
    regions = {"cell_type": ["Sst", "Sst"], "kind": ["promoter", "distal"], "share": [0.3, 0.7]}
    regions |= {"peaks": [30, 70], "baseline": [0.25, 0.75]}
    pd.DataFrame(regions).to_parquet(maps / "regions.parquet")
    words = page_of(tmp_path / "report.html", maps).words
    assert "genes.gtf has no exon lines" in words
    assert "Agreement with TF binding: CTCF.bed.gz" in words
    assert "The map is above accessibility by Pearson in 0 of 2, by Jaccard in 1 of 2 cell types." in words
    assert "above nearness to the next TSS by Pearson in 0 of 2, by Jaccard in 0 of 2 cell types." in words
    assert "all cells nearness to the next TSS 0.200" in words
    assert "p 0.001, –" in words
    assert "all peaks 25.0% 75.0% Sst 100 30.0% 70.0%" in words


def test_what_q_means_is_told_where_there_is_one(tmp_path) -> None:
    with_nulls = page_of(tmp_path / "a.html", write_tiny_map(tmp_path / "a").folder).words
    without = page_of(tmp_path / "b.html", write_tiny_map(tmp_path / "b", nulls=False).folder).words
    assert "accessibility and GC content" in with_nulls and "the same in every cell type" in with_nulls
    assert "the same in every cell type" not in without
