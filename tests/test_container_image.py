"""The recipe of the image, read as a builder reads it and held against what it names.

No image is built here: that takes a registry, or minutes.
"""

from __future__ import annotations

import configparser
import json
import re
import shlex
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

from nodemanager.status.health_routes import health_routes

REPOSITORY = Path(__file__).parents[1]
RECIPE = REPOSITORY / "etc" / "container" / "Containerfile"
_CONTINUED = re.compile(r"\\\n")


@dataclass(frozen=True)
class Instruction:
    """One line of the recipe."""

    word: str
    rest: str

    @property
    def exec_form(self) -> list[str]:
        """What is given as a list, and so needs no shell."""
        found: list[str] = json.loads(self.rest)
        return found


def instructions() -> list[Instruction]:
    lines = [line for line in RECIPE.read_text().splitlines() if not line.startswith("#")]
    joined = _CONTINUED.sub(" ", "\n".join(lines))
    parts = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [Instruction(word, rest) for word, rest in parts]


def stages() -> list[list[Instruction]]:
    found: list[list[Instruction]] = []
    for each in instructions():
        if each.word == "FROM":
            found.append([])
        if found:
            found[-1].append(each)
    return found


LAST = stages()[-1]


def last(word: str) -> Instruction:
    return [each for each in LAST if each.word == word][-1]


def sources() -> list[str]:
    """What is copied from the clone."""
    copies = [each.rest.split() for each in instructions() if each.word == "COPY"]
    return [name for words in copies if not words[0].startswith("--") for name in words[:-1]]


def installed(stage: list[Instruction]) -> set[str]:
    """The Debian packages of a stage."""
    commands = " ".join(each.rest for each in stage if each.word == "RUN")
    found = re.search(r"--no-install-recommends ([^&]*)", commands)
    return set(found[1].split()) if found else set()


def test_both_stages_are_of_the_same_debian() -> None:
    assert [stage[0].rest.split()[0] for stage in stages()] == ["${BASE}", "${BASE}"]
    [base] = [each.rest for each in instructions() if each.word == "ARG"]
    assert base == "BASE=docker.io/library/debian:12-slim"


def test_what_is_copied_is_there_and_is_all_that_a_wheel_needs() -> None:
    for name in sources():
        assert (REPOSITORY / name).exists(), name
    assert {"nodemanager", "etc", "setup.py", "README.md", "LICENSE"} <= set(sources())


def test_nothing_else_is_sent_to_the_builder() -> None:
    kept = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert kept[0] == "*"
    assert {line.removeprefix("!") for line in kept if line.startswith("!")} == set(sources())


def test_what_is_copied_from_the_first_stage_is_made_there() -> None:
    [copied] = [e.rest.split() for e in LAST if e.word == "COPY"]
    assert copied == ["--from=build", "/opt/arvados-node-manager", "/opt/arvados-node-manager"]
    made = " ".join(each.rest for each in stages()[0] if each.word == "RUN")
    assert "python3 -m venv /opt/arvados-node-manager" in made


def test_versions_are_those_of_the_tests() -> None:
    made = " ".join(each.rest for each in stages()[0])
    assert "--constraint requirements.lock" in made
    assert '".[kubernetes]"' in made


def test_it_runs_as_nobody_special() -> None:
    assert last("USER").rest == "10001:10001"
    after = LAST[LAST.index(last("USER")) :]
    assert not [each for each in after if each.word in ("RUN", "COPY", "ADD")]


def test_the_first_process_passes_signals_on() -> None:
    *first, command = last("ENTRYPOINT").exec_form
    assert first == ["tini", "--"]
    assert "tini" in installed(LAST)
    commands = {each.name for each in entry_points(group="console_scripts")}
    assert command in commands
    [flag, config] = last("CMD").exec_form
    assert flag == "--config"
    assert Path(config).parent.name == "arvados-node-manager"


def test_packages_that_only_the_building_needs_stay_behind() -> None:
    assert installed(stages()[0]) - installed(LAST) == {"python3-venv"}


def test_its_health_is_asked_where_the_management_server_tells_it() -> None:
    words = last("HEALTHCHECK").rest
    command = json.loads(words[words.index("[") :])
    assert command[0] == "python3"
    [path] = re.findall(r"http://127\.0\.0\.1:8989(/\S+)'", command[-1])
    # The routes are not asked anything, so nobody has to stand behind them.
    assert path in {route.path for route in health_routes(_NOBODY)}  # type: ignore[arg-type]
    assert last("EXPOSE").rest == "8989"
    for option in shlex.split(words[: words.index("CMD")]):
        assert re.fullmatch(r"--(interval|timeout|start-period)=\d+s|--retries=\d+", option)


class _Nobody:
    """Stands for whatever is asked only when somebody calls."""

    def __getattr__(self, name: str) -> _Nobody:
        return self


_NOBODY = _Nobody()


@pytest.mark.parametrize(
    "page", ["docs/how-to/run-in-a-container.md", "docs/how-to/run-on-kubernetes.md"]
)
def test_the_pages_name_the_recipe(page: str) -> None:
    assert "etc/container/Containerfile" in (REPOSITORY / page).read_text()


def test_kubernetes_runs_the_same() -> None:
    folder = REPOSITORY / "etc" / "kubernetes"
    pod = yaml.safe_load((folder / "deployment.yaml").read_text())["spec"]["template"]["spec"]
    [daemon] = pod["containers"]
    user = pod["securityContext"]
    assert f"{user['runAsUser']}:{user['runAsGroup']}" == last("USER").rest
    assert daemon["command"] == last("ENTRYPOINT").exec_form[2:]
    assert daemon["args"] == last("CMD").exec_form
    assert str(daemon["ports"][0]["containerPort"]) == last("EXPOSE").rest
    config = configparser.ConfigParser()
    config.read(folder / "nodemanager.cfg")
    assert config["Manage"]["port"] == last("EXPOSE").rest
    volumes = {mount["mountPath"] for mount in daemon["volumeMounts"]}
    assert set(last("VOLUME").exec_form) <= volumes


def test_its_python_is_one_that_the_package_supports() -> None:
    """Debian 12 has 3.11, for which the versions in requirements.lock were chosen."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert project["tool"]["mypy"]["python_version"] == "3.11"
    assert fnmatch(last("ENV").rest.split()[0], "PATH=/opt/arvados-node-manager/bin:*")
