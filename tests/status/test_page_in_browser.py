"""The page in a real browser: read, clicked, typed at, cut off, and looked at on a phone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from nodemanager.clock import SystemClock
from nodemanager.errors import NodeManagerError
from nodemanager.nodes.messages import Behave, Kill, ReleaseBrake
from nodemanager.nodes.states import Behaviour
from nodemanager.status.look import DaemonLook
from nodemanager.status.server import ManagementServer
from nodemanager.status.settings import ManageSettings
from tests.status.browser import ChromiumMissing, chromium
from tests.status.daemon import LOOK, NODES, TOKEN, WAITING, StandIn
from tests.status.scenery import past, scene

BOUND_MILLISECONDS = 20_000
VIEWS = ("#/", "#/nodes", "#/dispatchers", f"#/containers/{WAITING}")

expect.set_options(timeout=BOUND_MILLISECONDS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        running = chromium()
        found = running.__enter__()
    except ChromiumMissing as error:
        pytest.skip(str(error))
    yield found
    running.__exit__(None, None, None)


class Now(StandIn):
    """A daemon that looks as it is told to, now."""

    def look(self, timeout_seconds: float) -> DaemonLook:
        return replace(super().look(timeout_seconds), taken_at=time.time())


@pytest.fixture
def daemon() -> Iterator[Now]:
    made = Now(scene(time.time(), many=120))
    yield made
    made.wake()


Serve = Callable[..., ManagementServer]


@pytest.fixture
def serve(daemon: Now) -> Iterator[Serve]:
    servers: list[ManagementServer] = []

    def start(port: int = 0, token: str = TOKEN) -> ManagementServer:
        settings = ManageSettings(
            port=port, management_token=token, max_nodes=24, max_total_price=12.0, name="site1"
        )
        server = ManagementServer(settings, daemon, SystemClock(), sample_seconds=0)
        server._parts.recorder.history = past(SystemClock().elapsed())
        server.start()
        servers.append(server)
        return server

    yield start
    daemon.wake()
    ended = [server.stop(10.0) for server in servers]
    assert all(ended)


@dataclass
class Opened:
    """Opens pages, and keeps what they complained about."""

    browser: Browser
    complaints: list[str]
    contexts: list[BrowserContext]

    def __call__(self, url: str, *, width: int = 1280, **options: Any) -> Page:
        size = {"width": width, "height": 900}
        context = self.browser.new_context(viewport=size, **options)  # type: ignore[arg-type]
        context.set_default_timeout(BOUND_MILLISECONDS)
        self.contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda line: self._note(line.type, line.text))
        page.goto(url)
        return page

    def _note(self, kind: str, text: str) -> None:
        # That a call was refused, or a server gone, is what some tests are about.
        if kind in ("error", "warning") and "ERR_" not in text and "status of" not in text:
            self.complaints.append(text)


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    made = Opened(browser, [], [])
    yield made
    for context in made.contexts:
        context.close()
    assert made.complaints == []


def log_in(page: Page, token: str = TOKEN) -> None:
    page.get_by_label("Management token").fill(token)
    page.get_by_role("button", name="Log in").click()


def go(page: Page, view: str) -> None:
    page.evaluate("hash => { location.hash = hash }", view)


def node_row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_text(name, exact=True))


# Who may see it.


def test_the_token_is_asked_for_and_kept_where_no_script_can_read_it(
    serve: Serve, opened: Opened
) -> None:
    url = serve().url
    page = opened(url)
    log_in(page, "a guess")
    expect(page.get_by_role("alert")).to_have_text("this is not the management token")
    log_in(page)
    expect(page.get_by_role("heading", name="Is it alive?")).to_be_visible()
    assert page.evaluate("document.cookie") == ""
    [cookie] = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert TOKEN not in page.content()

    page.reload()
    expect(page.get_by_role("heading", name="Is it alive?")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Management token")).to_be_visible()
    assert page.context.cookies() == []
    assert "Longest wait" not in page.content()


def test_where_there_is_no_token_everybody_reads_and_nobody_changes(
    serve: Serve, opened: Opened, daemon: Now
) -> None:
    page = opened(f"{serve(token='').url}/#/nodes")
    expect(page.get_by_text("there is no [Manage] ManagementToken")).to_be_visible()
    expect(page.get_by_role("button", name="Kill compute-").first).to_be_disabled()
    words = page.evaluate(
        "fetch('arvados/v1/dispatch/brake/release', {method: 'POST'}).then(r => r.json())"
    )
    assert words == {"errors": ["Management API authentication is not configured"]}
    assert daemon.told == []


# What it says.


def test_four_questions_have_an_answer_each(serve: Serve, opened: Opened) -> None:
    page = opened(serve(token="").url)
    answers = [page.locator(f"#answer-{name}") for name in ("alive", "flow", "why", "cost")]
    for answer, words in zip(
        answers,
        (
            ("Is it alive?", "Yes", "9 min left", "heard"),
            ("Is work flowing?", "started", "61", "5,038 Complete"),
            ("Why is work waiting?", "183", "node limit", "120"),
            ("What does it cost?", "of 12.00 per hour", "21 of 24 nodes", "3 more nodes"),
        ),
        strict=True,
    ):
        for word in words:
            expect(answer).to_contain_text(word)


def test_what_changes_is_shown_without_asking(serve: Serve, opened: Opened, daemon: Now) -> None:
    page = opened(serve(token="").url)
    expect(page.locator("#answer-why")).to_contain_text("183")
    expect(page.locator("#pulse")).to_have_text("live")
    daemon.answer = LOOK
    expect(page.locator("#answer-why")).to_contain_text("1 waits")
    expect(page.locator("#answer-cost")).to_contain_text("0.90")


def test_a_group_is_opened_and_its_rows_say_when_and_why(serve: Serve, opened: Opened) -> None:
    page = opened(serve(token="").url)
    page.get_by_role("button", name="the last attempt failed").click()
    rows = page.locator(".containers tbody tr")
    expect(rows).to_have_count(9)
    expect(rows.first).to_contain_text("the node compute-k3 was lost")
    expect(rows.first).to_contain_text(re.compile(r"in [23] min"))
    page.get_by_role("button", name="the last attempt failed").click()
    expect(rows).to_have_count(0)

    page.get_by_role("button", name="max_nodes (24) is reached").click()
    expect(page.get_by_text("raise [Daemon] max_nodes")).to_be_visible()
    expect(rows).to_have_count(50)
    page.get_by_role("button", name="Show 50 more").click()
    expect(rows).to_have_count(100)


def test_a_container_has_a_page_with_its_whole_story(serve: Serve, opened: Opened) -> None:
    page = opened(serve(token="").url)
    finder = page.get_by_label("UUID of a container or a request")
    finder.fill(f" {WAITING} ")
    finder.press("Enter")
    expect(page.get_by_role("heading", name=WAITING)).to_be_visible()
    expect(page.get_by_text("wants 96 GiB, best available 64 GiB")).to_be_visible()
    expect(page.locator(".advice")).to_contain_text("ask for at most 60.8 GiB")
    expect(page.locator("#why")).to_contain_text("Who can end it")
    expect(page.locator("#attempts tbody tr")).to_have_count(2)
    expect(page.locator("#attempts")).to_contain_text("the node busy was lost")
    expect(page.locator("#changes li")).to_have_count(7)


def test_what_containers_say_is_text_whatever_it_looks_like(serve: Serve, opened: Opened) -> None:
    page = opened(f"{serve(token='').url}/#/containers/{WAITING}")
    expect(page.get_by_label("Log", exact=True)).to_contain_text("<script>alert(1)</script>")
    expect(page.get_by_text("align <b>sample</b> 7")).to_be_visible()
    assert page.locator("main script, main b").count() == 0


def test_a_story_that_cannot_be_told_says_why(serve: Serve, opened: Opened, daemon: Now) -> None:
    page = opened(f"{serve(token='').url}/#/containers/zzzzz-dz642-000000000000000")
    expect(page.locator("main")).to_contain_text("there is no such container")
    daemon.refusal = NodeManagerError("the API is in the bath")
    go(page, f"#/containers/{WAITING}")
    expect(page.locator("main")).to_contain_text("The API cannot be asked: the API is in the bath")


def test_dispatchers_of_the_whole_cluster(serve: Serve, opened: Opened) -> None:
    page = opened(f"{serve(token='').url}/#/dispatchers")
    rows = page.locator("#dispatchers tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("this one")
    expect(rows.nth(1)).to_contain_text("claims nothing: maintenance")
    expect(rows.nth(2)).to_contain_text("lost")


def test_plots_have_their_numbers_in_words_and_by_key(serve: Serve, opened: Opened) -> None:
    page = opened(serve(token="").url)
    drawing = page.get_by_role("img", name=re.compile("^Running in the last hour: now "))
    expect(drawing).to_be_visible()
    drawing.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#plot-running figcaption")).to_contain_text(
        re.compile(r"\d\d:\d\d:\d\d: \d+ running")
    )
    page.get_by_role("button", name="Last day").click()
    expect(page.get_by_role("img", name=re.compile("^Nodes in the last day"))).to_be_visible()
    expect(page.locator("#plots")).to_contain_text("Kept in memory since")


# What operators do.


@pytest.fixture
def operator(serve: Serve, opened: Opened) -> Page:
    page = opened(f"{serve().url}/#/nodes")
    log_in(page)
    expect(page.get_by_role("heading", name="Wanted and here")).to_be_visible()
    return page


def test_a_node_is_drained_at_once(operator: Page, daemon: Now) -> None:
    daemon.answer = LOOK
    operator.get_by_role("button", name="Drain compute-busy").click()
    expect(operator.get_by_role("status")).to_contain_text("compute-busy takes no new work")
    assert daemon.told == [Behave("compute-busy", Behaviour.DRAIN)]
    run = operator.get_by_role("button", name="Run compute-held")
    run.click()
    expect(operator.get_by_role("status")).to_contain_text("like any other again")
    assert daemon.told[1:] == [Behave("compute-held", Behaviour.RUN)]


def test_a_node_is_killed_only_when_somebody_says_why(operator: Page, daemon: Now) -> None:
    daemon.answer = LOOK
    kill = operator.get_by_role("button", name="Kill compute-busy")
    kill.click()
    dialog = operator.get_by_role("dialog", name="Kill compute-busy?")
    expect(dialog).to_contain_text("1 container runs there")
    operator.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    kill.click()
    dialog.get_by_role("button", name="Kill it").click()
    expect(dialog).to_be_visible()
    assert daemon.told == []
    dialog.get_by_label("Why, for the log").fill("smells of smoke")
    operator.keyboard.press("Enter")
    expect(operator.get_by_role("status")).to_contain_text("is being destroyed")
    assert daemon.told == [Kill("compute-busy", "smells of smoke")]


def test_the_brake_is_released(operator: Page, daemon: Now) -> None:
    daemon.answer = replace(LOOK, nodes=replace(NODES, brake="compute-x: it never joined"))
    expect(operator.get_by_role("alert")).to_contain_text("compute-x: it never joined")
    operator.get_by_role("button", name="Release the brake").click()
    expect(operator.get_by_role("status")).to_contain_text("The brake is released")
    assert daemon.told == [ReleaseBrake()]


def test_what_could_not_be_done_is_said(operator: Page, daemon: Now) -> None:
    daemon.answer = LOOK
    daemon.refusal = NodeManagerError("there is no arbiter any more")
    operator.get_by_role("button", name="Hold compute-busy").click()
    expect(operator.get_by_role("status")).to_contain_text("Not done: there is no arbiter any more")


def test_everything_can_be_done_by_keyboard(serve: Serve, opened: Opened, daemon: Now) -> None:
    daemon.answer = LOOK
    page = opened(serve().url)
    keys = page.keyboard
    expect(page.get_by_label("Management token")).to_be_focused()
    keys.type(TOKEN)
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Is it alive?")).to_be_visible()

    def focus(name: str, role: Any = "button") -> None:
        """Tab on until that has the focus, and can be seen to have it."""
        wanted = page.get_by_role(role, name=name).first
        for _ in range(60):
            keys.press("Tab")
            if wanted.evaluate("each => each === document.activeElement"):
                break
        expect(wanted).to_be_focused()
        style = "each => getComputedStyle(each).outlineStyle"
        assert wanted.evaluate(style) == "solid", "where the focus is can be seen"

    page.locator("body").evaluate("body => { document.activeElement.blur() }")
    focus("Skip to the content", "link")
    keys.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    focus("waiting for booting to join")
    keys.press("Enter")
    focus(WAITING, "link")
    keys.press("Enter")
    expect(page.get_by_role("heading", name=WAITING)).to_be_visible()
    page.evaluate("document.activeElement.blur()")
    focus("Nodes", "link")
    keys.press("Enter")
    focus("Hold compute-busy")
    keys.press("Space")
    expect(page.get_by_role("status")).to_contain_text("compute-busy takes no new work")
    assert daemon.told == [Behave("compute-busy", Behaviour.HOLD)]


# How it looks.


def test_light_and_dark_as_the_system_has_it_or_as_was_chosen(serve: Serve, opened: Opened) -> None:
    url = serve(token="").url
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light, dark = opened(url, color_scheme="light"), opened(url, color_scheme="dark")
    assert light.evaluate(ground) != dark.evaluate(ground)
    dark.get_by_role("button", name="Change to light colours").click()
    expect(dark.get_by_role("button", name="Change to dark colours")).to_be_visible()
    assert light.evaluate(ground) == dark.evaluate(ground)
    dark.reload()
    expect(dark.get_by_role("button", name="Change to dark colours")).to_be_visible()
    assert light.evaluate(ground) == dark.evaluate(ground)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(serve: Serve, opened: Opened, scheme: str) -> None:
    """At least 4.5 : 1 between a text and its ground, as WCAG 2 has it for AA."""
    url = serve(token="").url
    page = opened(url, color_scheme=scheme)
    expect(page.get_by_role("heading", name="Is it alive?")).to_be_visible()
    for view in VIEWS:
        go(page, view)
        expect(page.locator(".view h2").first).to_be_visible()
        assert page.evaluate(CONTRAST) == []


def test_on_a_phone_nothing_is_wider_than_the_screen(
    serve: Serve, opened: Opened, daemon: Now
) -> None:
    assert isinstance(daemon.answer, DaemonLook)
    nodes = daemon.answer.nodes
    assert nodes
    endless = replace(nodes.nodes[0], name="compute-" + "x" * 120, leaving="y" * 200)
    daemon.answer = replace(daemon.answer, nodes=replace(nodes, nodes=(endless, *nodes.nodes)))
    page = opened(serve(token="").url, width=320, has_touch=True, is_mobile=True)
    page.get_by_role("button", name="the last attempt failed").tap()
    expect(page.locator(".containers tbody tr")).to_have_count(9)
    for view in VIEWS:
        go(page, view)
        expect(page.locator(".view h2").first).to_be_visible()
        widths = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert widths == [320, 320], view


def test_ten_thousand_containers_are_a_few_rows(serve: Serve, opened: Opened, daemon: Now) -> None:
    daemon.answer = scene(time.time(), many=10_000)
    page = opened(serve(token="").url)
    expect(page.locator("#answer-why")).to_contain_text("10,063")
    page.get_by_role("button", name="max_nodes (24) is reached").click()
    expect(page.locator(".containers tbody tr")).to_have_count(50)
    assert page.locator("*").count() < 2500
    size = page.evaluate("fetch('status.json').then(r => r.text()).then(text => text.length)")
    assert size < 40_000


# When it is cut off.


def test_a_daemon_that_does_not_answer_is_told_apart_from_how_things_are(
    serve: Serve, opened: Opened, daemon: Now
) -> None:
    page = opened(serve(token="").url)
    expect(page.locator("#answer-alive")).to_contain_text("Yes")
    answer, daemon.answer = daemon.answer, NodeManagerError("the dispatcher is in the bath")
    expect(page.get_by_role("alert")).to_contain_text("the dispatcher is in the bath")
    expect(page.locator("#answer-alive")).to_contain_text("Not known")
    daemon.answer = answer
    expect(page.locator("#answer-alive")).to_contain_text("Yes")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_after_a_restart_of_the_daemon_it_goes_on_by_itself(serve: Serve, opened: Opened) -> None:
    first = serve(token="")
    page = opened(first.url)
    expect(page.locator("#pulse")).to_have_text("live")
    assert first.stop(10.0)
    expect(page.get_by_role("alert")).to_contain_text("the management server does not answer")
    expect(page).to_have_title(re.compile(r"^\(!\)"))
    serve(port=int(first.url.rpartition(":")[2]), token="")
    expect(page.locator("#pulse")).to_have_text("live")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_who_was_logged_in_before_a_restart_is_asked_again(serve: Serve, opened: Opened) -> None:
    first = serve()
    page = opened(first.url)
    log_in(page)
    expect(page.locator("#pulse")).to_have_text("live")
    assert first.stop(10.0)
    expect(page.get_by_role("alert")).to_be_visible()
    serve(port=int(first.url.rpartition(":")[2]))
    log_in(page)
    expect(page.locator("#pulse")).to_have_text("live")


CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((each) => {
      const share = each / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = rgba(getComputedStyle(each).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("main *, header *, footer *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || element.closest(":disabled, .zero") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const [one, other] = [light(rgba(style.color)), light(ground(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) found.push(`${element.className} ${element.textContent.slice(0, 40)} ${ratio.toFixed(2)}`);
  }
  return found;
}"""
