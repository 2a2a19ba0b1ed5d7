"""`python -m tests.status.screenshots`: draw the pictures of the page that the documentation shows."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from playwright.sync_api import Browser

from nodemanager.clock import SystemClock
from nodemanager.status.look import DaemonLook
from nodemanager.status.server import ManagementServer
from nodemanager.status.settings import ManageSettings
from tests.status.browser import chromium
from tests.status.daemon import TOKEN, StandIn
from tests.status.scenery import past, scene

IMAGES = Path(__file__).parents[2] / "docs" / "images"
MOST_BYTES = 150 * 1024


@dataclass(frozen=True)
class Picture:
    name: str
    scheme: str
    width: int
    height: int
    view: str = "#/"
    opens: str = ""
    """The sentence of a group to open."""


PICTURES = (
    Picture("page-light", "light", 1120, 985),
    Picture("page-dark", "dark", 1080, 800, opens="an operator holds it"),
    Picture("page-nodes", "light", 1080, 640, view="#/nodes"),
    Picture("page-phone", "light", 390, 844),
)


class Now(StandIn):
    def look(self, timeout_seconds: float) -> DaemonLook:
        return replace(super().look(timeout_seconds), taken_at=time.time())


def main() -> None:
    clock = SystemClock()
    settings = ManageSettings(
        port=0,
        management_token=TOKEN,
        max_nodes=24,
        max_total_price=12.0,
        name="site1",
        schedulers="slurm",
    )
    server = ManagementServer(settings, Now(scene(time.time())), clock, sample_seconds=0)
    server._parts.recorder.history = past(clock.elapsed())
    server._parts.recorder.began_at = time.time() - 3 * 86400
    server.start()
    IMAGES.mkdir(exist_ok=True)
    try:
        with chromium() as browser:
            for picture in PICTURES:
                _draw(browser, server.url, picture)
    finally:
        server.stop()


def _draw(browser: Browser, url: str, picture: Picture) -> None:
    scheme = "dark" if picture.scheme == "dark" else "light"
    size = {"width": picture.width, "height": picture.height}
    page = browser.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(f"{url}/{picture.view}")
    page.get_by_label("Management token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.get_by_text("live", exact=True).wait_for()
    if picture.opens:
        page.get_by_role("button", name=picture.opens).click()
        page.locator(".containers tbody tr").first.wait_for()
    page.evaluate("scrollTo(0, 0)")
    if picture.view == "#/":
        page.locator("#plot-price").wait_for()
    place = IMAGES / f"{picture.name}.png"
    page.screenshot(path=place)
    page.close()
    if place.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{place}: {place.stat().st_size} bytes are more than {MOST_BYTES}")


if __name__ == "__main__":
    main()
