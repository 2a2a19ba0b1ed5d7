"""Which class does `[Dispatch] scheduler` mean: a built-in, somebody's entry point, or a dotted path."""

from __future__ import annotations

import difflib
import importlib
import inspect
from importlib.metadata import EntryPoint, entry_points

from nodemanager.errors import ConfigError
from nodemanager.schedulers.base import Scheduler

GROUP = "arvados_node_manager.schedulers"
"""The entry point group in which other packages offer their modules."""

BUILT_IN = {
    "local": "nodemanager.schedulers.local:LocalScheduler",
    "fake": "nodemanager.schedulers.fake:FakeScheduler",
}
"""Found even where the package runs without being installed; no entry point can take these names."""


def find_scheduler(word: str) -> type[Scheduler]:
    """The scheduler class that `word` names.

    `word` is a built-in name (`local`), the name of an entry point of `GROUP`, or a dotted path such as
    ``mysite.lsf:Lsf``. Raises `ConfigError` that says what was tried and, for a name, what is known.
    """
    target = BUILT_IN.get(word)
    if target is None and ":" in word:
        target = word
    if target is not None:
        module_name, _, attribute = target.partition(":")
        return _checked(word, _load(word, module_name, attribute))
    offered = _offered()
    if word in offered:
        return _checked(word, _load(word, offered[word].module, offered[word].attr))
    raise ConfigError(_not_found(word, sorted({*BUILT_IN, *offered})))


def known_schedulers() -> tuple[str, ...]:
    """Every name that `find_scheduler` would look for, built in or offered by an installed package."""
    return tuple(sorted({*BUILT_IN, *_offered()}))


def _offered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _load(word: str, module_name: str, attribute: str) -> object:
    if not module_name or not attribute:
        raise ConfigError(
            f"[Dispatch] scheduler: {word!r} is no dotted path; write package.module:Class"
        )
    try:
        value: object = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(
            f"[Dispatch] scheduler: {word!r}: importing {module_name} failed: "
            f"{type(error).__name__}: {error}; the daemon's Python has to be able to import it"
        ) from error
    for part in attribute.split("."):
        value = _member(word, module_name, value, part)
    return value


def _member(word: str, module_name: str, owner: object, part: str) -> object:
    try:
        value: object = getattr(owner, part)
    except AttributeError as error:
        near = difflib.get_close_matches(part, dir(owner), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(
            f"[Dispatch] scheduler: {word!r}: {module_name} has no {part}{hint}"
        ) from error
    return value


def _checked(word: str, value: object) -> type[Scheduler]:
    if not (isinstance(value, type) and issubclass(value, Scheduler)):
        raise ConfigError(
            f"[Dispatch] scheduler: {word!r} is {value!r}, not a subclass of "
            "nodemanager.schedulers.base.Scheduler"
        )
    if inspect.isabstract(value):
        missing = ", ".join(sorted(value.__abstractmethods__))
        raise ConfigError(f"[Dispatch] scheduler: {word!r} does not define {missing}")
    return value


def _not_found(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return (
        f"[Dispatch] scheduler: there is no scheduler {word!r}{hint}; known are {', '.join(known)}; "
        "a module of your own is written package.module:Class"
    )
