"""From a container to the process that runs it, per engine: pure argument lists, never a shell.

`none` is a plain process in the scratch directory. The others give it the file system it asked for:
docker and podman from its image, singularity likewise, bwrap from the node's own, read-only.

The engine's front keeps the runner's environment; the container's variables are never mixed into it
(``LD_PRELOAD`` would be loaded into the front). They travel as arguments, or for singularity under its own
prefix; the API token, which may not stand in an argument, is in the environment of the front.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nodemanager.mount_plan import MountPlan, RequestFaultError
from nodemanager.runner.process import Launch
from nodemanager.work import TOKEN_VARIABLE

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NEED_IMAGE = ("docker", "podman", "singularity")
_EXECUTABLES = {"singularity": ("singularity", "apptainer")}
_NOT_EXPOSED = frozenset({"proc", "dev", "tmp"})


class EngineError(Exception):
    """The configured engine cannot be used on this node: the operator's fault."""


@dataclass(frozen=True, slots=True)
class Job:
    """All that an engine needs to know."""

    uuid: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    """What the container asked for and what every command is told; without the token."""
    token: str
    """For a command that asked for API access, else empty; then it has no network either."""
    image: str
    plan: MountPlan
    root: Path
    """The scratch directory, where the targets were made."""
    scratch: Path
    ram_bytes: int
    cores: int
    user: str
    """``uid:gid`` of the runner, empty for root: then the image decides."""
    front: Mapping[str, str]
    """The runner's own environment, which an engine's front keeps."""
    interactive: bool = False
    """Standard input is redirected."""


def find_engine(engine: str, search_path: str) -> str:
    """The engine's executable; raises `EngineError` when it is not on `search_path`."""
    if engine == "none":
        return ""
    names = _EXECUTABLES.get(engine, (engine,))
    for directory in search_path.split(os.pathsep):
        for name in names:
            path = Path(directory, name)
            if directory and path.is_file() and os.access(path, os.X_OK):
                return str(path)
    raise EngineError(
        f"[Runner] engine = {engine}: no {' or '.join(names)} on this node's PATH; "
        "install it, or set engine = none"
    )


def launch(engine: str, executable: str, job: Job) -> Launch:
    """The process to start. Raises `RequestFaultError` for a container that this engine cannot take."""
    if engine in _NEED_IMAGE and (not job.image or job.image.startswith("-")):
        raise RequestFaultError(f"container_image: {job.image!r} is no image for {engine}")
    match engine:
        case "docker" | "podman":
            return _docker(executable, job, podman=engine == "podman")
        case "singularity":
            return _singularity(executable, job)
        case "bwrap":
            return _bwrap(executable, job)
        case _:
            return _plain(job)


def base_environment(engine: str, root: Path, node_path: str) -> dict[str, str]:
    """What a command finds besides what it asked for; `node_path` is the PATH of the runner.

    `CONTAINER_ROOT` is where the targets of the mounts begin: ``/``, except with `none`.
    """
    if engine in _NEED_IMAGE:
        return {"CONTAINER_ROOT": "/"}
    private = engine != "none"
    home = "/tmp" if private else str(root)  # noqa: S108 (inside the container)
    return {
        "PATH": node_path or DEFAULT_PATH,
        "HOME": home,
        "TMPDIR": "/tmp" if private else str(root / "tmp"),  # noqa: S108
        "LANG": "C.UTF-8",
        "CONTAINER_ROOT": "/" if private else str(root),
    }


def end_arguments(engine: str, executable: str, uuid: str) -> tuple[str, ...]:
    """How to ask what became of the container, after its front ended: status, exit code, OOM."""
    if engine not in ("docker", "podman"):
        return ()
    form = "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}"
    return (executable, "inspect", "--type=container", f"--format={form}", uuid)


def _plain(job: Job) -> Launch:
    environment = dict(job.environment)
    if job.token:
        environment[TOKEN_VARIABLE] = job.token
    return Launch(job.command, environment, str(job.root / job.plan.cwd.lstrip("/")))


