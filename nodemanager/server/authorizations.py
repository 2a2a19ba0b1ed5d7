"""The records of tokens: made, shown, changed and deleted. Who acts with one is the business of `tokens`.

A secret is told once, by the call that makes the token, and cannot be had again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, insert
from sqlalchemy import delete as delete_from

from nodemanager.server import records
from nodemanager.server.access import find
from nodemanager.server.errors import ServerError, forbidden, invalid, not_found
from nodemanager.server.resources import RESOURCES, render
from nodemanager.server.rows import write
from nodemanager.server.schema import api_client_authorizations as table
from nodemanager.server.scopes import EVERYTHING, covers, scope_problems
from nodemanager.server.tokens import NewToken, new_token, root_token_uuid, root_user_uuid
from nodemanager.server.transaction import Call, Transaction
from nodemanager.server.users import check_name, user_of_name

_AUTHORIZATIONS = RESOURCES["api_client_authorizations"]
_CHOSEN = ("scopes", "expires_at")
"""What whoever may change a token may change of it."""


def create(tx: Transaction, call: Call) -> dict[str, Any]:
    """``api_client_authorizations.create``: a token for oneself, or as administrator for any user."""
    _check_maker(tx)
    values = _values(call.attributes)
    _check_settable(values, ("owner_uuid", "user_uuid", *_CHOSEN))
    return _made(tx, _user(tx, values), values)


def create_system_auth(tx: Transaction, call: Call) -> dict[str, Any]:
    """``api_client_authorizations.create_system_auth``: one for the system user, with `scopes`."""
    if tx.caller.kind != "root":
        raise forbidden("only an administrator makes tokens of the system user")
    given = call.arguments["scopes"]
    scopes = call.body.get("scopes") if given is None else given
    return _made(tx, root_user_uuid(tx.cluster_id), _values({"scopes": scopes}))


def update(tx: Transaction, call: Call) -> dict[str, Any]:
    """``api_client_authorizations.update``: other scopes, another end."""
    _check_maker(tx)
    row = find(tx, _AUTHORIZATIONS, call.uuid, lock=True)
    changed = records.changes_of(row, _values(call.attributes))
    _check_settable(changed, _CHOSEN)
    _check_strength(tx, changed.get("scopes", []))
    if changed:
        write(tx, "api_client_authorizations", call.uuid, changed)
    return records.shown(tx, _AUTHORIZATIONS, call.uuid, call.select)


def delete(tx: Transaction, call: Call) -> dict[str, Any]:
    """``api_client_authorizations.delete``: the token is dead at once, be it the one in use."""
    _check_maker(tx)
    find(tx, _AUTHORIZATIONS, call.uuid)
    return records.remove(tx, _AUTHORIZATIONS, call.uuid)


def current(tx: Transaction, call: Call) -> dict[str, Any]:
    """``api_client_authorizations.current``: the token's record, without the secret."""
    uuid = str(tx.caller.token_uuid)
    if uuid != root_token_uuid(tx.cluster_id):
        return records.shown(tx, _AUTHORIZATIONS, uuid, call.select)
    owner = root_user_uuid(tx.cluster_id)
    row: dict[str, Any] = {
        "uuid": uuid, "owner_uuid": owner, "user_uuid": owner, "scopes": [EVERYTHING],
        "created_at": None, "modified_at": None, "modified_by_user_uuid": None,
        "expires_at": None,
    }  # fmt: skip
    return render(_AUTHORIZATIONS, row, call.select)


# --- by the operator's command --------------------------------------------------------------------


def create_dispatcher_token(conn: Connection, cluster_id: str, name: str, now: int) -> NewToken:
    """A token for the dispatcher called `name`, and for no other. `now` in microseconds."""
    check_name("dispatcher", name)
    token, row = new_token(cluster_id, now, "dispatcher", root_user_uuid(cluster_id))
    conn.execute(insert(table).values(**row, dispatcher_name=name))
    return token


def create_user_token(conn: Connection, cluster_id: str, name: str, now: int) -> NewToken:
    """A token for the user called `name`, who is made when there is none of that name."""
    token, row = new_token(cluster_id, now, "user", user_of_name(conn, cluster_id, name, now))
    conn.execute(insert(table).values(**row))
    return token


def revoke_token(conn: Connection, uuid: str) -> None:
    """The token is gone at once; raises `ServerError` 404 when there is none."""
    done = conn.execute(delete_from(table).where(table.c.uuid == uuid))
    if done.rowcount == 0:
        raise not_found()


# --- what the calls have in common ----------------------------------------------------------------


def _check_maker(tx: Transaction) -> None:
    """A dispatcher's or container's token is for one purpose, and makes and changes no others."""
    if tx.caller.kind not in ("root", "user"):
        raise forbidden("this token may not make, change or delete tokens")


def _values(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes as they are stored.

    Scopes that are null are as if nobody had named any; and the secret, which clients may send back with
    the record they got, is the server's to choose.
    """
    given = {
        k: v
        for k, v in attributes.items()
        if k != "api_token" and not (k == "scopes" and v is None)
    }
    values = records.checked(_AUTHORIZATIONS, given)
    problems = list(scope_problems(values.get("scopes", [])))
    if problems:
        raise ServerError(422, problems)
    return values


def _check_settable(values: Mapping[str, Any], may_set: tuple[str, ...]) -> None:
    fixed = sorted(values.keys() - set(may_set))
    if fixed:
        raise invalid(*(f"{name}: cannot be set" for name in fixed))


def _check_strength(tx: Transaction, scopes: Collection[str]) -> None:
    """Nobody makes a stronger token than the one that is shown."""
    if not covers(tx.caller.scopes, scopes):
        raise forbidden("scopes: wider than those of the token in use")


def _user(tx: Transaction, values: Mapping[str, Any]) -> str:
    named = {values[name] for name in ("owner_uuid", "user_uuid") if values.get(name) is not None}
    if len(named) > 1:
        raise invalid("owner_uuid, user_uuid: a token belongs to whom it acts for")
    return records.own(tx, named.pop() if named else None)


def _made(tx: Transaction, user_uuid: str, values: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {"scopes": [EVERYTHING], **{name: values[name] for name in _CHOSEN if name in values}}
    _check_strength(tx, chosen["scopes"])
    token, row = new_token(tx.cluster_id, tx.now, "user", user_uuid)
    row |= {"modified_by_user_uuid": tx.caller.user_uuid, **chosen}
    tx.conn.execute(insert(table), row)
    # Whatever was selected: nobody will ever be able to ask for it again.
    return {**records.shown(tx, _AUTHORIZATIONS, token.uuid, None), "api_token": token.secret}
