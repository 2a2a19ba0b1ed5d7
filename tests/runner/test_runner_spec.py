import json
from dataclasses import replace
from typing import Any

import pytest

from nodemanager.errors import ConfigError
from nodemanager.runner.spec import RunnerSpec

SPEC = RunnerSpec(
    container_uuid="zzzzz-dz642-abcdefghijklmno",
    api_url="https://127.0.0.1:4443",
    api_token="v2/zzzzz-gj3su-abcdefghijklmno/topsecret",
    store="/srv/store",
    scratch="/tmp/scratch",
)


def test_comes_back_from_json_as_it_was() -> None:
    spec = replace(SPEC, input_dirs=("/a", "/b c"), tempfail_exits=(99,), kill_grace=0.5)
    assert RunnerSpec.from_json(spec.to_json()) == spec


def test_fields_with_a_default_may_be_absent() -> None:
    value = json.loads(SPEC.to_json())
    for name in ("engine", "insecure", "tempfail_exits", "input_dirs", "max_log_bytes"):
        del value[name]
    assert RunnerSpec.from_json(json.dumps(value)) == SPEC


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("container_uuid", "zzzzz-xvhdp-abcdefghijklmno"),
        ("container_uuid", "../zzzzz-dz642-abcdefghijklmno"),
        ("api_url", "http://127.0.0.1:4443"),
        ("api_url", "https://user:secret@host"),
        ("api_token", ""),
        ("api_token", "two words"),
        ("api_token", "line\r\nbreak"),
        ("store", "relative"),
        ("scratch", 7),
        ("ca_file", "ca.pem"),
        ("insecure", 1),
        ("probe", "yes"),
        ("keep_scratch", "no"),
        ("engine", "rkt"),
        ("tempfail_exits", [0]),
        ("tempfail_exits", [True]),
        ("tempfail_exits", 75),
        ("input_dirs", ["here"]),
        ("input_dirs", "/here"),
        ("kill_grace", -1),
        ("kill_grace", "10"),
        ("heartbeat", 0),
        ("fenced_after", float("nan")),
        ("max_log_bytes", 1.5),
        ("max_log_bytes", -1),
    ],
)
def test_a_wrong_field_is_named(name: str, value: Any) -> None:
    spec = json.loads(SPEC.to_json())
    spec[name] = value
    with pytest.raises(ConfigError, match=f"runner spec: {name}: expected"):
        RunnerSpec.from_json(json.dumps(spec))


@pytest.mark.parametrize("name", ["container_uuid", "api_url", "api_token", "store", "scratch"])
def test_a_missing_field_is_named(name: str) -> None:
    spec = json.loads(SPEC.to_json())
    del spec[name]
    with pytest.raises(ConfigError, match=f"runner spec: {name}: missing"):
        RunnerSpec.from_json(json.dumps(spec))


def test_an_unknown_field_is_named() -> None:
    spec = json.loads(SPEC.to_json()) | {"kill_gracee": 1}
    with pytest.raises(ConfigError, match="unknown field 'kill_gracee'"):
        RunnerSpec.from_json(json.dumps(spec))


@pytest.mark.parametrize("text", ["", "[]", '{"api_token": "v2/topsecret"', "\xff"])
def test_what_is_not_one_object_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ConfigError, match="one JSON object") as caught:
        RunnerSpec.from_json(text)
    assert "topsecret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_token_is_shown_by_neither_repr_nor_error() -> None:
    assert "topsecret" not in repr(SPEC)
    with pytest.raises(ConfigError) as caught:
        replace(SPEC, api_token="topsecret\n")
    assert "topsecret" not in str(caught.value)
