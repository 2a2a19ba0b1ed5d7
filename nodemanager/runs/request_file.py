"""Container requests in YAML files: what `--run` submits.

A file holds a list of requests, or a mapping with `requests:` and, if wanted, `defaults:` for what they share;
several documents in one file are read one after the other. A request has the attributes of a container
request in the API, and besides:

- `after: [names]`: it is submitted once those are Complete;
- `cancel_after: 5 s`: it is cancelled that long after it began to run;
- `run_after: +8 s`: not to start sooner than that after its submission (or a time, as in the API);
- in a mount of kind file, `output_of: NAME` with a `path` below the output of that request; without it a
  relative `path` is meant relative to the file.

Amounts of memory and disk may be written as ``512 MiB``. Everything that is wrong in any of the files is
reported at once, with file, line and field, and then nothing is submitted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nodemanager import container_request
from nodemanager.config.kinds import Bytes, Seconds
from nodemanager.errors import RequestError
from nodemanager.runs.yamlfile import Document, Mistake, load_documents
from nodemanager.runs.yamlfile import Path as YamlPath

SUFFIXES = (".yml", ".yaml")
LARGEST_FILE_BYTES = 16 << 20

_STREAMS = ("stdin", "stdout", "stderr")
_OWN_KEYS = ("after", "cancel_after")
_AMOUNTS = ("ram", "keep_cache_ram", "keep_cache_disk")
_PLACEHOLDER = "store:zzzzz-dz642-000000000000000/output/"
"""Stands for an output whose container does not exist yet while a request is checked."""

ALWAYS = {"container_image": "none", "cwd": "/work", "state": "Committed"}
"""What a request of a file is unless it says otherwise."""


@dataclass(frozen=True)
class RequestSpec:
    """One request of a file. `attributes` are those of the API, ready but for `output_of` and a relative
    `run_after`, which are known only at submission: see `ready_attributes`."""

    file: str
    index: int
    """Its place in the file, from 0."""
    line: int
    name: str
    attributes: Mapping[str, Any]
    after: tuple[str, ...] = ()
    cancel_after: float | None = None
    """Seconds."""
    delay: float | None = None
    """Seconds from submission to `run_after`."""
    outputs_of: Mapping[str, str] = field(default_factory=dict)
    """Mount target -> name of the request whose output it takes."""


def load_requests(source: Path) -> tuple[RequestSpec, ...]:
    """The requests of one file, or of all YAML files directly in a folder, in the order of their names.

    Raises `RequestError` with one line per mistake: ``FILE:LINE: field: what is wrong``.
    """
    specs: list[RequestSpec] = []
    mistakes: list[str] = []
    for path in _files(source):
        found, wrong = _load_file(path)
        specs.extend(found)
        # What is wrong in the defaults is wrong in every request, and told once.
        unique = sorted(dict.fromkeys(wrong), key=lambda mistake: mistake.line)
        mistakes.extend(f"{path}:{mistake.line}: {mistake.message}" for mistake in unique)
    if not mistakes:
        mistakes.extend(_check_names(source, specs))
    if mistakes:
        raise RequestError("nothing was submitted:\n  " + "\n  ".join(mistakes))
    if not specs:
        raise RequestError(f"{source}: holds no container request")
    return tuple(specs)


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise RequestError(f"{source}: no such file or folder")
    files = sorted(path for path in source.iterdir() if path.suffix in SUFFIXES and path.is_file())
    if not files:
        raise RequestError(f"{source}: holds no file that ends in {' or '.join(SUFFIXES)}")
    return files


def _load_file(path: Path) -> tuple[list[RequestSpec], list[Mistake]]:
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            return [], [Mistake(1, f"is larger than {LARGEST_FILE_BYTES >> 20} MiB")]
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        return [], [Mistake(line, "is not UTF-8 text")]
    except OSError as error:
        return [], [Mistake(1, f"cannot be read: {error.strerror}")]
    documents, mistakes = load_documents(text)
    specs: list[RequestSpec] = []
    for document in documents:
        for at, value, defaults in _requests_of(document, mistakes):
            reader = _RequestReader(path, len(specs), document, at, mistakes)
            specs.append(reader.read(value, defaults))
    return specs, mistakes


def _requests_of(
    document: Document, mistakes: list[Mistake]
) -> Iterator[tuple[YamlPath, dict[str, Any], dict[str, Any]]]:
    """Where each request of the document is, the request, and what it shares with the others."""
    value = document.value
    defaults: dict[str, Any] = {}
    prefix: YamlPath = ()
    if value is None:
        return
    if isinstance(value, dict) and "requests" in value:
        mistakes.extend(
            Mistake(document.line_of((key,)), f"{key}: unknown; put it in defaults")
            for key in sorted(set(value) - {"requests", "defaults"})
        )
        defaults = value.get("defaults") or {}
        if not isinstance(defaults, dict):
            mistakes.append(Mistake(document.line_of(("defaults",)), "defaults: must be a mapping"))
            defaults = {}
        value, prefix = value["requests"], ("requests",)
    if isinstance(value, dict):
        yield (), value, {}
        return
    if not isinstance(value, list):
        mistakes.append(Mistake(document.line_of(prefix), "must be a list of container requests"))
        return
    for number, item in enumerate(value):
        if isinstance(item, dict):
            yield (*prefix, number), item, defaults
        else:
            line = document.line_of((*prefix, number))
            mistakes.append(Mistake(line, "a container request must be a mapping"))


class _RequestReader:
    """Reads one request, collecting what is wrong with it."""

    def __init__(
        self,
        path: Path,
        index: int,
        document: Document,
        at: YamlPath,
        mistakes: list[Mistake],
    ) -> None:
        self._path = path
        self._index = index
        self._document = document
        self._at = at
        self._mistakes = mistakes

    def read(self, value: dict[str, Any], defaults: dict[str, Any]) -> RequestSpec:
        """The request; what is wrong with it is in `mistakes`."""
        merged = _merged(_merged(ALWAYS, defaults), value)
        own = {key: merged.pop(key, None) for key in _OWN_KEYS}
        name = merged.get("name")
        if not isinstance(name, str) or not name:
            self._wrong("name", "missing: every request of a file needs a name of its own")
            name = f"request {self._index + 1}"
        outputs_of = self._amounts_and_outputs(merged)
        delay = self._relative_time(merged)
        attributes = merged
        for problem in container_request.problems(attributes, committing=True):
            self._wrong(problem.field, problem.message)
        if attributes.get("state") != "Committed":
            self._wrong("state", "must be Committed, or not be given")
        return RequestSpec(
            file=self._path.name,
            index=self._index,
            line=self._document.line_of(self._at),
            name=name,
            attributes=attributes,
            after=(*self._names(own["after"]), *dict.fromkeys(outputs_of.values())),
            cancel_after=self._seconds("cancel_after", own["cancel_after"]),
            delay=delay,
            outputs_of=outputs_of,
        )

    def _amounts_and_outputs(self, merged: dict[str, Any]) -> dict[str, str]:
        """Read sizes written as text, and take `output_of` out of the mounts, in place."""
        constraints = merged.get("runtime_constraints")
        if isinstance(constraints, dict):
            merged["runtime_constraints"] = {
                key: self._bytes(f"runtime_constraints.{key}", amount)
                if key in _AMOUNTS
                else amount
                for key, amount in constraints.items()
            }
        outputs_of: dict[str, str] = {}
        mounts = merged.get("mounts")
        if isinstance(mounts, dict):
            merged["mounts"] = {
                target: self._mount(target, dict(mount), outputs_of)
                if isinstance(mount, dict)
                else mount
                for target, mount in mounts.items()
            }
        return outputs_of

    def _mount(
        self, target: str, mount: dict[str, Any], outputs_of: dict[str, str]
    ) -> dict[str, Any]:
        if "capacity" in mount:
            mount["capacity"] = self._bytes(f"mounts.{target}.capacity", mount["capacity"])
        if "output_of" in mount:
            name, path = mount.pop("output_of"), mount.get("path")
            if not isinstance(name, str):
                self._wrong(f"mounts.{target}.output_of", "must be the name of a request")
            elif not isinstance(path, str) or path.startswith("/") or ".." in path.split("/"):
                self._wrong(f"mounts.{target}.path", "must be relative to that request's output")
            else:
                outputs_of[target] = name
                mount["path"] = _PLACEHOLDER + path
        elif target not in _STREAMS and mount.get("kind") == "file":
            mount["path"] = self._beside_the_file(mount.get("path"))
        return mount

    def _beside_the_file(self, path: Any) -> Any:
        """An input file is meant relative to the YAML file that names it."""
        if not isinstance(path, str) or not path or path.startswith(("/", "store:")):
            return path
        return str((self._path.parent / path).resolve())

    def _relative_time(self, merged: dict[str, Any]) -> float | None:
        text = merged.get("run_after")
        if not isinstance(text, str) or not text.startswith("+"):
            return None
        del merged["run_after"]
        return self._seconds("run_after", text[1:].strip())

    def _names(self, value: Any) -> tuple[str, ...]:
        if value is None:
            return ()
        names = [value] if isinstance(value, str) else value
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return tuple(names)
        self._wrong("after", "must be a list of names")
        return ()

    def _bytes(self, where: str, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return Bytes().parse(value)
        except ValueError as error:
            self._wrong(where, str(error))
            return 1

    def _seconds(self, where: str, value: Any) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            self._wrong(where, "must be a duration such as 5 s")
            return None
        try:
            return float(Seconds().parse(str(value)))
        except ValueError as error:
            self._wrong(where, str(error))
            return None

    def _wrong(self, where: str, message: str) -> None:
        self._mistakes.append(Mistake(self._line_of(where), f"{where}: {message}"))

    def _line_of(self, where: str) -> int:
        """The line of a dotted path: in the request, or in the defaults if it is said there."""
        own = self._follow(self._at, where)
        shared = self._follow(("defaults",), where)
        is_shared = len(shared) - 1 > len(own) - len(self._at)
        return self._document.line_of(shared if is_shared else own)

    def _follow(self, path: YamlPath, where: str) -> YamlPath:
        """As far along `where` as the document goes; its parts (mount targets) may hold dots."""
        rest = where.split(".")
        while rest:
            for length in range(len(rest), 0, -1):
                longer = (*path, ".".join(rest[:length]))
                if longer in self._document.lines:
                    path, rest = longer, rest[length:]
                    break
            else:
                break
        return path


def _merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """`high` over `low`; mappings are merged key by key, everything else is replaced."""
    merged = dict(low)
    for key, value in high.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = {**below, **value} if key == "mounts" else _merged(below, value)
        else:
            merged[key] = value
    return merged


def _check_names(source: Path, specs: Sequence[RequestSpec]) -> Iterator[str]:
    """Names that are not unique or not there, and circles of `after`."""
    by_name: dict[str, RequestSpec] = {}
    folder = source if source.is_dir() else source.parent
    for spec in specs:
        where = f"{folder / spec.file}:{spec.line}"
        if spec.name in by_name:
            other = by_name[spec.name]
            yield f"{where}: name: {spec.name} is also the name of {other.file}:{other.line}"
        by_name[spec.name] = spec
    for spec in specs:
        for name in spec.after:
            if name not in by_name:
                yield f"{folder / spec.file}:{spec.line}: after: there is no request {name}"
    for circle in _circles(by_name):
        spec = by_name[circle[0]]
        yield f"{folder / spec.file}:{spec.line}: after: {' after '.join(circle)} goes round in a circle"


def _circles(by_name: Mapping[str, RequestSpec]) -> Iterable[list[str]]:
    done: set[str] = set()
    for start in by_name:
        trail: list[str] = []
        stack = [(start, iter(by_name[start].after))]
        while stack and start not in done:
            name, following = stack[-1]
            if not trail or trail[-1] != name:
                trail.append(name)
            for before in following:
                if before in trail:
                    done.update(trail)
                    yield [*trail[trail.index(before) :], before]
                elif before in by_name and before not in done:
                    stack.append((before, iter(by_name[before].after)))
                    break
            else:
                stack.pop()
                trail.pop()
                done.add(name)


def ready_attributes(
    spec: RequestSpec,
    containers: Mapping[str, str],
    run_after: str | None,
    stamp: Mapping[str, Any],
) -> dict[str, Any]:
    """What to submit now: `containers` maps names to the Complete containers whose output is mounted,
    `run_after` is the API time of a relative one, `stamp` goes into the properties."""
    attributes = dict(spec.attributes)
    attributes["properties"] = {**(attributes.get("properties") or {}), **stamp}
    if run_after is not None:
        attributes["run_after"] = run_after
    if spec.outputs_of:
        mounts = dict(attributes["mounts"])
        for target, name in spec.outputs_of.items():
            relative = mounts[target]["path"].removeprefix(_PLACEHOLDER)
            mounts[target] = {
                **mounts[target],
                "path": f"store:{containers[name]}/output/{relative}",
            }
        attributes["mounts"] = mounts
    return attributes
