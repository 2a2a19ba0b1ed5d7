"""What remains of a cluster when the process that started it is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.clusters.keeper import descendants
from tests.clusters.processes import call, wait_until

REPOSITORY = Path(__file__).parents[2]


def leftovers_after_kill(module: str, script: str, programs: set[str]) -> list[str]:
    """Run a script that starts a cluster of `module`, says its directory, and sleeps; kill it with -9.

    `programs` must be among what runs when it is killed, or nothing would be shown. Returns what is left after a
    second or two.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", f"from {module} import *\n{script}\nimport time; time.sleep(600)"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as said:
        directory = Path(said.readline().strip())
        below = descendants(process.pid)
        names = {_name(pid) for pid in below}
        before = _links()
        process.kill()
        process.wait()
    assert programs <= names, f"{programs} do not all run: {names}"
    # Of the network nothing was there before that is not ours.
    mine = {link for link in before if any(f"anm{pid}" == link for pid in below)}

    def left() -> list[str]:
        alive = [f"{pid} {_name(pid)}" for pid in below if Path(f"/proc/{pid}").exists()]
        return [*alive, *(mine & _links()), *([str(directory)] if directory.exists() else [])]

    wait_until(lambda: not left(), 20, "everything is gone", lambda: "\n".join(left()))
    return left()


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _links() -> set[str]:
    rows = call(("ip", "-o", "link"), env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}).stdout
    return {row.split(": ")[1].partition("@")[0] for row in rows.splitlines()}
