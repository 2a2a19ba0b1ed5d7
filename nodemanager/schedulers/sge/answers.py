"""What Grid Engine's commands print, as values: XML, never columns.

Free of I/O. What is not understood is a `SchedulerError`: a listing that cannot be read to its end proves nothing.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nodemanager.errors import SchedulerError

JOBS_KEY = "nodemanager_jobs"
"""In a job's context: the names of its tasks, in their order."""
JOBS_SEPARATOR = ":"

_SHOWN_CHARACTERS = 200
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ID = re.compile(r"(?P<number>[0-9]+)(\.(?P<first>[0-9]+)-(?P<last>[0-9]+):(?P<step>[0-9]+))?")
_SIZE = re.compile(r"(?P<number>[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?)(?P<unit>[kKmMgGtT]?)")
_UNITS = {"": 1, "k": 10**3, "K": 2**10, "m": 10**6, "M": 2**20, "g": 10**9, "G": 2**30}
_UNITS |= {"t": 10**12, "T": 2**40}


@dataclass(frozen=True, slots=True)
class JobRow:
    """One entry of qstat's list: a job, or some tasks of an array that are alike."""

    number: int
    name: str
    letters: str
    tasks: tuple[int, ...] = ()
    """None for a job that is no array."""
    host: str = ""


@dataclass(frozen=True, slots=True)
class JobDetail:
    """What qstat says of one job that it was asked about."""

    number: int
    names: tuple[str, ...] = ()
    """Of its tasks, if it is an array of ours."""
    errors: tuple[tuple[int, str], ...] = ()
    """Task and why it is in error; the task of a job that is no array is 1."""


@dataclass(frozen=True, slots=True)
class Details:
    """The answer to `qstat -j`."""

    jobs: tuple[JobDetail, ...]
    waits: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Per job, why the scheduler has not started it, if it keeps that (`schedd_job_info`): a message for each queue
    instance or host, as a rule."""
    general: tuple[str, ...] = ()
    """What keeps it from starting any job in a queue instance, such as that this is full."""


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue on a host."""

    queue: str
    letters: str
    slots: int
    used: int
    reserved: int


@dataclass(frozen=True, slots=True)
class HostRow:
    """A host as qhost lists it."""

    name: str
    values: Mapping[str, str]
    """Such as num_proc and mem_total; a dash where nothing is known."""
    resources: Mapping[str, float]
    """What is left of consumables, and other numbers."""
    queues: tuple[QueueRow, ...]


def job_rows(text: str) -> list[JobRow]:
    """Read the answer to ``qstat -xml``."""
    root = _document(text, "job_info", "qstat")
    return [
        JobRow(
            number=_number(_text(entry, "JB_job_number"), "qstat"),
            name=_text(entry, "JB_name"),
            letters=_text(entry, "state"),
            tasks=tuple(_task_numbers(_text(entry, "tasks"))),
            host=_text(entry, "queue_name").rpartition("@")[2],
        )
        for entry in root.iter("job_list")
    ]


def job_details(text: str) -> Details:
    """Read the answer to ``qstat -j LIST -xml``; jobs that are not known any more are left out."""
    root = _document(text, ("detailed_job_info", "unknown_jobs"), "qstat -j")
    jobs = []
    for entry in root.iterfind("./djob_info/element"):
        context = {
            _text(c, "VA_variable"): _text(c, "VA_value") for c in entry.iter("context_list")
        }
        names = context.get(JOBS_KEY, "")
        jobs.append(
            JobDetail(
                _number(_text(entry, "JB_job_number"), "qstat -j"),
                tuple(names.split(JOBS_SEPARATOR)) if names else (),
                tuple(_errors(entry)),
            )
        )
    waits: dict[int, list[str]] = {}
    for message in root.iterfind("./messages//SME_message_list/element"):
        words = " ".join(_text(message, "MES_message").split())
        for number in message.iter("ULNG_value"):
            waits.setdefault(_number(number.text or "", "qstat -j"), []).append(words)
    general = [
        " ".join(_text(message, "MES_message").split())
        for message in root.iterfind("./messages//SME_global_message_list/element")
    ]
    own = {number: tuple(said) for number, said in waits.items()}
    return Details(tuple(jobs), own, tuple(dict.fromkeys(general)))


