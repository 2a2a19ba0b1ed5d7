"""What the page about the old node manager says of its options is what the loader does with them."""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path

import pytest

from nodemanager.clouds import azure_body, ec2_options, gce_body
from nodemanager.config import parse
from tests.docs.pages import DOCS, REPOSITORY, table

PAGE = DOCS / "how-to" / "move-from-the-old-node-manager.md"
SECTIONS = (
    "Arvados", "Daemon", "Manage", "Logging", "Cloud", "Cloud Credentials", "Cloud List", "Cloud Create", "Size NAME"
)  # fmt: skip
VALUES = {
    "host": "zyxwv.arvadosapi.com",
    "boot_fail_after": "1800",
    "certs_file": "/etc/ssl/certs/ca-certificates.crt",
    "level": "WARNING",
    "pykka": "WARNING",
    "apiclient": "WARNING",
    "provider": "ec2",
    "driver_class": "libcloud.compute.drivers.ec2:EC2NodeDriver",
    "shutdown_windows": "54, 5, 1",
    "cores": "2",
    "price": "0.1",
    "scratch": "32000",
    "ram": "3500",
    "disk": "32",
    "bandwidth": "3",
    "instance_type": "m4.large",
}
"""Where the old default is no value that could be written."""
CREATION = {
    "EC2": ec2_options.CREATE_OPTIONS,
    "Google": gce_body.OPTIONS,
    "Azure": azure_body.OPTIONS,
}


@dataclass(frozen=True, slots=True)
class Row:
    """An option of the old node manager, and what is said of it."""

    section: str
    option: str
    default: str
    fate: str
    words: str

    def __str__(self) -> str:
        return f"[{self.section}] {self.option}"

    @property
    def value(self) -> str:
        """Something that the old one would have taken."""
        is_number = self.default.isdigit() or self.default in ("-1", "yes", "no", "0.95")
        usual = self.default if is_number or "/" in self.default else "something"
        return VALUES.get(self.option, usual)


def rows() -> list[Row]:
    found = []
    for section in SECTIONS:
        for option, default, becomes in table(PAGE, f"[{section}] of the old file"):
            fate = next(f for f in ("same", "changed", "without effect") if becomes.startswith(f))
            found.append(Row(section, option.strip("`"), default, fate, becomes))
    return found


def load(row: Row, path: Path) -> tuple[str, ...]:
    """The warnings for a file with the option in it, and what else it cannot do without."""
    parser = configparser.ConfigParser()
    parser.read_dict({"Cloud": {"provider": "ec2"}})
    section = row.section.replace("NAME", "m4.large")
    parser.read_dict({section: {row.option: row.value}})
    if row.option == "host":
        parser.read_dict({"Arvados": {"token": "a-secret"}})
    with path.open("w") as file:
        parser.write(file)
    return parse(path.read_text(), path).warnings


@pytest.mark.parametrize("row", rows(), ids=str)
def test_an_option_has_an_effect_where_the_page_says_so(row: Row, tmp_path: Path) -> None:
    warnings = load(row, tmp_path / "old.cfg")
    if row.option == "dispatcher":
        assert "replaced by [Dispatch] scheduler" in warnings[0]
    elif row.fate == "without effect":
        assert "without effect" in warnings[0]
    else:
        assert warnings == ()


@pytest.mark.parametrize("name", ["ec2", "gce", "azure"])
def test_every_option_of_an_old_file_is_on_the_page(name: str) -> None:
    listed = {(row.section, row.option.lower()) for row in rows()}
    parser = configparser.ConfigParser(inline_comment_prefixes=("#",))
    parser.read(REPOSITORY / "tests" / "config" / "old" / f"{name}.cfg")
    for section in parser.sections():
        kind = "Size NAME" if section.startswith("Size ") else section
        for option in parser[section]:
            assert (kind, option) in listed


@pytest.mark.parametrize("row", [r for r in rows() if r.section == "Cloud Create"], ids=str)
def test_clouds_know_their_options(row: Row) -> None:
    for cloud, options in CREATION.items():
        if cloud in row.words:
            # What begins so is handed on to libcloud by EC2's driver, whatever it is.
            assert row.option in options or (cloud == "EC2" and row.option.startswith("ex_"))
