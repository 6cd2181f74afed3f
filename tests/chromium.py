"""A real headless Chromium for tests of pages, where one is installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PROGRAMS = {"chromium": ("chromium", "chromium-browser", "google-chrome"), "chromedriver": ("chromedriver",)}
NEEDED = "SCWEAVE_NEED_BROWSER"


def programs() -> tuple[str, str]:
    """Paths of browser and driver; a skip that says what is missing, or a failure where a browser is required."""
    found = {name: next(filter(None, map(shutil.which, names)), None) for name, names in _PROGRAMS.items()}
    missing = [name for name, path in found.items() if path is None]
    try:
        import selenium  # noqa: F401
    except ImportError:
        missing.append("selenium")
    if missing:
        what = f"{', '.join(missing)} not found: pages are tested in a real browser"
        if os.environ.get(NEEDED) == "1":
            pytest.fail(f"{what}, and {NEEDED}=1")
        pytest.skip(what)
    return str(found["chromium"]), str(found["chromedriver"])


@contextmanager
def chromium(profile: Path, downloads: Path) -> Iterator[Any]:
    """A browser with a fresh profile, which downloads without asking and keeps its console's messages."""
    browser, driver = programs()
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    automatic = "profile.default_content_setting_values.automatic_downloads"  # more than one, unasked
    prefs = {"download.default_directory": str(downloads), automatic: 1}
    options.add_experimental_option("prefs", prefs)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With the driver's path given, Selenium looks for none and downloads none.
    started = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield started
    finally:
        started.quit()
