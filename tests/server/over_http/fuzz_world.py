"""A server of its own for junk, with people, dispatchers, tokens alive and dead, and work under way.

Calls are made up beforehand, UUIDs while a server runs: a made-up call holds `Known` and `Epoch` where a
record that exists belongs, and `World.filled` puts it there when the call is made.
"""

from __future__ import annotations

import re
import secrets
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import update

from nodemanager.api.embedded import EmbeddedServer
from nodemanager.clock import SystemClock
from nodemanager.server import schema
from nodemanager.server.database import Database
from nodemanager.server.policy import Policy
from nodemanager.server.service import METHODS_BY_ID, Request, Service

NAME = "elm"
NODE = {"cores": 8, "ram_bytes": 2**34, "scratch_bytes": 2**40, "gpus": 0}

ALIVE = ("root", "ada", "eve", "dispatcher", "other dispatcher", "container")
"""Whose tokens are good; `World.tokens` has them under these names."""
DEAD = ("revoked", "expired", "container that is over")

_UUID = re.compile(r"zzzzz-([0-9a-z]{5})-[0-9a-z]{15}")
_FIRST, _LAST = 15, 40
_TEXT_SEARCHED = 30_000
_LIVE = ("Queued", "Locked", "Running")
_OVER = ("Complete", "PermFail", "TempFail", "Cancelled")


@dataclass(frozen=True)
class Known:
    """A UUID that exists: of records with this `infix` (empty: any) the `number`-th, counted in a circle."""

    infix: str
    number: int


@dataclass(frozen=True)
class Epoch:
    """The dispatcher's present epoch, or one beside it."""

    off_by: int = 0


def work(**more: Any) -> dict[str, Any]:
    """Attributes of a request that can be committed, with everything that is secret."""
    return {
        "state": "Committed",
        "command": ["true"],
        "container_image": "none",
        "output_path": "/out",
        "mounts": {"/out": {"kind": "tmp", "capacity": 1000}},
        "runtime_constraints": {"vcpus": 1, "ram": 2**20},
        "use_existing": False,
        "container_count_max": 3,
        **more,
    }


