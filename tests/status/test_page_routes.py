"""The page's files, its login, and what it asks for piece by piece."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from nodemanager.clock import ManualClock
from nodemanager.dispatch.messages import HeldContainer
from nodemanager.errors import ApiRefused, ApiUnavailable
from nodemanager.model import ContainerState
from nodemanager.status.asking import MAX_READING
from nodemanager.status.groups import MAX_ROWS
from nodemanager.status.sessions import FREE_TRIES, SESSION_SECONDS
from tests.status.conftest import Serve
from tests.status.daemon import (
    DISPATCHER,
    LOOK,
    TOKEN,
    WAITING,
    Answer,
    Client,
    StandIn,
    container,
    waits_for,
)

FORM = "application/x-www-form-urlencoded"
BRAKE = "/arvados/v1/dispatch/brake/release"
DETAILS = [
    "/containers.json?group=x",
    f"/story.json?uuid={WAITING}",
    f"/log.json?uuid={WAITING}",
    "/dispatchers.json",
    "/history.json?span=hour",
    "/events",
]
FILES = sorted(Path(str(files("nodemanager.status") / "page")).iterdir())


def log_in(client: Client, token: str = TOKEN, **headers: str) -> Answer:
    ours = {"Sec_Fetch_Site": "same-origin", **headers}
    return client.post("/login", f"token={token}".encode(), Content_Type=FORM, **ours)


def cookie_of(answer: Answer) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


# The page itself.


@pytest.mark.parametrize("path", ["/", *(f"/page/{file.name}" for file in FILES)])
def test_the_page_is_for_everybody_and_may_load_nothing_from_elsewhere(
    client: Client, daemon: StandIn, path: str
) -> None:
    answer = client.fetch(path)
    assert answer.status == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'self'; ")
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.body
    assert TOKEN.encode() not in answer.body
    assert daemon.looks == 0
    again = client.fetch(path, If_None_Match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.name))
def test_nothing_in_it_makes_html_of_texts_or_points_elsewhere(file: Path) -> None:
    text = file.read_text("ascii")
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|srcdoc| style="
    assert not re.search(forbidden, text)
    assert set(re.findall(r"https?://[^\"']*", text)) <= {"http://www.w3.org/2000/svg"}
    assert "//" not in re.sub(r"https?://|^\s*//.*$|[;{}),] //.*$", "", text, flags=re.MULTILINE)


def test_the_page_is_small() -> None:
    assert sum(file.stat().st_size for file in FILES) < 100_000


# Login.


def test_a_login_gives_a_cookie_that_reads_and_changes(client: Client, daemon: StandIn) -> None:
    answer = log_in(client)
    assert answer.status == 200
    attributes = answer.headers["set-cookie"].lower()
    assert "httponly" in attributes
    assert "samesite=strict" in attributes
    assert "secure" not in attributes, "over plain HTTP it would never come back"
    cookie = cookie_of(answer)
    assert client.get("/status.json", Cookie=cookie).status == 200
    session = client.get("/session.json", Cookie=cookie).body
    assert session == {"has_token": True, "may_read": True, "may_change": True}
    changed = client.post(BRAKE, Cookie=cookie, Sec_Fetch_Site="same-origin")
    assert changed.status == 200
    assert len(daemon.told) == 1


def test_behind_a_proxy_with_tls_the_cookie_stays_with_tls(client: Client) -> None:
    answer = log_in(client, X_Forwarded_Proto="https")
    assert "secure" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
        {"Origin": "https://evil.example.org"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site", "Origin": "http://HOST"},
    ],
)
def test_a_change_by_cookie_has_to_come_from_the_page(
    client: Client, daemon: StandIn, headers: dict[str, str]
) -> None:
    host = "{}:{}".format(*client.address)
    given = {name: value.replace("HOST", host) for name, value in headers.items()}
    answer = client.post(BRAKE, None, Cookie=cookie_of(log_in(client)), **given)
    assert answer.status == 403
    assert "by the page itself" in answer.error
    assert daemon.told == []


def test_browsers_that_only_tell_the_origin_are_understood(client: Client, daemon: StandIn) -> None:
    host = "{}:{}".format(*client.address)
    cookie = cookie_of(log_in(client))
    assert client.post(BRAKE, Cookie=cookie, Origin=f"http://{host}").status == 200


def test_a_session_ends_by_logout_and_with_time(client: Client, clock: ManualClock) -> None:
    first, second = cookie_of(log_in(client)), cookie_of(log_in(client))
    ended = client.post("/logout", Cookie=first, Sec_Fetch_Site="same-origin")
    assert ended.status == 200
    assert client.get("/status.json", Cookie=first).status == 401
    assert client.get("/status.json", Cookie=second).status == 200
    clock.advance(SESSION_SECONDS)
    assert client.get("/status.json", Cookie=second).status == 401


def test_a_cookie_that_was_not_given_out_is_none(client: Client) -> None:
    for cookie in ("nodemanager-0=", "nodemanager-0=x", "nodemanager-0=\xff", "other=1"):
        assert client.get("/status.json", Cookie=cookie).status == 401


def test_a_wrong_header_counts_more_than_a_right_cookie(client: Client) -> None:
    cookie = cookie_of(log_in(client))
    answer = client.get("/status.json", Cookie=cookie, Authorization="Bearer guess")
    assert answer.status == 403


def test_guessing_is_slow(serve: Serve, clock: ManualClock) -> None:
    client = serve()
    for _ in range(FREE_TRIES + 1):
        answer = log_in(client, "guess")
        assert (answer.status, answer.error) == (403, "this is not the management token")
    another = log_in(client, "guess")
    assert another.status == 429
    assert another.headers["retry-after"] == "1"
    clock.advance(1)
    assert log_in(client, "guess").status == 403


def test_who_guesses_does_not_lock_out_those_who_know(serve: Serve) -> None:
    client = serve()
    for _ in range(FREE_TRIES + 2):
        answer = log_in(client, "guess")
    assert answer.status == 429
    assert client.get("/status.json").status == 200
    assert log_in(client).status == 200


def test_wrong_bearer_tokens_are_counted_and_logged_once_a_pause(
    serve: Serve, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve()

    def logged(calls: int) -> int:
        caplog.clear()
        for _ in range(calls):
            wrong = client.get("/status.json", Authorization="Bearer guess")
            assert (wrong.status, wrong.error) == (403, "authorization error")
        lines = [r.getMessage() for r in caplog.records if "wrong management" in r.msg]
        assert not any("guess" in line for line in lines)
        return len(lines)

    assert logged(20) == FREE_TRIES + 1
    assert log_in(client, "guess").status == 429
    clock.advance(1)
    assert logged(20) == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/login", b"", 403),
        ("/login", b"token=", 403),
        (f"/login?token={TOKEN}", b"", 403),
        ("/login", b"x" * 20_000, 413),
        ("/login", b"token=\xff", 400),
    ],
)
def test_a_login_without_the_token_in_its_body_is_none(
    serve: Serve, path: str, body: bytes, status: int
) -> None:
    answer = serve().post(path, body, Content_Type=FORM, Sec_Fetch_Site="same-origin")
    assert answer.status == status
    assert "set-cookie" not in answer.headers


def test_where_there_is_no_token_there_is_no_login(serve: Serve) -> None:
    client = serve(management_token="")
    answer = log_in(client, "")
    assert (answer.status, answer.error) == (403, "Management API authentication is not configured")
    assert client.get("/session.json").body == {
        "has_token": False,
        "may_read": True,
        "may_change": False,
    }


# Piece by piece.


@pytest.mark.parametrize("path", DETAILS)
def test_pieces_are_for_readers(client: Client, daemon: StandIn, path: str) -> None:
    answer = client.get(path)
    assert (answer.status, answer.error) == (401, "authorization required")
    assert Client(client.url, "guess").get(path).status == 403
    assert (daemon.looks, daemon.lists) == (0, 0)


def test_rows_come_in_pieces_that_are_never_too_long(operator: Client, daemon: StandIn) -> None:
    held = tuple(
        HeldContainer(container(f"zzzzz-dz642-{number:015d}"), waits_for("a node"))
        for number in range(MAX_ROWS + 50)
    )
    daemon.answer = replace(LOOK, dispatcher=replace(DISPATCHER, containers=held))
    [group] = operator.get("/status.json").body["groups"]
    path = f"/containers.json?group={group['id']}"
    assert len(operator.get(path).body["items"]) == 50
    assert len(operator.get(f"{path}&limit=999999").body["items"]) == MAX_ROWS
    last = operator.get(f"{path}&offset={MAX_ROWS}&limit=100").body
    assert (last["containers"], len(last["items"])) == (MAX_ROWS + 50, 50)
    assert operator.get(f"{path}&offset=999999").body["items"] == []


@pytest.mark.parametrize("given", ["offset=-1", "limit=x", "limit=9999999999999", "offset=%C2%B2"])
def test_numbers_are_numbers(operator: Client, given: str) -> None:
    answer = operator.get(f"/containers.json?group=x&{given}")
    assert answer.status == 400
    assert "a whole number is expected" in answer.error


def test_a_group_that_is_gone_is_not_found(operator: Client) -> None:
    answer = operator.get("/containers.json?group=0123456789abcdef")
    assert (answer.status, answer.error) == (404, "no container waits for this reason any more")
    assert operator.get("/containers.json").status == 400


def test_a_story_is_told_or_said_not_to_be(
    operator: Client, daemon: StandIn, clock: ManualClock
) -> None:
    story = operator.get(f"/story.json?uuid={WAITING}")
    assert (story.status, story.body["attempts"][1]["uuid"]) == (200, WAITING)
    missing = operator.get("/story.json?uuid=zzzzz-dz642-0")
    assert (missing.status, missing.error) == (404, "zzzzz-dz642-0: there is no such container")
    clock.advance(2)
    for error in (ApiUnavailable("it is away"), ApiRefused("not with this token", 403)):
        daemon.refusal = error
        answer = operator.get(f"/story.json?uuid={WAITING}")
        assert (answer.status, answer.error) == (503, str(error))


def test_the_end_of_a_log_is_text_whatever_it_is(operator: Client, daemon: StandIn) -> None:
    daemon.logs[WAITING] = b"\xff\x00<b>"
    assert operator.get(f"/log.json?uuid={WAITING}").body["text"] == "\ufffd\x00<b>"


def test_dispatchers_are_asked_for_once_for_many(
    operator: Client, daemon: StandIn, clock: ManualClock
) -> None:
    for _ in range(3):
        answer = operator.get("/dispatchers.json")
        assert [item["name"] for item in answer.body["items"]] == ["site1", "site2", "old"]
    assert daemon.lists == 1
    clock.advance(5)
    operator.get("/dispatchers.json")
    assert daemon.lists == 2


def test_who_asks_the_same_shares_the_answer(
    operator: Client, daemon: StandIn, clock: ManualClock
) -> None:
    path = f"/story.json?uuid={WAITING}"
    with ThreadPoolExecutor(8) as readers:
        answers = list(readers.map(lambda _: operator.get(path), range(8)))
    assert {answer.status for answer in answers} == {200}
    assert daemon.reads == 1
    clock.advance(2)
    operator.get(path)
    assert daemon.reads == 2


def test_a_failure_is_not_kept(operator: Client, daemon: StandIn) -> None:
    daemon.refusal = ApiUnavailable("it is away")
    assert operator.get(f"/log.json?uuid={WAITING}").status == 503
    daemon.refusal = None
    assert operator.get(f"/log.json?uuid={WAITING}").status == 200


def test_only_so_many_ask_the_api_at_the_same_time(serve: Serve, daemon: StandIn) -> None:
    client = serve(patience_seconds=0.5)
    daemon.answers.clear()
    paths = [f"/story.json?uuid={number}" for number in range(2 * MAX_READING)]
    with ThreadPoolExecutor(len(paths)) as readers:
        late = list(readers.map(client.get, paths))
    assert {answer.error for answer in late} == {"the daemon did not answer within 0.5 s"}
    assert daemon.reads == MAX_READING
    daemon.wake()
    assert client.get(f"/story.json?uuid={WAITING}").status == 200


def test_history_is_of_an_hour_or_a_day(operator: Client) -> None:
    told = operator.get("/history.json?span=hour").body
    assert (told["step_seconds"], told["columns"]["at"]) == (10, [])
    assert operator.get("/history.json?span=day").body["step_seconds"] == 120
    assert operator.get("/history.json?span=year").status == 400


def test_a_container_that_runs_is_no_reason_to_wait(operator: Client, daemon: StandIn) -> None:
    running = HeldContainer(container("u", ContainerState.RUNNING), node="busy")
    daemon.answer = replace(LOOK, dispatcher=replace(DISPATCHER, containers=(running,)))
    shown = operator.get("/status.json").body
    assert shown["work"]["tokens"] == {}
    assert [group["token"] for group in shown["groups"]] == ["running"]
