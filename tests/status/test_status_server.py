"""The server itself: status.json, health checks, beginning and end, and a daemon that does not answer."""

from __future__ import annotations

import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from nodemanager.clock import ManualClock
from nodemanager.config import parse
from nodemanager.errors import ConfigError, NodeManagerError
from nodemanager.status import server as server_module
from nodemanager.status.server import ManagementServer
from nodemanager.status.settings import ManageSettings, settings_from
from tests.status.conftest import Serve
from tests.status.daemon import LOOK, TOKEN, Client, StandIn

CONFIG = """\
[Manage]
address = 127.0.0.9
port = 8989
ManagementToken = hush
[Dispatch]
name = site1
[Daemon]
max_nodes = 7
max_total_price = 1.5
"""


def threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate())


# status.json


def test_status_is_for_everybody_where_there_is_no_token(serve: Serve) -> None:
    assert serve(management_token="").get("/status.json").status == 200


def test_status_is_for_those_who_have_the_token(
    client: Client, operator: Client, daemon: StandIn
) -> None:
    none = client.get("/status.json")
    assert (none.status, none.error) == (401, "authorization required")
    wrong = Client(client.url, "guess").get("/status.json")
    assert (wrong.status, wrong.error) == (403, "authorization error")
    assert daemon.looks == 0
    answer = operator.get("/status.json")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.body["Version"] == "1.2.3"
    assert answer.body["nodes"][0]["name"] == "compute-busy"


def test_no_secret_is_in_it(operator: Client) -> None:
    assert TOKEN not in str(operator.get("/status.json"))


def test_many_readers_cost_one_look(operator: Client, daemon: StandIn, clock: ManualClock) -> None:
    for _ in range(5):
        assert operator.get("/status.json").status == 200
    assert daemon.looks == 1
    clock.advance(0.9)
    operator.get("/status.json")
    assert daemon.looks == 1
    clock.advance(0.1)
    operator.get("/status.json")
    assert daemon.looks == 2


def test_readers_that_come_while_somebody_looks_share_it(operator: Client, daemon: StandIn) -> None:
    daemon.answers.clear()
    with ThreadPoolExecutor(8) as readers:
        answers = [readers.submit(operator.get, "/status.json") for _ in range(8)]
        assert daemon.asked.wait(10)
        daemon.answers.set()
        assert [answer.result().status for answer in answers] == [200] * 8
    assert daemon.looks == 1


def test_what_is_shown_changes_with_the_daemon(
    operator: Client, daemon: StandIn, clock: ManualClock
) -> None:
    assert operator.get("/status.json").body["Version"] == "1.2.3"
    daemon.answer = replace(LOOK, version="1.2.4")
    clock.advance(1)
    assert operator.get("/status.json").body["Version"] == "1.2.4"


def test_what_json_does_not_know_is_shown_as_text(operator: Client, daemon: StandIn) -> None:
    assert LOOK.nodes
    odd = replace(LOOK.nodes.history[0], numbers={"set": {1, 2}})
    daemon.answer = replace(LOOK, nodes=replace(LOOK.nodes, history=(odd,)))
    assert operator.get("/status.json").body["history"][0]["numbers"] == {"set": "{1, 2}"}


# A daemon that does not answer.


def test_a_look_that_takes_too_long_is_503_and_is_not_begun_again(
    serve: Serve, daemon: StandIn
) -> None:
    client = serve(patience_seconds=0.1)
    daemon.answers.clear()
    for _ in range(3):
        answer = client.get("/status.json")
        assert (answer.status, answer.error) == (503, "the daemon did not answer within 0.1 s")
    assert daemon.looks == 1
    assert "management-question" in threads()


def test_the_answer_that_came_late_is_good_for_the_next(serve: Serve, daemon: StandIn) -> None:
    client = serve(patience_seconds=0.1)
    daemon.answers.clear()
    assert client.get("/status.json").status == 503
    daemon.answers.set()
    assert client.get("/status.json").status == 200
    assert daemon.looks == 1


def test_a_look_that_fails_is_503_with_its_sentence(
    operator: Client, daemon: StandIn, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    daemon.answer = NodeManagerError("the dispatcher is in the bath")
    for _ in range(3):
        answer = operator.get("/status.json")
        assert (answer.status, answer.error) == (503, "the dispatcher is in the bath")
    assert daemon.looks == 1, "a failure is shared as well"
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        "the daemon could not be asked: the dispatcher is in the bath"
    ]
    daemon.answer = LOOK
    clock.advance(1)
    assert operator.get("/status.json").status == 200


@pytest.mark.parametrize("error", [RuntimeError("token hush-hush"), SystemExit(3)])
def test_strangers_do_not_read_what_went_wrong_inside(
    operator: Client, daemon: StandIn, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    daemon.answer = error
    answer = operator.get("/status.json")
    assert answer.status == 503
    assert type(error).__name__ in answer.error
    assert "hush-hush" not in str(answer)
    assert any(record.exc_info for record in caplog.records), "whoever has the log does"


def test_a_look_that_cannot_be_shown_is_500(
    daemon: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    server = ManagementServer(ManageSettings(port=0), daemon, sample_seconds=0)
    server.start()
    daemon.answer = replace(LOOK, failures=None)  # type: ignore[arg-type]
    answer = Client(server.url).get("/status.json")
    assert (answer.status, answer.error) == (500, "internal error; see the log")
    assert server.stop(10.0)
    assert any("NoneType" in str(record.exc_info) for record in caplog.records)


# Health.


def test_health_is_disabled_without_a_token(serve: Serve, daemon: StandIn) -> None:
    answer = serve(management_token="").get("/_health/ping")
    assert (answer.status, answer.error) == (404, "disabled")


def test_health(client: Client, operator: Client, daemon: StandIn) -> None:
    none = client.get("/_health/ping")
    assert (none.status, none.error) == (401, "authorization required")
    assert none.headers["www-authenticate"] == "Bearer"
    answer = operator.get("/_health/ping")
    assert (answer.status, answer.body) == (200, {"health": "OK"})
    assert daemon.looks == 0, "nobody else is asked"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        f"OAuth2 {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}, Bearer {TOKEN}",
        "Bearer \xff\xfe",
    ],
)
def test_health_with_another_token(client: Client, header: str) -> None:
    answer = client.get("/_health/ping", Authorization=header)
    assert (answer.status, answer.error) == (403, "authorization error")


