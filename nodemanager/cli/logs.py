"""`logs`: what a container wrote, and goes on writing."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from nodemanager.api.container_logs import ContainerLogs
from nodemanager.cli.command import FAILED, SUCCEEDED, Command, Flags
from nodemanager.cli.out import Out
from nodemanager.cli.site import Site, needs_work
from nodemanager.cli.verbs import get_work
from nodemanager.errors import NodeManagerError
from nodemanager.model import ContainerState

PIECE_BYTES = 1 << 20
FOLLOW_SECONDS = 1.0


def logs(site: Site, flags: Flags, out: Out) -> int:
    """Print them."""
    uuid = _container(site, flags, out)
    reader = _Reader(site, site.logs(), uuid, out)
    try:
        if flags.list:
            return _list(reader, out)
        if flags.follow:
            return reader.follow(flags.name)
        return reader.print_all(flags.name)
    finally:
        reader.close()


def _container(site: Site, flags: Flags, out: Out) -> str:
    """Whose logs: of a request those of its last attempt that began, or of the one that is named."""
    uuid: str = flags.uuid
    record = get_work(site, uuid)
    if needs_work(uuid) == "container":
        if flags.attempt:
            raise NodeManagerError("--attempt goes with the UUID of a request")
        return uuid
    attempts = site.call("container_requests", "attempts", uuid=uuid)["items"]
    if flags.attempt:
        chosen = [a for a in attempts if a["attempt"] == flags.attempt]
        if not chosen:
            raise NodeManagerError(f"{uuid}: has no attempt {flags.attempt}, only {len(attempts)}")
        return str(chosen[0]["container_uuid"])
    if not attempts:
        raise NodeManagerError(f"{uuid}: has no container yet (it is {record['state']})")
    current = attempts[-1]
    if flags.follow or current["started_at"]:
        return str(current["container_uuid"])
    begun = [a for a in attempts if a["started_at"]]
    if not begun:
        return str(current["container_uuid"])
    out.note(
        f"attempt {current['attempt']} is {current['state']}; this is the log of attempt {begun[-1]['attempt']}"
    )
    return str(begun[-1]["container_uuid"])


def _list(reader: _Reader, out: Out) -> int:
    for name, size in reader.sizes().items():
        out.say(f"{size:>12,}  {name}")
    return SUCCEEDED


class _Reader:
    """Prints the logs of one container."""

    def __init__(self, site: Site, source: ContainerLogs, uuid: str, out: Out) -> None:
        self._site = site
        self._source = source
        self._uuid = uuid
        self._out = out
        self._offsets: dict[str, int] = {}
        self._last = ""
        """The log whose text was printed last."""
        self._line_open = False

    def close(self) -> None:
        self._source.close()

    def sizes(self) -> Mapping[str, int]:
        """Its logs."""
        found: Mapping[str, int] = self._site.asked(
            lambda: self._source.sizes(self._uuid), "reading its logs"
        )
        return found

    def print_all(self, name: str) -> int:
        """All there is."""
        sizes = self.sizes()
        if name and name not in sizes:
            raise NodeManagerError(f"{self._uuid}: {_no_log(name, sizes)}")
        chosen = [name] if name else [n for n, size in sizes.items() if size]
        if not chosen:
            self._out.note(f"{self._uuid} has written nothing (it is {self._state()})")
            return SUCCEEDED
        for one in chosen:
            self._print(one, with_name=len(chosen) > 1)
        return SUCCEEDED

    def follow(self, name: str) -> int:
        """All there is and what comes, until the container is final; `FAILED` unless it is Complete."""
        while True:
            # Looked at first: what was written before the end is there when the end is seen.
            state = self._state()
            for one in self._present(name):
                self._print(one, with_name=not name)
            self._out.flush()
            if ContainerState(state).is_final:
                self._out.note(f"{self._uuid} is {state}")
                return SUCCEEDED if state == ContainerState.COMPLETE else FAILED
            self._out.pause(FOLLOW_SECONDS)

    def _present(self, name: str) -> Sequence[str]:
        sizes = self.sizes()
        return [n for n in sizes if n == name or not name]

    def _state(self) -> str:
        return str(get_work(self._site, self._uuid)["state"])

    def _print(self, name: str, *, with_name: bool) -> None:
        for piece in self._pieces(name):
            if with_name and name != self._last:
                between = ("\n" if self._line_open else "") + ("\n" if self._last else "")
                self._out.raw(f"{between}==> {name} <==\n".encode())
            self._last = name
            self._out.raw(piece)
            self._line_open = not piece.endswith(b"\n")

    def _pieces(self, name: str) -> Iterator[bytes]:
        while True:
            offset = self._offsets.get(name, 0)
            read = partial(self._source.read, self._uuid, name, offset, PIECE_BYTES)
            piece = self._site.asked(read, "reading its logs")
            if not piece:
                return
            self._offsets[name] = offset + len(piece)
            yield piece


def _no_log(name: str, sizes: Mapping[str, Any]) -> str:
    there = ", ".join(sizes)
    return f"has no log {name}{f'; there are {there}' if there else ', nor any other'}"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uuid", metavar="UUID", help="of a container request, or of a container")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on with what is written until it is final"
    )
    parser.add_argument(
        "--name", metavar="NAME", default="", help="only this log, such as stderr.txt"
    )
    parser.add_argument(
        "--attempt", metavar="N", type=int, default=0, help="of a request: that attempt's"
    )
    parser.add_argument("--list", action="store_true", help="only the names and sizes in bytes")


LOGS = Command(
    "logs",
    "what a container wrote, and goes on writing",
    logs,
    description="Of a request the last attempt is meant that began. Several logs come one after the other, each "
    "below a line with its name; one that is asked for by name comes as it is, byte by byte. On a terminal control "
    "characters are shown as question marks.",
    arguments=_arguments,
    examples=(
        "logs zzzzz-xvhdp-0123456789abcde -f",
        "logs zzzzz-xvhdp-0123456789abcde --name stdout.txt > result",
    ),
    statuses={
        0: "printed; with -f: it is Complete",
        1: "it could not be read; with -f also: it ended otherwise than Complete",
    },
)
