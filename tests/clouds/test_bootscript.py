"""The boot script: what is put in stays what it is, and the default really brings a node in."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodemanager.api.connection import connect
from nodemanager.api.embedded import EmbeddedEndpoint, EmbeddedServer
from nodemanager.clouds.bootscript import BootValues, load_template, ping_url, render
from nodemanager.errors import ConfigError

COMMANDS = [
    "sh",
    "cat",
    "uname",
    "hostname",
    "cut",
    "awk",
    "df",
    "nproc",
    "grep",
    "head",
    "sleep",
    "mktemp",
]
"""What the default script needs of a machine, besides curl or python3 and what is played here."""

WAIT_SECONDS = 30.0


# --- templates ------------------------------------------------------------------------------------


def printable() -> st.SearchStrategy[str]:
    """Whatever can be in a script at all."""
    return st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(value=printable())
@settings(max_examples=40, deadline=None)
def test_a_value_reaches_the_script_as_it_is(value: str) -> None:
    script = render('x=@{join_command}\nprintf %s "$x"\n', BootValues(join_command=value))
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True, timeout=10)
    assert done.stdout.decode() == value


@given(text=printable())
def test_a_template_without_placeholders_stays_as_it_is(text: str) -> None:
    text = text.replace("@{", "@ {")
    assert render(text, BootValues()) == text


@pytest.mark.parametrize(
    "line",
    [
        'x="@{ping_url}"',
        "x='@{ping_url}'",
        "x=@{ping_url}/more",
        "curl @{ping_url}",
        "x=1 y=@{ping_url}",
        "x=@{ping_url} y=@{ping_url}",
        "# @{ping_url}",
        "x=@{ping_url",
        "@{ping_url}",
    ],
)
def test_a_placeholder_that_quotes_would_not_hold_is_refused(line: str) -> None:
    with pytest.raises(
        ConfigError, match=r"line 3: a placeholder must be all of a variable's value"
    ):
        render(f"#!/bin/sh\n\n{line}\n", BootValues())


def test_an_unknown_placeholder_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "boot.sh"
    path.write_text("#!/bin/sh\nurl=@{ping_url}\n  export secret=@{ping_secrets}\n")
    with pytest.raises(ConfigError) as caught:
        load_template(path)
    said = str(caught.value)
    assert f"[Cloud] boot_script: {path}, line 3: there is no placeholder @{{ping_secrets}}" in said
    assert "did you mean ping_secret?" in said


def test_a_template_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"boot_script: .*/absent cannot be read"):
        load_template(tmp_path / "absent")


def test_a_secret_that_would_change_the_form_is_refused() -> None:
    with pytest.raises(ConfigError, match="ping_secret"):
        BootValues(ping_secret="a&instance_id=b")
    assert "s3cret" not in repr(BootValues(ping_secret="s3cret"))


def test_the_default_fits_in_what_a_cloud_takes() -> None:
    script = render(load_template(None), BootValues(ca_certificate="x" * 4096))
    assert len(script.encode()) < 10_000


# --- the default, for real ------------------------------------------------------------------------


class Machine:
    """What stands in for a new machine: its own PATH, and a record of what was done to it."""

    def __init__(self, directory: Path, *fetchers: str) -> None:
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.done = directory / "done"
        self.done.touch()
        self.output = directory / "output"
        for command in (*COMMANDS, *fetchers):
            # What is called python3 here may be a script of pyenv's that needs more than this PATH.
            found = sys.executable if command == "python3" else shutil.which(command)
            assert found, f"{command} is needed for this test"
            (self.bin / command).symlink_to(found)
        for command in ("hostnamectl", "systemctl"):
            self.play(command, "exit 0")

    def play(self, command: str, then: str) -> None:
        """Stand in for a command that is written down and then does `then`."""
        path = self.bin / command
        path.write_text(f'#!/bin/sh\necho {command} "$@" >>"{self.done}"\n{then}\n')
        path.chmod(0o755)

    @contextmanager
    def booting(self, script: str) -> Iterator[Callable[[], int | None]]:
        """The script runs; what is left of it at the end of the block is ended.

        Gives what tells its exit status: None as long as it runs.
        """
        path = self.bin.with_name("user-data")
        path.write_text(script)
        with self.output.open("wb") as output:
            process = subprocess.Popen(
                ["/bin/sh", path],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"PATH": str(self.bin)},
                start_new_session=True,
            )

        def ended() -> int | None:
            # It stays a zombie, so that the number of its group is nobody else's.
            found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            return None if found is None else found.si_status

        try:
            yield ended
        finally:
            # The script and its background loop.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(WAIT_SECONDS)

    def boot(self, script: str) -> None:
        """Run the script to its end; its background loop is ended then."""
        with self.booting(script) as ended:
            self.wait(lambda: ended() == 0)

    def wait(self, until: Callable[[], bool]) -> None:
        """Until it is so, but not for ever."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not until():
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.02)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEndpoint]:
    server = EmbeddedServer(None, tmp_path_factory.mktemp("server"))
    yield server.start()
    server.stop()


