"""The supervisor of one job of the local scheduler: starts it, watches it, records how it ended.

Run as ``python -I -S supervise.py <job directory>`` with the locked file of that directory open as descriptor 3
and its signals blocked. It outlives the daemon. The order of its steps is part of the protocol described in
`nodemanager.schedulers.spool`. One of these runs per job, so it imports almost nothing.

As the "subreaper" of its job it inherits every orphan, so nothing the job starts can leave the family, whatever
sessions it opens; the job has ended when no process of the family is left.
"""

# pathlib, contextlib and signal (for its Enums) would cost more time and memory than everything else here.
# ruff: noqa: PTH104, PTH108, PTH110, PTH208, SIM105

import _signal  # type: ignore[import-not-found]
import ctypes
import os
import sys
import time

LOCK_FD = 3
TICK_SECONDS = 0.5
RETRY_SECONDS = 1.0
SWEEP_SECONDS = 0.05
FRESH_TICKS = 20

ORDERS = {_signal.SIGUSR1, _signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP}
SIGNALS = {*ORDERS, _signal.SIGCHLD}

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None, use_errno=True)
_PAGE = os.sysconf("SC_PAGESIZE")


class Plan:
    """What the supervisor needs of the file `job`: its second line and the arguments after it."""

    def __init__(self, text: bytes) -> None:
        _, numbers, arguments = text.split(b"\n", 2)
        asked, limit, seconds, grace = numbers.split()
        self.ram_asked = int(asked)
        self.ram_limit = int(limit)
        self.max_run_seconds = int(seconds)
        self.kill_grace = float(grace)
        self.argv = arguments.split(b"\0")


def main() -> None:
    """Supervise the job of the directory named in argv[1]."""
    os.chdir(sys.argv[1])
    os.umask(0o077)
    os.set_inheritable(LOCK_FD, False)
    os.pwrite(LOCK_FD, b"%d\n" % os.getpid(), 0)
    # Blocked since before the first instruction; an order that came early is still pending.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, SIGNALS)
    if os.path.exists("start") or os.path.exists("end"):
        return
    if os.path.exists("cancel"):
        write_end("cancelled")
        return
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    plan = Plan(_read("job"))
    leader, problem = _start(plan)
    end = Watch(plan, leader).until_end() if not problem else _not_started(leader, problem)
    while True:
        try:
            write_end(*end)
        except OSError as error:
            # A full disk: an end that is not recorded is not reported, so the job keeps its place.
            sys.stderr.write(f"cannot record the end of the job: {error}\n")
            time.sleep(RETRY_SECONDS)
        else:
            return


def write_end(kind: str, code: int = 0, asked: int = 0, limit: int = 0, detail: str = "") -> None:
    """Record the end durably: one line each for kind, code, asked, limit and detail."""
    detail = " ".join(detail.split())
    record("end", f"{kind}\n{code}\n{asked}\n{limit}\n{detail}\n")


