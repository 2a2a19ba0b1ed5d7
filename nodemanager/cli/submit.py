"""`submit`: the container requests of YAML files, without a daemon."""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from nodemanager.api.requests import ArvadosRequests
from nodemanager.cli.command import FAILED, INTERRUPTED, SUCCEEDED, Command, Flags, complete_files
from nodemanager.cli.out import Out
from nodemanager.cli.site import Site, UsageError
from nodemanager.errors import ApiRefused, NodeManagerError
from nodemanager.model import format_time
from nodemanager.runs.record import RunRecords
from nodemanager.runs.request_file import RequestSpec, load_requests, ready_attributes
from nodemanager.runs.session import RunContext, run_requests
from nodemanager.runs.view import make_view


def submit(site: Site, flags: Flags, out: Out) -> int:
    """Submit them, and follow them if asked to."""
    specs = load_requests(flags.file)
    if flags.resume and not flags.watch:
        raise UsageError("--resume goes with --watch")
    if flags.watch:
        return _run(site, flags, specs, out)
    folder = flags.file if flags.file.is_dir() else flags.file.parent
    _refuse_what_needs_watching(specs, folder)
    calls = ArvadosRequests(site.api)
    status = SUCCEEDED
    made = []
    for spec in specs:
        # Nobody reads the clock later: what is relative is relative to now.
        run_after = None if spec.delay is None else format_time(out.now + spec.delay)
        attributes = ready_attributes(spec, {}, run_after, {"file": spec.file})
        try:
            record = site.asked(partial(calls.create, attributes), "submitting")
        except ApiRefused as error:
            out.note(f"{folder / spec.file}:{spec.line}: {spec.name}: the API refuses it: {error}")
            status = FAILED
            continue
        except NodeManagerError as error:
            # What was submitted has to be told: who submits again would have it twice.
            out.note(f"{folder / spec.file}:{spec.line}: {spec.name} and what follows it: {error}")
            status = FAILED
            break
        made.append(
            {"name": spec.name, "uuid": record["uuid"], "container": record["container_uuid"]}
        )
        if not out.as_json:
            out.say(f"{record['uuid']}  {spec.name}" if out.is_terminal else record["uuid"])
            out.flush()
    if out.as_json:
        out.document({"at": format_time(out.now), "submitted": made})
    return status


def _refuse_what_needs_watching(specs: Sequence[RequestSpec], folder: Path) -> None:
    for spec in specs:
        why = ""
        if spec.after:
            why = f"comes after {', '.join(spec.after)}"
        elif spec.cancel_after is not None:
            why = "is to be cancelled after a while"
        if why:
            raise UsageError(
                f"{folder / spec.file}:{spec.line}: {spec.name} {why}, for which somebody has to watch: add --watch"
            )


def _run(site: Site, flags: Flags, specs: Sequence[RequestSpec], out: Out) -> int:
    if out.as_json:
        raise UsageError(
            "--json and --watch exclude each other: watch UUID... --json tells how they ended"
        )
    stop = threading.Event()
    records = RunRecords(_state_home())
    if flags.resume:
        # What cannot be resumed is told before anything is shown.
        records.resume(flags.file, specs)
    store = "at the API" if site.store is None else str(site.store)
    context = RunContext(
        api=ArvadosRequests(site.api),
        records=records,
        view=make_view(out.console),
        clock=out.clock,
        stop=stop,
        store=store,
    )
    try:
        return site.asked(
            lambda: run_requests(context, flags.file, specs, resume=flags.resume), "submitting"
        )
    except KeyboardInterrupt:
        out.note(
            "stopped watching; what was submitted goes on. Follow it with submit --watch --resume"
        )
        return INTERRUPTED


def _state_home() -> Path:
    """Where this user's runs are noted, for --resume."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "arvados-node-manager"


def _arguments(parser: argparse.ArgumentParser) -> None:
    path = parser.add_argument(
        "file", metavar="PATH", type=Path, help="a YAML file, or a folder of them, as for --run"
    )
    complete_files(path)
    parser.add_argument("--watch", action="store_true", help="follow them until every one is final")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="with --watch: go on with the last run of PATH that did not end, submitting nothing twice",
    )


SUBMIT = Command(
    "submit",
    "submit the container requests of a YAML file, without a daemon",
    submit,
    description="Prints the UUID of each request, on a terminal with its name. Nothing is submitted if anything in "
    "the files is wrong. Requests that come after others or use their outputs need --watch, which submits each when "
    "its turn comes.",
    arguments=_arguments,
    examples=(
        "submit etc/examples/genomes.yml --watch",
        "watch $(arvados-node-manager submit requests.yml)",
    ),
    keys={
        "at": "when they were submitted",
        "submitted": "an object for each: `name`, `uuid` (of the request), `container` (UUID of its first attempt)",
    },
    statuses={
        0: "all were submitted; with --watch: all are Complete",
        1: "one was refused; with --watch: one is not Complete",
        130: "with --watch: stopped by Ctrl-C; --resume goes on",
    },
)
