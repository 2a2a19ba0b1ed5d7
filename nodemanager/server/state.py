"""What an API server keeps in its state directory, and the lock that makes the directory its own."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodemanager import durable
from nodemanager.errors import ConfigError

LOCK_PATIENCE_SECONDS = 10.0
"""How long a new server waits for the one before it to finish."""

_RETRY_SECONDS = 0.05
_ROOT_TOKEN_BYTES = 32


class StateDirectory:
    """``<state_dir>/api``: made when it is missing, readable by its owner only."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "api"
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"[Daemon] state_dir: {self.path} cannot be made: {error.strerror}"
            ) from error

    @property
    def database(self) -> Path:
        """The SQLite database, when no other is configured."""
        return self.path / "database.sqlite"

    @property
    def certificate(self) -> Path:
        """The certificate made here; its own CA file."""
        return self.path / "certificate.pem"

    @property
    def key(self) -> Path:
        """The private key of `certificate`."""
        return self.path / "key.pem"

    @property
    def root_token(self) -> Path:
        """The administrator's token, when none is configured."""
        return self.path / "root_token"

    @property
    def dispatcher_token(self) -> Path:
        """The token of the daemon that this server is embedded in."""
        return self.path / "dispatcher_token"

    @property
    def port(self) -> Path:
        """The port chosen at the first start."""
        return self.path / "port"

    @property
    def files(self) -> Path:
        """Logs and outputs that runners upload."""
        return self.path / "files"

    @property
    def log(self) -> Path:
        """Standard error of an embedded server."""
        return self.path / "server.log"

    @contextmanager
    def locked(self, patience: float = LOCK_PATIENCE_SECONDS) -> Iterator[None]:
        """Be the only server of this directory; waits up to `patience` seconds, then `ConfigError`."""
        path = self.path / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            give_up_at = time.monotonic() + patience
            while not durable.try_lock(descriptor):
                if time.monotonic() >= give_up_at:
                    holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
                    raise ConfigError(
                        f"{path}: another API server (process {holder or 'unknown'}) uses this state "
                        "directory; stop it, or choose another [Daemon] state_dir"
                    )
                time.sleep(_RETRY_SECONDS)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def kept_root_token(self) -> str:
        """The root token in its file; one is made at the first start."""
        found = read_private(self.root_token)
        if found:
            return found
        made = secrets.token_hex(_ROOT_TOKEN_BYTES)
        write_private(self.root_token, f"{made}\n")
        return made

    def kept_port(self) -> int:
        """The port of earlier starts; 0 when there was none."""
        text = read_private(self.port)
        return int(text) if text.isdecimal() and int(text) < 65536 else 0


def read_private(path: Path) -> str:
    """The file's text without the white space around it; empty when there is no file."""
    try:
        return path.read_text("utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def write_private(path: Path, text: str) -> None:
    """Put `text` into a file that only its owner can read: whole or not at all, and durably."""
    try:
        durable.write_private(path, text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
