"""`--check`: look at everything the configuration names, change nothing, and say what is in effect.

Exit status 0 when all is well, 1 when something it can reach does not work; a file that is invalid in
itself never gets here (status 2).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from nodemanager.api.connection import call
from nodemanager.api.endpoint import outer_endpoint
from nodemanager.clouds.base import Cloud
from nodemanager.clouds.make import make_cloud
from nodemanager.config import Config, describe
from nodemanager.daemon import make_site_scheduler
from nodemanager.durable import nearest_directory, write_problem
from nodemanager.errors import NodeManagerError
from nodemanager.model import Finding, NodeSize, format_bytes
from nodemanager.nodes.catalogue import read_catalogue
from nodemanager.reach import unreachable
from nodemanager.schedulers.make import SchedulerSite, scheduler_sites

Probe: TypeAlias = Callable[[], Iterable[Finding]]
"""What looks at the site from a node."""


def check(config: Config, console: Console, probe: Probe | None = None) -> int:
    """Print the effective configuration and the findings; returns the exit status.

    `probe` is tried last, and only if what it stands on is well.
    """
    _print_configuration(config, console)
    problems = _print_findings(_ground(config), console)
    is_sound = not problems
    problems += _print_findings(_rest(config), console)
    if probe is not None:
        nothing = (Finding("probe", problem="not tried: put right what is said above first"),)
        problems += _print_findings(probe() if is_sound else nothing, console)
    console.print("no problems" if not problems else f"{problems} problems")
    return 1 if problems else 0


def findings(config: Config) -> Iterator[Finding]:
    """Everything that can be looked at from here, one line each."""
    yield from _ground(config)
    yield from _rest(config)


def _ground(config: Config) -> Iterator[Finding]:
    """What nothing works without."""
    yield from (Finding("configuration", problem="", detail=text) for text in config.warnings)
    yield _directory("state directory", config.daemon.state_dir)
    yield _api(config)
    for site in scheduler_sites(config):
        yield from _scheduler(config, site)


def _rest(config: Config) -> Iterator[Finding]:
    if config.runner.store is not None:
        yield _directory("store", config.runner.store)
    if _jobs_run_here(config):
        yield from _node(config)
    else:
        yield Finding("nodes", "scratch, input directories, runner and engine: see --check --probe")
    if config.cloud.provider:
        yield from _cloud(config)


def _jobs_run_here(config: Config) -> bool:
    try:
        return any(site.kind.on_this_machine for site in scheduler_sites(config))
    except NodeManagerError:
        # Which is told elsewhere.
        return True


def _node(config: Config) -> Iterator[Finding]:
    """What jobs need on their node, which is this machine."""
    yield _directory("scratch", config.runner.scratch)
    yield from (_input_dir(path) for path in config.runner.input_dirs)
    yield _program("runner", config.runner.command[0])
    if config.runner.container_engine != "none":
        yield _program("container engine", config.runner.container_engine)


def _print_findings(found: Iterable[Finding], console: Console) -> int:
    """One line each, as they come; returns the number of problems."""
    problems = 0
    for finding in found:
        if finding.problem:
            problems += 1
            console.print(
                f"[red]problem[/]  {escape(finding.subject)}: {escape(finding.problem)}",
                soft_wrap=True,
            )
        else:
            detail = f": {finding.detail}" if finding.detail else ""
            console.print(f"[green]ok[/]       {escape(finding.subject + detail)}", soft_wrap=True)
    return problems


def _print_configuration(config: Config, console: Console) -> None:
    """Every option in effect, section by section, with where its value is from."""
    _say(console, f"effective configuration of {config.path}")
    section = ""
    lines = describe(config)
    width = max(len(f"{line.option} = {line.value}") for line in lines if len(line.value) < 40)
    for line in lines:
        if line.section != section:
            section = line.section
            _say(console, f"\n[{section}]")
        _say(console, f"  {f'{line.option} = {line.value}':<{width}}  ({line.origin})")
    _say(console, "")


def _say(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)


def _directory(subject: str, path: Path) -> Finding:
    """Whether `path` can be written, or made: the nearest directory that exists decides."""
    nearest = nearest_directory(path)
    made = "" if nearest == path else ", will be made"
    problem = write_problem(path)
    free = "" if problem else f" ({format_bytes(shutil.disk_usage(nearest).free)} free)"
    return Finding(subject, f"{path}{made}{free}", problem)


def _input_dir(path: Path) -> Finding:
    if not path.is_dir():
        return Finding("input directory", problem=f"{path} does not exist")
    return Finding("input directory", str(path))


def _program(subject: str, name: str) -> Finding:
    found = shutil.which(name)
    if found is None:
        return Finding(subject, problem=f"{name} is not installed on this machine")
    return Finding(subject, found)


def _api(config: Config) -> Finding:
    if config.is_embedded:
        nodes = config.api.advertise_url
        where = f"nodes reach it at {nodes}" if nodes else "on this machine only"
        return Finding("API", f"embedded: started with the daemon, {where}")
    endpoint = outer_endpoint(config)
    try:
        user = call(endpoint.connect(config.arvados.timeout).users().current())
    except NodeManagerError as error:
        return Finding("API", problem=str(error))
    return Finding("API", f"{endpoint.url} answers, as {user.get('email') or user.get('uuid')}")


def _scheduler(config: Config, site: SchedulerSite) -> Iterator[Finding]:
    try:
        scheduler = make_site_scheduler(config, site)
    except NodeManagerError as error:
        yield Finding(f"scheduler {site.title}", problem=str(error))
        return
    try:
        if words := unreachable(config, type(scheduler)):
            yield Finding("API", problem=words)
        for finding in scheduler.check():
            subject = f"{site.name}: {finding.subject}" if site.name else finding.subject
            yield replace(finding, subject=subject)
    except NodeManagerError as error:
        yield Finding(f"scheduler {site.title}", problem=str(error))
    finally:
        scheduler.close()


def _cloud(config: Config) -> Iterator[Finding]:
    subject = f"cloud {config.cloud.provider}"
    try:
        cloud = make_cloud(config)
    except NodeManagerError as error:
        yield Finding(subject, problem=str(error))
        return
    try:
        for look in (cloud.check, partial(_sizes, config, cloud)):
            try:
                yield from look()
            except NodeManagerError as error:
                yield from (Finding(subject, problem=line) for line in str(error).splitlines())
    finally:
        cloud.close()


def _sizes(config: Config, cloud: Cloud) -> Iterator[Finding]:
    """The sizes in effect. One that the cloud does not list need not be wrong: a library's list may be old."""
    listed = cloud.sizes()
    known = {word for size in listed for word in (size.id, size.name)}
    for size in read_catalogue(config, lambda: listed).sizes:
        # A cloud that lists none says nothing about any.
        is_known = not known or size.cloud_name in known
        unknown = "" if is_known else "; check the name: the cloud does not list it"
        yield Finding(f"size {size.name}", _describe_size(size) + unknown)


def _describe_size(size: NodeSize) -> str:
    has = size.resources
    parts = [
        _so_many(has.cores, "core"),
        f"{format_bytes(has.ram_bytes)} RAM",
        f"{format_bytes(has.scratch_bytes) if has.scratch_bytes else 'no'} scratch",
        _so_many(has.gpus, "GPU"),
        f"{size.price:g} per hour",
    ]
    if size.preemptible:
        parts.append("preemptible")
    if size.partitions:
        parts.append(f"partitions {' '.join(size.partitions)}")
    return f"{', '.join(parts)}; instance type {size.cloud_name}"


def _so_many(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"
