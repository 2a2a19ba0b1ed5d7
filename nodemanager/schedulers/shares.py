"""Shares of this machine that pass for machines of their own: one file each, in one directory.

The loopback cloud writes the files, as a real cloud makes machines; the local scheduler reads them, as
machines that were made join a real one. Nothing else is kept about such a machine, and all times in a file are Unix
seconds, so that both find the same after a restart.

    <directory>/lock           locked while somebody changes anything
    <directory>/<name>.json    one machine
    <directory>/<name>.out     what it printed, if it is a process

Files are written whole or not at all, so whoever reads needs no lock. A file that cannot be read raises
`ValueError`, and a directory that is not there `OSError`: neither means that there are no machines.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from nodemanager.durable import sync_directory, unlock, write_private
from nodemanager.model import Resources
from nodemanager.schedulers.spool import Start

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
"""What a machine can be called: its name is that of a file."""

_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class Share:
    """One machine."""

    name: str
    """Unique for ever."""
    cloud_id: str
    host: str
    """What it is called in the scheduler."""
    instance_type: str
    resources: Resources
    partitions: tuple[str, ...] = ()
    preemptible: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at: float = 0.0
    joins_at: float | None = 0.0
    """When it joins the scheduler; None means never."""
    breaks_at: float | None = None
    """When it goes down, if it does."""
    process: Start | None = None
    """The process that is the machine, for schedulers with daemons on their nodes."""

    def has_joined(self, now: float) -> bool:
        """Whether it is known to the scheduler at Unix time `now`."""
        return self.joins_at is not None and self.joins_at <= now

    def is_broken(self, now: float) -> bool:
        """Whether it has gone down by Unix time `now`."""
        return self.breaks_at is not None and self.breaks_at <= now


class Shares:
    """The directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._seen: tuple[Share, ...] = ()
        self._mark: list[tuple[str, int, int]] | None = None

    def make_directory(self) -> None:
        """Make it if it is not there."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read(self) -> tuple[Share, ...]:
        """Every machine, in the order of creation. Files are read again only when one has changed."""
        # Each write makes another file, so these tell whether anything was written. (`glob` would take a
        # directory that is not there for an empty one.)
        mark = []
        for path in sorted(path for path in self.directory.iterdir() if path.suffix == _SUFFIX):
            # It may have been removed meanwhile.
            with suppress(FileNotFoundError):
                stat = path.stat()
                mark.append((path.name, stat.st_ino, stat.st_mtime_ns))
        if mark != self._mark:
            shares = []
            for name, _, _ in mark:
                with suppress(FileNotFoundError):
                    shares.append(_read(self.directory / name))
            self._seen = tuple(sorted(shares, key=lambda share: (share.created_at, share.name)))
            self._mark = mark
        return self._seen

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Nobody else, in whatever process, changes anything meanwhile."""
        descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            unlock(descriptor)
            os.close(descriptor)

    def output(self, name: str) -> Path:
        """Where a machine prints to, if it is a process."""
        return self.directory / f"{name}.out"

    def write(self, share: Share) -> None:
        """Make a machine, or change it, durably."""
        content = {field.name: getattr(share, field.name) for field in fields(share)}
        content["resources"] = share.resources.as_dict()
        content["tags"] = dict(share.tags)
        content["process"] = None if share.process is None else asdict(share.process)
        write_private(self._path(share.name), json.dumps(content, indent=1) + "\n")

    def remove(self, name: str) -> None:
        """Let a machine be gone, durably."""
        self._path(name).unlink(missing_ok=True)
        self.output(name).unlink(missing_ok=True)
        sync_directory(self.directory)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}{_SUFFIX}"


def _read(path: Path) -> Share:
    """Raises `FileNotFoundError` when it is gone, `ValueError` when it makes no sense."""
    try:
        content = json.loads(path.read_text("utf-8"))
        share = Share(
            name=str(content["name"]),
            cloud_id=str(content["cloud_id"]),
            host=str(content["host"]),
            instance_type=str(content["instance_type"]),
            resources=Resources.from_dict(content["resources"]),
            partitions=tuple(map(str, content["partitions"])),
            preemptible=bool(content["preemptible"]),
            tags={str(key): str(value) for key, value in content["tags"].items()},
            created_at=float(content["created_at"]),
            joins_at=_maybe_float(content["joins_at"]),
            breaks_at=_maybe_float(content["breaks_at"]),
            process=_maybe_start(content.get("process")),
        )
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"cannot read {path}: {error!r}; repair or remove it") from error
    if share.name != path.stem:
        raise ValueError(f"{path} is the machine {share.name!r}; repair or remove it")
    return share


def _maybe_start(value: Mapping[str, Any] | None) -> Start | None:
    if value is None:
        return None
    return Start(str(value["boot_id"]), int(value["leader"]), int(value["leader_born"]))


def _maybe_float(value: object) -> float | None:
    return None if value is None else float(str(value))
