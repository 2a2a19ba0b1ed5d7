"""A long queue, quickly: a few requests are committed through the API, all others are their copies.

A copy differs in what would differ: UUIDs, times, priority, command and content address. It goes straight
into the tables, thousands in one transaction, where a commit through the API costs milliseconds.
"""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, create_engine, func, insert, select, text
from sqlalchemy.pool import NullPool

from load import Call, ask
from nodemanager.model import new_uuid
from nodemanager.server import schema
from nodemanager.server.wants import Want, priority_of
from serving import Server

SHAPES = 60
MOST_URGENT = 900
"""Of the copies; what must be claimed before all of them is more urgent than this."""

GIB = 2**30
LARGEST_NODE = {"cores": 64, "ram_bytes": 256 * GIB, "scratch_bytes": 2**42, "gpus": 0}

_CHUNK = 5000
_CLUSTER = "zzzzz"


@dataclass(frozen=True)
class Template:
    """What one committed request wrote, by table."""

    request: dict[str, Any]
    container: dict[str, Any]
    attempt: dict[str, Any]


class Backlog:
    """The queue of one server. `depth` is how many containers can be claimed, as far as we know."""

    def __init__(self, server: Server) -> None:
        self._target = server.target
        self._token = server.new_token("--user", "bench")
        # No connection stays open: the load processes are forks of this one.
        self._engine = create_engine(server.database_url, poolclass=NullPool)
        self._random = random.Random(3)
        self._templates = [self._template(number) for number in range(SHAPES)]
        self.depth = SHAPES

    def fill(self, depth: int, tell: Callable[[int], None]) -> None:
        """Add what is missing to `depth`; `tell` is told how many there are, now and then."""
        while self.depth < depth:
            count = min(_CHUNK, depth - self.depth)
            self._copy(self._templates, count)
            self.depth += count
            tell(self.depth)
        self._settle()

    def add_misfits(self, count: int, priority: int) -> None:
        """Add containers that fit no node of our dispatcher."""
        if not count:
            return
        misfit = self._template(0, priority, vcpus=LARGEST_NODE["cores"] + 1)
        for begin in range(0, count - 1, _CHUNK):
            self._copy([misfit], min(_CHUNK, count - 1 - begin), priority)
        self._settle()

    def queued(self) -> int:
        """How many containers are Queued, those that do not fit among them."""
        with self._engine.begin() as conn:
            return conn.execute(
                select(func.count()).where(schema.containers.c.state == "Queued")
            ).scalar_one()

    def commits(self) -> Iterator[Call]:
        """Commits of new requests, without end."""
        number = 0
        while True:
            yield self.commit(number)
            number += 1

    def commit(self, number: int, priority: int | None = None, **constraints: int) -> Call:
        """The commit of one request; `number` chooses its shape."""
        attributes = {
            "name": f"bench {number}",
            "state": "Committed",
            "priority": priority or self._priority(),
            "command": ["sh", "-c", f"exec work --part {number}"],
            "cwd": "/work",
            "environment": {"LANG": "C.UTF-8", "HOME": "/work"},
            "container_image": "none",
            "output_path": "/work/out",
            "mounts": {"/work/out": {"kind": "tmp", "capacity": GIB}},
            "runtime_constraints": {
                "vcpus": 1 + number % 6,
                "ram": (1 + number % 10) * GIB,
                **constraints,
            },
            "scheduling_parameters": {"max_run_time": 3600},
            "use_existing": False,
        }
        body = json.dumps({"container_request": attributes}).encode()
        return Call("POST", "/arvados/v1/container_requests", self._token, body)

    def _priority(self) -> int:
        return self._random.randint(1, MOST_URGENT)

    def _template(self, number: int, priority: int | None = None, **constraints: int) -> Template:
        request = ask(self._target, self.commit(number, priority, **constraints))
        with self._engine.begin() as conn:
            return Template(
                *(
                    dict(conn.execute(select(table).where(column == key)).mappings().one())
                    for table, column, key in (
                        (
                            schema.container_requests,
                            schema.container_requests.c.uuid,
                            request["uuid"],
                        ),
                        (schema.containers, schema.containers.c.uuid, request["container_uuid"]),
                        (schema.attempts, schema.attempts.c.request_uuid, request["uuid"]),
                    )
                )
            )

    def _copy(self, templates: list[Template], count: int, priority: int | None = None) -> None:
        copies = [
            _copy_of(template, priority or self._priority(), number)
            for number, template in enumerate(self._random.choices(templates, k=count))
        ]
        with self._engine.begin() as conn:
            conn.execute(insert(schema.container_requests), [copy.request for copy in copies])
            conn.execute(insert(schema.containers), [copy.container for copy in copies])
            conn.execute(insert(schema.attempts), [copy.attempt for copy in copies])

    def _settle(self) -> None:
        """Have done what the database would do in the background soon after so many rows."""
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect() as conn:
                conn.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
            return
        with _autocommit(self._engine).connect() as conn:
            conn.execute(text("VACUUM ANALYZE"))
            conn.execute(text("CHECKPOINT"))


def _autocommit(engine: Engine) -> Engine:
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _copy_of(template: Template, priority: int, number: int) -> Template:
    """Another request of the same shape; `number` microseconds younger, so that times differ."""
    request_uuid = new_uuid(_CLUSTER, "container_request")
    container_uuid = new_uuid(_CLUSTER, "container")
    created = template.request["created_at"] + number
    common = {
        "command": ["sh", "-c", f"exec work --part {number}"],
        "content_address": secrets.token_hex(32),
        "created_at": created,
        "modified_at": created,
    }
    return Template(
        request={
            **template.request,
            **common,
            "uuid": request_uuid,
            "container_uuid": container_uuid,
            "priority": priority,
        },
        container={
            **template.container,
            **common,
            "uuid": container_uuid,
            "priority": priority_of([Want(priority, created)]),
        },
        attempt={
            **template.attempt,
            "request_uuid": request_uuid,
            "container_uuid": container_uuid,
        },
    )