def _docker(executable: str, job: Job, *, podman: bool) -> Launch:
    argv = [executable, "run", f"--name={job.uuid}", "--entrypoint="]
    # As crunch-run: the network is for those who asked for API access.
    argv.append("--network=host" if job.token else "--network=none")
    argv += ["--cap-drop=ALL", "--security-opt=no-new-privileges"]
    if job.ram_bytes:
        argv += [f"--memory={job.ram_bytes}", f"--memory-swap={job.ram_bytes}"]
    if job.cores:
        argv.append(f"--cpus={job.cores}")
    if job.user:
        argv.append("--userns=keep-id" if podman else f"--user={job.user}")
    if job.interactive:
        argv.append("--interactive")
    if job.plan.cwd:
        argv.append(f"--workdir={job.plan.cwd}")
    for source, target, writable in _binds(job):
        fields = ["type=bind", f"source={source}", f"target={target}"]
        if not writable:
            fields.append("readonly")
        argv.append("--mount=" + ",".join(_csv(f) for f in fields))
    argv += [f"--env={name}={value}" for name, value in job.environment.items()]
    front = dict(job.front)
    if job.token:
        # Without a value: taken from the front's environment.
        argv.append(f"--env={TOKEN_VARIABLE}")
        front[TOKEN_VARIABLE] = job.token
    argv += [job.image, *job.command]
    return Launch(
        tuple(argv),
        front,
        "/",
        cleanup=(executable, "rm", "--force", job.uuid),
        cleanup_environment=job.front,
    )


def _singularity(executable: str, job: Job) -> Launch:
    argv = [executable, "exec", "--containall", "--cleanenv", "--no-home"]
    if job.plan.cwd:
        argv.append(f"--pwd={job.plan.cwd}")
    for source, target, writable in _binds(job):
        if not {":", ","}.isdisjoint(source + target):
            raise RequestFaultError(f"mount {target}: singularity cannot bind a path with , or :")
        argv.append(f"--bind={source}:{target}:{'rw' if writable else 'ro'}")
    front = dict(job.front)
    variables = dict(job.environment)
    if job.token:
        variables[TOKEN_VARIABLE] = job.token
    front |= {f"SINGULARITYENV_{name}": value for name, value in variables.items()}
    argv += [job.image, *job.command]
    return Launch(tuple(argv), front, "/", spare_leader=True)


def _bwrap(executable: str, job: Job) -> Launch:
    argv = [executable, "--die-with-parent", "--unshare-ipc", "--unshare-pid", "--unshare-uts"]
    if not job.token:
        argv.append("--unshare-net")
    binds = list(_binds(job))
    argv += _expose(Path("/"), [Path(target) for _source, target, _writable in binds])
    argv += ["--dev", "/dev", "--proc", "/proc", "--bind", str(job.root / "tmp"), "/tmp"]  # noqa: S108
    if job.scratch.is_dir() and not job.scratch.is_relative_to("/tmp"):  # noqa: S108
        # Other containers' scratch directories are none of this one's business.
        argv += ["--tmpfs", str(job.scratch)]
    for source, target, writable in binds:
        argv += ["--bind" if writable else "--ro-bind", source, target]
    argv += ["--chdir", job.plan.cwd or "/"]
    for name in job.front:
        if name not in job.environment:
            argv += ["--unsetenv", name]
    for name, value in job.environment.items():
        argv += ["--setenv", name, value]
    front = dict(job.front)
    if job.token:
        front[TOKEN_VARIABLE] = job.token
    return Launch((*argv, "--", *job.command), front, "/", spare_leader=True)


def _expose(directory: Path, targets: list[Path]) -> Iterator[str]:
    """The node's files, read-only, with room for targets that the node does not have.

    A directory in which a target has to be made cannot be bound as a whole, because nothing can be made
    in it then; its children are bound instead.
    """
    for entry in sorted(os.scandir(directory), key=lambda e: e.name):
        path = Path(entry.path)
        if directory == Path("/") and entry.name in _NOT_EXPOSED:
            continue
        if entry.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif any(path in t.parents and not t.exists() for t in targets) and entry.is_dir():
            yield from ("--dir", str(path))
            if os.access(path, os.R_OK | os.X_OK):
                yield from _expose(path, targets)
        elif not any(path == t for t in targets):
            # Files come and go in / and /run; what has gone by now is not missed.
            yield from ("--ro-bind-try", str(path), str(path))


def _binds(job: Job) -> Iterator[tuple[str, str, bool]]:
    """Source on the node, target in the container, writable; parents first.

    What lies under a writable target was made there and comes with it, unless it is bound from elsewhere.
    """
    writable: list[str] = []
    for mount in job.plan.mounts:
        source = mount.bind_from or str(job.root / mount.target.lstrip("/"))
        inside = any(mount.target.startswith(f"{target}/") for target in writable)
        if inside and not mount.bind_from:
            continue
        if mount.writable:
            writable.append(mount.target)
        yield source, mount.target, mount.writable


def _csv(field: str) -> str:
    """A field of docker's --mount, which is read as CSV."""
    if {",", '"', "\n", "\r"}.isdisjoint(field):
        return field
    return '"' + field.replace('"', '""') + '"'
