"""Whatever is sent to whatever is served: the answer is the one promised, or the stock refusal.

`HYPOTHESIS_PROFILE=explore` looks for new examples; FUZZ_EXAMPLES says how many.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.clusters.postgresql import PostgresCluster
from tests.server.over_http.fuzz_calls import Made
from tests.server.over_http.fuzz_wire import MALFORMED, REFUSALS, Wire, check_refusal
from tests.server.over_http.fuzz_world import ALIVE, Known, World

pytestmark = pytest.mark.processes

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    url = ""
    if request.param == "postgresql":
        cluster: PostgresCluster = request.getfixturevalue("postgresql")
        url = cluster.fresh_database()
    world = World(tmp_path_factory.mktemp("fuzz") / "state", url)
    yield world
    world.close()


@pytest.fixture(scope="module")
def wire(world: World) -> Iterator[Wire]:
    wire = Wire(world)
    yield wire
    wire.close()


def fuzz(examples: int) -> settings:
    """Short examples: what failed is shown whole, and calls find each other's records anyway."""
    return settings(
        max_examples=max(1, examples),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
    )


@pytest.mark.timeout(3600)
def test_every_method_answers_as_promised_or_refuses(wire: Wire) -> None:
    for method_id in sorted(wire.calls.methods):

        @fuzz(EXAMPLES)
        @given(wire.calls.of(method_id))
        def play(made: Made) -> None:
            wire.world.ready()
            wire.make(made)

        if settings().derandomize:
            # Hypothesis makes its seed of the function's text, which is the same for every method.
            play = seed(zlib.crc32(method_id.encode()))(play)
        play()
    assert list(wire.world.broken_promises()) == []
    assert wire.world.server.is_alive()
    assert _complaints(wire.world) == []
    _check_reach(wire)


def _complaints(world: World) -> list[str]:
    """What the server's log says of defects, and secrets in it."""
    lines = world.server.log_file.read_text("utf-8", "replace").splitlines()
    bad = ("Traceback", " ERROR ", "Exception")
    found = [line for line in lines if any(word in line for word in bad)]
    return [*found, *(line for line in lines if any(s in line for s in world.secrets))]


def _check_reach(wire: Wire) -> None:
    """Junk alone proves little: most methods must have been done as well as refused."""
    done = {method for method, status in wire.statuses if status == 200}
    missed = wire.calls.methods.keys() - done
    assert len(missed) <= len(wire.calls.methods) // 4, sorted(missed)


PATHS = st.lists(
    st.sampled_from(
        ["arvados", "v1", "containers", "users", "current", "discovery", "..", ".", "", "%", "%00", "%2e%2e",
         "%zz", "%ff", "%2f", "%c0%af", ";x", "files", "*", "_health", "ping", "\\", "~", "a" * 300]
    ),
    max_size=6,
).map(lambda parts: "/" + "/".join(parts))  # fmt: skip


@pytest.mark.timeout(3600)
def test_every_path_is_served_or_refused(wire: Wire) -> None:
    verbs = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW"])

    @fuzz(EXAMPLES * 5)
    @given(path=PATHS, verb=verbs, body=st.none() | st.binary(max_size=30))
    def play(path: str, verb: str, body: bytes | None) -> None:
        headers = {"Authorization": f"Bearer {wire.world.tokens['root']}"}
        status, answer, answered = wire.send(verb, path, body, headers)
        here = f"{verb} {path} {body!r} -> {status} {answer[:500]!r}"
        assert status in (200, *REFUSALS, *MALFORMED), here
        assert not [s for s in wire.world.secrets if s in answer.decode("utf-8", "replace")], here
        if status != 200 and verb != "HEAD" and not path.startswith("/_health/ping"):
            check_refusal(answer.decode(), answered, here)

    play()
    assert _complaints(wire.world) == []


@dataclass(frozen=True)
class FileCall:
    """One call for a file of a container."""

    verb: str
    parts: list[str]
    who: str
    body: bytes
    query: str
    span: str | None
    number: int


FILE_CALLS = st.builds(
    FileCall,
    verb=st.sampled_from(["PUT", "PUT", "GET", "HEAD", "DELETE", "POST"]),
    parts=st.lists(
        st.sampled_from(
            ["a", "b", "..", ".", "", "a%2fb", "%00", "%ff", "%C3%A4", "x" * 300, "%2e%2e", "%20"]
        ),
        max_size=4,
    ),
    who=st.sampled_from([*ALIVE, "revoked"]),
    body=st.binary(max_size=40),
    query=st.sampled_from(
        ["", "offset=0", "offset=3", "offset=-1", "offset=1e9", "offset=%00", f"offset={2**49}",
         "complete=1", "offset=", "offset=1&offset=x"]
    ),
    span=st.none()
    | st.sampled_from(["bytes=0-1", "bytes=5-2", "bytes=-1", "x", "bytes=0-0,2-3", "bytes=9" * 20]),
    number=st.integers(0, 3),
)  # fmt: skip


@pytest.mark.timeout(3600)
def test_files_are_served_or_refused(wire: Wire) -> None:
    """Raw bytes, below a container of one's own, another's, or none."""

    @fuzz(EXAMPLES * 5)
    @given(FILE_CALLS)
    def play(call: FileCall) -> None:
        wire.world.ready()
        uuid = wire.world.filled(Known("dz642", call.number))
        path = f"/arvados/v1/containers/{uuid}/files/{'/'.join(call.parts)}?{call.query}"
        headers = {"Authorization": f"Bearer {wire.world.tokens[call.who]}"}
        headers |= {"Range": call.span} if call.span else {}
        content = call.body if call.verb in ("PUT", "POST") else None
        status, answer, answered = wire.send(call.verb, path, content, headers)
        here = f"{call} {path} -> {status} {answer[:500]!r}"
        # The answers to a range are those of the HTTP standard, in plain text.
        assert status in (200, 206, 416, *REFUSALS) or (status == 400 and call.span), here
        # The first container is ada's.
        assert (call.who, call.number) != ("eve", 0) or status not in (200, 206), here
        if status in REFUSALS and call.verb != "HEAD":
            check_refusal(answer.decode(), answered, here)

    play()
    assert _complaints(wire.world) == []
