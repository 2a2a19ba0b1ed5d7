"""Logs and outputs, in both stores."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nodemanager.mount_plan import RequestFaultError
from nodemanager.output_tree import check_output

if TYPE_CHECKING:
    from tests.runner.conftest import Lab

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("keep_scratch", [False, True])
def test_the_output_is_kept_as_it_was(lab: Lab, keep_scratch: bool) -> None:
    root = lab.scratch / lab.uuid / "out"
    lab.shell(
        "cd out; mkdir -p d/e empty; echo x > d/e/f; printf '#!/bin/sh' > run; chmod 755 run;"
        f"ln -s d/e/f near; ln -s {root}/d/e absolute; ln -s ../run d/up; : > nothing"
    )
    lab.run(keep_scratch=keep_scratch)
    assert lab.record["state"] == "Complete"
    assert lab.output("d/e/f").read_text() == "x\n"
    assert lab.output("empty").is_dir()
    assert lab.output("nothing").read_bytes() == b""
    assert os.access(lab.output("run"), os.X_OK)
    links = {name: os.readlink(lab.output(name)) for name in ("near", "absolute", "d/up")}  # noqa: PTH115
    assert links == {"near": "d/e/f", "absolute": "d/e", "d/up": "../run"}
    assert root.exists() is keep_scratch


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("ln -s /etc/passwd out/link", "output link: links to /etc/passwd, outside"),
        ("ln -s ../../x out/link", "output link: links to ../../x, outside"),
        ("mkfifo out/pipe", "output pipe: a named pipe cannot be kept"),
        ("rmdir out", "the command replaced the directory"),
        ("rmdir out; ln -s /etc out", "the command replaced the directory"),
        ("mkdir out/s; ln -s . out/d; ln -s ../d/../x out/s/l", "output s/l: links to"),
    ],
)
def test_what_cannot_be_kept_is_named(lab: Lab, script: str, words: str) -> None:
    lab.shell(script)
    lab.run()
    assert lab.record["state"] == "PermFail"
    assert words in lab.error()
    assert "output" not in lab.record


def test_a_socket_cannot_be_kept(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        with pytest.raises(RequestFaultError, match="output s: a socket"):
            check_output(tmp_path, "/out")


def test_an_absolute_link_of_the_containers_view_becomes_relative(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "f").touch()
    (tmp_path / "d" / "l").symlink_to("/out/f")
    check_output(tmp_path, "/out")
    assert os.readlink(tmp_path / "d" / "l") == "../f"  # noqa: PTH115


def test_a_missing_store_is_not_made(lab: Lab) -> None:
    lab.store.rmdir()
    lab.shell(f"echo ran >> {lab.ledger}")
    lab.run()
    assert (lab.record["state"], lab.ran()) == ("TempFail", "")
    assert "no such directory on this node; mount it" in lab.error()


def test_complete_only_when_the_output_is_stored(lab: Lab) -> None:
    taken = lab.store / lab.uuid / "output"
    lab.shell(f"echo 1 > out/new; mkdir {taken}; echo old > {taken}/old")
    lab.run()
    assert lab.record["state"] == "TempFail"
    assert "output could not be stored" in lab.error()
    assert (taken / "old").read_text() == "old\n"


def test_the_log_can_be_read_while_it_runs(lab: Lab) -> None:
    lab.shell("echo early; echo oops >&2; while [ ! -e out/go ]; do sleep 0.02; done; printf late")
    runner = lab.start()
    lab.until(lambda: (lab.log("stdout.txt"), lab.log("stderr.txt")) == ("early\n", "oops\n"))
    (lab.scratch / lab.uuid / "out" / "go").touch()
    lab.finish(runner)
    assert lab.log("stdout.txt") == "early\nlate"


def test_the_uploaded_log_can_be_read_while_it_runs(lab: Lab) -> None:
    lab.shell("echo early; while [ ! -e out/go ]; do sleep 0.02; done; printf late")
    runner = lab.start(store="api")
    lab.until(lambda: lab.api.files.get("log/stdout.txt") == bytearray(b"early\n"))
    assert lab.record["state"] == "Running"
    (lab.scratch / lab.uuid / "out" / "go").touch()
    lab.finish(runner)
    assert lab.record["state"] == "Complete"
    assert lab.api.files["log/stdout.txt"] == b"early\nlate"
    assert lab.record["log"] == f"api:{lab.uuid}/log"


def test_the_api_store_keeps_files_of_any_size_and_name(lab: Lab) -> None:
    lab.shell(
        "cd out; : > nothing; mkdir 'a b'; echo x > 'a b/Z\u00fcrich?#%'; ln -s 'a b/Z\u00fcrich?#%' link;"
        "head -c 3000000 /dev/zero > large"
    )
    lab.run(store="api")
    assert lab.record["state"] == "Complete"
    assert lab.record["output"] == f"api:{lab.uuid}/output"
    stored = {
        k.removeprefix("output/"): len(v) for k, v in lab.api.files.items() if "log/" not in k
    }
    assert stored == {"nothing": 0, "a b/Z\u00fcrich?#%": 2, "link": 2, "large": 3_000_000}


def test_the_api_store_refuses_a_link_to_a_directory(lab: Lab) -> None:
    lab.shell("mkdir out/d; ln -s d out/link")
    lab.run(store="api")
    assert lab.record["state"] == "PermFail"
    assert "output link: a link that leads to no file" in lab.error()


def test_what_is_too_large_for_the_api_store_is_named(lab: Lab) -> None:
    lab.api.largest = 2000
    lab.shell("head -c 3000 /dev/zero > out/large")
    lab.run(store="api")
    assert lab.record["state"] == "PermFail"
    assert "output large: too large" in lab.error()


def test_a_log_too_large_for_the_api_store_fails_nothing(lab: Lab) -> None:
    lab.api.largest = 3000
    lab.shell("seq 2000")
    lab.run(store="api")
    assert lab.record["state"] == "Complete"
    assert b"log stdout.txt is kept up to byte 0" in lab.api.files["log/runner.txt"]


def test_much_output_arrives_whole(lab: Lab) -> None:
    lab.shell("seq 300000; seq 300000 >&2; printf end")
    lab.run(store="api")
    expected = "".join(f"{n}\n" for n in range(1, 300001)).encode()
    assert lab.api.files["log/stdout.txt"] == expected + b"end"
    assert lab.api.files["log/stderr.txt"] == expected


def test_a_bounded_log_says_what_was_dropped(lab: Lab) -> None:
    lab.shell("seq 100000; echo short >&2")
    lab.run(max_log_bytes=1001)
    dropped = sum(len(f"{n}\n") for n in range(1, 100001)) - 1001
    text = lab.log("stdout.txt")
    assert text.startswith("1\n2\n")
    assert text.endswith(f"\n[{dropped} more bytes dropped: max_log_bytes is 1001]\n")
    assert lab.log("stderr.txt") == "short\n"


def test_a_pipe_that_somebody_holds_open_does_not_hold_the_runner(lab: Lab) -> None:
    # A process in a session of its own is beyond our reach without a cgroup; it is not waited for.
    lab.shell("setsid sleep 30 & echo $!; sleep 0.1")
    lab.run(max_log_bytes=1000)
    assert lab.record["state"] == "Complete"
    os.kill(int(lab.log("stdout.txt")), 9)
