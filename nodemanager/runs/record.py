"""The note a run leaves in the state directory, so that `--resume` finds it after a crash."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from nodemanager.durable import write_private
from nodemanager.errors import RequestError
from nodemanager.model import format_time
from nodemanager.runs.request_file import RequestSpec


@dataclass(frozen=True)
class RunRecord:
    """One run. `digest` is that of all its requests: a run cannot be resumed with other ones."""

    id: str
    source: str
    digest: str
    started_at: str
    finished_at: str | None = None


class RunRecords:
    """The runs noted below a state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / "runs"

    def begin(self, source: Path, specs: Sequence[RequestSpec], now: float) -> RunRecord:
        """Note a new run before anything of it is submitted."""
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d-%H%M%S")
        record = RunRecord(
            id=f"run-{stamp}-{secrets.token_hex(3)}",
            source=str(source.resolve()),
            digest=_digest(specs),
            started_at=format_time(now),
        )
        self._write(record)
        return record

    def finish(self, record: RunRecord, now: float) -> None:
        """Every request of the run is final."""
        self._write(replace(record, finished_at=format_time(now)))

    def unfinished(self, source: Path) -> RunRecord | None:
        """The newest run of `source` that did not end."""
        found = [
            record
            for path in sorted(self._directory.glob("run-*.json"))
            if (record := RunRecord(**json.loads(path.read_text()))).source == str(source.resolve())
            and record.finished_at is None
        ]
        return found[-1] if found else None

    def resume(self, source: Path, specs: Sequence[RequestSpec]) -> RunRecord:
        """The run to go on with; raises `RequestError` when there is none, or its files have changed."""
        record = self.unfinished(source)
        if record is None:
            raise RequestError(f"--resume: no run of {source} is unfinished; leave --resume away")
        if record.digest != _digest(specs):
            raise RequestError(
                f"--resume: the requests in {source} have changed since {record.id} began; "
                "leave --resume away to submit them as a new run"
            )
        return record

    def _write(self, record: RunRecord) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self._directory / f"{record.id}.json", json.dumps(asdict(record), indent=1))


def _digest(specs: Sequence[RequestSpec]) -> str:
    text = json.dumps([asdict(spec) for spec in specs], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
