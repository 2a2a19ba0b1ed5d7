"""What one option alone cannot tell: contradictions between options, and what deserves a warning."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator

from nodemanager.config.kinds import Seconds, nearest
from nodemanager.config.nodes import Cloud
from nodemanager.config.sections import OFF, REPLACED, Manage
from nodemanager.config.tree import DEFAULT, SECTIONS, Config

PINGS_PER_TIMEOUT = 3
"""So many pings may be missed before a dispatcher is lost."""


_WITH_NODE_DAEMONS = {
    "slurm": "slurmd -D -b -N %h",
    "sge": "a script that starts sge_execd",
    "kubernetes": "a script that starts a kubelet",
}
"""Schedulers whose nodes run a daemon of theirs, and how a machine would start it."""


def contradictions(config: Config) -> Iterator[tuple[tuple[str, str], str]]:
    """Options that cannot be meant together: the place (section, option) and what to do."""
    show = Seconds().show
    api, dispatch, scheduler = config.api, config.dispatch, config.scheduler
    if not config.is_embedded and not config.arvados.token:
        sentence = f"is missing, and host is {config.arvados.host}; set token_file"
        yield ("Arvados", "token"), f"{sentence}, or the variable NODE_MANAGER_ARVADOS_TOKEN"
    least = PINGS_PER_TIMEOUT * dispatch.ping_interval
    if api.ping_timeout < least:
        sentence = f"{show(api.ping_timeout)} is less than {PINGS_PER_TIMEOUT} times [Dispatch]"
        yield ("Api", "ping_timeout"), f"{sentence} ping_interval; at least {show(least)} is needed"
    if api.retry_backoff_max < api.retry_backoff_min:
        sentence = f"{show(api.retry_backoff_max)} is less than retry_backoff_min"
        yield ("Api", "retry_backoff_max"), f"{sentence} ({show(api.retry_backoff_min)})"
    if (api.certificate is None) != (api.key is None):
        lacking = "certificate" if api.certificate is None else "key"
        yield ("Api", lacking), "is missing; certificate and key come together, or neither does"
    named = {f"Scheduler {name}": each for name, each in config.schedulers.items()}
    for section, each in {"Scheduler": scheduler, **named}.items():
        if each.max_poll_time < each.poll_time:
            sentence = f"{show(each.max_poll_time)} is less than poll_time ({show(each.poll_time)})"
            yield (section, "max_poll_time"), sentence
    yield from _about_schedulers(config)
    if config.daemon.max_nodes < config.daemon.min_nodes:
        yield (
            ("Daemon", "max_nodes"),
            f"{config.daemon.max_nodes} is less than min_nodes ({config.daemon.min_nodes})",
        )
    yield from _about_nodes(config.cloud)


def _about_schedulers(config: Config) -> Iterator[tuple[tuple[str, str], str]]:
    names = config.dispatch.schedulers
    if names and config.origin("Dispatch", "scheduler") != DEFAULT:
        yield ("Dispatch", "scheduler"), "is given and schedulers as well; one of the two"
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield ("Dispatch", "schedulers"), f"names {name} twice"
    for name in dict.fromkeys(names):
        if name not in config.schedulers:
            hint = nearest(name, config.schedulers, "[Scheduler {}]")
            yield ("Dispatch", "schedulers"), f"there is no section [Scheduler {name}]{hint}"
    for name in config.schedulers:
        if name not in names:
            sentence = f"[Scheduler {name}] is there, and it is not in the list"
            yield ("Dispatch", "schedulers"), f"{sentence}{nearest(name, names)}"
    elastic = config.cloud.scheduler
    if elastic and elastic not in names:
        yield ("Cloud", "scheduler"), f"{elastic} is not in [Dispatch] schedulers"
    yield from _about_loopback(config, elastic or next(iter(names), ""))


def _about_loopback(config: Config, elastic: str) -> Iterator[tuple[tuple[str, str], str]]:
    """Only the local scheduler has nodes that are nothing but shares of this machine."""
    named = config.schedulers.get(elastic)
    module = config.dispatch.scheduler if named is None else named.module or elastic
    has_start = "start" in config.cloud_create.options
    if config.cloud.provider == "loopback" and module in _WITH_NODE_DAEMONS and not has_start:
        why = f"machines of the loopback cloud join {module} only if they run its daemon"
        yield ("Cloud Create", "start"), f"is missing: {why}: {_WITH_NODE_DAEMONS[module]}"


def _about_nodes(cloud: Cloud) -> Iterator[tuple[tuple[str, str], str]]:
    show = Seconds().show
    if cloud.capacity_pause_max < cloud.capacity_pause:
        sentence = f"{show(cloud.capacity_pause_max)} is less than capacity_pause"
        yield ("Cloud", "capacity_pause_max"), f"{sentence} ({show(cloud.capacity_pause)})"
    for option, path in (
        ("boot_script", cloud.boot_script),
        ("cluster_config", cloud.cluster_config),
    ):
        if path is not None and not os.path.isfile(path):  # noqa: PTH113 (never raises)
            yield ("Cloud", option), f"there is no file {path}"


def warnings_about(config: Config) -> Iterator[str]:
    """What the operator should know although the file is valid, one sentence each."""
    yield from _unused(config)
    if sentence := _exposure(config.manage):
        yield f"{config.path}: [Manage] {sentence}"


def _exposure(manage: Manage) -> str:
    """What is told to strangers: whoever binds to a public address may not mean that."""
    if manage.port == OFF or manage.management_token or _is_loopback(manage.address):
        return ""
    return (
        f"address: other machines may reach {manage.address} and read status.json there, while health"
        " checks and operators' verbs are off because ManagementToken is empty; set it, or listen on"
        " 127.0.0.1"
    )


def _is_loopback(address: str) -> bool:
    if address.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        # A name: nobody knows where it will lead.
        return False


def _unused(config: Config) -> Iterator[str]:
    """One sentence for each reason why given options have no effect, naming them all."""
    why_unused: dict[str, list[str]] = {}
    for section, option in config.origins:
        why = _why_unused(section, option)
        if why:
            why_unused.setdefault(why, []).append(f"[{section}] {option}")
    for why, names in why_unused.items():
        sentence = f"{config.path}: {why}: {', '.join(names)}"
        if why == REPLACED:
            sentence += f" (now {config.dispatch.scheduler})"
        yield sentence
    if not config.cloud.provider and (idle := _without_provider(config)):
        sentence = f"{config.path}: [Cloud] provider is empty, so no nodes are booted"
        yield f"{sentence} and this has no effect: {', '.join(idle)}"


def _without_provider(config: Config) -> list[str]:
    """The sections about nodes that somebody has written."""
    given = {section for section, option in config.origins if option != "provider"}
    about = ("Cloud", "Cloud Credentials", "Cloud List", "Cloud Create")
    written = [section for section in about if section in given]
    return [f"[{section}]" for section in (*written, *(f"Size {name}" for name in config.sizes))]


def _why_unused(section: str, option: str) -> str:
    for part in SECTIONS:
        if part.is_called(section):
            named = {made.key: made for made in part.options()}
            return named[option].unused if option in named else ""
    return ""
