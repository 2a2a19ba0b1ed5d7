"""A place for config files, and a way to read one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from nodemanager.config import Config, load

Loader = Callable[..., Config]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "nodemanager.cfg"


@pytest.fixture
def loaded(path: Path) -> Loader:
    """Write `text` to the file, readable by the owner only unless told otherwise, and load it."""
    path.parent.mkdir()

    def loader(text: str, environ: Mapping[str, str] | None = None, mode: int = 0o600) -> Config:
        path.write_text(text)
        path.chmod(mode)
        return load(path, environ or {})

    return loader
