import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodemanager import logs
from nodemanager.config import parse
from nodemanager.errors import ConfigError


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines_of(folder: Path, more: str = "") -> list[str]:
    file = folder / "daemon.log"
    logs.set_up(parse(f"[Logging]\nfile = {file}\n{more}", folder / "nodemanager.cfg"))
    logger = logging.getLogger("nodemanager.dispatch.dispatcher")
    logger.info("claimed %d containers", 3, extra={"action": "claimed", "containers": 3})
    try:
        int("broken")
    except ValueError:
        logger.exception("it broke", extra={"action": "break"})
    logging.getLogger("pykka").warning("chatter")
    return file.read_text().splitlines()


def test_text_for_people(tmp_path: Path) -> None:
    first, *rest = lines_of(tmp_path)
    assert first.endswith("INFO dispatch.dispatcher: claimed 3 containers")
    assert rest[-1].startswith("ValueError: invalid literal")
    assert not any("chatter" in line for line in rest)


def test_json_for_machines(tmp_path: Path) -> None:
    first, second = (json.loads(line) for line in lines_of(tmp_path, "format = json\n"))
    assert first["message"] == "claimed 3 containers"
    assert (first["action"], first["containers"]) == ("claimed", 3)
    assert "ValueError: invalid literal" in second["traceback"]


def test_levels_of_single_loggers(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, "level = ERROR\npykka = WARNING\n")
    assert any("chatter" in line for line in lines)
    assert not any("claimed" in line for line in lines)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = parse(f"[Logging]\nfile = {tmp_path}/file/x.log\n", tmp_path / "nodemanager.cfg")
    with pytest.raises(ConfigError, match=r"\[Logging\] file"):
        logs.set_up(config)


def test_standard_error_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.set_up(parse("", tmp_path / "nodemanager.cfg"))
    logging.getLogger("nodemanager.x").warning("hello")
    assert "WARNING x: hello" in stream.getvalue()
