"""What Kubernetes takes for a name, a label and the name of a variable: what it would refuse is found out before."""

from __future__ import annotations

import re

_NAME_PART = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_WORD = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
OBJECT_NAME = rf"{_NAME_PART}(\.{_NAME_PART})*"
"""Of pods, secrets, claims and most other objects; 253 characters at most."""
NAMESPACE = rf"(?=.{{1,63}}\Z){_NAME_PART}"
LABEL_KEY = rf"({OBJECT_NAME}/)?(?=[^/]{{1,63}}\Z){_WORD}"
VARIABLE = r"[A-Za-z_.-][A-Za-z0-9_.-]*"
"""Older servers take no others; ``.`` and ``..`` are none."""

MAX_NAME = 253


def is_object_name(text: str) -> bool:
    """Whether an object can be named so."""
    return len(text) <= MAX_NAME and re.fullmatch(OBJECT_NAME, text) is not None


def is_label_key(text: str) -> bool:
    """Whether it can be the key of a label, a taint or an annotation, with or without a prefix."""
    return re.fullmatch(LABEL_KEY, text) is not None


def is_label_value(text: str) -> bool:
    """Whether a label can have this value."""
    return len(text) <= 63 and (not text or re.fullmatch(_WORD, text) is not None)


def is_variable(text: str) -> bool:
    """Whether a variable of the environment can have this name."""
    return re.fullmatch(VARIABLE, text) is not None and not text.startswith("..") and text != "."
