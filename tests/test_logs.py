import io
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodemanager import logs
from nodemanager.config import parse
from nodemanager.errors import ConfigError
from nodemanager.masking import Mask


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(logs, "_mask", Mask())
    yield
    logging.captureWarnings(False)
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logs._set_levels({})


class Log:
    """A log file set up as `[Logging]` says."""

    def __init__(self, folder: Path, options: str = "", more: str = "") -> None:
        self.file = folder / "daemon.log"
        text = f"[Logging]\nfile = {self.file}\n{options}{more}"
        logs.set_up(parse(text, folder / "nodemanager.cfg"))
        self.logger = logging.getLogger("nodemanager.dispatch.dispatcher")

    @property
    def lines(self) -> list[str]:
        return self.file.read_text().splitlines()


def break_something(logger: logging.Logger, words: str = "broken") -> None:
    try:
        raise ValueError(words)  # noqa: TRY301 (its traceback is wanted)
    except ValueError:
        logger.exception("it broke", extra={"action": "break"})


def test_text_for_people(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.logger.info("claimed %d containers", 3, extra={"action": "claimed", "containers": 3})
    [line] = log.lines
    assert line.endswith(
        " INFO dispatch.dispatcher: claimed 3 containers [action=claimed containers=3]"
    )


def test_fields_with_spaces_are_quoted(tmp_path: Path) -> None:
    log = Log(tmp_path)
    fields = {"action": "x", "words": 'a "b"', "share": 0.1234567, "sizes": {"a1": 2}, "none": None}
    log.logger.info("fields", extra=fields)
    assert log.lines[0].endswith(
        r'[action=x words="a \"b\"" share=0.123457 sizes="{\"a1\": 2}" none=null]'
    )


def test_a_traceback_follows_on_lines_that_cannot_be_taken_for_others(tmp_path: Path) -> None:
    log = Log(tmp_path)
    break_something(log.logger, "broken\n2026-01-01 00:00:00,000 INFO forged: all is well\r\x1b[2J")
    first, *rest = log.lines
    assert first.endswith("it broke [action=break]")
    assert rest
    assert all(line.startswith("  | ") for line in rest)
    assert "\x1b" not in log.file.read_text()


def test_json_for_machines(tmp_path: Path) -> None:
    log = Log(tmp_path, "format = json\n")
    log.logger.info("claimed %d containers", 3, extra={"action": "claimed", "containers": 3})
    break_something(log.logger)
    log.logger.warning("odd", extra={"share": float("nan"), "where": tmp_path, "many": {1}})
    first, second, third = (json.loads(line) for line in log.lines)
    assert first["message"] == "claimed 3 containers"
    assert (first["action"], first["containers"]) == ("claimed", 3)
    assert (first["level"], first["logger"]) == ("INFO", "nodemanager.dispatch.dispatcher")
    assert first["time"].endswith("+00:00")
    assert "ValueError: broken" in second["traceback"]
    assert third["share"] == "nan"
    assert third["where"] == str(tmp_path)


@pytest.mark.parametrize("form", ["text", "json"])
def test_nobody_can_forge_a_line(tmp_path: Path, form: str) -> None:
    log = Log(tmp_path, f"format = {form}\n")
    words = "x\n2026-01-01 INFO forged\r\n\x85\u2028y\x1b[1A"
    log.logger.warning("said: %s", words, extra={"action": "x", "words": words})
    assert len(log.lines) == 1
    assert "\x1b" not in log.file.read_text()


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_are_masked_in_sentences_fields_and_tracebacks(tmp_path: Path, form: str) -> None:
    secret, token = "open sesame", "v2/zzzzz-gj3su-0123456789abcde/verysecret"
    log = Log(tmp_path, f"format = {form}\n", f"[Manage]\nManagementToken = {secret}\n")
    logs.mask_secrets(["made-at-start"])
    log.logger.warning(
        "%s %s", token, "made-at-start", extra={"given": [secret], "deep": {secret: 1}}
    )
    break_something(log.logger, f"refused: {secret}")
    logging.getLogger("some.library").warning("Authorization: Bearer %s", token)
    warnings.simplefilter("always")
    text = log.file.read_text()
    assert "verysecret" not in text
    assert secret not in text
    assert "made-at-start" not in text
    assert "***" in text


def test_a_call_with_wrong_arguments_is_still_a_line(tmp_path: Path) -> None:
    log = Log(tmp_path, more="[Manage]\nManagementToken = open-sesame\n")
    log.logger.warning("%d jobs", "open-sesame")
    [line] = log.lines
    assert "%d jobs" in line
    assert "sesame" not in line


def test_what_nobody_caught_is_logged_and_masked(tmp_path: Path) -> None:
    log = Log(tmp_path, more="[Manage]\nManagementToken = open-sesame\n")
    logs.log_strays()
    thread = threading.Thread(target=lambda: int("open-sesame"), name="worker-7")
    thread.start()
    thread.join()
    text = log.file.read_text()
    assert "in thread worker-7: invalid literal" in text
    assert "action=uncaught" in text
    assert "sesame" not in text


def test_levels_of_single_loggers(tmp_path: Path) -> None:
    log = Log(tmp_path, "level = ERROR\npykka = WARNING\n")
    logging.getLogger("pykka").warning("chatter")
    log.logger.info("claimed")
    assert len(log.lines) == 1
    assert "chatter" in log.lines[0]


def test_set_up_again_changes_level_file_and_single_loggers(tmp_path: Path) -> None:
    first = Log(tmp_path, "level = ERROR\npykka = WARNING\nnodemanager.nodes = DEBUG\n")
    folder = tmp_path / "other"
    second = Log(folder, "level = INFO\n")
    logging.getLogger("pykka").warning("chatter")
    logging.getLogger("nodemanager.nodes").debug("detail")
    second.logger.info("claimed")
    assert first.lines == []
    assert ["claimed" in line for line in second.lines] == [True]


def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    """As logrotate does; nobody has to tell the daemon."""
    log = Log(tmp_path)
    log.logger.info("one")
    log.file.rename(tmp_path / "daemon.log.1")
    log.logger.info("two")
    assert ["two" in line for line in log.lines] == [True]


def test_a_file_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = Log(tmp_path)
    config = parse(f"[Logging]\nfile = {tmp_path}/file/x.log\n", tmp_path / "nodemanager.cfg")
    with pytest.raises(ConfigError, match=r"\[Logging\] file"):
        logs.set_up(config)
    log.logger.info("as before")
    assert len(log.lines) == 1


def test_standard_error_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.set_up(parse("", tmp_path / "nodemanager.cfg"))
    logging.getLogger("nodemanager.x").warning("hello")
    assert "WARNING x: hello" in stream.getvalue()


def test_the_journal_is_told_the_priority_and_not_the_time(tmp_path: Path) -> None:
    """The journal says by device and inode which standard error is its own."""
    program = (
        "import logging, pathlib; from nodemanager import logs; from nodemanager.config import parse;"
        "logs.set_up(parse('', pathlib.Path('x.cfg')));"
        "logging.getLogger('nodemanager.x').warning('hello', extra={'action': 'greet'})"
    )
    target = tmp_path / "stderr"
    with target.open("wb") as file:
        found = os.fstat(file.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        subprocess.run([sys.executable, "-c", program], stderr=file, env=environment, check=True)
    assert target.read_text() == "<4>WARNING x: hello [action=greet]\n"
