"""Commands that need something done before they start: by a shell in their image, and a script that never changes.

Nothing of a container is ever part of a script; it is in the arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

_PREPARE = """\
set -e
while [ -n "$1" ]; do
    mkdir -p "${2%/*}"
    cp "$1" "$2"
    chmod u+w "$2"
    shift 2
done
shift
if [ -n "$1" ]; then
    exec <"$1"
fi
if [ -n "$2" ]; then
    mkdir -p "${2%/*}"
    exec >>"$2"
fi
if [ -n "$3" ] && [ "$3" = "$2" ]; then
    exec 2>&1
elif [ -n "$3" ]; then
    mkdir -p "${3%/*}"
    exec 2>>"$3"
fi
shift 3
set +e
exec "$@"
"""
"""Its arguments: sources and targets of files to copy; an empty one; paths of the three streams, empty for one that
stays as it is; the command. No variable is set: the command could find it in its environment."""

_FEED = 'exec "$@" <"$0"\n'


def prepared(
    shell: str,
    command: Sequence[str],
    *,
    copies: Sequence[tuple[str, str]],
    stdin: str,
    stdout: str,
    stderr: str,
) -> list[str]:
    """The command, with files copied and streams redirected before; as it is when there is nothing to do.

    One path for stdout and stderr is opened once, so that neither overwrites the other.
    """
    if not (copies or stdin or stdout or stderr):
        return list(command)
    files = [path for copy in copies for path in copy]
    return [shell, "-c", _PREPARE, shell, *files, "", stdin, stdout, stderr, *command]


def fed(shell: str, command: Sequence[str], stdin: str) -> list[str]:
    """The command with the file `stdin` as its standard input."""
    return [shell, "-c", _FEED, stdin, *command]
