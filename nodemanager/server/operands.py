"""Operands of filters: checked, and turned into what the columns hold."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from nodemanager.server.errors import ServerError, invalid
from nodemanager.server.resources import Field, FieldType

_LARGEST = 2**63 - 1
_BOOLEANS: Mapping[Any, bool] = {
    True: True, False: False, "true": True, "false": False, "t": True, "f": False,
}  # fmt: skip


def parse_filter_time(text: str) -> int:
    """Microseconds since 1970 of an ISO 8601 time or date; without a zone it is UTC, as in stock.

    Digits beyond microseconds are cut off: none of our times has them. Raises `ValueError`.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    whole = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (whole.days * 86_400 + whole.seconds) * 1_000_000 + whole.microseconds


def stored(field: Field, operand: Any) -> Any:
    """The operand as the column holds it; raises `ServerError` 422 when it cannot be one."""
    try:
        match field.type:
            case FieldType.STRING | FieldType.TEXT if isinstance(operand, str):
                if is_storable(operand):
                    return operand
            case FieldType.INTEGER:
                return _integer(operand)
            case FieldType.FLOAT if not isinstance(operand, bool):
                return _number(operand)
            case FieldType.DATETIME if isinstance(operand, str):
                return parse_filter_time(operand)
            case FieldType.BOOLEAN:
                return _BOOLEANS[operand if isinstance(operand, bool) else str(operand).lower()]
    except (ValueError, OverflowError, KeyError):
        pass
    raise invalid(f"Invalid operand '{shown(operand)}' for {field.type} attribute '{field.name}'")


def _integer(operand: Any) -> int:
    """Numbers, and texts of numbers: dispatchers written in Go send priorities as texts."""
    if isinstance(operand, str) and re.fullmatch(r"-?[0-9]{1,19}", operand):
        operand = int(operand)
    if isinstance(operand, bool) or not isinstance(operand, int) or abs(operand) > _LARGEST:
        raise ValueError
    return operand


def _number(operand: Any) -> float:
    number = float(operand)
    if not abs(number) <= _LARGEST:
        raise ValueError
    return number


def check_scalar(op: str, operand: Any) -> None:
    """Refuse what no JSON scalar of ours can be compared with."""
    refuse_structure(op, operand)
    match operand:
        case str():
            fits = is_storable(operand)
        case float():  # Python reads NaN and Infinity as JSON, which no database does
            fits = math.isfinite(operand)
        case int():
            fits = abs(operand) <= _LARGEST
        case _:
            fits = True
    if not fits:
        raise invalid(f"Invalid operand '{shown(operand)}' for '{op}' operator in filters")


def is_storable(text: str) -> bool:
    """Whether a database takes the text at all: it has neither NUL nor half of a surrogate pair."""
    if text.isascii():
        return "\0" not in text
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def refuse_structure(op: str, operand: Any) -> None:
    """Refuse arrays and objects."""
    if isinstance(operand, (list, dict)):
        raise bad_type(op, operand)


def bad_type(op: str, operand: Any) -> ServerError:
    """The stock refusal of an operand that `op` has no use for."""
    return invalid(
        f"Invalid operand type '{type(operand).__name__}' for '{shown(op)}' operator in filters"
    )


def shown(value: Any) -> str:
    """For messages: one short printable line."""
    text = value if isinstance(value, str) else repr(value)
    text = ascii(text)[1:-1]
    return text if len(text) <= 100 else text[:97] + "..."
