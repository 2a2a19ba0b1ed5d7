"""`prune`: remove requests that ended long ago, with their containers, reasons, logs and outputs."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from nodemanager.cli.command import FAILED, SUCCEEDED, Command, Flags, duration
from nodemanager.cli.out import Out
from nodemanager.cli.site import Site, is_uuid
from nodemanager.cli.words import age, count
from nodemanager.model import format_time

BATCH = 500
"""Requests of one call: a transaction that nobody waits for long."""


class _Sum:
    """What was, or would be, removed so far."""

    def __init__(self) -> None:
        self.requests = 0
        self.containers = 0
        self.folders = 0
        self.troubles: list[str] = []

    def add(self, answer: Mapping[str, Any]) -> None:
        """What one call answered."""
        self.requests += int(answer["container_requests"])
        self.containers += int(answer["containers"])

    @property
    def words(self) -> str:
        """For people."""
        return f"{count(self.requests, 'request')}, {count(self.containers, 'container')}"


def prune(site: Site, flags: Flags, out: Out) -> int:
    """Remove them, batch by batch."""
    before = format_time(out.now - flags.older_than)
    done = _Sum()
    store = site.store if site.store is not None and site.store.is_dir() else None
    with _progress(out) as show:
        for answer in _batches(site, before, only_look=flags.only_look):
            done.add(answer)
            if store is not None:
                for uuid in answer["container_uuids"]:
                    _remove_folder(store / uuid, uuid, done)
            show(done.words)
    _say(done, before, flags, store, out)
    return FAILED if done.troubles else SUCCEEDED


def _batches(site: Site, before: str, *, only_look: bool) -> Iterator[Mapping[str, Any]]:
    while True:
        answer = site.call(
            "container_requests", "prune", before=before, limit=BATCH, dry_run=only_look
        )
        yield answer
        if not answer["more"]:
            return


def _remove_folder(folder: Path, uuid: str, done: _Sum) -> None:
    """Log and output of a container that is no more; the API has removed what it keeps itself."""
    if not is_uuid(uuid) or not folder.exists():
        return
    try:
        shutil.rmtree(folder)
        done.folders += 1
    except OSError as error:
        done.troubles.append(f"{folder}: {error.strerror}")


@contextmanager
def _progress(out: Out) -> Iterator[Any]:
    """What shows how far it is; nothing where nobody looks."""
    if not out.is_terminal:
        yield lambda _words: None
        return
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=out.console, transient=True) as bar:
        task = bar.add_task("looking")
        yield lambda words: bar.update(task, description=f"removed {words}")


def _say(done: _Sum, before: str, flags: Flags, store: Path | None, out: Out) -> None:
    for trouble in done.troubles:
        out.note(f"could not be removed: {trouble}")
    if out.as_json:
        out.document(
            {
                "before": before,
                "dry_run": flags.only_look,
                "container_requests": done.requests,
                "containers": done.containers,
                "folders": done.folders,
            }
        )
        return
    older = f"ended more than {age(flags.older_than)} ago"
    if flags.only_look:
        out.say(f"would remove {done.words} that {older}; nothing was changed")
        return
    out.say(f"removed {done.words} that {older}")
    if store is not None:
        out.say(f"removed {count(done.folders, 'folder')} of logs and outputs in {store}")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--older-than",
        metavar="TIME",
        type=duration,
        required=True,
        help="how long ago they must have ended, such as 90d",
    )
    parser.add_argument(
        "--dry-run", dest="only_look", action="store_true", help="only say how many there are"
    )


PRUNE = Command(
    "prune",
    "remove requests that ended long ago, with their logs and outputs",
    prune,
    description="Removes container requests that are Final and ended before then, their containers with all that is "
    "known of them, and the containers' folders in the store when that is here (else those stay, and nobody knows of them "
    "any more). A container stays that a younger request has too, or whose output is an input of something which has not "
    "ended. Needs an administrator's token.",
    arguments=_arguments,
    examples=("prune --older-than 90d --dry-run", "prune --older-than 90d"),
    keys={
        "before": "what ended before then is meant",
        "dry_run": "whether nothing was changed",
        "container_requests, containers": "how many were, or would be, removed",
        "folders": "how many folders of logs and outputs were removed",
    },
    statuses={0: "done", 1: "refused, or a folder could not be removed"},
)
