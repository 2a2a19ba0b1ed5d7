"""What a container request may say: defaults, checks, and the address of the work it defines.

Pure, and shared by the API server and the loader of request files, so that both refuse the same things
in the same words. The rules are those of stock Arvados (container_request.rb), where it has one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nodemanager.model import STORE_PREFIX, parse_time, stored_output

LARGEST_INTEGER = 2**62
"""Larger numbers do not survive the databases and clients they pass through."""

DEEPEST = 32
"""Levels of nesting a value may have."""

MAX_PRIORITY = 1000

_STREAMS = ("stdin", "stdout", "stderr")
_OUTPUT_KINDS = ("tmp", "collection")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a request: `field` is a dotted path, such as ``runtime_constraints.ram``."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


_Check = Callable[[str, Any], Iterator[Problem]]


@dataclass(frozen=True, slots=True)
class _Attribute:
    check: _Check
    default: Any = None
    nullable: bool = False


def problems(attributes: Mapping[str, Any], *, committing: bool) -> list[Problem]:
    """Everything wrong with the `attributes` of a container request, in the order they are given.

    With `committing` the request must also be complete: they are then all its attributes, defaults
    filled in or not. An empty list means that it is fine.
    """
    found: list[Problem] = []
    for name, value in attributes.items():
        attribute = _ATTRIBUTES.get(name)
        if attribute is None:
            found.append(Problem(_shown(name), "unknown field"))
        elif value is None:
            if not attribute.nullable and attribute.default is None:
                found.append(Problem(name, "must not be null"))
        elif broken := list(plain(name, value)):
            found.extend(broken)
        else:
            found.extend(attribute.check(name, value))
    if committing and not found:
        found.extend(_incomplete(with_defaults(attributes)))
    return found


def defaults() -> dict[str, Any]:
    """A fresh value for every attribute that has a default."""
    return {
        name: json.loads(json.dumps(attribute.default))
        for name, attribute in _ATTRIBUTES.items()
        if attribute.default is not None or attribute.nullable
    }


def with_defaults(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """`attributes`, with the default for each that is absent, or null where null means the default."""
    filled = defaults()
    for name, value in attributes.items():
        if value is not None or filled.get(name) is None:
            filled[name] = value
    return filled


def content_address(attributes: Mapping[str, Any], salt: str = "", user_uuid: str = "") -> str:
    """Hash over what defines the work, so that the same work can be found again.

    Priorities, times, names and scheduling parameters do not belong to it. With a `salt`
    (``use_existing`` is false) it equals no other. `user_uuid`, whom the command acts as, belongs to it
    when the command can act: with API access, or a token that comes with the request.
    """
    filled = with_defaults(attributes)
    work = {name: filled.get(name) for name in _DEFINING}
    if filled["runtime_constraints"].get("API") or filled.get("runtime_token"):
        work["user_uuid"] = user_uuid
    # Cores and RAM are part of it, as in Arvados: a program may do something else with more of them.
    canonical = json.dumps([work, salt], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


_DEFINING = (
    "command",
    "container_image",
    "cwd",
    "environment",
    "mounts",
    "output_glob",
    "output_path",
    "runtime_constraints",
    "secret_mounts",
)


# --- what any value must be -----------------------------------------------------------------------


def plain(path: str, value: Any, depth: int = 1) -> Iterator[Problem]:
    """What no database, file or argument list can hold, wherever it is in a JSON value."""
    if depth > DEEPEST:
        yield Problem(path, f"is nested more than {DEEPEST} levels deep")
    elif isinstance(value, str):
        yield from _plain_text(path, value)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            yield Problem(path, "is too large a number (at most 2^62)")
    elif isinstance(value, float):
        if not math.isfinite(value) or abs(value) > LARGEST_INTEGER:
            yield Problem(path, "is not a number that can be stored")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                yield Problem(path, f"has a key that is not a string: {key!r}")
            else:
                yield from _plain_text(f"{path} key", key)
                yield from plain(f"{path}.{_shown(key)}", item, depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from plain(f"{path}.{index}", item, depth + 1)
    else:
        yield Problem(path, f"is not a JSON value: {type(value).__name__}")


def _plain_text(path: str, value: str) -> Iterator[Problem]:
    if "\0" in value:
        yield Problem(path, "contains a NUL character")
    elif not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            yield Problem(path, "is not valid Unicode (a lone surrogate)")


def _shown(name: Any) -> str:
    """A name from the input as a part of a dotted path: whole words, no control characters."""
    text = str(name)[:100]
    return text if text.isprintable() else ascii(text)


# --- checks of one value --------------------------------------------------------------------------


def _string(path: str, value: Any) -> Iterator[Problem]:
    if not isinstance(value, str):
        yield Problem(path, f"must be a string, not {_kind(value)}")


def _boolean(path: str, value: Any) -> Iterator[Problem]:
    if not isinstance(value, bool):
        yield Problem(path, f"must be true or false, not {_kind(value)}")


def _integer(minimum: int, maximum: int = LARGEST_INTEGER, words: str = "") -> _Check:
    def check(path: str, value: Any) -> Iterator[Problem]:
        if isinstance(value, bool) or not isinstance(value, int):
            yield Problem(path, f"must be {words or 'an integer'}, not {_kind(value)}")
        elif value < minimum or value > maximum:
            if maximum < LARGEST_INTEGER:
                expected = f"from {minimum} to {maximum}"
            else:
                expected = words or f"at least {minimum}"
            yield Problem(path, f"must be {expected}, not {value}")

    return check


def _number(path: str, value: Any) -> Iterator[Problem]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield Problem(path, f"must be a number, not {_kind(value)}")


def _object(path: str, value: Any) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield Problem(path, f"must be an object, not {_kind(value)}")


def _strings(path: str, value: Any) -> Iterator[Problem]:
    if not isinstance(value, list | tuple):
        yield Problem(path, f"must be an array of strings, not {_kind(value)}")
        return
    for index, item in enumerate(value):
        yield from _string(f"{path}.{index}", item)


def _array(path: str, value: Any) -> Iterator[Problem]:
    if not isinstance(value, list | tuple):
        yield Problem(path, f"must be an array, not {_kind(value)}")


def _one_of(*choices: str) -> _Check:
    def check(path: str, value: Any) -> Iterator[Problem]:
        if value not in choices:
            yield Problem(path, f"must be one of {', '.join(choices)}")

    return check


def _anything(path: str, value: Any) -> Iterator[Problem]:
    del path, value
    yield from ()


def _time(path: str, value: Any) -> Iterator[Problem]:
    if not isinstance(value, str):
        yield Problem(path, f"must be a time such as 2026-01-31T12:00:00Z, not {_kind(value)}")
        return
    try:
        parse_time(value)
    except (ValueError, OverflowError):
        yield Problem(path, "is not a time with a zone, such as 2026-01-31T12:00:00Z")


def _keys(checks: Mapping[str, _Check]) -> _Check:
    """An object with no other keys than those of `checks`."""

    def check(path: str, value: Any) -> Iterator[Problem]:
        if not isinstance(value, Mapping):
            yield from _object(path, value)
            return
        for key, item in value.items():
            if key not in checks:
                yield Problem(
                    f"{path}.{_shown(key)}", f"unexpected key; known: {', '.join(checks)}"
                )
            elif item is not None:
                yield from checks[key](f"{path}.{key}", item)

    return check


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "an array"
    return "null"


# --- checks of one attribute ----------------------------------------------------------------------


def _command(path: str, value: Any) -> Iterator[Problem]:
    yield from _strings(path, value)
    if isinstance(value, list | tuple) and value and value[0] == "":
        yield Problem(f"{path}.0", "must name a program")


def _texts(path: str, value: Any) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield from _object(path, value)
        return
    for name, item in value.items():
        yield from _string(f"{path}.{_shown(name)}", item)


def _environment(path: str, value: Any) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield from _object(path, value)
        return
    for name, item in value.items():
        if not name or "=" in name:
            yield Problem(path, f"{_shown(name)!r} is not a name: it is empty or contains '='")
        yield from _string(f"{path}.{_shown(name)}", item)


def _cwd(path: str, value: Any) -> Iterator[Problem]:
    if not isinstance(value, str):
        yield from _string(path, value)
    elif value not in (".", "/") and not _is_absolute(value):
        yield Problem(path, "must be '.' or an absolute path without '.', '..' and empty parts")


def _output_path(path: str, value: Any) -> Iterator[Problem]:
    if not isinstance(value, str):
        yield from _string(path, value)
    elif value and not _is_absolute(value):
        yield Problem(path, "must be an absolute path without '.', '..' and empty parts")


def _is_absolute(path: str) -> bool:
    """An absolute path below the root, in its shortest form; one slash at the end is forgiven."""
    parts = path.removesuffix("/").split("/")
    return path.startswith("/") and len(parts) > 1 and not {"", ".", ".."} & set(parts[1:])


_ALWAYS = {"kind": _string, "exclude_from_output": _boolean}
_MOUNT_KINDS: Mapping[str, tuple[Mapping[str, _Check], tuple[str, ...]]] = {
    # kind -> checks of its fields, and which of them are needed
    "tmp": ({"capacity": _integer(1, words="a positive integer"), "device_type": _string}, ()),
    "text": ({"content": _string}, ("content",)),
    "json": ({"content": _anything}, ("content",)),
    "file": ({"path": _string}, ("path",)),
    "collection": (
        {
            "portable_data_hash": _string,
            "uuid": _string,
            "path": _string,
            "writable": _boolean,
            "commit": _string,
            "repository_name": _string,
        },
        (),
    ),
    "keep": ({"path": _string, "writable": _boolean}, ()),
}


def _mounts(path: str, value: Any) -> Iterator[Problem]:
    yield from _mounts_of_kinds(path, value, tuple(_MOUNT_KINDS))


def _secret_mounts(path: str, value: Any) -> Iterator[Problem]:
    yield from _mounts_of_kinds(path, value, ("text", "json"))


def _mounts_of_kinds(path: str, value: Any, kinds: tuple[str, ...]) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield from _object(path, value)
        return
    for target, mount in value.items():
        where = f"{path}.{_shown(target)}"
        if target not in _STREAMS and not _is_absolute(target):
            yield Problem(where, "the target must be an absolute path, or stdin, stdout or stderr")
        if not isinstance(mount, Mapping):
            yield from _object(where, mount)
        else:
            yield from _mount(where, target, mount, kinds)


def _mount(
    path: str, target: str, mount: Mapping[str, Any], kinds: tuple[str, ...]
) -> Iterator[Problem]:
    kind = mount.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        yield Problem(f"{path}.kind", f"must be one of {', '.join(kinds)}")
        return
    checks, needed = _MOUNT_KINDS[kind]
    yield from _keys({**_ALWAYS, **checks})(path, mount)
    for name in needed:
        if name not in mount or (mount[name] is None and kind != "json"):
            yield Problem(f"{path}.{name}", f"missing: a mount of kind {kind} needs it")
    if kind == "file":
        yield from _file_path(f"{path}.path", mount.get("path"))
    if target in ("stdout", "stderr") and kind != "file":
        yield Problem(f"{path}.kind", f"{target} can only go to a mount of kind file")
    if target == "stdin" and kind not in ("file", "json", "text", "collection"):
        yield Problem(
            f"{path}.kind", "stdin can only come from kind file, text, json or collection"
        )


def _file_path(path: str, value: Any) -> Iterator[Problem]:
    if value == "":
        yield Problem(path, "must not be empty")
    elif isinstance(value, str) and value.startswith(STORE_PREFIX) and not stored_output(value):
        yield Problem(path, "must be an absolute path, or store:<container uuid>/output/<path>")


_POSITIVE = _integer(1, words="a positive integer")
_NOT_NEGATIVE = _integer(0)
_runtime_constraints = _keys(
    {
        "vcpus": _POSITIVE,
        "ram": _POSITIVE,
        "keep_cache_ram": _NOT_NEGATIVE,
        "keep_cache_disk": _NOT_NEGATIVE,
        "API": _boolean,
        "gpu": _keys(
            {
                "device_count": _NOT_NEGATIVE,
                "driver_version": _string,
                "hardware_target": _strings,
                "stack": _one_of("", "cuda", "rocm"),
                "vram": _NOT_NEGATIVE,
            }
        ),
        "cuda": _keys(
            {
                "device_count": _NOT_NEGATIVE,
                "driver_version": _string,
                "hardware_capability": _string,
            }
        ),
    }
)
_scheduling_parameters = _keys(
    {
        "max_run_time": _integer(0),
        "partitions": _strings,
        "preemptible": _boolean,
        "supervisor": _boolean,
        "properties": _texts,
    }
)

_ATTRIBUTES: Mapping[str, _Attribute] = {
    "name": _Attribute(_string, ""),
    "description": _Attribute(_string, ""),
    "properties": _Attribute(_object, {}),
    "owner_uuid": _Attribute(_string, nullable=True),
    "state": _Attribute(_one_of("Uncommitted", "Committed", "Final"), "Uncommitted"),
    "priority": _Attribute(_integer(0, MAX_PRIORITY), 500),
    "command": _Attribute(_command, []),
    "cwd": _Attribute(_cwd, "."),
    "environment": _Attribute(_environment, {}),
    "output_path": _Attribute(_output_path, ""),
    "output_glob": _Attribute(_strings, []),
    "output_name": _Attribute(_string, nullable=True),
    "output_ttl": _Attribute(_integer(0), 0),
    "output_properties": _Attribute(_object, {}),
    "output_storage_classes": _Attribute(_strings, []),
    "container_image": _Attribute(_string, ""),
    "mounts": _Attribute(_mounts, {}),
    "secret_mounts": _Attribute(_secret_mounts, {}),
    "runtime_constraints": _Attribute(_runtime_constraints, {}),
    "scheduling_parameters": _Attribute(_scheduling_parameters, {}),
    "runtime_token": _Attribute(_string, nullable=True),
    "service": _Attribute(_boolean, default=False),
    "published_ports": _Attribute(_object, {}),
    "container_count_max": _Attribute(_integer(1), 1),
    "use_existing": _Attribute(_boolean, default=True),
    "use_existing_before_run_after": _Attribute(_boolean, default=False),
    "run_after": _Attribute(_time, nullable=True),
    "expires_at": _Attribute(_time, nullable=True),
    "filters": _Attribute(_array, nullable=True),
    "cumulative_cost": _Attribute(_number, 0.0),
}

ATTRIBUTES = frozenset(_ATTRIBUTES)
"""Every attribute a client may give."""


# --- what a whole request must be -----------------------------------------------------------------


def _incomplete(filled: Mapping[str, Any]) -> Iterator[Problem]:
    if not filled["command"]:
        yield Problem("command", "is empty: there is nothing to run")
    for name in ("vcpus", "ram"):
        if filled["runtime_constraints"].get(name) is None:
            yield Problem(f"runtime_constraints.{name}", "missing: must be a positive integer")
    if filled["priority"] == 0:
        yield Problem("priority", "is 0, which cancels; a request to be run needs 1 to 1000")
    both = set(filled["mounts"]) & set(filled["secret_mounts"])
    for target in sorted(both):
        yield Problem(f"secret_mounts.{_shown(target)}", "is also a target of mounts")
    yield from _misplaced_output(filled["output_path"], filled["mounts"])


def _misplaced_output(output_path: str, mounts: Mapping[str, Any]) -> Iterator[Problem]:
    """The output is a mount, or a folder of a tmp mount; redirected streams end inside it."""
    inside = output_path.rstrip("/")
    if not inside:
        # As in stock Arvados; a runner would have nowhere to look for what the command made.
        yield Problem("output_path", "is empty: a mount of kind tmp, or a folder of one, is needed")
    elif not any(
        mount["kind"] in _OUTPUT_KINDS and _is_within(inside, target.rstrip("/"))
        for target, mount in mounts.items()
    ):
        yield Problem(
            "output_path", "must be a mount target of kind tmp or collection, or lie below one"
        )
    for stream in ("stdout", "stderr"):
        path = mounts.get(stream, {}).get("path")
        if path is not None and not (inside and _is_absolute(path) and _is_within(path, inside)):
            yield Problem(f"mounts.{stream}.path", "must lie below output_path")


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")
