"""The pages become a site that works by itself, and manual pages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES


def built(kind: str, into: Path) -> Path:
    """What Sphinx makes of the pages. It reports whatever is wrong with them, all at once."""
    flags = ["-q", "-W", "-n", "--keep-going", "-b", kind, "-d", str(into / "trees")]
    command = [sys.executable, "-m", "sphinx", *flags, str(DOCS), str(into / kind)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return into / kind


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("html", tmp_path_factory.mktemp("site"))


def test_every_page_is_there(site: Path) -> None:
    for page in PAGES[1:]:
        assert (site / page.relative_to(DOCS)).with_suffix(".html").is_file()


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"([^\"]*)\"", text)
        loaded += re.findall(
            r"<link\b[^>]*\brel=\"(?:stylesheet|icon)\"[^>]*\bhref=\"([^\"]*)\"", text
        )
        assert not [url for url in loaded if re.match(r"\w+:|//", url)], page
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:\w+:)?//", styles)


def test_the_search_knows_the_pages(site: Path) -> None:
    text = (site / "searchindex.js").read_text()
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    assert "reference/configuration" in index["docnames"]
    assert "poll_stale_aft" in index["terms"], "the stem of an option"


def test_links_to_files_that_are_no_pages_lead_to_copies(site: Path) -> None:
    page = (site / "explanation" / "schedulers.html").read_text()
    (target,) = set(re.findall(r"href=\"([^\"]*/base\.py)\"", page))
    assert "class Scheduler" in (site / "explanation" / target).read_text()


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    for name in ("conf.py", "markdown_site.py", "reference/states.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(DOCS / name, tmp_path / name)
    (tmp_path / "index.md").write_text(
        "# Index\n\n## All\n\n[states](reference/states.md), [x](reference/states.md#nothing)\n"
    )
    command = [sys.executable, "-m", "sphinx", "-q", "-n", str(tmp_path), str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert re.search(r"index\.md:5: .*nothing", done.stderr)


def test_the_manual_can_be_read(tmp_path: Path) -> None:
    pages = built("man", tmp_path)
    text = (pages / "arvados-node-manager.cfg.5").read_text()
    assert "max_nodes" in text
    assert ".TS" not in text, "tables are not for terminals"
    if shutil.which("man") is None:
        pytest.skip("no man on this machine to read it with")
    for page in pages.glob("*.[1-8]"):
        command = ["man", "--warnings=w", "-l", str(page)]
        environment = {"MANWIDTH": "100", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert "DESCRIPTION" in done.stdout
        assert not done.stderr
