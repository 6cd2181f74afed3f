"""The report in a real browser: it loads from a file, searches, filters, draws, saves, and runs nothing from names."""

from __future__ import annotations

import io
import json
import time

import numpy as np
import pandas as pd
import pytest

from chromium import chromium, programs
from report_pages import EVIL, write_run
from scweave.interpret.report import write_report
from tiny_map import CELL_TYPES, write_tiny_map

COLUMNS = ["gene", "peak", "chrom", "start", "end", "tss", "distance", "score", "zscore", "pvalue", "qvalue", "cell_type", "n_cells", "effect"]  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    programs()
    folder = tmp_path_factory.mktemp("browser")
    with chromium(folder / "profile", folder / "downloads") as started:
        (folder / "downloads").mkdir()
        started.downloads = folder / "downloads"
        yield started


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_map(tmp_path_factory.mktemp("tiny") / "maps")


@pytest.fixture(scope="module")
def report(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("report")
    write_report([write_run(folder / "run"), tiny.folder], folder / "report.html")
    return folder / "report.html"


class Page:
    """What tests do with an open page."""

    def __init__(self, browser, path, hash_=""):
        self.browser = browser
        browser.get_log("browser"), browser.get_log("performance")
        browser.get("about:blank")
        browser.get(path.as_uri() + hash_)

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def part(self, role):
        return self.browser.find_element("css selector", f'[data-role="{role}"]')

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def search(self, text, *keys):
        box = self.part("gene")
        box.clear()
        box.send_keys(text, *keys)

    def fill(self, role, value):
        self.run(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
            self.part(role),
            str(value),
        )

    def click(self, role):
        self.run("arguments[0].click()", self.part(role))

    def check(self, cell_type):
        box = self.all('[data-role="types"] input')[cell_type]
        self.run("arguments[0].click()", box)

    def arcs(self):
        told = self.run(
            "return [...document.querySelectorAll('.arc')].map(a => [a.parentNode.dataset.type, a.dataset.link])"
        )
        return [(int(kind), int(link)) for kind, link in told]

    def count(self):
        return int(self.part("count").get_attribute("data-count"))

    def title(self):
        return self.part("title").text

    def column(self, key):
        keys = [head.get_attribute("data-key") for head in self.all('[data-role="table"] th')]
        return self.run(
            "return [...document.querySelectorAll('[data-role=table] tbody tr')].map(r => r.cells[arguments[0]].textContent)",
            keys.index(key),
        )

    def saved(self, role):
        self.click(role)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            files = list(self.browser.downloads.iterdir())
            # a name without content, beside one that is being written, is a place that the browser keeps
            if len(files) == 1 and files[0].suffix == ".csv" and files[0].stat().st_size:
                content = files[0].read_text(encoding="utf-8")
                files[0].unlink()
                return pd.read_csv(io.StringIO(content)), files[0].name
            time.sleep(0.05)
        raise AssertionError("no file was saved")


def near(links):
    """The links that a locus can show."""
    return links[links["distance"].notna()]


def test_the_page_loads_from_a_file_without_errors_or_requests(browser, report) -> None:
    from selenium.webdriver.common.keys import Keys

    page = Page(browser, report)
    page.search("Gad2", Keys.ENTER)
    assert browser.get_log("browser") == []
    assert page.run("return performance.getEntriesByType('resource').length") == 0
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [one["params"] for one in sent if one["method"] == "Network.requestWillBeSent"]
    places = [one["request"]["url"] for one in asked if one["documentURL"].startswith(report.as_uri())]
    assert [place for place in places if not place.startswith("data:")] == [report.as_uri()]
    assert not [
        one["request"]["url"] for one in asked if one["request"]["url"].startswith(("http:", "https:", "ws"))
    ]
    assert page.run("return performance.getEntriesByType('navigation')[0].loadEventEnd") < 2000


def test_a_gene_that_is_searched_has_the_arcs_of_the_table(browser, report, tiny) -> None:
    from selenium.webdriver.common.keys import Keys

    page = Page(browser, report)
    for gene in ("Gad2", "Gad1"):
        page.search(gene, Keys.ENTER)
        links = near(tiny.of(gene))
        assert page.title() == gene and page.run("return location.hash") == f"#gene={gene}"
        assert len(page.arcs()) == page.count() == len(page.column("peak")) == len(links)
        assert (
            pd.Series([CELL_TYPES[kind] for kind, _ in page.arcs()]).value_counts().to_dict()
            == links["cell_type"].value_counts().to_dict()
        )
        assert sorted(page.column("peak")) == sorted(links["peak"])
    assert "3 on other chromosomes" in page.part("beyond").text
    assert page.run("return document.querySelectorAll('.gene.own .exon').length") == 2


def test_suggestions_are_chosen_with_the_keyboard(browser, report) -> None:
    from selenium.webdriver.common.keys import Keys

    page = Page(browser, report, "#gene=Gad1")
    page.search("gad")
    box = page.part("gene")
    names = [option.text.split("\n")[0] for option in page.all('[role="option"]')]
    assert names == ["Gad1", "Gad2"] and box.get_attribute("aria-expanded") == "true"
    box.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    chosen = page.all('[role="option"][aria-selected="true"]')
    assert [one.get_attribute("id") for one in chosen] == [box.get_attribute("aria-activedescendant")]
    box.send_keys(Keys.ENTER)
    assert page.title() == "Gad2" and box.get_attribute("aria-expanded") == "false"
    page.search("gad", Keys.ESCAPE)
    assert not page.part("options").is_displayed() and page.title() == "Gad2"
    page.search("ad1")
    page.all('[role="option"]')[0].click()
    assert page.title() == "Gad1"


def test_an_unknown_gene_is_told_with_those_that_are_near(browser, report) -> None:
    from selenium.webdriver.common.keys import Keys

    page = Page(browser, report, "#gene=Gad2")
    page.search("Gda1", Keys.ENTER)
    assert page.part("message").text == "No gene “Gda1” in this map. Did you mean Gad1, Gad2?"
    assert page.title() == "Gad2"
    page.all('[data-role="message"] button')[0].click()
    assert page.title() == "Gad1" and page.part("message").text == ""
    page.search("<b>nothing</b>", Keys.ENTER)
    assert page.part("message").text.startswith("No gene “<b>nothing</b>” in this map.")


def test_genes_without_links_or_place_say_so(browser, report) -> None:
    from selenium.webdriver.common.keys import Keys

    page = Page(browser, report)
    page.search("Sox2", Keys.ENTER)
    assert "No link in this map" in page.part("facts").text and page.count() == 0 == len(page.arcs())
    page.search("lost", Keys.ENTER)
    assert page.title() == "Lost" and "not placed" in page.part("facts").text.lower()
    assert browser.get_log("browser") == []


def test_cell_types_can_be_left_out(browser, report, tiny) -> None:
    page = Page(browser, report, "#gene=Gad1")
    page.check(1)
    left = near(tiny.of("Gad1", "Astro", "Sst"))
    assert {kind for kind, _ in page.arcs()} == {0, 2} and len(page.arcs()) == page.count() == len(left)
    assert len(page.all(".lane")) == 2
    page.click("none")
    assert page.arcs() == [] and page.count() == 0
    page.click("all")
    assert page.count() == len(near(tiny.of("Gad1")))
    page.run("document.querySelector('[data-role=genes] [data-gene=\"1\"]').click()")
    page.click("linked")
    assert len(page.all(".lane")) == 2  # the last type has no link of Gad2
    assert page.count() == len(tiny.of("Gad2"))


def test_filters_of_score_and_q(browser, report, tiny) -> None:
    page, links = Page(browser, report, "#gene=Gad1"), near(tiny.of("Gad1"))
    page.fill("max-q", 0.1)
    expected = links[links["qvalue"] <= 0.1]
    assert 0 < len(expected) < len(links) and len(page.arcs()) == page.count() == len(expected)
    page.fill("min-score", 0.1)
    both = expected[expected["score"] >= 0.1]
    assert 0 < len(both) < len(expected) and page.count() == len(both)
    assert "filtered out" in page.part("beyond").text
    page.click("reset")
    assert page.count() == len(links)


def test_windows_and_zoom(browser, report, tiny) -> None:
    page, links = Page(browser, report, "#gene=Gad1"), near(tiny.of("Gad1"))
    for bp in (10_000, 50_000, 100_000):
        page.run(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))",
            page.part("window"),
            str(bp),
        )
        inside = links[(links["end"] > 100_000 - bp) & (links["start"] < 100_000 + bp)]
        assert page.count() == len(page.arcs()) == len(inside)
    page.click("in")
    halved = links[(links["end"] > 50_000) & (links["start"] < 150_000)]
    assert (
        page.count() == len(halved)
        and f"{len(links) - len(halved)} outside the window" in page.part("beyond").text
    )
    page.click("out")
    page.run(
        "document.querySelector('[data-role=locus]').dispatchEvent(new WheelEvent('wheel', {deltaY: -100, ctrlKey: true, clientX: 700, bubbles: true, cancelable: true}))"
    )
    assert page.count() < len(links)
    page.part("locus").send_keys("0")
    assert page.count() == len(links)


