"""What a report cannot be made of is named in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from report_pages import write_run
from scweave.graphs.errors import InputError
from scweave.interpret.report import write_report
from tiny_map import TinyMap, write_tiny_map


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> TinyMap:
    return write_tiny_map(tmp_path_factory.mktemp("map") / "maps")


def refused(tmp_path: Path, source: Path, match: str) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(InputError, match=match) as caught:
        write_report([source], tmp_path / "report.html")
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before  # nothing is left behind


def test_folders_that_are_no_source_are_named(tmp_path) -> None:
    refused(tmp_path, tmp_path / "nowhere", "nowhere is not there. Pass the folder of a run")
    (tmp_path / "file").write_text("")
    refused(tmp_path, tmp_path / "file", "file is a file. Pass the folder")
    (tmp_path / "other").mkdir()
    refused(tmp_path, tmp_path / "other", r"other is no run, map or study \(it holds nothing\)")
    (tmp_path / "other" / "notes.txt").write_text("")
    refused(tmp_path, tmp_path / "other", r"it holds notes.txt")
    with pytest.raises(InputError, match="nothing to report on"):
        write_report([], tmp_path / "report.html")


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "metrics.json",
        "model.json",
        "history.csv",
        "metrics_figures/reliability.png",
        "model.safetensors",
    ],
)
@pytest.mark.parametrize("damage", ["truncated", "foreign"])
def test_damaged_runs_are_named(tmp_path, name, damage) -> None:
    file = write_run(tmp_path / "run") / name
    content = file.read_bytes() if file.exists() else b""
    file.write_bytes(
        content[: len(content) // 2]
        if damage == "truncated" and name != "history.csv"
        else b"\xff\xfe[1]\x00"
    )
    refused(tmp_path, tmp_path / "run", re.escape(str(file)))


@pytest.mark.parametrize(
    "content",
    [
        '{"baselines": 3}',
        '{"baselines": {"a": {"b": 5}}}',
        '{"baselines": {"a": {}}, "a": {"confusion": {}}}',
    ],
)
def test_foreign_metrics_are_named(tmp_path, content) -> None:
    file = write_run(tmp_path / "run") / "metrics.json"
    file.write_text(content)
    refused(tmp_path, tmp_path / "run", "metrics.json does not hold metrics as this version writes them")


@pytest.mark.parametrize("name", ["links", "genes", "peaks", "types", "openness", "expression"])
def test_damaged_maps_are_named(tmp_path, name) -> None:
    folder = write_tiny_map(tmp_path / "maps").folder
    file = folder / f"{name}.parquet"
    file.write_bytes(file.read_bytes()[:-60])
    refused(tmp_path, folder, re.escape(str(folder)))


def test_foreign_evidence_and_old_maps_are_named(tmp_path) -> None:
    folder = write_tiny_map(tmp_path / "maps").folder
    (folder / "recovery.json").write_text('{"methods": 3}')
    refused(tmp_path, folder, "recovery.json is not as this version writes it")
    (folder / "recovery.json").unlink()
    (folder / "genes.parquet").unlink()
    refused(tmp_path, folder, "genes.parquet")


def test_where_a_page_cannot_be_written(tmp_path, tiny) -> None:
    for out, match in (
        (tmp_path / "there.html", "exists already. Remove it or choose another --out"),
        (tmp_path / "report.pdf", r"written as .html. Pass .*report.html"),
        (tmp_path / "no" / "report.html", "is no folder. Create it"),
    ):
        (tmp_path / "there.html").write_text("mine")
        with pytest.raises(InputError, match=match):
            write_report([tiny.folder], out)
    assert (tmp_path / "there.html").read_text() == "mine"
    with pytest.raises(InputError, match="--max-links 0: choose 1 or more"):
        write_report([tiny.folder], tmp_path / "report.html", max_links=0)
