"""Following a real API server through its ends, its silence and its forgetting."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import pytest

from nodemanager.clock import ManualClock, SystemClock
from nodemanager.schedulers.kubernetes.client import Access, KubeClient
from nodemanager.schedulers.kubernetes.reflector import Pace, Reflector
from tests.clusters.kubernetes import KubernetesCluster
from tests.clusters.tcpproxy import TcpProxy, tcp_proxy
from tests.schedulers.kubernetes_objects import Hands, kubeconfig, pod_json, until

PACE = Pace(
    relist_seconds=3600, silence_seconds=20, first_pause_seconds=0.05, longest_pause_seconds=0.2
)


class Seen:
    """A sink that keeps what it is shown."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.lists = 0
        self.history: list[tuple[str, str]] = []
        self.gaps = 0

    def replace(self, items: Sequence[Mapping[str, Any]], began: float) -> None:
        assert began <= SystemClock().elapsed()
        names = {_name(item) for item in items}
        self.history += [("listed", name) for name in names - self.names]
        self.history += [("left out", name) for name in self.names - names]
        self.names = names
        self.lists += 1

    def upsert(self, item: Mapping[str, Any]) -> None:
        self.history.append(("upsert", _name(item)))
        self.names.add(_name(item))

    def remove(self, item: Mapping[str, Any]) -> None:
        self.history.append(("remove", _name(item)))
        self.names.discard(_name(item))


def _name(item: Mapping[str, Any]) -> str:
    return str(item["metadata"]["name"])


class Bench:
    """A cluster of its own, its reflector by way of a proxy, and the server by itself."""

    def __init__(self, kubernetes_api: KubernetesCluster, cluster: str, stack: ExitStack) -> None:
        self.server = kubernetes_api
        self.proxy: TcpProxy = stack.enter_context(tcp_proxy(kubernetes_api.port))
        self.direct = stack.enter_context(
            closing(KubeClient(Access(kubeconfig(kubernetes_api)), "default"))
        )
        access = Access(
            kubeconfig(kubernetes_api, port=self.proxy.port), connect_seconds=0.5, read_seconds=2.0
        )
        self.client = stack.enter_context(closing(KubeClient(access, "default")))
        self.hands = Hands(self.direct)
        self.seen = Seen()
        self._cluster = cluster
        self._stack = stack
        self._pods: list[str] = []

    def follow(self, pace: Pace = PACE, clock: Any = None) -> Reflector[Mapping[str, Any]]:
        reflector = Reflector(
            self.client,
            self.client.pods(f"arvados.org/cluster={self._cluster}"),
            lambda item: item,
            self.seen,
            clock=clock or SystemClock(),
            pace=pace,
        )
        self._stack.callback(reflector.close)
        reflector.start()
        assert reflector.wait_until(lambda: reflector.is_current, 20)
        return reflector

    def make(self) -> str:
        made = self.direct.create_pod(pod_json(self._cluster))
        name = _name(made)
        self._pods.append(name)
        return name

    def shows(self, *names: str) -> None:
        until(lambda: self.seen.names == set(names))

    def asked(self, times: int) -> bool:
        return self.client.requests_made >= times

    def listed(self, times: int) -> bool:
        return self.seen.lists >= times

    def clean(self) -> None:
        for name in self._pods:
            self.hands.release(name)


@pytest.fixture
def bench(kubernetes_api: KubernetesCluster, request: pytest.FixtureRequest) -> Iterator[Bench]:
    cluster = f"r{abs(hash(request.node.name)) % 10_000}"
    with ExitStack() as stack:
        bench = Bench(kubernetes_api, cluster, stack)
        yield bench
        bench.clean()


def test_what_there_is_and_what_comes_is_shown(bench: Bench) -> None:
    first = bench.make()
    reflector = bench.follow()
    assert bench.seen.names == {first}
    second = bench.make()
    bench.shows(first, second)
    bench.hands.release(first)
    bench.shows(second)
    assert bench.seen.lists == 1
    assert reflector.why_not == ""


