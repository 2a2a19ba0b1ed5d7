"""Commands end in any case, and what they said comes back whole."""

import sys
import time
from pathlib import Path

import pytest

from nodemanager.errors import SchedulerError
from nodemanager.schedulers import commands
from nodemanager.schedulers.commands import Call, Commands

PATIENCE = 30.0


@pytest.fixture
def run() -> Commands:
    return Commands(PATIENCE, {"SITE": "here"})


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_an_answer_has_status_output_and_complaint(run: Commands) -> None:
    answer = run.run("sh", "-c", "echo said; echo moaned >&2; exit 3")
    assert (answer.status, answer.output, answer.complaint) == (3, "said\n", "moaned\n")
    assert answer.words == "moaned (exit status 3)"


def test_a_failure_can_be_raised_in_its_own_words(run: Commands) -> None:
    answer = run.run("sh", "-c", "echo no such job >&2; exit 1")
    with pytest.raises(SchedulerError, match=r"sh -c .*: no such job \(exit status 1\)"):
        answer.or_raise()
    assert run.run("echo", "fine").or_raise() == "fine\n"


def test_a_death_by_signal_is_told(run: Commands) -> None:
    assert run.run("sh", "-c", "kill -9 $$").status == -9


def test_words_are_passed_as_they_are(run: Commands) -> None:
    words = ("$(touch oops)", "a\nb", "caf\u00e9", "")
    code = "import sys; sys.stdout.buffer.write('|'.join(sys.argv[1:]).encode())"
    assert run.run(*python(code), *words).output == "|".join(words)


def test_much_goes_in_and_out_at_the_same_time(run: Commands) -> None:
    stdin = b"0123456789abcdef" * (1 << 18)
    assert run.run("cat", stdin=stdin).output.encode() == stdin


def test_who_does_not_read_is_no_error(run: Commands) -> None:
    assert run.run("true", stdin=b"x" * (1 << 20)).status == 0


def test_what_is_not_utf8_is_kept(run: Commands) -> None:
    output = run.run("printf", r"\377\303\251").output
    assert output.encode("utf-8", "surrogateescape") == b"\xff\xc3\xa9"


def test_little_of_the_environment_is_passed_on(
    run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "hidden")
    lines = Commands(PATIENCE, {"SITE": "here"}).run("env").output.splitlines()
    assert "SITE=here" in lines
    assert "LC_ALL=C.UTF-8" in lines
    assert not any("hidden" in line for line in lines)


def test_a_command_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    late = tmp_path / "late"
    began = time.monotonic()
    with pytest.raises(SchedulerError, match=r"did not end within 0\.2 s .*command_timeout"):
        Commands(0.2, {}).run("sh", "-c", f"(sleep 3; touch {late}) & sleep 60")
    assert time.monotonic() - began < PATIENCE
    # The grandchild held the pipes, and is gone: nobody else keeps the directory busy.
    holders = [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(late) in _read(p)]
    assert holders == []


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def test_a_command_that_prints_without_end_is_ended(
    run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "MAX_OUTPUT_BYTES", 1 << 20)
    with pytest.raises(SchedulerError, match="prints without end"):
        run.run("yes")


def test_a_command_that_is_not_there_is_named(run: Commands) -> None:
    with pytest.raises(SchedulerError, match="cannot run no-such-command"):
        run.run("no-such-command", "-x")


def test_several_run_side_by_side_and_are_answered_in_order(run: Commands, tmp_path: Path) -> None:
    # Each waits for the other one's file: one after the other they would never end.
    meet = "touch $0/$1; until [ -e $0/$2 ]; do sleep 0.01; done; echo $1"
    calls = [
        Call(("sh", "-c", meet, str(tmp_path), "a", "b")),
        Call(("no-such-command",)),
        Call(("sh", "-c", meet, str(tmp_path), "b", "a")),
    ]
    first, missing, last = run.run_all(calls, at_once=3)
    assert not isinstance(first, SchedulerError)
    assert not isinstance(last, SchedulerError)
    assert (first.output, last.output) == ("a\n", "b\n")
    assert isinstance(missing, SchedulerError)


def test_long_lists_are_not_shown_whole() -> None:
    assert len(commands.show(["cancel", *map(str, range(10_000))])) < 400
