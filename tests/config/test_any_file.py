"""Whatever the file holds: it loads, or there is one ConfigError, and secrets stay secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.config import Config, describe, load, parse
from nodemanager.config.kinds import Kind
from nodemanager.config.tree import SECTIONS
from nodemanager.errors import ConfigError

SECRET = "hush7fT2"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any") / "any.cfg"


def refusal_or(loader: Callable[[], Config]) -> str | Config:
    """The config, or what the ConfigError said; nothing else may be raised."""
    try:
        return loader()
    except ConfigError as error:
        return f"{error}{error.__cause__ or ''}"


def read(text: str, environ: Mapping[str, str] | None = None) -> str | Config:
    return refusal_or(lambda: parse(text, "any.cfg", environ))


@given(content=st.binary() | st.text().map(str.encode))
def test_any_bytes_load_or_raise_config_error(scratch: Path, content: bytes) -> None:
    scratch.write_bytes(content)
    scratch.chmod(0o600)
    result = refusal_or(lambda: load(scratch, {}))
    assert str(scratch) in result if isinstance(result, str) else describe(result)


PLACES = [(part.name, made.name) for part in SECTIONS for made in part.options() if not part.many]
VALUE = st.text(max_size=20) | st.sampled_from(
    ["1", "-1", "1 h", "yes", "a, b", "9" * 400, "1e308"]
)


@given(st.dictionaries(st.sampled_from(PLACES), VALUE, max_size=6))
def test_any_values_load_or_raise_config_error(values: dict[tuple[str, str], str]) -> None:
    lines = []
    for section in dict.fromkeys(section for section, _ in values):
        lines.append(f"[{section}]")
        lines += [f"{option} = {text}" for (at, option), text in values.items() if at == section]
    config = read("\n".join(lines))
    if isinstance(config, Config):
        for _, _, shown, origin in describe(config):
            assert "\n" not in shown
            assert origin


@given(st.dictionaries(st.sampled_from(PLACES), VALUE, max_size=3))
def test_any_environment_loads_or_raises_config_error(values: dict[tuple[str, str], str]) -> None:
    environ = {
        f"NODE_MANAGER_{section}_{option}".upper().replace(" ", "_"): text
        for (section, option), text in values.items()
    }
    result = read("", environ)
    if isinstance(result, str):
        assert all("NODE_MANAGER_" in line or "any.cfg" in line for line in result.splitlines())


@given(st.sampled_from(PLACES), st.data())
def test_what_is_listed_can_be_written_back(place: tuple[str, str], data: st.DataObject) -> None:
    """Every option: a valid value survives file -> value -> listing -> file."""
    section, name = place
    part = next(part for part in SECTIONS if part.name == section)
    made = next(made for made in part.options() if made.name == name)
    text = data.draw(st.sampled_from(["1", "2 min", "64 KiB", "100", "json", "a/b", "1, 2", "no"]))
    config = read(f"[{section}]\n{name} = {text}\n")
    if isinstance(config, str) or made.alias or made.kind.is_secret:
        return
    shown = next(s for s in describe(config) if (s.section, s.option) == place)
    assert shown.origin == "any.cfg:2"
    again = parse(f"[{section}]\n{name} = {shown.value}\n", "any.cfg")
    assert getattr(again, part.attribute) == getattr(config, part.attribute)


SECRET_LINES = [
    ("Arvados", "token"),
    ("Api", "database"),
    ("Api", "root_token"),
    ("Api", "management_token"),
    ("Manage", "ManagementToken"),
    ("Cloud Credentials", "key"),
    ("Cloud Credentials", "secret"),
    ("Cloud Create", "admin_password"),
    ("Scheduler", "api_token"),
]


@pytest.mark.parametrize(("section", "option"), SECRET_LINES)
@pytest.mark.parametrize("before", ["", "[Api]\nport = none\n", "[Oops]\n", "nonsense\n"])
@pytest.mark.parametrize("value", [SECRET, f"{SECRET}\n  {SECRET}", f"a\0{SECRET}"])
def test_secrets_never_show(section: str, option: str, before: str, value: str) -> None:
    text = f"{before}[{section}]\n{option} = {value}\n"
    config = read(text)
    if isinstance(config, str):
        assert SECRET not in config
        return
    assert SECRET not in repr(config)
    assert SECRET not in str(describe(config))
    assert SECRET not in str(config.warnings)
    masked = [shown for shown in describe(config) if shown.value == "***"]
    assert [(shown.section, shown.option.lower()) for shown in masked] == [
        (section, option.lower())
    ]


def test_a_plain_kind_takes_any_text() -> None:
    assert Kind().parse("anything at all") == "anything at all"
