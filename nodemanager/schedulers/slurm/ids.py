"""How Slurm is told of many jobs at once: tasks of one array in one word, `12_[0-2,7]`.

Each word is a request of its own to slurmctld: a thousand tasks that are named one by one take half a second to cancel, in one word
some milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def joint(ids: Iterable[str]) -> list[str]:
    """The fewest words for these jobs, `12` or `12_3` each."""
    singles: list[str] = []
    tasks: dict[str, set[int]] = {}
    for job_id in ids:
        array, mark, task = job_id.partition("_")
        if mark:
            tasks.setdefault(array, set()).add(int(task))
        else:
            singles.append(job_id)
    return [*singles, *(f"{array}_[{','.join(_ranges(some))}]" for array, some in tasks.items())]


def _ranges(numbers: Iterable[int]) -> Iterator[str]:
    """`0-2`, `7` for 7, 0, 1, 2."""
    start = end = -1
    for number in sorted(numbers):
        if start >= 0 and number == end + 1:
            end = number
            continue
        if start >= 0:
            yield _range(start, end)
        start = end = number
    if start >= 0:
        yield _range(start, end)


def _range(start: int, end: int) -> str:
    return str(start) if start == end else f"{start}-{end}"
