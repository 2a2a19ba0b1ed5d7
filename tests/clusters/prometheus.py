"""A real Prometheus for tests, from Debian's package, on the loopback interface and with nothing of the machine's own."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.clusters import packages
from tests.clusters.daemons import wait_for
from tests.clusters.processes import Daemon, Den, Ports, environment, tail

_PACKAGES = ("prometheus",)
_PROGRAMS = ("prometheus", "promtool")
_POLICY = Path("/usr/sbin/policy-rc.d")
_SECONDS = 30.0


class PrometheusMissing(Exception):
    """It is not installed, and cannot be."""


class BadQuery(Exception):
    """Prometheus does not understand an expression; its own words."""


@dataclass(frozen=True)
class Sample:
    """One result of a query."""

    labels: dict[str, str]
    value: float


class Prometheus:
    """A running server. It is started by `__enter__`, and leaves nothing behind.

    `config` is the text of prometheus.yml; `files` are put beside it, by name.
    """

    def __init__(self, config: str, files: dict[str, bytes]) -> None:
        install()
        self._config = config
        self._files = files

    def __enter__(self) -> Self:
        self._ports, self._den = Ports(), Den("prometheus-")
        port, folder = self._ports.take(), self._den.path
        self.url = f"http://127.0.0.1:{port}"
        for name, content in self._files.items():
            (folder / name).write_bytes(content)
        (folder / "prometheus.yml").write_text(self._config)
        self._log = folder / "log"
        command = [
            _program("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
        self._daemon = Daemon(command, env=environment(), directory=folder, log=self._log)
        wait_for(self._is_ready, "Prometheus answers")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._daemon.wipe_out()
        self._den.close()
        self._ports.close()

    def query(self, expression: str) -> list[Sample]:
        """The value of `expression` now; raises `BadQuery`."""
        found = self._get("query", query=expression)
        if found["resultType"] == "scalar":
            return [Sample({}, float(found["result"][1]))]
        return [Sample(one["metric"], float(one["value"][1])) for one in found["result"]]

    def series(self, selector: str) -> list[dict[str, str]]:
        """Every series that there is, with its name as `__name__`."""
        found: list[dict[str, str]] = self._get("series", **{"match[]": selector})
        return found

    def alerts(self) -> dict[str, str]:
        """The state of each alert's rule, by its name: inactive, pending, firing; or what is wrong with it."""
        groups = self._get("rules", type="alert")["groups"]
        return {
            rule["name"]: rule["state"] if rule["health"] == "ok" else rule["lastError"]
            for group in groups
            for rule in group["rules"]
            if rule["health"] != "unknown"
        }

    def targets(self) -> dict[str, str]:
        """By job, why its target cannot be scraped; empty when it was."""
        found = self._get("targets", state="active")["activeTargets"]
        return {
            target["labels"]["job"]: target["lastError"]
            for target in found
            if target["health"] != "unknown"
        }

    def _is_ready(self) -> bool:
        if not self._daemon.is_running():
            raise AssertionError(f"Prometheus ended: {tail(self._log)}")
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=_SECONDS):
                return True
        except (urllib.error.URLError, ConnectionError):
            return False

    def _get(self, what: str, **parameters: str) -> Any:
        # POST: some expressions are longer than an address may be.
        body = urllib.parse.urlencode(parameters)
        method = "POST" if what in ("query", "series") else "GET"
        url = f"{self.url}/api/v1/{what}"
        request = urllib.request.Request(
            url if method == "POST" else f"{url}?{body}",
            body.encode() if method == "POST" else None,
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise BadQuery(json.load(error)["error"]) from error


def promtool(*words: str | Path) -> tuple[int, str]:
    """Its exit status, and all it says."""
    install()
    done = subprocess.run(
        [_program("promtool"), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def install() -> None:
    """Install it where root may do so; raises `PrometheusMissing`."""
    if not _installed():
        with _no_services():
            packages.ensure(_PACKAGES, _installed, PrometheusMissing)


def _installed() -> bool:
    return all(shutil.which(name) for name in _PROGRAMS)


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None
    return found


@contextmanager
def _no_services() -> Iterator[None]:
    """While packages are installed Debian asks this script whether a service may be started: no.

    A machine that has a policy of its own keeps it.
    """
    try:
        with _POLICY.open("x") as policy:
            policy.write("#!/bin/sh\nexit 101\n")
    except OSError:
        # There is one, or we are not root and install nothing.
        yield
        return
    try:
        _POLICY.chmod(0o755)
        yield
    finally:
        _POLICY.unlink()
