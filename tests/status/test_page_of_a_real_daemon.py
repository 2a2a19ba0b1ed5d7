"""The page of a whole daemon: real API, real jobs, and nodes that are shares of this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page, expect

from nodemanager.api.connection import call
from tests.clusters.daemons import Site, create, free_port, wait_for
from tests.status.browser import ChromiumMissing, chromium

pytestmark = pytest.mark.processes

TOKEN = "of-the-operator"
BOUND_MILLISECONDS = 60_000
NODES = """\
[Manage]
port = {port}
ManagementToken = {token}
[Cloud]
provider = loopback
shutdown_windows = 0, 999999
turn_time = 500 ms
[Size worker]
cores = 1
ram = 512
scratch = 1000
price = 0.1
"""


@pytest.fixture
def page() -> Iterator[Page]:
    try:
        with chromium() as browser:
            page = browser.new_page()
            page.set_default_timeout(BOUND_MILLISECONDS)
            yield page
    except ChromiumMissing as error:
        pytest.skip(str(error))


def test_an_operator_sees_a_container_run_kills_its_node_and_sees_it_tried_again(
    site: Site, page: Page
) -> None:
    port, go = free_port(), site.folder / "go"
    site.write(NODES.format(port=port, token=TOKEN))
    text = site.config.read_text().replace("[Daemon]\n", "[Daemon]\nmax_nodes = 2\n", 1)
    site.config.write_text(text.replace("[Scheduler]\n", "[Scheduler]\npoll_time = 1 s\n", 1))
    site.config.chmod(0o600)
    site.start()
    api = site.serving()
    expect.set_options(timeout=BOUND_MILLISECONDS)

    wait_for(lambda: _is_open(page, f"http://127.0.0.1:{port}/"), "the page is there")
    page.get_by_label("Management token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator("#answer-alive .big")).to_contain_text("Yes")
    expect(page.locator("#containers")).to_contain_text("nothing is queued and nothing runs")

    uuid = create(api, f"echo as they said >&2; while [ ! -e {go} ]; do sleep 0.2; done")
    page.get_by_role("button", name="they run").click()
    page.get_by_role("link", name=uuid).click()
    expect(page.get_by_label("Log", exact=True)).to_contain_text("as they said")
    expect(page.locator("#changes")).to_contain_text("its command started on ")

    page.get_by_role("link", name="Nodes", exact=True).click()
    expect(page.locator(".nodes tbody tr")).to_contain_text(uuid)
    page.get_by_role("button", name="Kill ").click()
    page.get_by_label("Why, for the log").fill("smells of smoke")
    page.get_by_role("button", name="Kill it").click()
    expect(page.get_by_role("status")).to_contain_text("is being destroyed")
    expect(page.locator("#decisions")).to_contain_text("smells of smoke")

    page.get_by_label("UUID of a container or a request").fill(uuid)
    page.keyboard.press("Enter")
    attempts = page.locator("#attempts tbody tr")
    expect(attempts).to_have_count(2)
    expect(attempts.nth(1)).to_contain_text("TempFail")
    go.touch()
    expect(attempts.nth(0)).to_contain_text("Complete")

    page.get_by_role("link", name="Dispatchers", exact=True).click()
    expect(page.locator("#dispatchers tbody tr")).to_contain_text("this one")
    page.get_by_role("link", name="Overview").click()
    expect(page.locator("#answer-flow")).to_contain_text(re.compile("1 Complete"))
    assert call(api.containers().get(uuid=uuid))["state"] == "TempFail"


def _is_open(page: Page, url: str) -> bool:
    if page.url != url:
        try:
            page.goto(url)
        except PlaywrightError:
            return False
    return True
