"""`python -m nodemanager.config --example | --reference`: print the pages made from the options."""

from __future__ import annotations

import argparse
import sys

from nodemanager.config.pages import example, reference


def main() -> None:
    """Print the page that was asked for."""
    parser = argparse.ArgumentParser(prog="python -m nodemanager.config", description=__doc__)
    page = parser.add_mutually_exclusive_group(required=True)
    page.add_argument("--example", action="store_true", help="the example config file")
    page.add_argument("--reference", action="store_true", help="the reference page (Markdown)")
    sys.stdout.write(example() if parser.parse_args().example else reference())


if __name__ == "__main__":
    main()
