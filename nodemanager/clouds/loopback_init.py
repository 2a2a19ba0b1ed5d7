"""The first process of a loopback machine: boots, runs a command, and is the parent of all that lose theirs.

    python -I -S loopback_init.py SECONDS COMMAND...

So whatever the machine's processes do, they descend from this one, and can be found. It ends when the last of them has,
with the exit status of the command. It imports nothing of ours: there may be many of it.
"""

import ctypes
import os
import signal
import sys
import time

_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """See the module's docstring."""
    seconds, command = float(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.chdir("/")
    time.sleep(seconds)
    try:
        first = os.posix_spawn(
            command[0], command, os.environ, setsigdef=(signal.SIGPIPE, signal.SIGXFSZ)
        )
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error}\n")
        return 127
    status = 0
    while True:
        try:
            pid, ended = os.wait()
        except ChildProcessError:
            return status
        if pid == first:
            status = os.waitstatus_to_exitcode(ended) & 0xFF


if __name__ == "__main__":
    sys.exit(main())
