"""What a command finds: mounts, streams, arguments, environment."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nodemanager.model import new_uuid
from nodemanager.mount_plan import RequestFaultError, plan_mounts

if TYPE_CHECKING:
    from tests.runner.conftest import Lab

pytestmark = pytest.mark.processes

HARD_WORDS = [
    "",
    " ",
    "a b",
    "'",
    '"',
    "$HOME `id`",
    "line\nbreak",
    "back\\slash",
    "--",
    "Z\u00fcrich \u4eac \U0001f9a0",
]


def test_every_kind_of_mount(lab: Lab) -> None:
    (lab.inputs / "reads.fa").write_text(">r\nACGT\n")
    lab.record["mounts"] |= {
        "/work/note": {"kind": "text", "content": "Z\u00fcrich\n"},
        "/work/deep/settings.json": {"kind": "json", "content": {"k": [1, None]}},
        "/work/empty": {"kind": "tmp", "capacity": 1 << 30},
        "/work/reads.fa": {"kind": "file", "path": str(lab.inputs / "reads.fa")},
    }
    lab.api.secret_mounts = {"/secrets/key": {"kind": "text", "content": "hush"}}
    lab.shell(
        "cat work/note work/deep/settings.json work/reads.fa secrets/key; ls -A work/empty;"
        "stat -c ' %a' secrets/key work/reads.fa"
    )
    lab.run()
    assert lab.error() == ""
    expected = 'Z\u00fcrich\n{"k": [1, null]}>r\nACGT\nhush 600\n 444\n'
    assert lab.log("stdout.txt") == expected
    said = lab.log("runner.txt")
    assert "hush" not in said
    assert "/work/empty: tmp, capacity 1 GiB (not enforced)" in said
    assert (lab.inputs / "reads.fa").read_text() == ">r\nACGT\n"


def test_a_file_that_another_container_left_in_the_directory_store(lab: Lab) -> None:
    other = new_uuid("zzzzz", "container")
    (lab.store / other / "output" / "sub").mkdir(parents=True)
    (lab.store / other / "output" / "sub" / "part").write_text("42\n")
    lab.record["mounts"] |= {
        "/in/part": {"kind": "file", "path": f"store:{other}/output/sub/part"},
        "stdin": {"kind": "file", "path": f"store:{other}/output/sub/part"},
    }
    lab.shell("cat; cat in/part")
    lab.run()
    assert lab.log("stdout.txt") == "42\n42\n"


def test_a_file_that_another_container_left_in_the_api_store(lab: Lab) -> None:
    other = new_uuid("zzzzz", "container")
    lab.api.foreign[f"{other}/output/sub/a part"] = b"42\n" * 1_000_000
    path = f"store:{other}/output/sub/a part"
    lab.record["mounts"] |= {
        "/in/part": {"kind": "file", "path": path},
        "stdin": {"kind": "file", "path": path},
    }
    lab.shell("wc -c; cksum in/part | cut -d' ' -f2")
    lab.run(store="api")
    assert lab.error() == ""
    assert lab.api.files["log/stdout.txt"].decode().split() == ["3000000", "3000000"]


@pytest.mark.parametrize("store", ["", "api"])
def test_a_file_that_nobody_left_is_named(lab: Lab, store: str) -> None:
    other = new_uuid("zzzzz", "container")
    lab.record["mounts"]["/in"] = {"kind": "file", "path": f"store:{other}/output/x"}
    lab.run(store=store or str(lab.store))
    assert lab.record["state"] == "PermFail"
    assert "mount /in: " in lab.error()


def test_streams_are_redirected(lab: Lab) -> None:
    lab.record["mounts"] |= {
        "/work/text": {"kind": "text", "content": "b\na\n"},
        "stdin": {"kind": "file", "path": "/work/text"},
        "stdout": {"kind": "file", "path": "/out/sorted/result.txt"},
        "stderr": {"kind": "file", "path": "/out/warnings.txt"},
    }
    lab.shell("sort; echo hm >&2")
    lab.run()
    assert lab.output("sorted/result.txt").read_text() == "a\nb\n"
    assert lab.output("warnings.txt").read_text() == "hm\n"


def test_two_streams_into_one_file_keep_their_order(lab: Lab) -> None:
    both = {"kind": "file", "path": "/out/all"}
    lab.record["mounts"] |= {"stdout": both, "stderr": both}
    lab.record["mounts"]["stdin"] = {"kind": "text", "content": "3\n"}
    lab.shell("echo 1; echo 2 >&2; cat")
    lab.run()
    assert lab.output("all").read_text() == "1\n2\n3\n"


def test_arguments_and_environment_arrive_unchanged(lab: Lab) -> None:
    script = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
    lab.record["command"] = ["python3", "-c", script, *HARD_WORDS]
    lab.record["environment"] = {f"V{n}": word for n, word in enumerate(HARD_WORDS)}
    lab.record["environment"]["CONTAINER_ATTEMPT"] = "forged"
    lab.record["attempt"] = 3
    lab.run()
    arguments, environment = json.loads(lab.log("stdout.txt"))
    assert arguments == HARD_WORDS
    assert [environment[f"V{n}"] for n in range(len(HARD_WORDS))] == HARD_WORDS
    assert environment["CONTAINER_ATTEMPT"] == "3"
    assert environment["ARVADOS_CONTAINER_UUID"] == lab.uuid
    assert environment["HOME"] == environment["CONTAINER_ROOT"] == str(lab.scratch / lab.uuid)
    assert not any(name.startswith("ARVADOS_API") for name in environment)


def test_the_token_is_for_commands_that_ask_for_api_access(lab: Lab) -> None:
    lab.record["runtime_constraints"]["API"] = True
    lab.shell('echo "$ARVADOS_API_HOST $ARVADOS_API_TOKEN $SSL_CERT_FILE"')
    lab.run()
    expected = f"127.0.0.1:{lab.api.port} {lab.spec.api_token} {lab.spec.ca_file}\n"
    assert lab.log("stdout.txt") == expected


@pytest.mark.parametrize("cwd", ["/out", "/work/here"])
def test_cwd_is_as_asked(lab: Lab, cwd: str) -> None:
    lab.record["cwd"] = cwd
    lab.shell("pwd")
    lab.run()
    assert lab.log("stdout.txt") == f"{lab.scratch / lab.uuid}{cwd}\n"


@pytest.mark.parametrize(
    ("target", "mount", "words"),
    [
        ("/k", {"kind": "keep"}, "mount /k: kind keep needs crunch-run"),
        ("/c", {"kind": "collection", "uuid": "x"}, "mount /c: kind collection needs crunch-run"),
        ("/g", {"kind": "git_tree"}, "mount /g: kind git_tree needs crunch-run"),
        ("/x", {"kind": "nonsense"}, "mount /x: kind: expected tmp, text, json or file"),
        ("/x", "text", "mount /x: expected an object"),
        ("/x", {"kind": "text", "content": 5}, "mount /x: content: expected a string"),
        ("/x", {"kind": "json"}, "mount /x: content: missing"),
        ("/x", {"kind": "tmp", "capacity": "1G"}, "mount /x: capacity"),
        ("/x", {"kind": "file"}, "mount /x: path: expected an absolute path"),
        ("/x", {"kind": "file", "path": "store:u/log/x"}, "mount /x: path: expected store:"),
        ("/x", {"kind": "file", "path": "store:u/output/../x"}, "mount /x: path: expected store:"),
        ("/a/../../x", {"kind": "tmp"}, "mount /a/../../x: '/a/../../x' cannot be used"),
        ("relative", {"kind": "tmp"}, "mount relative: expected an absolute path"),
        ("/", {"kind": "tmp"}, "mount /: '/' cannot be used"),
        ("stdout", {"kind": "file", "path": "/elsewhere"}, "mount stdout: path: /elsewhere is not"),
        ("stderr", {"kind": "text", "content": ""}, "mount stderr: kind: expected file"),
        ("stdin", {"kind": "tmp"}, "mount stdin: kind"),
        ("/out/../out", {"kind": "tmp"}, "cannot be used"),
        ("/out/", {"kind": "tmp"}, "mount /out/: twice"),
    ],
)
def test_bad_mounts_are_named(target: str, mount: Any, words: str) -> None:
    record = {"output_path": "/out", "mounts": {"/out": {"kind": "tmp"}, target: mount}}
    with pytest.raises(RequestFaultError) as caught:
        plan_mounts(record, {})
    assert words in str(caught.value)


def test_secret_mounts_hold_text_and_nothing_twice() -> None:
    record = {"output_path": "/out", "mounts": {"/s": {"kind": "tmp"}}}
    with pytest.raises(RequestFaultError, match=r"mount /s: in mounts and in secret_mounts"):
        plan_mounts(record, {"/s": {"kind": "text", "content": "x"}})
    with pytest.raises(RequestFaultError, match=r"mount /t: kind: expected text or json"):
        plan_mounts(record, {"/t": {"kind": "file", "path": "/x"}})


def test_a_refused_mount_fails_the_container_and_runs_nothing(lab: Lab) -> None:
    lab.record["mounts"]["/k"] = {"kind": "keep"}
    lab.shell(f"echo ran >> {lab.ledger}")
    lab.run()
    assert (lab.record["state"], lab.ran()) == ("PermFail", "")
    assert "needs crunch-run" in lab.error()


def test_input_files_lie_where_inputs_may_lie(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "private").write_text("private")
    (lab.inputs / "innocent").symlink_to(tmp_path / "private")
    for path in (tmp_path / "private", lab.inputs / "innocent", Path("/etc/passwd")):
        lab.record.update(state="Locked")
        lab.record["mounts"]["/x"] = {"kind": "file", "path": str(path)}
        lab.run()
        assert "mount /x: " in lab.error()
        assert "does not lie in a directory for inputs" in lab.error()
    lab.record.update(state="Locked")
    lab.record["mounts"]["/x"] = {"kind": "file", "path": str(lab.inputs / "absent")}
    lab.run()
    assert "No such file" in lab.error()


def test_mounts_that_are_in_each_others_way_are_named(lab: Lab) -> None:
    lab.record["mounts"] |= {
        "/a": {"kind": "text", "content": ""},
        "/a/b": {"kind": "text", "content": ""},
    }
    lab.run()
    assert lab.record["state"] == "PermFail"
    assert "mount /a/b: " in lab.error()


def test_parents_come_before_what_lies_in_them() -> None:
    mounts = {t: {"kind": "tmp"} for t in ("/b/c", "/b", "/a/z", "/b/c/d")}
    plan = plan_mounts({"output_path": "/b", "mounts": mounts, "cwd": "."}, {})
    assert [m.target for m in plan.mounts] == ["/a/z", "/b", "/b/c", "/b/c/d"]
    assert replace(plan, mounts=()).output_path == "/b"
