"""Whether the files that a container mounts are there, looked at by the daemon before a pod is made.

A kubelet follows symbolic links as far as the claim goes, and makes a directory of what is missing: a link in one
container's output could lead into another's. Who shares the directories with the nodes can see that before.
"""

from __future__ import annotations

import errno
import stat
from pathlib import Path

from nodemanager.model import stored_output
from nodemanager.mount_plan import Mount, MountPlan, RequestFaultError, is_below
from nodemanager.schedulers.kubernetes.options import KubernetesOptions

_MISTAKES = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


def check_inputs(plan: MountPlan, options: KubernetesOptions) -> None:
    """Raises `RequestFaultError` for a file that is none, or that lies elsewhere than its path says.

    Where a directory cannot be seen from here nothing is known, and nothing refused.
    """
    for mount in (*plan.mounts, *([plan.stdin] if plan.stdin else [])):
        if mount.kind == "file" and not _is_in_container(mount, plan):
            _check_input(mount, options)


def _is_in_container(mount: Mount, plan: MountPlan) -> bool:
    """Standard input may come from what is mounted."""
    return mount is plan.stdin and any(is_below(mount.source, m.target) for m in plan.mounts)


def _check_input(mount: Mount, options: KubernetesOptions) -> None:
    stored = stored_output(mount.source)
    if stored is not None:
        if options.store is None or not Path(options.store).is_dir():
            return
        uuid, path = stored
        # Nobody but who keeps the store can change what is above an output.
        allowed = Path(options.store).resolve() / uuid / "output"
        _check_file(mount, allowed / path, [allowed])
        return
    directories = [Path(directory) for directory in options.input_dirs]
    holding = [d for d in directories if Path(mount.source).is_relative_to(d) and d.is_dir()]
    if holding:
        _check_file(mount, Path(mount.source), [each.resolve() for each in holding])


def _check_file(mount: Mount, file: Path, allowed: list[Path]) -> None:
    try:
        real = file.resolve(strict=True)
        is_regular = stat.S_ISREG(real.stat().st_mode)
    except OSError as error:
        if error.errno in _MISTAKES:
            raise RequestFaultError(f"mount {mount.target}: {mount.source}: {error}") from error
        # A file system in trouble, or not for us to look at.
        return
    except RuntimeError as error:
        # So Python before 3.13 tells of links in a circle.
        raise RequestFaultError(f"mount {mount.target}: {mount.source}: {error}") from error
    if not any(real.is_relative_to(directory) for directory in allowed):
        raise RequestFaultError(f"mount {mount.target}: {mount.source} is a link to elsewhere")
    if not is_regular:
        raise RequestFaultError(f"mount {mount.target}: {mount.source} is not a regular file")
