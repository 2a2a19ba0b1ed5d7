"""How Sphinx makes a site and manual pages of the Markdown files beside this one: `make site`, `make man`.

The pages are plain Markdown, to be read on a code host as well. What Sphinx needs besides is in `markdown_site`.
"""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

import nodemanager  # noqa: E402 -- found by the line above

project = "arvados-node-manager"
author = "The arvados-node-manager authors"
version = release = nodemanager.__version__

extensions = ["myst_parser", "markdown_site"]
exclude_patterns = ["images"]
# Quotes and dashes stay as they are typed: most are in commands.
smartquotes = False
highlight_language = "none"
# Headings can be linked to by the names that code hosts give them.
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"{project} {version}"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

_MANUAL = [
    (
        "reference/command-line",
        "arvados-node-manager",
        "run Arvados containers on a batch scheduler",
        1,
    ),
    ("reference/api-server", "arvados-dispatch-api", "API server for dispatchers of containers", 1),
    (
        "reference/configuration",
        "arvados-node-manager.cfg",
        "config file of arvados-node-manager",
        5,
    ),
]
man_pages = [(page, name, title, [author], section) for page, name, title, section in _MANUAL]
man_make_section_directory = False
