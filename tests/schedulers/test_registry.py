"""Which class does a word in the config file mean?"""

from __future__ import annotations

from pathlib import Path

import pytest

from nodemanager.errors import ConfigError
from nodemanager.schedulers.fake import FakeScheduler
from nodemanager.schedulers.local import LocalScheduler
from nodemanager.schedulers.registry import find_scheduler, known_schedulers

MODULE = """
from nodemanager.schedulers.fake import FakeScheduler

class Lsf(FakeScheduler):
    name = "lsf"

class Odd:
    pass
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package somebody installed beside ours, which offers a module under two names."""
    (tmp_path / "mysite_lsf.py").write_text(MODULE)
    (tmp_path / "mysite_broken.py").write_text("import no_such_thing\n")
    info = tmp_path / "mysite-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mysite\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[arvados_node_manager.schedulers]\nlsf = mysite_lsf:Lsf\nlocal = mysite_lsf:Lsf\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def test_built_in_names() -> None:
    assert find_scheduler("local") is LocalScheduler
    assert find_scheduler("fake") is FakeScheduler


@pytest.mark.usefixtures("site")
def test_an_entry_point_is_found_and_cannot_take_our_names() -> None:
    assert find_scheduler("lsf").name == "lsf"
    assert find_scheduler("local") is LocalScheduler
    assert set(known_schedulers()) >= {"fake", "local", "lsf"}


@pytest.mark.usefixtures("site")
def test_a_dotted_path() -> None:
    assert find_scheduler("mysite_lsf:Lsf").name == "lsf"


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("locl", ["no scheduler 'locl'", "did you mean local?", "fake, kubernetes, local, lsf"]),
        (
            "zzz",
            ["no scheduler 'zzz'; known are fake, kubernetes, local, lsf", "package.module:Class"],
        ),
        ("", ["no scheduler ''"]),
        ("mysite_absent:Lsf", ["importing mysite_absent failed", "No module named"]),
        ("mysite_broken:Lsf", ["importing mysite_broken failed", "no_such_thing"]),
        ("mysite_lsf:Lfs", ["mysite_lsf has no Lfs", "did you mean Lsf?"]),
        ("mysite_lsf:Odd", ["not a subclass"]),
        ("mysite_lsf:", ["no dotted path"]),
        (":Lsf", ["no dotted path"]),
        ("nodemanager.schedulers.base:Scheduler", ["does not define", "submit"]),
    ],
)
def test_an_error_says_what_was_tried(word: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        find_scheduler(word)
    for part in words:
        assert part in str(caught.value)
