"""Container images made of what this machine has, for nodes that can reach no registry.

Each is a docker-archive of one layer, as `ctr images import` takes it. They need no compiler: what keeps a pod's
sandbox is busybox, asleep.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import re
import shutil
import subprocess
import sysconfig
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO

PAUSE = "localhost/pause:1"
BUSYBOX = "localhost/busybox:1"
"""A shell and the usual commands: 2 MB."""
PYTHON = "localhost/python:1"
"""This machine's Python as /usr/bin/python3, where it is here too, with the standard library alone; and busybox: some
60 MB, a third of them the symbols of a libpython that was not stripped.
"""

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_LIBRARY = re.compile(r"(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_FOR_FEW = {
    "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip",
    "site-packages", "dist-packages", "__pycache__",
}  # fmt: skip
"""Parts of the standard library that are large, and that no test needs."""
_FOR_FEWER = re.compile(r"config-\d.*|_test.*\.so|_tkinter.*\.so")
_ACCOUNTS = {"etc/passwd": "root:x:0:0:root:/:/bin/sh\n", "etc/group": "root:x:0:\n"}


def write_images(directory: Path) -> list[Path]:
    """All of them, as archives in that directory; whoever makes nodes removes them."""
    return [
        _write_image(directory / "pause.tar", PAUSE, _busybox, ("/bin/sleep", "2147483647")),
        _write_image(directory / "busybox.tar", BUSYBOX, _busybox, ("/bin/sh",)),
        _write_image(directory / "python.tar", PYTHON, _python, ("/usr/bin/python3",)),
    ]


class _Layer:
    """A root file system that is being put together."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._written: set[str] = set()

    def directory(self, name: str, mode: int = 0o755) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.mode = tarfile.DIRTYPE, mode
        self._add(member)

    def link(self, name: str, target: str) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = tarfile.SYMTYPE, target
        self._add(member)

    def text(self, name: str, content: str) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(content.encode())
        self._add(member, io.BytesIO(content.encode()))

    def file(self, path: Path, name: str = "") -> None:
        """What is at that path, under the same one or another; links are followed."""
        member = tarfile.TarInfo(name or str(path).lstrip("/"))
        status = path.stat()
        member.size, member.mode = status.st_size, status.st_mode & 0o777
        with path.open("rb") as content:
            self._add(member, content)

    def program(self, *paths: Path) -> None:
        """Where they are here too, with the libraries that they need."""
        listed = subprocess.run(
            ("ldd", *map(str, paths)), capture_output=True, text=True, check=False
        )
        for path in (*paths, *map(Path, _LIBRARY.findall(listed.stdout))):
            self.file(path)

    def _add(self, member: tarfile.TarInfo, content: IO[bytes] | None = None) -> None:
        if member.name not in self._written:
            self._written.add(member.name)
            self._tar.addfile(member, content)


def _busybox(layer: _Layer) -> None:
    """Below /bin under the names of all that it can do."""
    binary = shutil.which("busybox")
    assert binary is not None
    for name, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
        layer.directory(name, mode)
    layer.file(Path(binary), "bin/busybox")
    listed = subprocess.run((binary, "--list"), capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        layer.link(f"bin/{name}", "busybox")
    for name, content in _ACCOUNTS.items():
        layer.text(name, content)


def _python(layer: _Layer) -> None:
    _busybox(layer)
    version = sysconfig.get_config_var("VERSION")
    python = Path(sysconfig.get_config_var("BINDIR"), f"python{version}")
    library = Path(sysconfig.get_path("stdlib"))
    files = list(_kept(library))
    layer.program(python, *(path for path in files if path.suffix == ".so"))
    for path in files:
        layer.file(path)
    layer.link("usr/bin/python3", str(python))


def _kept(directory: Path) -> Iterable[Path]:
    for path in sorted(directory.iterdir()):
        if path.name in _FOR_FEW or _FOR_FEWER.fullmatch(path.name):
            continue
        if path.is_dir():
            yield from _kept(path)
        elif path.is_file():
            yield path


def _write_image(
    path: Path, name: str, fill: Callable[[_Layer], None], entrypoint: Sequence[str]
) -> Path:
    with tempfile.TemporaryFile(dir=path.parent) as layer:
        with tarfile.open(fileobj=layer, mode="w") as tar:
            fill(_Layer(tar))
        layer.seek(0)
        digest = hashlib.file_digest(layer, "sha256").hexdigest()
        config = _json(
            {
                "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
                "os": "linux",
                "config": {"Entrypoint": list(entrypoint), "Env": ["PATH=/bin:/usr/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            }
        )
        about, content = f"{hashlib.sha256(config).hexdigest()}.json", f"{digest}/layer.tar"
        manifest = _json([{"Config": about, "RepoTags": [name], "Layers": [content]}])
        size = layer.tell()
        layer.seek(0)
        with tarfile.open(path, "w") as archive:
            for member, data in ((about, config), ("manifest.json", manifest)):
                _add(archive, member, len(data), io.BytesIO(data))
            _add(archive, content, size, layer)
    return path


def _add(archive: tarfile.TarFile, name: str, size: int, content: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    archive.addfile(member, content)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
