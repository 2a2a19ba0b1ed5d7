"""Which PersistentVolumeClaim holds the files of which directory: pods reach our files by claims alone."""

# ruff: noqa: D102 -- what each method does is said once, in `Kind`

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from nodemanager.config.kinds import Kind, found
from nodemanager.schedulers.kubernetes.syntax import is_object_name


@dataclass(frozen=True, slots=True)
class Claim:
    """The root of the claim's volume and `directory` are the same place."""

    directory: PurePosixPath
    """Absolute, as the config file names it."""
    name: str
    """Of the PersistentVolumeClaim, in the namespace of the pods."""


@dataclass(frozen=True, slots=True)
class Place:
    """A path in the volume of a claim; empty for its root."""

    claim: Claim
    path: str


@dataclass(frozen=True)
class Claims(Kind):
    """``/shared/store results, /shared/inputs inputs``; the value is a tuple of `Claim`."""

    @property
    def word(self) -> str:
        return "directories and PersistentVolumeClaims"

    def parse(self, text: str) -> tuple[Claim, ...]:
        claims: list[Claim] = []
        for part in filter(None, (part.strip() for part in text.split(","))):
            # A directory may have blanks in its name, a claim may not.
            directory, _, name = part.rpartition(" ")
            path = PurePosixPath(directory.strip())
            if not path.is_absolute() or ".." in path.parts or not is_object_name(name):
                raise ValueError(
                    "expected an absolute directory and a PersistentVolumeClaim, as in "
                    f"`/shared/store results`, found {found(part)}"
                )
            if any(claim.directory == path for claim in claims):
                raise ValueError(f"expected each directory once, found {path} twice")
            claims.append(Claim(path, name))
        return tuple(claims)

    def show(self, value: Any) -> str:
        return ", ".join(f"{claim.directory} {claim.name}" for claim in value)


def find_place(claims: Sequence[Claim], path: PurePosixPath) -> Place | None:
    """Where `path` is found: in the claim of the nearest directory. None when no claim covers it."""
    covering = [claim for claim in claims if path.is_relative_to(claim.directory)]
    if not covering:
        return None
    nearest = max(covering, key=lambda claim: len(claim.directory.parts))
    relative = path.relative_to(nearest.directory).as_posix()
    return Place(nearest, "" if relative == "." else relative)
