"""Engines: their arguments as pure values, a recording podman, and bubblewrap for real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nodemanager.mount_plan import Mount, MountPlan, RequestFaultError
from nodemanager.outcome import End, EndKind
from nodemanager.runner import ending
from nodemanager.runner.cgroup import MemoryReading, read_memory
from nodemanager.runner.engines import EngineError, Job, find_engine, launch

if TYPE_CHECKING:
    from tests.runner.conftest import Lab

UUID = "zzzzz-dz642-abcdefghijklmno"
JOB = Job(
    uuid=UUID,
    command=("echo", "a b", "--x"),
    environment={"A": "1\n2", "LD_PRELOAD": "/evil.so"},
    token="",
    image="debian:12",
    plan=MountPlan(
        mounts=(
            Mount("/in,put", "file", bind_from="/data/reads"),
            Mount("/out", "tmp"),
            Mount("/out/note", "text"),
        ),
        output_path="/out",
        cwd="/out",
    ),
    root=Path("/scratch") / UUID,
    scratch=Path("/scratch"),
    ram_bytes=1 << 30,
    cores=2,
    user="1000:1000",
    front={"PATH": "/bin"},
)


def test_docker() -> None:
    made = launch("docker", "/bin/docker", JOB)
    assert made.argv == (
        "/bin/docker",
        "run",
        f"--name={UUID}",
        "--entrypoint=",
        "--network=none",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--memory=1073741824",
        "--memory-swap=1073741824",
        "--cpus=2",
        "--user=1000:1000",
        "--workdir=/out",
        '--mount=type=bind,source=/data/reads,"target=/in,put",readonly',
        f"--mount=type=bind,source=/scratch/{UUID}/out,target=/out",
        "--env=A=1\n2",
        "--env=LD_PRELOAD=/evil.so",
        "debian:12",
        "echo",
        "a b",
        "--x",
    )
    assert made.environment == {"PATH": "/bin"}
    assert made.cleanup == ("/bin/docker", "rm", "--force", UUID)


@pytest.mark.parametrize("engine", ["docker", "podman", "singularity", "bwrap"])
def test_the_token_is_in_no_argument(engine: str) -> None:
    plan = replace(JOB.plan, mounts=JOB.plan.mounts[1:])
    made = launch(engine, engine, replace(JOB, token="secret", plan=plan))
    assert not any("secret" in argument for argument in made.argv)
    assert "secret" in made.environment.values()
    assert "LD_PRELOAD" not in made.environment


def test_podman_keeps_the_user() -> None:
    argv = launch("podman", "podman", replace(JOB, interactive=True)).argv
    assert "--userns=keep-id" in argv
    assert "--interactive" in argv


def test_singularity() -> None:
    plan = replace(JOB.plan, mounts=JOB.plan.mounts[1:])
    made = launch("singularity", "/bin/apptainer", replace(JOB, plan=plan))
    assert made.argv == (
        "/bin/apptainer",
        "exec",
        "--containall",
        "--cleanenv",
        "--no-home",
        "--pwd=/out",
        f"--bind=/scratch/{UUID}/out:/out:rw",
        "debian:12",
        "echo",
        "a b",
        "--x",
    )
    assert made.environment["SINGULARITYENV_A"] == "1\n2"
    with pytest.raises(RequestFaultError, match="mount /in,put: singularity cannot bind"):
        launch("singularity", "singularity", JOB)


@pytest.mark.parametrize("image", ["", "--privileged"])
@pytest.mark.parametrize("engine", ["docker", "podman", "singularity"])
def test_an_image_is_not_an_option(engine: str, image: str) -> None:
    with pytest.raises(RequestFaultError, match="container_image"):
        launch(engine, engine, replace(JOB, image=image))


def test_an_absent_engine_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"\[Runner\] engine = docker: no docker on this node"):
        find_engine("docker", str(tmp_path))
    (tmp_path / "apptainer").write_text("")
    with pytest.raises(EngineError, match="no singularity or apptainer"):
        find_engine("singularity", str(tmp_path))
    (tmp_path / "apptainer").chmod(0o755)
    assert find_engine("singularity", f":{tmp_path}") == str(tmp_path / "apptainer")


@pytest.mark.processes
def test_an_absent_engine_fails_the_attempt_and_not_the_program(lab: Lab, tmp_path: Path) -> None:
    lab.run(engine="podman", environment={"PATH": str(tmp_path)})
    assert lab.record["state"] == "TempFail"
    assert "[Runner] engine = podman: no podman on this node's PATH" in lab.error()


FAKE_PODMAN = """#!{python}
import json, os, sys
with open({calls!r}, "a") as file:
    file.write(json.dumps([sys.argv[1:], os.environ.get("ARVADOS_API_TOKEN")]) + "\\n")
