"""What people do by hand is written down: who, when, why, in the words that others will read."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from nodemanager.server.errors import invalid
from nodemanager.server.resources import Row, format_micros
from nodemanager.server.rows import add, new_record
from nodemanager.server.schema import users
from nodemanager.server.transaction import Call, Transaction

_LONGEST_REASON = 500


def reason_of(call: Call) -> str:
    """The `reason` of a call, which must be given: somebody is going to wait for it. `ServerError` 422."""
    return checked_reason(call.arguments.get("reason") or "")


def checked_reason(given: str) -> str:
    """The reason as it is stored; `ServerError` 422 for none, and for what is no line of text."""
    reason = given.strip()
    if not reason:
        raise invalid("reason: missing; say why, for whoever waits meanwhile")
    if len(reason) > _LONGEST_REASON or not reason.isprintable():
        raise invalid(f"reason: must be one line of at most {_LONGEST_REASON} printable characters")
    return reason


def by_whom(tx: Transaction, words: str, by: str = "", about: str = "") -> str:
    """The words with who says them and when, and what they are `about` if that is not plain.

    ``new switch until noon (ada, 2026-11-25 09:30 UTC)``
    """
    when = format_micros(tx.now)[:16].replace("T", " ")
    who = ", ".join(part for part in (about, by or caller_name(tx), f"{when} UTC") if part)
    return f"{words} ({who})"


def caller_name(tx: Transaction) -> str:
    """What people call who calls."""
    uuid = tx.caller.user_uuid
    if uuid is None:
        return "the API server"
    name = tx.conn.execute(select(users.c.username).where(users.c.uuid == uuid)).scalar()
    return str(name or uuid)


def note(tx: Transaction, about: Row | None, event: str, summary: str, **properties: Any) -> None:
    """Add a log entry about a record; its owner reads it."""
    owner = None if about is None else about["owner_uuid"]
    values = {
        "owner_uuid": owner or tx.caller.user_uuid,
        "object_uuid": None if about is None else about["uuid"],
        "object_owner_uuid": owner,
        "event_at": tx.now,
        "event_type": event,
        "summary": summary,
        "properties": properties,
    }
    add(tx, "logs", new_record(tx, "logs", values))