def record(name: str, text: str) -> None:
    """Write a file of the working directory so that after a power cut it is whole or not there."""
    descriptor = os.open(f"{name}.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, text.encode("utf-8", "surrogateescape"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(f"{name}.tmp", name)
    directory = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def stat_fields(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat after the name: state, parent, group, session, ...; [19] is the start time."""
    text = _read(f"/proc/{pid}/stat")
    return text[text.rindex(b")") + 2 :].split()


def _start(plan: Plan) -> tuple[int, str]:
    """Fork the job's leader, record it, let it go; its process id, and what was wrong if it could not start."""
    stdin = os.open("stdin", os.O_RDONLY | os.O_CLOEXEC)
    output = os.open("job.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    go_read, go_write = os.pipe()
    problem_read, problem_write = os.pipe()
    supervisor = os.getpid()
    leader = os.fork()
    if leader == 0:
        try:
            os.close(go_write)
            _become_job(
                plan,
                supervisor,
                stdin=stdin,
                output=output,
                go_read=go_read,
                problem_write=problem_write,
            )
        finally:
            os._exit(127)
    for descriptor in (stdin, output, go_read, problem_write):
        os.close(descriptor)
    boot = _read("/proc/sys/kernel/random/boot_id").decode().strip()
    born = stat_fields(leader)[19].decode()
    record("start", f"{boot}\n{supervisor}\n{leader}\n{born}\n{time.time():.3f}\n")
    # From here on the job counts as started, and is never started again.
    os.write(go_write, b"g")
    os.close(go_write)
    os.unlink("stdin")
    problem = os.read(problem_read, 4096).decode("utf-8", "surrogateescape")
    os.close(problem_read)
    return leader, problem


def _become_job(
    plan: Plan, supervisor: int, *, stdin: int, output: int, go_read: int, problem_write: int
) -> None:
    """In the child: wait for the word, then become the job. Returns only if that came to nothing."""
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, _signal.SIGKILL)
    if os.getppid() != supervisor or os.read(go_read, 1) != b"g":
        return
    os.dup2(stdin, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # What Python ignores itself, what a shell lets all ignore that it starts in the background, and what this
    # process has blocked is not for the job.
    for number in _signal.valid_signals():
        if _signal.getsignal(number) == _signal.SIG_IGN:
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    try:
        os.execvp(plan.argv[0], plan.argv)  # noqa: S606 (that there is no shell is the point)
    except OSError as error:
        command = plan.argv[0].decode("utf-8", "replace")
        text = f"cannot start {command}: {error.strerror}"
        os.write(problem_write, text.encode("utf-8", "replace")[:4096])


def _not_started(leader: int, problem: str) -> tuple[str, int, int, int, str]:
    os.waitpid(leader, 0)
    return "scheduler-error", 0, 0, 0, problem


class Watch:
    """From the start of the job to the end of its last process."""

    def __init__(self, plan: Plan, leader: int) -> None:
        self._plan = plan
        self._leader = leader
        self._status: int | None = None
        self._verdict: tuple[str, int, int, int, str] | None = None
        self._time_limit_at = (
            time.monotonic() + plan.max_run_seconds if plan.max_run_seconds else float("inf")
        )
        self._kill_at = float("inf")
        self._family: dict[int, bool] = {}
        self._ticks = 0

    def until_end(self) -> tuple[str, int, int, int, str]:
        """How it ended, as the arguments of `write_end`."""
        while True:
            info = _signal.sigtimedwait(SIGNALS, self._patience())
            self._reap()
            if self._status is not None:
                break
            if info is not None and info.si_signo in ORDERS:
                self._obey(int(info.si_signo))
            self._check_time()
            self._check_memory()
        while self._reap():
            # Whoever is left when the leader has ended does not belong on this machine any more.
            kill_all(self._members(fresh=True))
            _signal.sigtimedwait({_signal.SIGCHLD}, SWEEP_SECONDS)
        if self._verdict is not None:
            return self._verdict
        code = os.waitstatus_to_exitcode(self._status)
        return ("exited", code, 0, 0, "") if code >= 0 else ("signalled", -code, 0, 0, "")

    def _patience(self) -> float:
        if self._plan.ram_limit:
            return TICK_SECONDS
        until = min(self._time_limit_at, self._kill_at) - time.monotonic()
        return min(max(until, 0.0), 3600.0)

    def _reap(self) -> bool:
        """Collect what has ended; False when no process is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._leader:
                self._status = status

    def _obey(self, number: int) -> None:
        if os.path.exists("cancel"):
            self._stop("cancelled")
        elif number != _signal.SIGUSR1:
            self._stop("node-lost", detail=f"its supervisor was told to stop (signal {number})")

    def _check_time(self) -> None:
        now = time.monotonic()
        if now >= self._time_limit_at:
            seconds = self._plan.max_run_seconds
            self._time_limit_at = float("inf")
            self._stop("time-limit", seconds, seconds)
        if now >= self._kill_at:
            kill_all(self._members(fresh=True))
            self._kill_at = now + TICK_SECONDS

    def _check_memory(self) -> None:
        limit = self._plan.ram_limit
        if not limit:
            return
        self._ticks += 1
        members = self._members(fresh=self._ticks % FRESH_TICKS == 0)
        if sum(map(_rss, members)) <= limit:
            return
        # Resident memory counts what processes share once for each; the share of each is dearer to ask for.
        members = self._members(fresh=True)
        used = sum(map(_pss, members))
        if used > limit:
            if self._verdict is None:
                self._verdict = (
                    "out-of-memory",
                    0,
                    self._plan.ram_asked,
                    limit,
                    f"its {len(members)} processes used {used} bytes",
                )
            kill_all(members)
            self._kill_at = time.monotonic() + TICK_SECONDS

    def _stop(self, kind: str, asked: int = 0, limit: int = 0, detail: str = "") -> None:
        """TERM to the whole session, KILL to the whole family after the grace. The first verdict stands."""
        if self._verdict is None:
            self._verdict = (kind, 0, asked, limit, detail)
        if self._kill_at == float("inf"):
            self._kill_at = time.monotonic() + self._plan.kill_grace
            for pid in self._members(fresh=True):
                if _session(pid) == self._leader:
                    send(pid, _signal.SIGTERM)
                    # A stopped process would not see it.
                    send(pid, _signal.SIGCONT)

    def _members(self, *, fresh: bool) -> list[int]:
        """The processes below this one.

        Which family a process belongs to never changes, so that only new ones are looked at, unless `fresh`
        asks to look at all, in case a number was used again within a tick.
        """
        family = self._family
        present = {int(entry) for entry in os.listdir("/proc") if entry.isdigit()}
        if fresh:
            family.clear()
        for gone in family.keys() - present:
            del family[gone]
        parents = {pid: _parent(pid) for pid in present - family.keys()}
        family[os.getpid()] = True
        for pid in parents:
            line = []
            ancestor = pid
            while ancestor not in family and ancestor in parents:
                line.append(ancestor)
                ancestor = parents[ancestor]
            ours = family.get(ancestor, False)
            for member in line:
                family[member] = ours
        family.pop(os.getpid())
        return [pid for pid, ours in family.items() if ours]


def kill_all(pids: list[int]) -> None:
    """KILL to each."""
    for pid in pids:
        send(pid, _signal.SIGKILL)


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone or, with other rights, not ours to end."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _parent(pid: int) -> int:
    try:
        return int(stat_fields(pid)[1])
    except (OSError, ValueError):
        return 0


def _session(pid: int) -> int:
    try:
        return int(stat_fields(pid)[3])
    except (OSError, ValueError):
        return 0


def _rss(pid: int) -> int:
    try:
        return int(_read(f"/proc/{pid}/statm").split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _pss(pid: int) -> int:
    try:
        for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _rss(pid)


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(descriptor, 1 << 20):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main()
