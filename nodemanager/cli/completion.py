"""`completion`: what makes a shell complete our words."""

from __future__ import annotations

import argparse

import shtab

SHELLS = ("bash", "zsh", "tcsh")
PLACES = {
    "bash": "arvados-node-manager completion bash > ~/.local/share/bash-completion/completions/arvados-node-manager",
    "zsh": "arvados-node-manager completion zsh > ~/.zfunc/_arvados-node-manager  # with ~/.zfunc in fpath",
    "tcsh": "arvados-node-manager completion tcsh > ~/.nodemanager.tcsh  # and source it in ~/.tcshrc",
}
"""How each is installed."""


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion, for `shell`, of the command line that `parser` reads."""
    text: str = shtab.complete(parser, shell)
    return text
