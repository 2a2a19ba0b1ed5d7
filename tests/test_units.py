"""The systemd units: systemd understands them, and they ask for what the programs do."""

from __future__ import annotations

import configparser
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from nodemanager import launcher
from nodemanager.config import parse

ROOT = Path(__file__).parents[1]
UNITS = ("arvados-node-manager", "arvados-dispatch-api")
ANALYZE = shutil.which("systemd-analyze")

needs_systemd = pytest.mark.skipif(
    ANALYZE is None, reason="systemd-analyze is missing: apt-get install systemd"
)


class _Unit(configparser.RawConfigParser):
    """Lines of one name add up."""

    def __init__(self, name: str) -> None:
        super().__init__(strict=False, interpolation=None)
        self.read(ROOT / "etc" / f"{name}.service")

    def optionxform(self, optionstr: str) -> str:
        return optionstr

    def words(self, name: str) -> str:
        return self["Service"][name]


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|min)", text).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "min": 60}[unit]


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_nothing_wrong(name: str, tmp_path: Path) -> None:
    assert ANALYZE
    text = (ROOT / "etc" / f"{name}.service").read_text()
    # The one thing that is not there before it is installed.
    unit = tmp_path / f"{name}.service"
    unit.write_text(text.replace(f"/usr/bin/{name}", "/bin/true"))
    found = subprocess.run(
        [ANALYZE, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    said = [line for line in found.stderr.splitlines() if name in line]
    assert said == [], "every line of it is understood"
    assert found.returncode == 0, found.stderr


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_the_exposure_is_what_the_docs_say(name: str) -> None:
    assert ANALYZE
    command = [ANALYZE, "security", "--offline=true", str(ROOT / "etc" / f"{name}.service")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in found.stderr:
        pytest.skip("systemd-analyze security knows no --offline: systemd 250 or later is needed")
    exposure = re.search(r"exposure level for \S+: ([\d.]+)", found.stdout)
    assert exposure, found.stdout + found.stderr
    page = (ROOT / "docs/how-to/run-as-a-service.md").read_text()
    told = re.search(rf"`{name}\.service` \| ([\d.]+) \|", page)
    assert told
    # Other versions of systemd count a little differently.
    assert float(exposure[1]) == pytest.approx(float(told[1]), abs=0.5)


@pytest.mark.parametrize("name", UNITS)
def test_the_unit_and_the_program_agree(name: str) -> None:
    unit = _Unit(name)
    assert unit.words("Type") == "notify"
    assert unit.words("ExecStart").startswith(f"/usr/bin/{name} --config /etc/{name}/")
    assert (
        unit.words("ExecReload") == f"/bin/kill -{signal.SIGHUP.name.removeprefix('SIG')} $MAINPID"
    )
    assert unit.words("RestartPreventExitStatus") == str(launcher.USAGE_ERROR)


def test_the_daemons_own_watchdog_comes_before_systemds() -> None:
    """It tells who hangs, which SIGABRT does not. Feeding ends after half of systemd's time."""
    own = parse("", "/x/nodemanager.cfg").daemon.watchdog
    systemds = seconds(_Unit("arvados-node-manager").words("WatchdogSec"))
    assert own < systemds / 2 + systemds


def test_jobs_outlive_the_daemon() -> None:
    unit = _Unit("arvados-node-manager")
    assert unit.words("KillMode") == "process"
    # What systemd would empty, or kill, under running jobs.
    assert "PrivateTmp" not in unit["Service"]
    assert unit.words("OOMPolicy") == "continue"
