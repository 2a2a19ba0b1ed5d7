"""The page about the API is what the methods and fields say."""

from pathlib import Path

from nodemanager.server.reference import page

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "api.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: make docs"
