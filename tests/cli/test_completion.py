"""The completions of shells, sourced and asked."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from nodemanager.cli.completion import SHELLS, script
from nodemanager.cli.parser import make_parser

ASK_BASH = """\
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
function=$(complete -p arvados-node-manager | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$function" arvados-node-manager
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("completion")
    made = {}
    for shell in SHELLS:
        made[shell] = folder / shell
        made[shell].write_text(script(make_parser(), shell))
    return made


def bash(scripts: dict[str, Path], *words: str) -> set[str]:
    """What bash would offer for the last of `words`."""
    found = subprocess.run(
        ["bash", "-c", ASK_BASH, "bash", str(scripts["bash"]), "arvados-node-manager", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not found.stderr
    return set(found.stdout.split())


def test_bash_completes_subcommands(scripts: dict[str, Path]) -> None:
    assert {"status", "queue", "why", "nodes", "retry-now", "prune"} <= bash(scripts, "")
    assert bash(scripts, "ret") == {"retry-now"}


def test_bash_completes_verbs_flags_and_reasons(scripts: dict[str, Path]) -> None:
    assert bash(scripts, "nodes", "") == {"list", "hold", "drain", "run", "kill", "release-brake"}
    assert "--older-than" in bash(scripts, "prune", "--")
    assert {"--run", "--check", "--config"} <= bash(scripts, "--")
    assert bash(scripts, "queue", "--reason", "no-node") == {"no-node-fits"}
    assert bash(scripts, "completion", "") == set(SHELLS)


def test_bash_completes_files(scripts: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "nodemanager.cfg").touch()
    wanted = str(tmp_path / "nodemanager.cfg")
    assert bash(scripts, "--config", str(tmp_path / "node")) == {wanted}
    assert bash(scripts, "submit", str(tmp_path / "node")) == {wanted}


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_can_read_theirs(scripts: dict[str, Path], shell: str) -> None:
    if shutil.which(shell) is None:
        assert "arvados-node-manager" in scripts[shell].read_text()
        return
    # tcsh has no -n for what it sources; both only define something.
    found = subprocess.run(
        [shell, "-f", str(scripts[shell])], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stderr) == (0, "")
