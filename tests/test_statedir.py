import os
import subprocess
import sys
from pathlib import Path

import pytest

from nodemanager.errors import NodeManagerError
from nodemanager.statedir import StateDir, StateDirInUse


def test_one_at_a_time(tmp_path: Path) -> None:
    first, second = StateDir(tmp_path / "state"), StateDir(tmp_path / "state")
    first.take()
    with pytest.raises(StateDirInUse, match=f"process {os.getpid()}"):
        second.take()
    first.release()
    second.take()
    second.release()


def test_it_is_private(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.take()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    state.release()


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from nodemanager.statedir import StateDir;"
        "StateDir(Path(sys.argv[1])).take(); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "state")], check=False)
    assert done.returncode == -9
    state = StateDir(tmp_path / "state")
    state.take()
    state.release()


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NodeManagerError, match="state_dir"):
        StateDir(tmp_path / "file" / "state").take()
