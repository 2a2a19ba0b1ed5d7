"""The pictures of the page in the documentation."""

from __future__ import annotations

import re

import pytest

from tests.status.screenshots import IMAGES, MOST_BYTES, PICTURES

DOCS = IMAGES.parent


@pytest.mark.parametrize("name", [picture.name for picture in PICTURES])
def test_a_picture_is_there_and_is_small(name: str) -> None:
    content = (IMAGES / f"{name}.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) <= MOST_BYTES


def test_every_picture_is_shown_and_every_one_shown_is_drawn() -> None:
    pages = "".join(page.read_text() for page in DOCS.rglob("*.md"))
    shown = set(re.findall(r"\(\.\./images/(.*?)\.png\)", pages))
    assert shown == {picture.name for picture in PICTURES}