def test_links_of_few_cells_are_left_out_and_the_gene_says_where_it_was_seen(browser, report, tiny) -> None:
    page, links = Page(browser, report, "#gene=Gad1"), near(tiny.of("Gad1"))
    page.fill("min-cells", 1)
    assert page.count() == (links["n_cells"] >= 1).sum() < len(links)
    page.fill("min-cells", 1000)
    assert page.count() == 0
    page.click("reset")
    assert page.count() == len(links) and page.part("min-cells").get_attribute("value") == ""
    seen = tiny.of("Gad1").query("n_cells > 0")["cell_type"].nunique()
    assert f"seen in cells of {seen}." in page.part("facts").text


def test_the_table_is_sorted_and_saved(browser, report, tiny) -> None:
    page, links = Page(browser, report, "#gene=Gad1"), tiny.of("Gad1")
    numbers = [float(text) for text in page.column("score")]
    assert numbers == sorted(numbers, reverse=True)
    button = page.run("return document.querySelector('th[data-key=distance] button')")
    button.click()
    assert [int(text.replace(",", "")) for text in page.column("distance")] == sorted(near(links)["distance"])
    page.run("document.querySelector('th[data-key=distance] button').click()")
    assert (
        page.run("return document.querySelector('th[data-key=distance]').getAttribute('aria-sort')")
        == "descending"
    )
    page.run("document.querySelector('th[data-key=qvalue] button').click()")
    assert page.column("qvalue")[-3:] == ["–"] * 3  # what is unknown comes last
    for role, expected in (("save-shown", near(links)), ("save-gene", links)):
        found, name = page.saved(role)
        assert name.startswith("Gad1_") and list(found) == COLUMNS
        key = ["peak", "cell_type"]
        found, expected = (table.sort_values(key, ignore_index=True) for table in (found, expected))
        for column in COLUMNS:
            if expected[column].dtype == object and column != "distance":
                assert found[column].tolist() == expected[column].tolist()
            else:
                np.testing.assert_allclose(
                    found[column].astype(float), expected[column].astype(float), rtol=1e-6
                )


