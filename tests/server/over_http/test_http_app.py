"""The application in this process: what needs its insides, or a database that fails."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from nodemanager.clock import SystemClock
from nodemanager.server.app import Api, create_app
from nodemanager.server.database import IN_MEMORY, Database
from nodemanager.server.policy import Policy
from nodemanager.server.service import METHODS_BY_ID, Request, Service
from nodemanager.server.settings import ServerSettings

ROOT = "root-secret"
NODE = {"cores": 8, "ram_bytes": 2**34, "scratch_bytes": 2**40}
PATIENCE = 20.0

Scenario = Callable[[Api], Coroutine[Any, Any, None]]


@pytest.fixture
def service() -> Iterator[Service]:
    database = Database(IN_MEMORY, SystemClock())
    yield Service(database, Policy(root_token=ROOT), "zzzzz")
    database.close()


@pytest.fixture
def play(service: Service, tmp_path: Path) -> Callable[[Scenario], None]:
    """Runs a scenario while the application is up."""
    settings = ServerSettings(
        state_dir=tmp_path,
        policy=service.policy,
        management_token="manage",
        max_file_size=1000,
        max_concurrent_requests=1,
    )

    def play(scenario: Scenario) -> None:
        async def run() -> None:
            app = create_app(service, settings, tmp_path / "files", SystemClock())
            async with asyncio.timeout(PATIENCE), app._lifespan(app._starlette):
                await scenario(app)

        asyncio.run(run())

    return play


@dataclass
class Exchange:
    """One HTTP request to the application; `leave` is its client going away."""

    app: Api
    method: str
    path: str
    body: Any = None
    token: str = ROOT
    left: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[dict[str, Any]] = field(default_factory=list)

    async def run(self) -> tuple[int, Any]:
        headers = [(b"authorization", f"Bearer {self.token}".encode()), (b"host", b"localhost")]
        scope = {
            "type": "http", "method": self.method, "path": self.path, "query_string": b"",
            "headers": headers if self.token else headers[1:], "scheme": "https",
            "server": ("localhost", 443), "root_path": "",
        }  # fmt: skip
        content = b"" if self.body is None else json.dumps(self.body).encode()
        messages = [{"type": "http.request", "body": content, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await self.left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            self.sent.append(message)

        await self.app(scope, receive, send)
        answer = b"".join(m.get("body", b"") for m in self.sent)
        is_json = answer.startswith((b"{", b"["))
        return self.sent[0]["status"], json.loads(answer) if is_json else answer.decode()


@pytest.fixture
def claim_body(service: Service) -> dict[str, Any]:
    """A claim of an alive dispatcher."""
    token = service.create_dispatcher_token("elm").text
    attributes = {"name": "elm", "scheduler": "fake", "capabilities": {"largest": [NODE]}}
    record = do(service, token, "dispatchers.create", {"dispatcher": attributes})
    return {
        "api_token": token, "dispatcher": record["uuid"], "epoch": record["epoch"],
        "claim_id": "c", "limit": 10, "wait": 60,
    }  # fmt: skip


def commit(service: Service) -> str:
    attributes = {
        "state": "Committed", "command": ["true"], "container_image": "none",
        "output_path": "/out", "mounts": {"/out": {"kind": "tmp", "capacity": 1}},
        "runtime_constraints": {"vcpus": 1, "ram": 1}, "use_existing": False,
    }  # fmt: skip
    body = {"container_request": attributes}
    return str(do(service, ROOT, "container_requests.create", body)["container_uuid"])


def state_of(service: Service, uuid: str) -> str:
    return str(do(service, ROOT, "containers.get", uuid=uuid)["state"])


def do(
    service: Service,
    token: str,
    method: str,
    body: Mapping[str, Any] | None = None,
    uuid: str = "",
) -> dict[str, Any]:
    """A call that does not come over HTTP."""
    request = Request([token], METHODS_BY_ID[method], {"uuid": uuid}, {}, body or {})
    return service.perform(request)


async def held(app: Api, claim_body: dict[str, Any]) -> tuple[Exchange, asyncio.Task[Any]]:
    """A claim that is being held open, since it has found nothing at first."""
    exchange = Exchange(app, "POST", "/arvados/v1/containers/claim", claim_body, token="")
    task = asyncio.create_task(exchange.run())
    looked = 0
    while not app._metrics._held._value.get() and looked < 10_000:
        looked += 1
        await asyncio.sleep(0.001)
    assert app._bells._listening
    return exchange, task


def test_a_client_that_left_claims_nothing(
    service: Service, play: Callable[[Scenario], None], claim_body: dict[str, Any]
) -> None:
    async def scenario(app: Api) -> None:
        exchange, task = await held(app, claim_body)
        exchange.left.set()
        await task
        assert not app._bells._listening

    play(scenario)
    assert state_of(service, commit(service)) == "Queued"


def test_a_commit_in_any_thread_wakes_a_held_claim(
    service: Service, play: Callable[[Scenario], None], claim_body: dict[str, Any]
) -> None:
    async def scenario(app: Api) -> None:
        _, task = await held(app, claim_body)
        committing = threading.Thread(target=commit, args=(service,))
        committing.start()
        status, answer = await task
        await asyncio.to_thread(committing.join)
        assert status == 200
        assert [item["state"] for item in answer["items"]] == ["Locked"]

    play(scenario)


def test_a_held_call_leaves_its_turn_to_others(
    play: Callable[[Scenario], None], claim_body: dict[str, Any]
) -> None:
    async def scenario(app: Api) -> None:
        _, task = await held(app, claim_body)
        assert (await Exchange(app, "GET", "/arvados/v1/containers").run())[0] == 200
        app.release_held_calls()
        await task

    play(scenario)


def test_more_calls_than_can_wait_are_503(play: Callable[[Scenario], None]) -> None:
    async def scenario(app: Api) -> None:
        calls = [Exchange(app, "GET", "/arvados/v1/containers").run() for _ in range(5)]
        statuses = sorted([status for status, _ in await asyncio.gather(*calls)])
        assert statuses == [200, 200, 200, 503, 503]

    play(scenario)


def test_held_calls_are_answered_when_the_server_ends(
    play: Callable[[Scenario], None], claim_body: dict[str, Any]
) -> None:
    async def scenario(app: Api) -> None:
        _, task = await held(app, claim_body)
        app.release_held_calls()
        assert (await task)[0] == 200
        # And who comes now does not wait at all.
        late = Exchange(app, "POST", "/arvados/v1/containers/claim", claim_body, token="")
        assert await late.run() == (200, {"items": [], "paused": ""})

    play(scenario)


def test_a_pause_answers_a_held_claim_and_its_end_the_next_one(
    service: Service, play: Callable[[Scenario], None], claim_body: dict[str, Any]
) -> None:
    uuid = claim_body["dispatcher"]

    async def scenario(app: Api) -> None:
        _, task = await held(app, claim_body)
        paused = {"reason": "new switch"}
        await asyncio.to_thread(do, service, ROOT, "dispatchers.pause", paused, uuid)
        status, answer = await task
        assert (status, answer["items"]) == (200, [])
        assert answer["paused"].startswith("new switch (root, ")
        # Whoever knows is not told again and again.
        _, task = await held(app, {**claim_body, "claim_id": "d"})
        await asyncio.to_thread(commit, service)
        done, _ = await asyncio.wait([task], timeout=0.3)
        assert not done
        await asyncio.to_thread(do, service, ROOT, "dispatchers.resume", None, uuid)
        status, answer = await task
        assert (len(answer["items"]), answer["paused"]) == (1, "")

    play(scenario)


def test_a_lost_dispatcher_is_told_while_it_waits(
    service: Service, play: Callable[[Scenario], None], claim_body: dict[str, Any]
) -> None:
    async def scenario(app: Api) -> None:
        _, task = await held(app, claim_body)
        uuid = claim_body["dispatcher"]
        await asyncio.to_thread(do, service, ROOT, "dispatchers.lose", uuid=uuid)
        await asyncio.to_thread(commit, service)
        status, answer = await task
        assert status == 403
        assert "lost" in answer["errors"][0]

    play(scenario)


def test_a_broken_database_is_503_and_no_secret(
    service: Service, play: Callable[[Scenario], None]
) -> None:
    with service.database.write() as conn:
        conn.execute(text("DROP TABLE links"))

    async def scenario(app: Api) -> None:
        status, answer = await Exchange(app, "GET", "/arvados/v1/links").run()
        assert status == 503
        assert "no such table" in answer["errors"][0]

    play(scenario)


def test_no_secret_gets_into_the_log_with_what_failed(
    service: Service, play: Callable[[Scenario], None], caplog: pytest.LogCaptureFixture
) -> None:
    with service.database.write() as conn:
        conn.execute(text("DROP TABLE container_requests"))
    body = {"container_request": {"runtime_token": "v2/very/secret"}}

    async def scenario(app: Api) -> None:
        call = Exchange(app, "POST", "/arvados/v1/container_requests", body)
        assert (await call.run())[0] == 503

    play(scenario)
    assert "no such table" in caplog.text
    assert "very/secret" not in caplog.text


def test_health(play: Callable[[Scenario], None]) -> None:
    async def scenario(app: Api) -> None:
        for token, expected in (("manage", 200), ("wrong", 403), ("", 401)):
            status, answer = await Exchange(app, "GET", "/_health/ping", token=token).run()
            assert status == expected
            assert (answer == {"health": "OK"}) == (status == 200)

    play(scenario)


def test_metrics(
    service: Service, play: Callable[[Scenario], None], claim_body: dict[str, Any]
) -> None:
    commit(service)

    async def scenario(app: Api) -> None:
        assert (await Exchange(app, "GET", "/metrics", token="wrong").run())[0] == 403
        claim = Exchange(app, "POST", "/arvados/v1/containers/claim", claim_body, token="")
        assert (await claim.run())[0] == 200
        assert (await Exchange(app, "GET", "/arvados/v1/nothing").run())[0] == 404
        _, task = await held(app, {**claim_body, "claim_id": "d"})
        await asyncio.to_thread(commit, service)
        assert (await task)[0] == 200
        await asyncio.to_thread(commit, service)
        _, text = await Exchange(app, "GET", "/metrics", token="manage").run()
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
        prefix = "arvados_dispatch_api_"
        requests = prefix + "requests_total"
        assert lines[requests + '{method="containers.claim",status="200"}'] == "2.0"
        assert lines[requests + '{method="none",status="404"}'] == "1.0"
        assert lines[prefix + 'containers{state="Locked"}'] == "2.0"
        assert lines[prefix + 'containers{state="Queued"}'] == "1.0"
        assert lines[prefix + 'queued_containers{reason="not-seen"}'] == "1.0"
        assert 0 <= float(lines[prefix + 'oldest_wait_seconds{reason="not-seen"}']) < PATIENCE
        assert lines[prefix + 'queued_containers{reason="backoff"}'] == "0.0"
        assert lines[prefix + "claims_paused"] == "0.0"
        assert lines[prefix + "held_requests"] == "0.0"
        silence = prefix + 'dispatcher_silence_seconds{dispatcher="elm"}'
        assert 0 <= float(lines[silence]) < PATIENCE

    play(scenario)


def test_files_have_a_limit(
    service: Service,
    play: Callable[[Scenario], None],
    claim_body: dict[str, Any],
    tmp_path: Path,
) -> None:
    uuid = commit(service)
    body = {k: v for k, v in claim_body.items() if k != "api_token"}
    do(service, claim_body["api_token"], "containers.claim", body)

    async def scenario(app: Api) -> None:
        path = f"/arvados/v1/containers/{uuid}/files/a"
        assert (await Exchange(app, "PUT", path, "x" * 2000).run())[0] == 413
        assert (await Exchange(app, "PUT", path, "x" * 500).run())[0] == 200

    play(scenario)
    assert (tmp_path / "files" / uuid / "a").stat().st_size == 502
