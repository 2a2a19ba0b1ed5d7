"""A real Chromium without a screen, driven by playwright: Debian's, installed when that is allowed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests.clusters.packages import ensure

NAME = "chromium"


class ChromiumMissing(Exception):
    """There is none, and it may not be installed."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """While it runs no other event loop can run in this thread. Raises `ChromiumMissing`."""
    ensure((NAME,), lambda: shutil.which(NAME), ChromiumMissing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which(NAME),
            # Root may not use its sandbox; all that it opens is ours.
            args=["--no-sandbox", "--disable-dev-shm-usage"],
        )
        try:
            yield browser
        finally:
            browser.close()