def host_rows(text: str) -> list[HostRow]:
    """Read the answer to ``qhost -q -F ... -xml``; the pseudo host `global` is left out."""
    root = _document(text, "qhost", "qhost")
    rows = []
    for entry in root.iterfind("host"):
        name = entry.get("name", "")
        if name == "global":
            continue
        resources = {}
        for value in entry.iterfind("resourcevalue"):
            amount = size(value.text or "")
            if amount is not None:
                resources[value.get("name", "")] = amount
        rows.append(
            HostRow(
                name,
                {v.get("name", ""): v.text or "" for v in entry.iterfind("hostvalue")},
                resources,
                tuple(_queue(queue) for queue in entry.iterfind("queue")),
            )
        )
    return rows


def names_listed(text: str) -> list[str]:
    """Names that stand between blanks and line ends, such as qconf prints; lines that go on are joined."""
    return text.replace("\\\n", " ").replace(",", " ").split()


def attribute(text: str, name: str) -> str:
    """The value of an attribute as qconf shows objects: a name and a value a line. Empty if it is not there."""
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split(None, 1)
        if words and words[0] == name:
            return words[1].strip() if len(words) > 1 else ""
    return ""


def pairs(text: str) -> dict[str, str]:
    """The values in ``a=1,b=2``; none in NONE."""
    split = (part.strip().partition("=") for part in text.split(","))
    return {name: value for name, equals, value in split if equals}


def size(text: str) -> float | None:
    """The number that is written as 1.5G, 100M, 4.000000 or TRUE; None if it is not one."""
    if text.upper() in ("TRUE", "FALSE"):
        return float(text.upper() == "TRUE")
    match = _SIZE.fullmatch(text)
    return float(match["number"]) * _UNITS[match["unit"]] if match else None


def submitted(text: str) -> tuple[int, int] | None:
    """The number of a job and of its tasks (0: no array) from what ``qsub -terse`` prints; None if it is not
    there. Lines around it are warnings."""
    for line in reversed(text.splitlines()):
        match = _ID.fullmatch(line.strip())
        if match:
            tasks = int(match["last"]) - int(match["first"]) + 1 if match["first"] else 0
            return int(match["number"]), tasks
    return None


def _document(text: str, roots: str | tuple[str, ...], command: str) -> ET.Element:
    """The root of a document. What no XML may hold, such as a stranger's job name in another encoding, is not
    allowed to blind us: it becomes a question mark."""
    clean = _FORBIDDEN.sub("?", text)
    try:
        root = ET.fromstring(clean)  # noqa: S314 (expat bounds entities; it is our own command)
    except ET.ParseError as error:
        raise _unreadable(command, text, str(error)) from error
    for element in root.iter():
        # Some of the relatives put everything into a name space.
        element.tag = element.tag.rpartition("}")[2]
    if root.tag not in ((roots,) if isinstance(roots, str) else roots):
        raise _unreadable(command, text, f"its root is {root.tag!r}")
    return root


def _unreadable(command: str, text: str, why: str) -> SchedulerError:
    said = " ".join(text[:_SHOWN_CHARACTERS].split())
    return SchedulerError(f"{command} answered what cannot be read ({why}): {said!r}")


def _text(element: ET.Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _number(text: str, command: str) -> int:
    if not text.isdecimal():
        raise SchedulerError(f"{command} answered {text!r} where a number should be")
    return int(text)


def _task_numbers(text: str) -> Iterator[int]:
    """Numbers of tasks as qstat writes them: 1-4:1,6,8."""
    for part in text.split(",") if text else ():
        span, _, step = part.strip().partition(":")
        first, dash, last = span.partition("-")
        start = _number(first, "qstat")
        stop = _number(last, "qstat") if dash else start
        yield from range(start, stop + 1, max(_number(step, "qstat"), 1) if step else 1)


def _errors(entry: ET.Element) -> Iterator[tuple[int, str]]:
    for task in entry.iterfind("./JB_ja_tasks/*"):
        number = _text(task, "JAT_task_number")
        said = [" ".join((m.text or "").split()) for m in task.iter("QIM_message")]
        if number and said:
            yield _number(number, "qstat -j"), "; ".join(said)


def _queue(element: ET.Element) -> QueueRow:
    values = {v.get("name", ""): v.text or "" for v in element.iterfind("queuevalue")}
    slots, used, reserved = (
        _number(values.get(name) or "0", "qhost") for name in ("slots", "slots_used", "slots_resv")
    )
    return QueueRow(
        element.get("name", ""), values.get("state_string", "").strip(), slots, used, reserved
    )
