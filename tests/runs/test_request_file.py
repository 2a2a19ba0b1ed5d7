"""What a file of container requests may say, and how its mistakes are told."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodemanager.errors import RequestError
from nodemanager.runs.request_file import load_requests, ready_attributes

REPOSITORY = Path(__file__).parents[2]

GOOD = """\
defaults:
  output_path: /work/out
  mounts:
    /work/out: {kind: tmp, capacity: 1 MiB}
  runtime_constraints: {vcpus: 1, ram: 64 MiB}
requests:
  - name: first
    command: ["true"]
  - name: second
    command: [cat, in.txt]
    cancel_after: 5 s
    run_after: +8 s
    mounts:
      /work/in.txt: {kind: file, output_of: first, path: a/b.txt}
    runtime_constraints: {ram: 1 GiB}
"""


def write(folder: Path, text: str, name: str = "a.yml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def mistakes(folder: Path, text: str) -> list[str]:
    path = write(folder, text)
    with pytest.raises(RequestError) as caught:
        load_requests(path)
    head, *lines = str(caught.value).splitlines()
    assert head == "nothing was submitted:"
    return [line.strip().removeprefix(f"{path}:") for line in lines]


def test_what_requests_share_and_what_they_say_themselves(tmp_path: Path) -> None:
    first, second = load_requests(write(tmp_path, GOOD))
    assert (first.name, first.index, first.line, first.after) == ("first", 0, 7, ())
    assert first.attributes["runtime_constraints"] == {"vcpus": 1, "ram": 64 << 20}
    assert second.attributes["runtime_constraints"] == {"vcpus": 1, "ram": 1 << 30}
    assert second.attributes["mounts"]["/work/out"] == {"kind": "tmp", "capacity": 1 << 20}
    assert (second.cancel_after, second.delay, second.after) == (5.0, 8.0, ("first",))
    assert set(second.attributes) & {"after", "cancel_after", "run_after"} == set()


def test_the_output_of_another_request_is_filled_in_at_submission(tmp_path: Path) -> None:
    _, second = load_requests(write(tmp_path, GOOD))
    uuid = "zzzzz-dz642-123456789012345"
    attributes = ready_attributes(second, {"first": uuid}, "2027-01-01T00:00:00Z", {"run": "r"})
    assert attributes["mounts"]["/work/in.txt"]["path"] == f"store:{uuid}/output/a/b.txt"
    assert attributes["run_after"] == "2027-01-01T00:00:00Z"
    assert attributes["properties"] == {"run": "r"}
    assert "properties" not in second.attributes


def test_files_of_a_folder_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path, GOOD.replace("first", "x").replace("second", "y"), "b.yaml")
    write(tmp_path, GOOD)
    write(tmp_path, "not: yaml: at all", "notes.txt")
    names = [spec.name for spec in load_requests(tmp_path)]
    assert names == ["first", "second", "x", "y"]


def test_an_input_file_is_relative_to_the_file_that_names_it(tmp_path: Path) -> None:
    text = GOOD.replace("output_of: first, path: a/b.txt", "path: in.txt")
    _, second = load_requests(write(tmp_path, text))
    assert second.attributes["mounts"]["/work/in.txt"]["path"] == str(tmp_path / "in.txt")


@pytest.mark.parametrize("folder", ["", "failures", "elastic"])
def test_the_examples_are_good(folder: str) -> None:
    assert load_requests(REPOSITORY / "etc" / "examples" / folder)


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ('command: ["true"]', "command: []", "8: command: is empty: there is nothing to run"),
        ("ram: 1 GiB", "ram: -5", "15: runtime_constraints.ram: must be a positive integer"),
        ("ram: 1 GiB", "ram: much", "15: runtime_constraints.ram: expected a number of bytes"),
        ("vcpus: 1,", 'vcpus: "1",', "5: runtime_constraints.vcpus: must be a positive integer"),
        ("name: second", "name: second\n    comand: [x]", "10: comand: unknown field"),
        ("name: second", "name: first", "9: name: first is also the name of a.yml:7"),
        ("output_of: first", "output_of: nobody", "9: after: there is no request nobody"),
        ("path: a/b.txt", "path: ../b.txt", "14: mounts./work/in.txt.path: must be relative"),
        ("cancel_after: 5 s", "cancel_after: soon", "11: cancel_after: expected a duration"),
        ("run_after: +8 s", "run_after: tomorrow", "12: run_after: "),
        ("name: second", "name: second\n    name: other", "10: name: is said twice"),
        ("    command: [cat, in.txt]", "    command: [cat, in.txt", "11: "),
        ("requests:", "request:", "1: "),
        ("output_path: /work/out", "output_path: ''", "2: output_path: is empty"),
        ("defaults:", "default:", "1: default: unknown; put it in defaults"),
        ("  - name: second", "  - just text", "1"),
        ("name: second", "name: second\n    <<: {a: b}", "10: <<: is not read here"),
    ],
)
def test_mistakes_are_told_with_line_and_field(
    tmp_path: Path, old: str, new: str, wanted: str
) -> None:
    assert old in GOOD
    found = mistakes(tmp_path, GOOD.replace(old, new, 1))
    assert any(line.startswith(wanted) for line in found), found


def test_all_mistakes_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, GOOD.replace("ram: 1 GiB", "ram: 0"), "a.yml")
    write(tmp_path, GOOD.replace('["true"]', "true"), "b.yml")
    with pytest.raises(RequestError) as caught:
        load_requests(tmp_path)
    assert "a.yml:15: runtime_constraints.ram" in str(caught.value)
    assert "b.yml:8: command" in str(caught.value)


def test_requests_that_wait_for_each_other(tmp_path: Path) -> None:
    text = GOOD.replace('command: ["true"]', 'command: ["true"]\n    after: second')
    [line] = mistakes(tmp_path, text)
    assert line.endswith("goes round in a circle")


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("a.yml", b"- name: \xff\n", "a.yml:1: is not UTF-8 text"),
        ("a.yml", b"", "holds no container request"),
        ("a.yml", b"5", "must be a list"),
        ("a.txt", b"", "holds no file that ends in .yml or .yaml"),
    ],
)
def test_files_that_are_none(tmp_path: Path, name: str, content: bytes, wanted: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=wanted):
        load_requests(tmp_path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such file or folder"):
        load_requests(tmp_path / "nothing")


def test_a_time_without_quotes_is_a_time_of_the_api(tmp_path: Path) -> None:
    text = GOOD.replace("run_after: +8 s", "run_after: 2027-01-01T00:00:00Z")
    _, second = load_requests(write(tmp_path, text))
    assert second.attributes["run_after"] == "2027-01-01T00:00:00Z"


def test_aliases_that_grow_without_end(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    found = mistakes(tmp_path, "\n".join(lines))
    assert any("too large or too deep" in line for line in found)


def test_a_node_that_holds_itself(tmp_path: Path) -> None:
    assert any("too deep" in line for line in mistakes(tmp_path, "&a [*a]"))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200) | st.sampled_from([GOOD[:n] for n in range(0, len(GOOD), 7)]))
def test_any_text_is_loaded_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "any.yml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        specs = load_requests(path)
    except RequestError as error:
        assert str(path) in str(error)  # noqa: PT017 (either is right)
    else:
        assert specs
