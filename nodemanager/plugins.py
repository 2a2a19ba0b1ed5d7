"""Which class does a word of the config file mean: a built-in, somebody's entry point, or a dotted path."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from nodemanager.config.kinds import nearest
from nodemanager.errors import ConfigError

Base = TypeVar("Base")


@dataclass(frozen=True, slots=True)
class Plugins(Generic[Base]):
    """Where the classes of one kind are looked for, and how to speak of them."""

    base: type[Base]
    """What such a class must be a subclass of, with nothing left abstract."""
    option: str
    """Where the word was written: ``[Dispatch] scheduler``."""
    noun: str
    """What such a class is: ``scheduler``."""
    group: str
    """The entry point group in which other packages offer theirs."""
    built_in: Mapping[str, str]
    """Ours, as ``module:Class``. Found even where the package runs without being installed; no entry
    point can take these names."""

    def find(self, word: str) -> type[Base]:
        """The class that `word` names.

        `word` is a built-in name, the name of an entry point, or a dotted path: ``mysite.lsf:Lsf``. Raises
        `ConfigError` that says what was tried and, for a name, what is known.
        """
        if ":" in (target := self.built_in.get(word, word)):
            return self._checked(word, load(self.option, target))
        offered = self._offered()
        if word in offered:
            target = f"{offered[word].module}:{offered[word].attr}"
            return self._checked(word, load(self.option, target))
        known = self.known()
        raise ConfigError(
            f"{self.option}: there is no {self.noun} {word!r}{nearest(word, known)}; known are "
            f"{', '.join(known)}; one of your own is written package.module:Class"
        )

    def known(self) -> tuple[str, ...]:
        """Every name that `find` would look for, built in or offered by an installed package."""
        return tuple(sorted({*self.built_in, *self._offered()}))

    def _offered(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def _checked(self, word: str, value: object) -> type[Base]:
        if not (isinstance(value, type) and issubclass(value, self.base)):
            raise ConfigError(
                f"{self.option}: {word!r} is {value!r}, not a subclass of "
                f"{self.base.__module__}.{self.base.__qualname__}"
            )
        if inspect.isabstract(value):
            members = ((name, getattr(value, name, None)) for name in dir(value))
            missing = ", ".join(n for n, m in members if getattr(m, "__isabstractmethod__", False))
            raise ConfigError(f"{self.option}: {word!r} does not define {missing}")
        return value


def load(option: str, path: str) -> object:
    """What ``package.module:Class`` or ``package.module.Class`` names; `option` is where it was written."""
    module_name, _, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    if not module_name or not attribute:
        raise ConfigError(f"{option}: {path!r} is no dotted path; write package.module:Class")
    try:
        value: object = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(
            f"{option}: {path!r}: importing {module_name} failed: {type(error).__name__}: {error}; "
            "the daemon's Python has to be able to import it"
        ) from error
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError as error:
            hint = nearest(part, dir(value))
            raise ConfigError(f"{option}: {path!r}: {module_name} has no {part}{hint}") from error
    return value