def test_the_pointer_tells_a_link_and_shows_where_it_is_shared(browser, report, tiny) -> None:
    page = Page(browser, report, "#gene=Gad1")
    page.run(
        "document.querySelector('.arc .reach').dispatchEvent(new PointerEvent('pointerenter', {clientX: 300, clientY: 300}))"
    )
    tip = page.run("return document.querySelector('.browser .tip').textContent")
    for told in ("peak", "distance", "score", "effect", "z", "q", "cells", "open in"):
        assert told in tip
    peak = page.run("return document.querySelector('.arc.marked').dataset.peak")
    name = tiny.peaks["peak"][int(peak)]
    assert name in tip and len(page.all(".arc.marked")) == (near(tiny.of("Gad1"))["peak"] == name).sum()
    page.run("document.querySelector('.arc .reach').dispatchEvent(new PointerEvent('pointerleave'))")
    assert page.all(".arc.marked") == []
    page.run(
        "const c = document.querySelector('svg.curve'), b = c.getBoundingClientRect(); c.dispatchEvent(new PointerEvent('pointermove', {clientX: b.right, clientY: b.top + 20}))"
    )
    assert "epoch 3" in page.run("return document.body.lastElementChild.textContent")


def test_names_run_nothing(browser, tmp_path) -> None:
    from selenium.webdriver.common.keys import Keys

    maps = write_tiny_map(tmp_path / "maps", cell_types=(EVIL, "a,\"b\"\n'c'", "β"), gene=f'G"{EVIL}')
    write_report(
        [write_run(tmp_path / "run", model=EVIL, notes=(EVIL,)), maps.folder], tmp_path / "evil.html"
    )
    page = Page(browser, tmp_path / "evil.html")
    page.search("G", Keys.ARROW_DOWN)
    page.search(f'G"{EVIL}', Keys.ENTER)
    page.run(
        "document.querySelector('.arc .reach').dispatchEvent(new PointerEvent('pointerenter', {clientX: 300, clientY: 300}))"
    )
    assert page.title() == f'G"{EVIL}' and page.count() > 0
    assert EVIL in page.run("return document.querySelector('[data-role=types] label').textContent")
    page.search(EVIL, Keys.ENTER)
    assert page.run("return window.hit") is None and page.all("img[src=x]") == []
    assert browser.get_log("browser") == []
    found, _ = page.saved("save-gene")
    assert set(found["cell_type"]) == {EVIL, "a,\"b\"\n'c'", "β"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [340, 768, 1600])
def test_the_page_fits_screens_in_both_schemes(browser, report, width, scheme) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    try:
        page = Page(browser, report, "#gene=Gad1")
        assert page.run("return document.documentElement.scrollWidth") <= width
        dark = page.run(
            "const c = getComputedStyle(document.body).backgroundColor; return c.match(/\\d+/g).map(Number)"
        )
        assert (sum(dark) < 200) == (scheme == "dark")
        low = page.run(
            "return [...document.querySelectorAll('.locus svg text')].filter(t => { const b = t.getBoundingClientRect(),"
            " s = t.ownerSVGElement.getBoundingClientRect(); return b.left < s.left - 2 || b.right > s.right + 2; }).map(t => t.textContent)"
        )
        assert low == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_page_can_be_used_without_seeing_it(browser, report) -> None:
    page = Page(browser, report)
    unnamed = page.run(
        "return [...document.querySelectorAll('button, input, select, svg.curve, .locus svg, img')].filter(e => {"
        " const label = e.labels && e.labels.length ? e.labels[0].textContent : '';"
        " return !(label || e.textContent || e.getAttribute('aria-label') || e.alt).trim(); }).map(e => e.outerHTML)"
    )
    assert unnamed == []
    ids = page.run("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    missing = page.run(
        "return ['aria-controls', 'aria-describedby'].flatMap(a => [...document.querySelectorAll(`[${a}]`)]"
        ".map(e => e.getAttribute(a))).filter(id => !document.getElementById(id))"
    )
    assert missing == []