if sys.argv[1] == "run":
    print("ran")
    sys.exit({code})
if sys.argv[1] == "inspect":
    print({inspect!r})
"""


def fake_podman(directory: Path, code: int, inspect: str) -> dict[str, str]:
    text = FAKE_PODMAN.format(
        python=sys.executable, calls=str(directory / "calls"), code=code, inspect=inspect
    )
    (directory / "podman").write_text(text)
    (directory / "podman").chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


@pytest.mark.processes
@pytest.mark.parametrize(
    ("answers", "state", "words"),
    [
        ((0, "exited 0 false"), "Complete", ""),
        ((3, "exited 3 false"), "PermFail", "exited with 3"),
        ((139, "exited 139 false"), "PermFail", "crashed with SIGSEGV"),
        ((137, "exited 137 true"), "PermFail", "used more RAM than it asked for: asked 1 MiB"),
        ((137, "exited 137 false"), "TempFail", "killed from outside by SIGKILL"),
        ((127, "created 127 false"), "PermFail", "exited with 127"),
        ((125, "created 125 false"), "TempFail", "the engine could not start it"),
        ((125, ""), "TempFail", "the engine made no container"),
    ],
)
def test_podman_is_asked_how_it_ended(
    lab: Lab, tmp_path: Path, answers: tuple[int, str], state: str, words: str
) -> None:
    lab.record["container_image"] = "debian:12"
    lab.record["runtime_constraints"]["API"] = True
    lab.run(engine="podman", environment=fake_podman(tmp_path, *answers))
    assert lab.record["state"] == state
    assert words in lab.error()
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    assert [argv[0] for argv, _token in calls] == ["run", "inspect", "rm"]
    assert [token for _argv, token in calls] == [lab.spec.api_token, None, None]
    authority = f"--mount=type=bind,source={lab.spec.ca_file},target={lab.spec.ca_file},readonly"
    assert authority in calls[0][0]
    assert lab.log("stdout.txt") == "ran\n"


def bwrap_works() -> bool:
    found = shutil.which("bwrap")
    if found is None:
        return False
    trial = [found, "--ro-bind", "/", "/", "--unshare-pid", "--unshare-net", "true"]
    return subprocess.run(trial, capture_output=True, check=False).returncode == 0


needs_bwrap = pytest.mark.skipif(
    not bwrap_works(), reason="bubblewrap is absent, or user namespaces are denied here"
)


@needs_bwrap
@pytest.mark.processes
def test_bwrap_gives_a_file_system_of_its_own(lab: Lab) -> None:
    (lab.inputs / "reads").write_text("ACGT\n")
    lab.record |= {"output_path": "/var/spool/work", "cwd": "/var/spool/work"}
    lab.record["mounts"] = {
        "/var/spool/work": {"kind": "tmp"},
        "/var/spool/work/reads": {"kind": "file", "path": str(lab.inputs / "reads")},
        "/data/reads": {"kind": "file", "path": str(lab.inputs / "reads")},
        "/data/note": {"kind": "text", "content": "note\n"},
    }
    lab.record["environment"] = {"WORD": "a 'b'\n$c"}
    lab.shell(
        "pwd; cat /data/reads /data/note reads; printf '%s\\n' \"$WORD\";"
        f"ls -A {lab.scratch} | wc -l; touch /etc/x 2>/dev/null || echo ro;"
        "touch /tmp/mine && echo rw; echo result > result; ln -s /var/spool/work/result link;"
        "echo x 2>/dev/null > /data/reads || echo ro; echo $CONTAINER_ROOT $CONTAINER_ATTEMPT"
    )
    lab.run(engine="bwrap")
    assert lab.error() == ""
    expected = ["/var/spool/work", "ACGT", "note", "ACGT", "a 'b'", "$c", "0", "ro", "rw", "ro"]
    assert lab.log("stdout.txt").splitlines() == [*expected, "/ 1"]
    assert lab.output("link").read_text() == "result\n"
    assert (lab.inputs / "reads").read_text() == "ACGT\n"


@needs_bwrap
@pytest.mark.processes
@pytest.mark.parametrize(
    ("script", "state", "code"), [("exit 3", "PermFail", 3), ("kill -SEGV $$", "PermFail", 139)]
)
def test_bwrap_tells_the_exit_status(lab: Lab, script: str, state: str, code: int) -> None:
    lab.shell(script)
    lab.run(engine="bwrap")
    assert (lab.record["state"], lab.record["exit_code"]) == (state, code)


@needs_bwrap
@pytest.mark.processes
def test_bwrap_passes_term_on_and_dies_with_the_runner(lab: Lab) -> None:
    lab.shell("trap 'echo told; exit 0' TERM; echo up; while :; do sleep 0.02; done")
    runner = lab.start(engine="bwrap")
    lab.until(lambda: lab.log("stdout.txt"))
    lab.record["priority"] = 0
    lab.finish(runner)
    assert lab.record["state"] == "Cancelled"
    assert lab.log("stdout.txt") == "up\ntold\n"


def test_kills_for_want_of_memory_are_told_from_others() -> None:
    before, after = MemoryReading(1, 1 << 20), MemoryReading(2, 1 << 20)
    killed = ending.Measures(before, after, 1 << 20)
    quiet = ending.Measures(before, before, 1 << 20)
    unlimited = ending.Measures(MemoryReading(1), MemoryReading(2), 1 << 20)
    out_of_memory = End(EndKind.OUT_OF_MEMORY, asked=1 << 20, limit=1 << 20)
    assert ending.end_of_process(-9, killed, wrapped=False) == out_of_memory
    assert ending.end_of_process(137, killed, wrapped=False) == out_of_memory
    assert ending.end_of_process(1, killed, wrapped=False) == End(EndKind.EXITED, 1)
    for measures in (quiet, unlimited):
        assert ending.end_of_process(-9, measures, wrapped=False) == End(EndKind.SIGNALLED, 9)


def test_the_cgroup_of_either_version_is_read(tmp_path: Path) -> None:
    two, one, membership = tmp_path / "two", tmp_path / "one", tmp_path / "membership"
    (two / "job" / "step").mkdir(parents=True)
    (two / "job" / "step" / "memory.events").write_text("oom 3\noom_kill 2\n")
    (two / "job" / "step" / "memory.max").write_text("max\n")
    (two / "job" / "memory.max").write_text("1048576\n")
    membership.write_text("0::/job/step\n")
    assert read_memory(two, membership) == MemoryReading(2, 1 << 20)
    (one / "memory" / "job").mkdir(parents=True)
    (one / "memory" / "job" / "memory.oom_control").write_text("under_oom 0\noom_kill 4\n")
    (one / "memory" / "job" / "memory.limit_in_bytes").write_text("2097152\n")
    (one / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    membership.write_text("4:cpu,cpuacct:/\n3:memory:/job\n0::/\n")
    assert read_memory(one, membership) == MemoryReading(4, 2 << 20)
    assert read_memory(one, tmp_path / "absent") == MemoryReading()