class World:
    """The server, what is known of it, and a second way to its database."""

    def __init__(self, state_dir: Path, database_url: str = "") -> None:
        config = state_dir / "fuzz.cfg"
        state_dir.mkdir()
        config.write_text(f"[Daemon]\nstate_dir = {state_dir}\n[Api]\ndatabase = {database_url}\n")
        config.chmod(0o600)
        self.server = EmbeddedServer(config, state_dir, "--dispatcher", NAME)
        self.endpoint = self.server.start()
        url = database_url or f"sqlite:///{state_dir}/api/database.sqlite"
        self._database = Database(url, SystemClock())
        policy = Policy(root_token=self.endpoint.root_token)
        self._service = Service(self._database, policy, "zzzzz")
        self._known: defaultdict[str, list[str]] = defaultdict(list)
        self._running = ""
        self.dispatcher: Any = ""
        self.epoch: Any = 0
        self.tokens = {
            "root": self.endpoint.root_token,
            "dispatcher": self.endpoint.dispatcher_token,
        }
        self._make_people()
        self.hidden = f"hidden-{secrets.token_hex(8)}"
        self.secrets = {self.hidden}
        """What no answer may contain."""
        self.ready()
        over = self._running
        self.tokens["container that is over"] = self.tokens["container"]
        self._call("containers.update", {"state": "Cancelled"}, "container", uuid=over)
        self.ready()
        node = self._call("nodes.create", {}, "root")
        self.secrets.add(node["info"]["ping_secret"])
        self.secrets |= {token.rpartition("/")[2] for token in self.tokens.values()}
        for method in ("users", "logs", "links", "containers", "container_requests"):
            self.learn(orjson.dumps(self._call(f"{method}.list", {}, "root")).decode())

    def close(self) -> None:
        """End it."""
        self._database.close()
        self.server.stop()

    def _make_people(self) -> None:
        make_user, make_dispatcher = (
            self._service.create_user_token,
            self._service.create_dispatcher_token,
        )
        self.tokens |= {"ada": make_user("ada").text, "eve": make_user("eve").text}
        self.ada, eve = (self._call("users.current", {}, u)["uuid"] for u in ("ada", "eve"))
        self.tokens["other dispatcher"] = make_dispatcher("oak").text
        long_forms = [token.split("/") for token in self.tokens.values() if "/" in token]
        self.cast = {self.ada, eve, *(uuid for _v2, uuid, _secret in long_forms)}
        """Users and tokens that all calls are made with, and that must not be made inactive."""
        self._register("other dispatcher", "oak")
        revoked, expired = make_user("eve"), make_user("eve")
        self.tokens |= {"revoked": revoked.text, "expired": expired.text}
        self._service.revoke_token(revoked.uuid)
        tokens = schema.api_client_authorizations
        with self._database.write() as conn:
            of_it = update(tokens).where(tokens.c.uuid == expired.uuid)
            conn.execute(of_it.values(expires_at=self._database.now(conn) - 1))
        for user in ("ada", "eve"):
            for plural, record in (
                ("container_requests", {"name": "a draft"}),
                ("logs", {"summary": "something", "event_type": "note"}),
                ("links", {"link_class": "note", "name": "n", "properties": {"a": [1]}}),
            ):
                self._call(f"{plural}.create", record, user)

    def _register(self, token: str, name: str) -> dict[str, Any]:
        record = {"name": name, "scheduler": "fake", "capabilities": {"largest": [NODE]}}
        return self._call("dispatchers.create", record, token)

    def _call(self, method: str, body: Mapping[str, Any], who: str, **path: Any) -> dict[str, Any]:
        request = Request([self.tokens[who]], METHODS_BY_ID[method], path, {}, body)
        answer: dict[str, Any] = orjson.loads(orjson.dumps(self._service.perform(request)))
        self.learn(str(answer.get("uuid")))
        return answer

    def ready(self) -> None:
        """There is an alive dispatcher, which runs a container of ada's, and more work for it."""
        now = (
            self._call("dispatchers.get", {}, "root", uuid=self.dispatcher)
            if self.dispatcher
            else {"state": "lost"}
        )
        if now["state"] != "alive":
            now = self._register("dispatcher", NAME)
        self.dispatcher, self.epoch = now["uuid"], now["epoch"]
        if self._state_of(self._running) in ("Locked", "Running"):
            return
        secret = {"secret_mounts": {"/s": {"kind": "text", "content": self.hidden}}}
        self._call("container_requests.create", work(), "ada")
        made = self._call(
            "container_requests.create", work(**secret, runtime_token=f"t/{self.hidden}"), "ada"
        )
        self._running = made["container_uuid"]
        claim = {"container": {"dispatcher": self.dispatcher}, "epoch": self.epoch}
        self._call("containers.update", claim, "dispatcher", uuid=self._running)
        minted = self._call("containers.auth", {}, "dispatcher", uuid=self._running)
        self.tokens["container"] = minted["api_token"]
        self.secrets.add(minted["api_token"].rpartition("/")[2])

    def _state_of(self, container: str) -> str:
        if not container:
            return ""
        return str(self._call("containers.get", {}, "root", uuid=container)["state"])

    def learn(self, text: str) -> None:
        """Remember the UUIDs in `text`: the first ones for ever, and the latest."""
        for found in _UUID.finditer(text[:_TEXT_SEARCHED]):
            known = self._known[found[1]]
            if found[0] not in known:
                known.append(found[0])
                if len(known) > _FIRST + _LAST:
                    del known[_FIRST]

    def forget(self, text: str) -> None:
        """The UUIDs in `text` are perhaps no more."""
        for found in _UUID.finditer(text):
            if found[0] in self._known[found[1]]:
                self._known[found[1]].remove(found[0])

    def filled(self, value: Any) -> Any:
        """`value` with records that exist in the place of `Known` and `Epoch`."""
        if isinstance(value, Known):
            known = self._known[value.infix] or [u for of in self._known.values() for u in of]
            own = {"dz642": self._running, "bmxii": self.dispatcher}.get(value.infix)
            if own and value.number == 0:
                return own
            return known[-value.number % len(known)] if known else "zzzzz-xxxxx-000000000000000"
        if isinstance(value, Epoch):
            return self.epoch + value.off_by
        if isinstance(value, dict):
            return {self.filled(k): self.filled(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.filled(each) for each in value]
        return value

    # --- what must hold, whatever was sent --------------------------------------------------------

    def broken_promises(self) -> Iterator[str]:
        """Requests that are not served as they should be: Committed ones by one live container."""
        containers = {c["uuid"]: c for c in self._all("containers")}
        wanted = set()
        for request in self._all("container_requests"):
            uuid, current = request["uuid"], request["container_uuid"]
            answer = self._call("container_requests.attempts", {}, "root", uuid=uuid)
            states = [containers[a["container_uuid"]]["state"] for a in answer["items"]]
            here = f"{uuid} {request['state']} of {current}, attempts {states}"
            if request["state"] == "Uncommitted":
                if states or current:
                    yield here
                continue
            served_by_last = bool(answer["items"]) and (
                answer["items"][-1]["container_uuid"] == current
            )
            if (
                not served_by_last
                or not set(states[:-1]) <= {"TempFail", "PermFail"}
                or states[-1]
                not in (_LIVE if request["state"] == "Committed" else (*_OVER, *_LIVE))
            ):
                yield here
            if request["state"] == "Committed":
                wanted.add(current)
        for uuid, container in containers.items():
            if container["state"] == "Queued" and container["priority"] > 0 and uuid not in wanted:
                yield f"{uuid} waits for nobody"

    def _all(self, plural: str) -> Iterator[dict[str, Any]]:
        last = ""
        while True:
            body = {"limit": 1000, "order": ["uuid asc"], "filters": [["uuid", ">", last]]}
            page = self._call(f"{plural}.list", body, "root")["items"]
            yield from page
            if not page:
                return
            last = page[-1]["uuid"]