def test_a_watch_that_the_server_ends_goes_on_where_it_was(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodemanager.schedulers.kubernetes.reflector._WATCH_SECONDS", 1)
    reflector = bench.follow()
    current = []
    names = []
    for _ in range(3):
        until(partial(bench.asked, bench.client.requests_made + 1))
        names.append(bench.make())
        bench.shows(*names)
        current.append(reflector.is_current)
    assert bench.seen.lists == 1
    assert current == [True] * 3
    assert [what for what, _ in bench.seen.history] == ["upsert"] * 3


def test_nothing_is_gone_while_the_server_is(bench: Bench) -> None:
    first = bench.make()
    reflector = bench.follow()
    bench.server.stop_apiserver()
    until(lambda: "does not answer" in reflector.why_not)
    assert not reflector.is_current
    assert bench.seen.names == {first}
    bench.server.start_apiserver()
    assert reflector.wait_until(lambda: reflector.is_current, 20)
    second = bench.make()
    bench.shows(first, second)
    assert "left out" not in dict(bench.seen.history)


def test_a_server_that_is_killed_is_followed_again(bench: Bench) -> None:
    first = bench.make()
    reflector = bench.follow()
    bench.server.kill_apiserver()
    until(lambda: not reflector.is_current)
    bench.server.start_apiserver()
    second = bench.make()
    bench.shows(first, second)
    assert reflector.wait_until(lambda: reflector.is_current, 20)


def test_a_connection_that_was_cut_is_taken_up_without_a_list(bench: Bench) -> None:
    reflector = bench.follow()
    first = bench.make()
    bench.shows(first)
    bench.proxy.cut()
    second = bench.make()
    bench.shows(first, second)
    assert reflector.wait_until(lambda: reflector.is_current, 20)
    assert bench.seen.lists == 1
    until(lambda: bench.client.requests_made == 3)
    bench.proxy.cut()
    until(lambda: bench.client.requests_made == 4)
    assert reflector.wait_until(lambda: reflector.is_current, 20)
    assert bench.seen.lists == 1
    # Nothing has come over this one; it may never have lived.
    bench.proxy.cut()
    until(lambda: bench.seen.lists == 2)
    bench.shows(first, second)


def test_a_connection_that_died_without_a_word_is_noticed(bench: Bench) -> None:
    first = bench.make()
    reflector = bench.follow(Pace(3600, 1.0, 0.05, 0.2))
    bench.proxy.freeze()
    second = bench.make()
    until(lambda: not reflector.is_current)
    assert bench.seen.names == {first}
    bench.proxy.cut()
    bench.proxy.thaw()
    bench.shows(first, second)
    assert reflector.wait_until(lambda: reflector.is_current, 20)


def test_a_quiet_watch_is_begun_anew_and_stays_current(bench: Bench) -> None:
    reflector = bench.follow(Pace(3600, 0.3, 0.05, 0.2))
    begin = bench.client.requests_made
    current = set()

    def again() -> bool:
        current.add(reflector.is_current)
        return bench.client.requests_made >= begin + 4

    until(again)
    assert bench.seen.lists == 1
    assert current == {True}


def test_what_happened_while_a_watch_was_held_up_is_shown_in_order(bench: Bench) -> None:
    reflector = bench.follow()
    bench.proxy.hold()
    names = [bench.make() for _ in range(5)]
    bench.hands.release(names[0])
    assert bench.seen.names == set()
    bench.proxy.thaw()
    bench.shows(*names[1:])
    assert reflector.is_current
    assert bench.seen.history[:5] == [("upsert", name) for name in names]


def test_a_version_that_the_server_has_forgotten_leads_to_a_new_list(bench: Bench) -> None:
    """The server starts anew, and with it its memory; the store has been cut short."""
    first = bench.make()
    reflector = bench.follow()
    bench.proxy.freeze()
    bench.proxy.cut()
    until(lambda: not reflector.is_current)
    second = bench.make()
    version = bench.direct.patch_pod(first, {"metadata": {"labels": {"a": "b"}}})
    bench.server.compact(version["metadata"]["resourceVersion"])
    bench.server.kill_apiserver()
    bench.server.start_apiserver()
    bench.hands.release(first)
    bench.proxy.cut()
    bench.proxy.thaw()
    bench.shows(second)
    assert reflector.wait_until(lambda: reflector.is_current, 20)


def test_an_outdated_version_is_answered_by_a_list_at_once(bench: Bench) -> None:
    first = bench.make()
    bench.server.kill_apiserver()
    bench.server.start_apiserver()
    # Long enough that a pause would be noticed.
    reflector = bench.follow(Pace(3600, 20, 60, 60))
    reflector._version = "1"
    bench.proxy.hold()
    bench.make()
    assert reflector._watch is not None
    reflector._watch.close()
    until(lambda: bench.seen.lists == 2)
    assert reflector.wait_until(lambda: reflector.is_current, 5)
    assert first in bench.seen.names


def test_a_full_list_at_intervals_leaves_no_gap(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodemanager.schedulers.kubernetes.reflector._WATCH_SECONDS", 1)
    first = bench.make()
    clock = ManualClock()
    reflector = bench.follow(Pace(600, 20, 0.05, 0.2), clock)
    for lists in (2, 3):
        clock.advance(700)
        until(partial(bench.listed, lists))
        assert reflector.is_current
    second = bench.make()
    bench.shows(first, second)
    assert [what for what, _ in bench.seen.history] == ["listed", "upsert"]


def test_what_may_not_be_listed_is_refused(kubernetes_api: KubernetesCluster) -> None:
    with closing(KubeClient(Access(kubeconfig(kubernetes_api, "guest")), "default")) as client:
        reflector = Reflector(
            client, client.nodes(), lambda item: item, Seen(), clock=SystemClock(), pace=PACE
        )
        reflector.start()
        assert reflector.wait_until(lambda: reflector.refused is not None, 10)
        assert reflector.refused is not None
        assert reflector.refused.status == 403
        assert "forbidden" in reflector.why_not
        assert not reflector.is_current
        reflector.close()


@pytest.mark.parametrize("state", ["watching", "hung", "pausing"])
def test_it_ends_promptly_whatever_it_is_doing(bench: Bench, state: str) -> None:
    reflector = bench.follow(Pace(3600, 60, 60, 60) if state == "pausing" else PACE)
    if state != "watching":
        bench.proxy.freeze()
        bench.proxy.cut()
        until(lambda: not reflector.is_current)
    begin = time.monotonic()
    reflector.close()
    assert time.monotonic() - begin < 4
    assert not [t for t in threading.enumerate() if t is reflector._thread]


def test_a_sink_that_fails_is_shown_everything_again(bench: Bench) -> None:
    first = bench.make()
    fail = threading.Event()
    show: Callable[[Mapping[str, Any]], None] = bench.seen.upsert

    def upsert(item: Mapping[str, Any]) -> None:
        if not fail.is_set():
            fail.set()
            raise ZeroDivisionError
        show(item)

    bench.seen.upsert = upsert  # type: ignore[method-assign]
    reflector = bench.follow()
    second = bench.make()
    until(fail.is_set)
    bench.shows(first, second)
    assert reflector.wait_until(lambda: reflector.is_current, 20)
    assert bench.seen.lists == 2
