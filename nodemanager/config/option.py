"""How an option is declared: once, as a field of a frozen dataclass, with all there is to know about it."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nodemanager.config.kinds import Kind, SecretText


@dataclass(frozen=True)
class Option:
    """Everything about one option; parser, example, listing and reference page are made from it."""

    kind: Kind
    default: str
    """As it would be written in the file. Words in angle brackets are filled in when a file is loaded."""
    sentence: str
    name: str = ""
    """As written in the file; the field's name unless told otherwise."""
    alias: tuple[str, str] | None = None
    """An old place of this option (section, option) that is accepted too."""
    unused: str = ""
    """For options of the old node manager: why the option has no effect (yet)."""
    optional: bool = False
    """There is no default; the value is None when the option is not given."""
    free: bool = False
    """Stands for every other key of its section; the value is a mapping."""
    example: str = ""
    """What to write in the example file when there is no default to show."""
    attribute: str = ""

    @property
    def key(self) -> str:
        """What upper and lower case come down to."""
        return self.name.lower()

    @property
    def is_derived(self) -> bool:
        """The default depends on where the file is loaded; the option's values may use its words too."""
        return "<" in self.default


@dataclass(frozen=True)
class Section:
    """One section of the file: its name, its dataclass and what it is about."""

    name: str
    attribute: str
    cls: type[Any]
    sentence: str
    many: bool = False
    """`[NAME x]` may occur any number of times; the value is a mapping from x."""

    @property
    def title(self) -> str:
        """How the section is spoken of."""
        return f"{self.name} NAME" if self.many else self.name

    def is_called(self, name: str) -> bool:
        """Whether `[name]` is this section, or one of its kind: `Size small` is a `Size`."""
        if not self.many:
            return name == self.name
        return name.startswith(f"{self.name} ") and bool(name[len(self.name) :].strip())

    def options(self) -> Iterator[Option]:
        """The named options, in the order they were declared."""
        return (o for o in options_of(self.cls) if not o.free)

    def free(self) -> Option | None:
        """What every other key of this section is, if others are allowed."""
        return next((o for o in options_of(self.cls) if o.free), None)


def option(
    kind: Kind,
    default: str,
    sentence: str,
    *,
    name: str = "",
    alias: tuple[str, str] | None = None,
    unused: str = "",
) -> Any:
    """Declare a field that is an option. `default` is text, as in the file; see `Option`."""
    made = Option(kind, default, sentence, name=name, alias=alias, unused=unused)
    value = dataclasses.MISSING if made.is_derived else kind.parse(default)
    return dataclasses.field(default=value, metadata={"option": made})


def optional(kind: Kind, sentence: str, example: str, *, unused: str = "") -> Any:
    """Declare an option that is None when it is not given."""
    made = Option(kind, "", sentence, optional=True, example=example, unused=unused)
    return dataclasses.field(default=None, metadata={"option": made})


def free_options(kind: Kind, sentence: str, example: str) -> Any:
    """Declare the field that takes every other key of its section, as a mapping.

    `example` is a whole line, with its key.
    """
    made = Option(kind, "", sentence, free=True, example=example)
    return dataclasses.field(default_factory=dict, metadata={"option": made})


def section(name: str, cls: type[Any], *, many: bool = False) -> Any:
    """Declare a field of `Config` that is a section of the file; its sentence is the class's docstring."""
    metadata = {"section": Section(name, "", cls, inspect.cleandoc(cls.__doc__ or ""), many)}
    return dataclasses.field(metadata=metadata)


def options_of(cls: type[Any]) -> Iterator[Option]:
    """All options declared in a section's dataclass."""
    for field in dataclasses.fields(cls):
        made: Option = field.metadata["option"]
        yield dataclasses.replace(made, name=made.name or field.name, attribute=field.name)


def sections_of(cls: type[Any]) -> Iterator[Section]:
    """All sections declared in `cls`, in order."""
    for field in dataclasses.fields(cls):
        made: Section | None = field.metadata.get("section")
        if made is not None:
            yield dataclasses.replace(made, attribute=field.name)


def looks_secret(name: str) -> bool:
    """Whether a free key, by its name, holds a secret: `key`, `secret`, `api_token`, `db_password`.

    Nobody declares the keys of `[Cloud Credentials]` or of a scheduler module, so the name has to tell.
    """
    return re.search(r"(key|secret|token|password|passwd)$", name, re.IGNORECASE) is not None


def kind_of(made: Option, key: str) -> Kind:
    """The kind of the option `made` under the name `key`; free keys that look secret are."""
    return SecretText() if made.free and looks_secret(key) else made.kind