def test_a_token_may_be_any_text(serve: Serve) -> None:
    client = serve(management_token="g\xe4nsef\xfc\xdfchen")
    header = "Bearer g\xe4nsef\xfc\xdfchen".encode().decode("latin-1")
    assert client.get("/_health/ping", Authorization=header).status == 200


def test_health_is_well_while_the_actors_hang(serve: Serve, daemon: StandIn) -> None:
    client = serve(patience_seconds=0.1)
    daemon.answers.clear()
    assert client.get("/status.json").status == 503
    assert client.get("/_health/ping").status == 200


# Beginning and end.


def test_the_settings_are_those_of_the_config_file() -> None:
    settings = settings_from(parse(CONFIG, "any.cfg"))
    assert settings == ManageSettings(
        address="127.0.0.9",
        port=8989,
        management_token="hush",
        name="site1",
        max_nodes=7,
        max_total_price=1.5,
    )
    assert "hush" not in repr(settings)
    defaults = parse("", "any.cfg")
    assert settings_from(defaults) == ManageSettings(name=defaults.dispatch.name)


class Slow(dict[str, int]):
    """Takes as long to be shown as 100,000 containers do."""

    def __init__(self) -> None:
        super().__init__(Actor=1)
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.times = 0

    def values(self) -> Any:
        self.times += 1
        self.begun.set()
        assert self.go_on.wait(20)
        return super().values()


def test_others_are_served_while_much_is_being_shown(daemon: StandIn, serve: Serve) -> None:
    slow = Slow()
    daemon.answer = replace(LOOK, failures=slow)
    client = serve()
    with ThreadPoolExecutor(2) as readers:
        first = readers.submit(client.get, "/status.json")
        assert slow.begun.wait(20)
        second = readers.submit(client.get, "/status.json")
        assert client.get("/_health/live").status == 200
        slow.go_on.set()
        assert (first.result().status, second.result().status) == (200, 200)
    assert slow.times == 1, "it is made once for both"


def test_it_is_off_unless_it_has_a_port(daemon: StandIn) -> None:
    before = threads()
    server = ManagementServer(ManageSettings(), daemon)
    server.start()
    assert server.url == ""
    assert threads() == before
    assert server.stop()


def test_a_port_in_use_is_an_error_that_names_the_option(daemon: StandIn) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = ManagementServer(ManageSettings(port=port), daemon)
        with pytest.raises(
            ConfigError, match=rf"\[Manage\] port: 127.0.0.1:{port} cannot be .*use"
        ):
            server.start()
    assert server.stop()


def test_an_address_that_is_not_ours_is_an_error(daemon: StandIn) -> None:
    for address in ("192.0.2.1", "no such host"):
        server = ManagementServer(ManageSettings(address=address, port=0), daemon)
        with pytest.raises(ConfigError, match=rf"\[Manage\] .*{address}"):
            server.start()


def test_it_speaks_ipv6_as_well(serve: Serve) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    client = serve(address="::1")
    assert client.url.startswith("http://[::1]:")
    assert client.get("/status.json").status == 200


def test_after_its_end_the_port_is_free_and_no_thread_is_left(daemon: StandIn) -> None:
    before = threads()
    server = ManagementServer(ManageSettings(port=0), daemon)
    server.start()
    client = Client(server.url)
    assert client.get("/status.json").status == 200
    idle = socket.create_connection(client.address)
    assert server.stop(10.0)
    idle.close()
    assert threads() == before
    again = ManagementServer(ManageSettings(port=client.address[1]), daemon)
    again.start()
    assert client.get("/status.json").status == 200
    assert again.stop(10.0)


def test_it_ends_at_once_although_it_has_only_begun(daemon: StandIn) -> None:
    before = threads()
    server = ManagementServer(ManageSettings(port=0), daemon)
    server.start()
    assert server.stop(10.0)
    assert threads() == before


def test_a_daemon_that_hangs_does_not_hold_up_the_end(daemon: StandIn) -> None:
    server = ManagementServer(ManageSettings(port=0), daemon, patience_seconds=60, sample_seconds=0)
    server.start()
    daemon.answers.clear()
    with ThreadPoolExecutor(1) as reader:
        answer = reader.submit(Client(server.url).send, "GET", "/status.json")
        assert daemon.asked.wait(10)
        assert server.stop(10.0)
        left = [thread for thread in threading.enumerate() if thread.name == "management-question"]
        assert [thread.daemon for thread in left] == [True], "the process does not wait for it"
        assert answer.exception() is not None or answer.result().status >= 500


def test_answers_are_sent_without_delay() -> None:
    """asyncio asks for that only on sockets that say they are TCP; 40 ms a call otherwise."""
    with server_module._listen(ManageSettings(port=0)) as listening:
        assert listening.proto == socket.IPPROTO_TCP
