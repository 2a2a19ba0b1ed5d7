"""What a container finds in the file system of its pod, and what a command is wrapped in."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from nodemanager.mount_plan import is_below
from nodemanager.schedulers.base import JobSpec
from nodemanager.schedulers.kubernetes.manifest import PodParts
from nodemanager.schedulers.kubernetes.script import fed, prepared
from nodemanager.schedulers.kubernetes.volumes import PRIVATE
from tests.schedulers.kubernetes_specs import (
    GIB,
    OTHER,
    UUID,
    job,
    jobs,
    manifests,
    option_sets,
)

SHELLS = [shell for shell in (["sh"], ["bash"], ["busybox", "sh"]) if shutil.which(shell[0])]


def made(mounts: dict[str, Any], secret: dict[str, Any] | None = None, **options: str) -> PodParts:
    return manifests(**options).parts(job({"mounts": mounts}, secret))


def mounts_of(parts: PodParts) -> dict[str, dict[str, Any]]:
    """By target: the mount, and with it the source of its volume."""
    spec = parts.pod["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    (main,) = spec["containers"]
    found = {}
    for mount in main["volumeMounts"]:
        (source,) = [item for item in volumes[mount["name"]].items() if item[0] != "name"]
        found[mount["mountPath"]] = {
            "from": source[0],
            "source": source[1],
            "path": mount.get("subPath", ""),
            "read_only": mount.get("readOnly", False),
        }
    return found


def content(parts: PodParts, target: str) -> bytes:
    assert parts.secret is not None
    data = parts.secret["data"]
    return base64.b64decode(data[mounts_of(parts)[target]["path"]])


def test_the_output_is_written_into_the_store() -> None:
    mounts = mounts_of(made({"/out": {"kind": "tmp", "capacity": GIB}}))
    assert mounts == {
        "/out": {
            "from": "persistentVolumeClaim",
            "source": {"claimName": "store"},
            "path": f"results/{UUID}/output",
            "read_only": False,
        }
    }


def test_the_output_lies_in_a_directory_of_its_own_below_a_larger_one() -> None:
    record = {"output_path": "/work/out", "mounts": {"/work": {"kind": "tmp", "capacity": GIB}}}
    mounts = mounts_of(manifests().parts(job(record)))
    assert list(mounts) == ["/work", "/work/out"]
    assert mounts["/work"]["source"] == {"sizeLimit": str(GIB)}
    assert mounts["/work/out"]["path"] == f"results/{UUID}/output"


def test_directories_below_the_output_are_part_of_it() -> None:
    for keep, base in (("yes", f"results/{UUID}/output/"), ("no", "")):
        mounts = mounts_of(made({"/out/in": {"kind": "tmp"}}, keep_output=keep))
        assert mounts["/out/in"]["path"] == f"{base}in"
        assert mounts["/out/in"]["source"] == mounts["/out"]["source"]


def test_an_output_that_is_not_kept_is_an_empty_directory() -> None:
    mounts = mounts_of(made({"/out": {"kind": "tmp", "capacity": 5}}, keep_output="no"))
    assert (mounts["/out"]["from"], mounts["/out"]["source"]) == ("emptyDir", {"sizeLimit": "5"})


def test_text_and_json_are_files_of_the_secret() -> None:
    parts = made(
        {
            "/etc/a.txt": {"kind": "text", "content": "hello"},
            "/tmp": {"kind": "tmp"},
            "/tmp/b.json": {"kind": "json", "content": {"x": 1}},
        },
        {"/secret": {"kind": "text", "content": "hush"}},
    )
    mounts = mounts_of(parts)
    assert content(parts, "/etc/a.txt") == b"hello"
    assert content(parts, "/tmp/b.json") == b'{"x": 1}'
    assert content(parts, "/secret") == b"hush"
    for target in ("/etc/a.txt", "/tmp/b.json", "/secret"):
        assert mounts[target]["read_only"]
        assert mounts[target]["source"]["defaultMode"] == 0o444
    assert list(mounts).index("/tmp") < list(mounts).index("/tmp/b.json")


def test_contents_below_the_output_are_copied_into_it_and_secret_ones_are_not() -> None:
    parts = made(
        {"/out/a/b.txt": {"kind": "text", "content": "hello"}},
        {"/out/secret": {"kind": "text", "content": "hush"}},
    )
    mounts = mounts_of(parts)
    assert set(mounts) == {"/out", f"{PRIVATE}/mount-1", "/out/secret"}
    assert content(parts, f"{PRIVATE}/mount-1") == b"hello"
    (main,) = parts.pod["spec"]["containers"]
    assert main["command"][4:7] == [f"{PRIVATE}/mount-1", "/out/a/b.txt", ""]


def test_files_come_from_the_nearest_claim() -> None:
    mounts = mounts_of(
        made(
            {
                "/a": {"kind": "file", "path": f"store:{OTHER}/output/x/y.txt"},
                "/b": {"kind": "file", "path": "/shared/inputs/genome.fa"},
            }
        )
    )
    assert mounts["/a"]["source"] == {"claimName": "store"}
    assert mounts["/a"]["path"] == f"results/{OTHER}/output/x/y.txt"
    assert mounts["/b"]["source"] == {"claimName": "inputs", "readOnly": True}
    assert mounts["/b"]["path"] == "genome.fa"
    assert mounts["/a"]["read_only"]
    assert mounts["/b"]["read_only"]


def test_a_claim_is_one_volume_of_a_pod() -> None:
    parts = made({"/a": {"kind": "file", "path": f"store:{OTHER}/output/x"}})
    assert len(parts.pod["spec"]["volumes"]) == 1


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ({"kind": "file", "path": "/etc/passwd"}, "not lie in a directory for inputs (/shared/in"),
        ({"kind": "file", "path": "/shared/inputs"}, "no PersistentVolumeClaim has it"),
    ],
)
def test_a_file_that_no_claim_has_is_refused(mount: dict[str, Any], words: str) -> None:
    assert words in manifests().refusal(job({"mounts": {"/a": mount}}))


def test_no_mount_lies_where_our_own_files_are() -> None:
    mount = {"kind": "text", "content": ""}
    assert PRIVATE in manifests().refusal(job({"mounts": {f"{PRIVATE}/stdin": mount}}))


def test_nothing_lies_in_a_file() -> None:
    mounts = {"/a": {"kind": "text", "content": ""}, "/a/b": {"kind": "tmp"}}
    assert (
        manifests().refusal(job({"mounts": mounts})) == "mount /a/b: it lies in /a, which is a file"
    )


@given(jobs(), option_sets)
def test_every_mount_is_there_or_copied(spec: JobSpec, options: dict[str, str]) -> None:
    if spec.work is None or options["run"] == "runner":
        return
    parts = manifests(**options).parts(spec)
    (main,) = parts.pod["spec"]["containers"]
    mounts = {mount["mountPath"]: mount for mount in main["volumeMounts"]}
    assert len(mounts) == len(main["volumeMounts"])
    volumes = [volume["name"] for volume in parts.pod["spec"]["volumes"]]
    assert len(set(volumes)) == len(volumes)
    assert {mount["name"] for mount in mounts.values()} <= set(volumes)
    plan = spec.work.plan
    assert plan.output_path in mounts
    for mount in plan.mounts:
        copied = mount.target in main["command"]
        assert mount.target in mounts or copied
        assert copied <= is_below(mount.target, plan.output_path)
    targets = list(mounts)
    for number, target in enumerate(targets):
        assert not any(is_below(target, later) for later in targets[number + 1 :])


# The scripts, run by real shells.


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, check=False, **options)


def wrapped(
    shell: list[str], command: list[str], *copies: tuple[Path, Path], **streams: str
) -> list[str]:
    """The command as a pod would run it, by a shell that may be two words."""
    pairs = [(str(source), str(target)) for source, target in copies]
    whole = prepared(
        shell[-1],
        command,
        copies=pairs,
        stdin=streams.get("stdin", ""),
        stdout=streams.get("stdout", ""),
        stderr=streams.get("stderr", ""),
    )
    return [*shell[:-1], *whole]


def test_a_command_with_nothing_to_prepare_is_left_alone() -> None:
    assert wrapped(["sh"], ["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_streams_are_redirected_and_parents_made(shell: list[str], tmp_path: Path) -> None:
    out, err, given = tmp_path / "o u t/1", tmp_path / "err/2", tmp_path / "in"
    given.write_text("asked")
    say = 'cat; echo "$0 $1"; echo wrong >&2'
    ended = run(
        wrapped(
            shell,
            ["sh", "-c", say, "$(id)", "a  b;c"],
            stdin=str(given),
            stdout=str(out),
            stderr=str(err),
        )
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    assert out.read_text() == "asked$(id) a  b;c\n"
    assert err.read_text() == "wrong\n"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_both_streams_in_one_file_do_not_overwrite_each_other(
    shell: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "both"
    command = ["sh", "-c", "echo 1; echo 2 >&2; echo 3"]
    run(wrapped(shell, command, stdout=str(path), stderr=str(path)))
    assert path.read_text() == "1\n2\n3\n"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_stream_goes_to_the_end_of_a_file(shell: list[str], tmp_path: Path) -> None:
    for stream, say in (("stdout", "echo new"), ("stderr", "echo new >&2")):
        path = tmp_path / stream
        path.write_text("old\n")
        run(wrapped(shell, ["sh", "-c", say], **{stream: str(path)}))
        assert path.read_text() == "old\nnew\n"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_files_are_copied_into_the_output(shell: list[str], tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "out/deep/-x y"
    source.write_text("content")
    source.chmod(0o444)
    command = ["sh", "-c", 'echo more >>"$0"', str(target)]
    assert run(wrapped(shell, command, (source, target))).returncode == 0
    assert target.read_text() == "contentmore\n"
    assert target.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_the_command_is_the_process_itself_with_its_exit_status_and_environment(
    shell: list[str], tmp_path: Path
) -> None:
    path = str(tmp_path / "out")
    command = wrapped(shell, ["sh", "-c", "kill -TERM $$"], stdout=path)
    assert run(command).returncode == -15
    before = {"PATH": "/usr/bin:/bin", "out": "mine", "in": "mine"}
    run(wrapped(shell, ["env"], stdout=path), env=before)
    found = dict(line.split("=", 1) for line in Path(path).read_text().splitlines())
    assert {key: found[key] for key in before} == before
    assert set(found) - set(before) <= {"PWD", "OLDPWD", "SHLVL", "_"}


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_what_cannot_be_prepared_keeps_the_command_from_running(
    shell: list[str], tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    command = ["touch", str(witness)]
    for streams in ({"stdin": "/nonexistent"}, {"stdout": "/dev/null/x"}):
        assert run(wrapped(shell, command, **streams)).returncode != 0
    missing = (tmp_path / "missing", tmp_path / "out/x")
    assert run(wrapped(shell, command, missing)).returncode != 0
    assert not witness.exists()


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_program_of_ours_is_fed(shell: list[str], tmp_path: Path) -> None:
    spec = tmp_path / "spec"
    spec.write_bytes(b'{"api_token": "x"}')
    ended = run([*shell[:-1], *fed(shell[-1], ["cat", "-"], str(spec))])
    assert ended.stdout == spec.read_bytes()
