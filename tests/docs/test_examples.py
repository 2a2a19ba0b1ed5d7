"""Config files shown in the documentation load, and schedulers and clouds take their options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nodemanager.clouds.make import make_cloud
from nodemanager.config import Config, parse
from nodemanager.schedulers.make import make_scheduler, scheduler_sites
from tests.docs.pages import Block, blocks

EXAMPLES = blocks("ini")
_SECRET_FILE = re.compile(r"^(?P<option>\w*(?:[Tt]oken|database)_file) = .*$", re.MULTILINE)
_NO_FILE = re.compile(r"^(?:certificate|key) = /etc/ssl/.*\n", re.MULTILINE)


def read(block: Block, tmp_path: Path) -> Config:
    """The example, with a secret file that is here in the place of each that is not."""
    secret = tmp_path / "secret"
    secret.write_text("a-secret\n")
    secret.chmod(0o600)
    text = _SECRET_FILE.sub(rf"\g<option> = {secret}", block.text)
    return parse(text, tmp_path / "example.cfg")


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_the_example_loads_without_a_warning(block: Block, tmp_path: Path) -> None:
    assert read(block, tmp_path).warnings == ()


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_schedulers_take_their_options(block: Block, tmp_path: Path) -> None:
    config = read(block, tmp_path)
    for site in scheduler_sites(config):
        if ":" not in site.module:
            make_scheduler(config, site).close()


@pytest.mark.parametrize("block", [b for b in EXAMPLES if "provider = " in b.text], ids=str)
def test_clouds_take_their_options(block: Block, tmp_path: Path) -> None:
    make_cloud(read(block, tmp_path)).close()
