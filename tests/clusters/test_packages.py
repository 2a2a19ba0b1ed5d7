import os
from pathlib import Path

import pytest

from tests.clusters import packages


class Missing(Exception):
    pass


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt-get that writes down what it was asked for; packages appear as files beside it."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    script = tmp_path / "apt-get"
    script.write_text(f"""\
#!/bin/sh
echo "$DEBIAN_FRONTEND $*" >> {tmp_path}/asked
case $* in
*no-such*) echo "Unable to locate package" >&2; exit 100;;
*install*) touch {tmp_path}/installed;;
esac
""")
    script.chmod(0o755)
    return tmp_path


def test_what_is_there_is_not_installed(apt: Path) -> None:
    packages.ensure(("good",), lambda: True, Missing)
    assert not (apt / "asked").exists()


def test_root_installs_what_is_missing(apt: Path) -> None:
    packages.ensure(("good", "better"), (apt / "installed").exists, Missing)
    assert (apt / "asked").read_text().splitlines() == [
        "noninteractive -qq update",
        "noninteractive -qq -y install --no-install-recommends good better",
    ]


def test_something_may_have_to_be_done_before(apt: Path) -> None:
    def prepare() -> None:
        assert not (apt / "asked").exists()
        (apt / "prepared").touch()

    packages.ensure(("good",), (apt / "installed").exists, Missing, prepare)
    assert (apt / "prepared").exists()


def test_a_failure_says_what_failed(apt: Path) -> None:
    with pytest.raises(Missing, match=r"install .* no-such: Unable to locate"):
        packages.ensure(("no-such",), (apt / "installed").exists, Missing)


def test_packages_may_not_bring_what_was_expected(apt: Path) -> None:
    with pytest.raises(Missing, match="did not bring"):
        packages.ensure(("good",), (apt / "something-else").exists, Missing)


def test_others_are_told_what_to_install(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Missing, match="only root may install: apt-get install good"):
        packages.ensure(("good",), (apt / "installed").exists, Missing)
    assert not (apt / "asked").exists()
