"""What the pages show works as it stands there, and what they link to is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodemanager.runs.request_file import load_requests
from tests.docs.pages import DOCS, PAGES, REPOSITORY, Block, anchors, blocks, links, name_of


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_examples_run(block: Block) -> None:
    exec(compile(block.text, "example", "exec"), {})


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_examples_load(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "example.yml"
    path.write_text(block.text)
    assert load_requests(path)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), f"{name_of(page)} links to {link}"
        assert target.resolve().is_relative_to(REPOSITORY), f"{link} leads out of the repository"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)}: {link}: no such heading"


def test_every_page_is_in_the_index() -> None:
    listed = {(DOCS / link).resolve() for link in links(DOCS / "index.md")}
    missing = [name_of(page) for page in PAGES[1:] if page not in listed and page.stem != "index"]
    assert not missing, "docs/index.md lists every page, under the kind that it is of"


def test_the_readme_stays_short() -> None:
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 90
