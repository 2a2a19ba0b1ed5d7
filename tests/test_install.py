"""What is installed works without the source: wheel, source distribution, and the files that operators take."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from email import message_from_string
from pathlib import Path

import pytest

from nodemanager import __version__

pytestmark = pytest.mark.processes

REPOSITORY = Path(__file__).parents[1]
NAME = f"arvados_node_manager-{__version__}"
SHARE = "share/arvados-node-manager"
_NOT_SOURCE = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "state", "*.pyc"
)


def run(*command: str | Path, cwd: Path) -> str:
    """Its output; nothing of this environment leads it to the source."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(cwd), "LANG": "C.UTF-8"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, what: str, target: Path) -> Path:
    """What a build front end makes of the source, by the same call: ``wheel`` or ``sdist``."""
    call = f"import setuptools.build_meta as b; print(b.build_{what}({str(target)!r}))"
    return target / run(sys.executable, "-c", call, cwd=source).splitlines()[-1]


@dataclass(frozen=True)
class Distribution:
    """The source as it was packed, and what was made of it."""

    source: Path
    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    folder = tmp_path_factory.mktemp("distribution")
    source = folder / "source"
    shutil.copytree(REPOSITORY, source, ignore=_NOT_SOURCE)
    manual = source / "build" / "man" / "arvados-node-manager.1"
    manual.parent.mkdir(parents=True)
    manual.write_text('.TH "ARVADOS-NODE-MANAGER" "1"\n')
    target = folder / "dist"
    return Distribution(source, build(source, "wheel", target), build(source, "sdist", target))


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel, and with the other packages of this environment."""

    prefix: Path

    def run(self, *command: str, cwd: Path) -> str:
        return run(self.prefix / "bin" / command[0], *command[1:], cwd=cwd)

    @property
    def site(self) -> Path:
        found = sysconfig.get_path("purelib", "venv", {"base": str(self.prefix)})
        return Path(found)


@pytest.fixture(scope="module")
def installed(distribution: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    made = Installed(tmp_path_factory.mktemp("installed"))
    venv.create(made.prefix, symlinks=True)
    # Its own package comes first; an editable one of the other environment is not followed from here.
    (made.site / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    run(
        sys.executable, "-m", "pip", "--python", made.prefix / "bin" / "python",
        "install", "--no-deps", "--no-index", "--no-compile", distribution.wheel,
        cwd=made.prefix,
    )  # fmt: skip
    return made


TRY_OUT = """
import sys
from pathlib import Path
from nodemanager.api.embedded import EmbeddedServer
from nodemanager.launcher import main

config = Path(sys.argv[1])
assert main(["--config", str(config), "--check"]) == 0
server = EmbeddedServer(config, Path("state"))
server.start()
server.stop()
sys.exit(main(["--config", str(config), "--dry-run", "--json"]))
"""


def files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


class TestWheel:
    def test_the_installed_command_needs_no_source(
        self, installed: Installed, tmp_path: Path
    ) -> None:
        where = installed.run(
            "python", "-c", "import nodemanager; print(nodemanager.__file__)", cwd=tmp_path
        )
        assert Path(where.strip()).is_relative_to(installed.prefix)
        words = installed.run("arvados-node-manager", "--version", cwd=tmp_path)
        assert words.startswith(f"arvados-node-manager {__version__} ")

    def test_the_other_commands_are_there(self, installed: Installed, tmp_path: Path) -> None:
        assert "API server" in installed.run("arvados-dispatch-api", "--help", cwd=tmp_path)
        # It is told by its standard input what to do, which is nothing.
        runner = installed.prefix / "bin" / "arvados-container-runner"
        assert subprocess.run([runner], stdin=subprocess.DEVNULL, check=False).returncode == 64

    def test_the_packaged_example_works_where_it_is(
        self, installed: Installed, tmp_path: Path
    ) -> None:
        """By its migrations the embedded API server makes its tables, which a dry run then finds."""
        config = tmp_path / "share" / "nodemanager.cfg.example"
        shutil.copytree(installed.prefix / SHARE, config.parent)
        found = installed.run("python", "-c", TRY_OUT, str(config), cwd=tmp_path)
        checked, _, planned = found.partition("no problems\n")
        assert "[Daemon]" in checked
        [api] = [each for each in json.loads(planned)["looked_at"] if each["subject"] == "API"]
        assert "copy of its database" in api["detail"]

    def test_all_of_the_package_is_there(
        self, distribution: Distribution, installed: Installed
    ) -> None:
        assert files(installed.site / "nodemanager") == files(distribution.source / "nodemanager")

    def test_all_that_operators_take_is_there(
        self, distribution: Distribution, installed: Installed
    ) -> None:
        assert files(installed.prefix / SHARE) == files(distribution.source / "etc")
        assert files(installed.prefix / "share/man") == {"man1/arvados-node-manager.1"}

    def test_nothing_else_is_in_it(self, distribution: Distribution) -> None:
        with zipfile.ZipFile(distribution.wheel) as wheel:
            tops = {name.split("/")[0] for name in wheel.namelist()}
        assert tops == {"nodemanager", f"{NAME}.dist-info", f"{NAME}.data"}

    def test_its_metadata(self, distribution: Distribution) -> None:
        with zipfile.ZipFile(distribution.wheel) as wheel:
            text = wheel.read(f"{NAME}.dist-info/METADATA").decode()
        metadata = message_from_string(text)
        assert metadata["Requires-Python"] == ">=3.11"
        assert metadata["Description-Content-Type"] == "text/markdown"
        assert metadata["License-File"] == "LICENSE"
        assert "Topic :: System :: Clustering" in metadata.get_all("Classifier", [])
        assert metadata.get_payload() == (REPOSITORY / "README.md").read_text()
        # What is said to be needed here is what the tests run with.
        assert any(each.startswith("pykka") for each in metadata.get_all("Requires-Dist", []))


class TestSource:
    def test_it_builds_the_same_wheel(self, distribution: Distribution, tmp_path: Path) -> None:
        with tarfile.open(distribution.sdist) as archive:
            archive.extractall(tmp_path, filter="data")
        again = build(tmp_path / NAME, "wheel", tmp_path / "dist")
        assert _contents(again) == _contents(distribution.wheel)

    def test_it_has_what_its_makefile_needs(self, distribution: Distribution) -> None:
        with tarfile.open(distribution.sdist) as archive:
            packed = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
        folders = ("benchmarks", "docs", "etc", "nodemanager", "tests")
        wanted = {
            f"{folder}/{name}" for folder in folders for name in files(REPOSITORY / folder)
        } | {"LICENSE", "Makefile", "README.md", "pyproject.toml", "requirements.lock", "setup.py"}
        assert sorted(wanted - packed) == []

    def test_it_says_how_it_is_built(self) -> None:
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
        assert project["build-system"]["build-backend"] == "setuptools.build_meta"


def _contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
