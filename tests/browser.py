"""A real headless Chromium."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = shutil.which("chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
WIDE, NARROW = 1600, 400


@contextmanager
def open_browser(*flags: str) -> Generator[Browser]:
    """Start Chromium; skip the test where there is none, but not in CI."""
    if CHROMIUM is None and not os.environ.get("CI"):
        pytest.skip(
            "chromium is not installed; as root on Debian, tests/install.sh chromium does that"
        )
    assert CHROMIUM, "CI has no chromium: tests/install.sh chromium"

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
        yield chromium
        chromium.close()