@pytest.fixture(scope="module")
def api(endpoint: EmbeddedEndpoint) -> Iterator[Any]:
    client = connect(endpoint.url, endpoint.root_token, ca_file=endpoint.ca_file, timeout=30)
    yield client
    client.close()


@pytest.fixture
def record(api: Any) -> dict[str, Any]:
    """Of a node that is going to boot."""
    made: dict[str, Any] = api.nodes().create(body={"node": {}}, assign_slot=True).execute()
    return made


@pytest.fixture
def values(endpoint: EmbeddedEndpoint, record: dict[str, Any]) -> BootValues:
    return BootValues(
        ping_url=ping_url(urlsplit(endpoint.url).netloc, record["uuid"]),
        ping_secret=record["info"]["ping_secret"],
        ca_certificate=endpoint.ca_file.read_text(),
        join_command="systemctl start slurmd",
        retry_seconds=0.1,
    )


@pytest.mark.processes
@pytest.mark.parametrize("fetcher", ["curl", "python3"])
def test_a_node_comes_in(
    tmp_path: Path, api: Any, record: dict[str, Any], values: BootValues, fetcher: str
) -> None:
    machine = Machine(tmp_path, fetcher)
    machine.boot(render(load_template(None), values))
    seen = api.nodes().get(uuid=record["uuid"]).execute()
    assert seen["first_ping_at"] is not None
    assert seen["slot_number"] == record["slot_number"]
    assert seen["info"]["ec2_instance_id"]
    assert seen["ip_address"]
    numbers = seen["properties"]
    assert numbers["total_cpu_cores"] == len(os.sched_getaffinity(0))
    assert numbers["total_ram_mb"] > 100
    assert abs(numbers["total_scratch_mb"] - (shutil.disk_usage("/tmp").total >> 20)) <= 1
    assert machine.done.read_text().splitlines() == [
        f"hostnamectl set-hostname {record['hostname']}",
        "systemctl start slurmd",
    ]


@pytest.mark.processes
@pytest.mark.parametrize("fetcher", ["curl", "python3"])
def test_the_certificate_is_looked_at_unless_told_otherwise(
    tmp_path: Path, api: Any, record: dict[str, Any], values: BootValues, fetcher: str
) -> None:
    machine = Machine(tmp_path, fetcher)
    template = load_template(None)
    with machine.booting(render(template, replace(values, ca_certificate=""))):
        machine.wait(lambda: "certificate" in machine.output.read_text())
    assert api.nodes().get(uuid=record["uuid"]).execute()["first_ping_at"] is None
    machine.boot(render(template, replace(values, ca_certificate="", insecure=True)))
    assert api.nodes().get(uuid=record["uuid"]).execute()["first_ping_at"] is not None


@pytest.mark.processes
def test_it_knocks_until_it_is_let_in_and_joins_until_that_works(
    tmp_path: Path, api: Any, record: dict[str, Any], values: BootValues
) -> None:
    machine = Machine(tmp_path, "curl")
    # The first start fails.
    machine.play("systemctl", f'[ "$(grep -c systemctl "{machine.done}")" -gt 1 ]')
    script = render(load_template(None), replace(values, ping_secret="another"))
    with machine.booting(script) as ended:
        machine.wait(lambda: machine.output.read_text().count("401") >= 2)
        assert machine.done.read_text() == ""
        info = {"ping_secret": "another"}
        api.nodes().update(uuid=record["uuid"], body={"node": {"info": info}}).execute()
        machine.wait(lambda: ended() == 0)
    assert machine.done.read_text().count("systemctl start slurmd") == 2


@pytest.mark.processes
def test_it_goes_on_announcing_itself(
    tmp_path: Path, api: Any, record: dict[str, Any], values: BootValues
) -> None:
    machine = Machine(tmp_path, "curl")
    with machine.booting(render(load_template(None), replace(values, ping_seconds=0.1))) as ended:
        machine.wait(lambda: ended() == 0)

        def again() -> bool:
            seen = api.nodes().get(uuid=record["uuid"]).execute()
            return bool(seen["last_ping_at"] > seen["first_ping_at"])

        machine.wait(again)


@pytest.mark.processes
def test_a_name_of_its_own_goes_before_the_one_it_is_given(
    tmp_path: Path, values: BootValues
) -> None:
    machine = Machine(tmp_path, "curl")
    machine.boot(render(load_template(None), replace(values, host_name="node-7", join_command="")))
    assert machine.done.read_text() == "hostnamectl set-hostname node-7\n"


def test_a_node_that_pings_nobody_only_joins(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.boot(render(load_template(None), BootValues(join_command="systemctl start x")))
    assert machine.done.read_text() == "systemctl start x\n"


@pytest.mark.parametrize("fetcher", ["curl", "python3"])
def test_no_command_line_shows_the_secret(tmp_path: Path, fetcher: str) -> None:
    machine = Machine(tmp_path)
    machine.play(fetcher, 'cat >&2; echo "{}"')
    machine.boot(
        render(load_template(None), BootValues(ping_url="https://x", ping_secret="s3cret"))
    )
    assert fetcher in machine.done.read_text()
    assert "s3cret" not in machine.done.read_text()
    assert "ping_secret=s3cret&" in machine.output.read_text()
