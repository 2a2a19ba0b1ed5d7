"""What a container finds in its file system, as volumes of a pod.

Directories are empty ones, and the output part of a claim; contents come from a Secret of the container's own, files
from claims. What a pod cannot be given is refused, never left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from nodemanager.model import stored_output
from nodemanager.mount_plan import Mount, MountPlan, RequestFaultError, is_below
from nodemanager.schedulers.kubernetes.claims import Place, find_place
from nodemanager.schedulers.kubernetes.options import KubernetesOptions
from nodemanager.schedulers.kubernetes.script import prepared
from nodemanager.schedulers.kubernetes.volumes import PRIVATE, Volumes

_STDIN = "stdin"


def place(
    plan: MountPlan,
    uuid: str,
    command: Sequence[str],
    options: KubernetesOptions,
    volumes: Volumes,
) -> list[str]:
    """Put all that the plan asks for into `volumes`; answers with what to run then in the place of `command`.

    Raises `RequestFaultError` for what a pod cannot be given.
    """
    _check_targets(plan)
    # The directories first: what else there is may lie in them.
    _place_directories(plan, uuid, options, volumes)
    copies = []
    for number, mount in enumerate(plan.mounts):
        if mount.kind == "tmp":
            continue
        target = mount.target
        if is_below(target, plan.output_path) and not mount.secret:
            # It is part of the output, where a mount would leave nothing but an empty file.
            target = f"{PRIVATE}/mount-{number}"
            copies.append((target, mount.target))
        _place_file(mount, f"mount-{number}", target, options, volumes)
    return prepared(
        options.shell,
        command,
        copies=copies,
        stdin=_place_stdin(plan, options, volumes),
        stdout=plan.stdout,
        stderr=plan.stderr,
    )


def _check_targets(plan: MountPlan) -> None:
    targets = [plan.output_path, *(mount.target for mount in plan.mounts)]
    for mount in plan.mounts:
        if is_below(mount.target, PRIVATE):
            raise RequestFaultError(f"mount {mount.target}: {PRIVATE} is the node manager's own")
        for target in targets if mount.kind != "tmp" else ():
            if target != mount.target and is_below(target, mount.target):
                raise RequestFaultError(
                    f"mount {target}: it lies in {mount.target}, which is a file"
                )


def _place_directories(
    plan: MountPlan, uuid: str, options: KubernetesOptions, volumes: Volumes
) -> None:
    directories = [mount for mount in plan.mounts if mount.kind == "tmp"]
    capacity = sum(m.capacity for m in directories if m.target == plan.output_path)
    for number, mount in enumerate(directories):
        if not is_below(mount.target, plan.output_path):
            volumes.add_empty(f"tmp-{number}", mount.target, mount.capacity)
    base = ""
    if options.keep_output:
        where = _output_place(uuid, options)
        base = where.path
        output = volumes.add_claimed(where.claim.name, base, plan.output_path, read_only=False)
    else:
        output = volumes.add_empty("output", plan.output_path, capacity)
    for mount in directories:
        if mount.target != plan.output_path and is_below(mount.target, plan.output_path):
            # What is left there belongs to the output as well.
            inner = mount.target.removeprefix(f"{plan.output_path}/")
            volumes.add_part(output, f"{base}/{inner}" if base else inner, mount.target)


def _output_place(uuid: str, options: KubernetesOptions) -> Place:
    # That there is one was seen when the options were read.
    found = options.store and find_place(options.claims, options.store / uuid / "output")
    if not found:
        raise RequestFaultError("there is no claim to keep its output in; see the option claims")
    return found


def _place_stdin(plan: MountPlan, options: KubernetesOptions, volumes: Volumes) -> str:
    """Its path in the container; empty where there is nothing to read."""
    mount = plan.stdin
    if mount is None:
        return ""
    if mount.kind == "file" and any(is_below(mount.source, m.target) for m in plan.mounts):
        return mount.source
    target = f"{PRIVATE}/{_STDIN}"
    _place_file(mount, _STDIN, target, options, volumes)
    return target


def _place_file(
    mount: Mount, key: str, target: str, options: KubernetesOptions, volumes: Volumes
) -> None:
    if mount.kind != "file":
        volumes.add_file(key, mount.content, target)
        return
    source = _source(mount, options)
    where = find_place(options.claims, source)
    if where is None or not where.path:
        raise RequestFaultError(
            f"mount {mount.target}: {mount.source}: no PersistentVolumeClaim has it for pods; the operator can name "
            "one in the option claims of [Scheduler]"
        )
    volumes.add_claimed(where.claim.name, where.path, target, read_only=True)


def _source(mount: Mount, options: KubernetesOptions) -> PurePosixPath:
    """The path by which the config file's directories know it."""
    stored = stored_output(mount.source)
    if stored is not None:
        if options.store is None:
            raise RequestFaultError(
                f"mount {mount.target}: {mount.source}: outputs are kept by the API ([Runner] store), where no pod can "
                "mount them"
            )
        uuid, path = stored
        return options.store / uuid / "output" / path
    source = PurePosixPath(mount.source)
    if not any(source.is_relative_to(directory) for directory in options.input_dirs):
        allowed = " or ".join(map(str, options.input_dirs)) or "none is configured"
        raise RequestFaultError(
            f"mount {mount.target}: {mount.source} does not lie in a directory for inputs ({allowed})"
        )
    return source
