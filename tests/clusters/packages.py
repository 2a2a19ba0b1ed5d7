"""Debian packages that tests and benchmarks need, installed when that is allowed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path


def ensure(
    packages: tuple[str, ...],
    found: Callable[[], object],
    missing: type[Exception],
    prepare: Callable[[], None] = lambda: None,
) -> None:
    """Install `packages` unless `found` says that they are there.

    `prepare` is called before. Only root may; concurrent runs wait for each other. Raises `missing`, with what
    to do about it.
    """
    if found():
        return
    words = " ".join(packages)
    if os.geteuid() != 0:
        raise missing(f"packages are missing that only root may install: apt-get install {words}")
    with Path(tempfile.gettempdir(), "install-packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if found():
            return
        prepare()
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            ["apt-get", "-qq", "update"],
            ["apt-get", "-qq", "-y", "install", "--no-install-recommends", *packages],
        ):
            try:
                done = subprocess.run(
                    command, env=quiet, capture_output=True, text=True, check=False, timeout=600
                )
            except FileNotFoundError as error:
                raise missing(f"this is no Debian; install what provides: {words}") from error
            if done.returncode != 0:
                raise missing(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    if not found():
        raise missing(f"apt-get install {words} did not bring what was expected")
