"""What the main container of a pod runs: a container's own command, or a program of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodemanager.model import NODE_VARIABLE
from nodemanager.mount_plan import RequestFaultError
from nodemanager.schedulers.base import JobSpec
from nodemanager.schedulers.kubernetes.mounts import place
from nodemanager.schedulers.kubernetes.names import COMMAND
from nodemanager.schedulers.kubernetes.options import KubernetesOptions
from nodemanager.schedulers.kubernetes.script import fed
from nodemanager.schedulers.kubernetes.syntax import is_variable
from nodemanager.schedulers.kubernetes.volumes import PRIVATE, Volumes
from nodemanager.work import TOKEN_VARIABLE, Work, api_environment

MAX_TEXT_BYTES = 1 << 20
"""Of a command, and of an environment; etcd takes no object above 1.5 MiB."""

NO_IMAGE = "none"
"""What requests say that need no image, as for an engine that has none."""

_NODE_NAME = {"fieldRef": {"fieldPath": "spec.nodeName"}}

_RUNNER = "runner"
_TOKEN = "token"  # noqa: S105 (a key's name)
_STDIN = "stdin"
_AUTHORITY = "authority"


@dataclass(frozen=True, slots=True)
class Program:
    """What is run, and how the pod is to be marked for it."""

    image: str
    command: Sequence[str]
    """As it is to be, whatever Kubernetes would read in it: see `literal`."""
    environment: Sequence[Mapping[str, Any]]
    """As a container's `env`."""
    directory: str
    """Empty for the image's own."""
    run_seconds: int
    """After so many the pod is stopped; 0 for never."""
    asked_seconds: int
    """What the container set itself as a limit."""
    runs: str
    """The value of the annotation `RUNS`."""


def command_of(name: str, work: Work, options: KubernetesOptions, volumes: Volumes) -> Program:
    """The container's command in its own image, with all it asked for; raises `RequestFaultError`."""
    image = options.image if work.image in ("", NO_IMAGE) else work.image
    if not image:
        raise RequestFaultError(
            "container_image: missing, and the option image of [Scheduler] names none either"
        )
    program = Program(
        image=image,
        command=place(work.plan, name, work.command, options, volumes),
        environment=_environment(name, work, volumes),
        directory=work.plan.cwd,
        run_seconds=work.max_run_seconds,
        asked_seconds=work.max_run_seconds,
        runs=COMMAND,
    )
    _check_texts(program)
    return program


def runner_of(spec: JobSpec, options: KubernetesOptions, volumes: Volumes) -> Program:
    """The job's `argv` in `runner_image`, its `stdin` from the Secret; raises `RequestFaultError`."""
    if not options.runner_image:
        raise RequestFaultError(
            "it runs a program of ours, for which there is no image; the operator can name one in the option "
            "runner_image of [Scheduler]"
        )
    command: Sequence[str] = spec.argv
    if spec.stdin:
        path = f"{PRIVATE}/{_STDIN}"
        volumes.add_file(_STDIN, spec.stdin, path)
        command = fed(options.shell, command, path)
    program = Program(
        image=options.runner_image,
        command=command,
        environment=({"name": NODE_VARIABLE, "valueFrom": _NODE_NAME},),
        directory="",
        run_seconds=spec.max_run_seconds,
        asked_seconds=0,
        runs=_RUNNER,
    )
    _check_texts(program)
    return program


def literal(text: str) -> str:
    """So that Kubernetes makes `text` of it: it would put a variable for ``$(NAME)``, and a dollar for two."""
    return text.replace("$", "$$")


def _environment(name: str, work: Work, volumes: Volumes) -> list[dict[str, Any]]:
    environment = dict(work.environment)
    hidden = []
    if work.api is not None:
        authority = f"{PRIVATE}/{_AUTHORITY}.pem" if work.api.authority else ""
        if authority:
            volumes.add_file(_AUTHORITY, work.api.authority, authority)
        insecure = work.api.insecure
        environment |= api_environment(work.api.host, ca_file=authority, insecure=insecure)
        environment.pop(TOKEN_VARIABLE, None)
        volumes.secret[_TOKEN] = work.api.token.encode()
        source = {"secretKeyRef": {"name": name, "key": _TOKEN}}
        hidden.append({"name": TOKEN_VARIABLE, "valueFrom": source})
    for variable in environment:
        if not is_variable(variable):
            raise RequestFaultError(
                f"environment: {variable!r}: Kubernetes takes names of letters, digits, -, _ and . only"
            )
    plain = [{"name": key, "value": literal(value)} for key, value in environment.items()]
    return sorted([*plain, *hidden], key=lambda each: str(each["name"]))


def _check_texts(program: Program) -> None:
    """What JSON, or the store of the API server, could not take."""
    environment = [f"{each['name']}={each.get('value', '')}" for each in program.environment]
    total = 0
    for what, texts in (
        ("container_image", [program.image]),
        ("command", [literal(word) for word in program.command]),
        ("environment", environment),
        ("cwd", [program.directory]),
    ):
        text = "".join(texts)
        if "\0" in text:
            raise RequestFaultError(f"{what}: it has a NUL character")
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise RequestFaultError(f"{what}: it is no text that UTF-8 could hold") from None
        total += size
        if total > MAX_TEXT_BYTES:
            raise RequestFaultError(
                f"{what}: {size} bytes; a pod can have {MAX_TEXT_BYTES} of command and environment, the rest has to "
                "come from a file"
            )
