"""Tokens: ``v2/<uuid>/<secret>``, who acts with one, and how one is made.

Only the SHA-256 of a secret is stored. A slow hash such as bcrypt protects secrets that people choose;
ours are 50 random characters (297 bits), which nobody can guess from a fast hash either, and every call
of the API computes one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Text, bindparam, cast, delete, func, insert, select

from nodemanager.model import new_uuid
from nodemanager.server.errors import not_logged_in
from nodemanager.server.hot import HotStatement
from nodemanager.server.schema import api_client_authorizations as authorizations
from nodemanager.server.schema import containers, dispatchers, users
from nodemanager.server.transaction import Caller, Transaction

_ALPHABET = string.digits + string.ascii_lowercase
_SECRET_LENGTH = 50
_LONGEST_TOKEN = 500


class _Found(NamedTuple):
    """A token's record and what its life hangs on; the columns of `_FIND`, in their order."""

    uuid: str
    secret_hash: str
    expires_at: int | None
    kind: str
    scopes: str
    user_uuid: str
    dispatcher_name: str | None
    container_uuid: str | None
    alive_dispatcher: str | None
    container_state: str | None
    is_active: bool | None
    is_admin: bool | None
    now: int


_a = authorizations.c
_FIND = select(
    _a.uuid,
    _a.secret_hash,
    _a.expires_at,
    _a.caller_kind,
    cast(_a.scopes, Text),
    _a.user_uuid,
    _a.dispatcher_name,
    _a.container_uuid,
    dispatchers.c.uuid,
    containers.c.state,
    users.c.is_active,
    users.c.is_admin,
    func.api_now(),
).select_from(
    authorizations.outerjoin(
        dispatchers, (dispatchers.c.token_uuid == _a.uuid) & (dispatchers.c.state == "alive")
    )
    .outerjoin(containers, containers.c.uuid == _a.container_uuid)
    .outerjoin(users, users.c.uuid == _a.user_uuid)
)
_FIND_BY_UUID = HotStatement(_FIND.where(_a.uuid == bindparam("key")))
_FIND_BY_HASH = HotStatement(_FIND.where(_a.secret_hash == bindparam("key")))
_NOW = HotStatement(select(func.api_now()))


@dataclass(frozen=True)
class NewToken:
    """A token as it is handed out, once: `text` cannot be had again."""

    uuid: str
    text: str

    @property
    def secret(self) -> str:
        """The last part of `text`, which authenticates by itself as well (stock Arvados calls it v1)."""
        return self.text.rpartition("/")[2]


def root_user_uuid(cluster_id: str) -> str:
    """The system user, as in stock Arvados."""
    return f"{cluster_id}-tpzed-000000000000000"


def root_token_uuid(cluster_id: str) -> str:
    """The identity of the root token, which has no record."""
    return f"{cluster_id}-gj3su-000000000000000"


def hash_secret(secret: str) -> str:
    """What is stored and compared."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True)
class Identity:
    """Who calls, and when: `now` is the database's time in microseconds."""

    caller: Caller
    now: int


def identify(conn: Connection, tokens: Sequence[str], root_token: str, cluster_id: str) -> Identity:
    """Who acts with the first of `tokens` that is somebody's (v2, or the secret alone).

    `ServerError` 401 when none is.
    """
    for token in tokens:
        identity = _identity(conn, token, root_token, cluster_id)
        if identity is not None:
            return identity
    raise not_logged_in()


def _identity(conn: Connection, token: str, root_token: str, cluster_id: str) -> Identity | None:
    if not token or len(token) > _LONGEST_TOKEN or not token.isascii():
        return None
    if _is_root(token, root_token, cluster_id):
        root = Caller(
            "root", token_uuid=root_token_uuid(cluster_id), user_uuid=root_user_uuid(cluster_id)
        )
        ((now,),) = _NOW.all(conn, {})
        return Identity(root, now)
    parts = token.split("/")
    if parts[0] == "v2" and len(parts) >= 3:
        secret_hash = hash_secret(parts[2])
        row = _FIND_BY_UUID.first(conn, {"key": parts[1]})
    else:
        secret_hash = hash_secret(token)
        row = _FIND_BY_HASH.first(conn, {"key": secret_hash})
    if row is None:
        return None
    found = _Found(*row)
    if not hmac.compare_digest(found.secret_hash, secret_hash):
        return None
    if found.expires_at is not None and found.expires_at <= found.now:
        return None
    is_over = found.container_state not in (None, "Locked", "Running")
    # Users may be made inactive; None: the user is not in this database.
    if is_over or found.is_active in (False, 0):
        return None
    return Identity(_caller(found), found.now)


def _caller(found: _Found) -> Caller:
    return Caller(
        "root" if found.kind == "user" and found.is_admin else found.kind,  # type: ignore[arg-type]
        token_uuid=found.uuid,
        user_uuid=found.user_uuid,
        dispatcher_uuid=found.alive_dispatcher,
        dispatcher_name=found.dispatcher_name,
        container_uuid=found.container_uuid,
        scopes=tuple(orjson.loads(found.scopes)),
    )


def _is_root(token: str, root_token: str, cluster_id: str) -> bool:
    if not root_token:
        return False
    given = hash_secret(token).encode()
    long_form = f"v2/{root_token_uuid(cluster_id)}/{root_token}"
    return hmac.compare_digest(given, hash_secret(root_token).encode()) or hmac.compare_digest(
        given, hash_secret(long_form).encode()
    )


def mint_container_tokens(tx: Transaction, owned: Sequence[tuple[str, str]]) -> dict[str, NewToken]:
    """A fresh token for each container: `owned` holds (container uuid, user uuid)."""
    made: dict[str, NewToken] = {}
    rows = []
    for container_uuid, user_uuid in owned:
        token, row = new_token(tx.cluster_id, tx.now, "container", user_uuid)
        row["container_uuid"] = container_uuid
        made[container_uuid] = token
        rows.append(row)
    if rows:
        tx.conn.execute(insert(authorizations), rows)
    return made


_DELETE_OF_CONTAINER = delete(authorizations).where(
    authorizations.c.container_uuid == bindparam("container")
)


def delete_container_tokens(conn: Connection, container_uuid: str) -> None:
    """They die with their container."""
    conn.execute(_DELETE_OF_CONTAINER, {"container": container_uuid})


def new_token(
    cluster_id: str, now: int, kind: str, user_uuid: str
) -> tuple[NewToken, dict[str, Any]]:
    """A fresh token, and its record as it is to be stored. `now` in microseconds."""
    uuid = new_uuid(cluster_id, "api_client_authorization")
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))
    row = {
        "uuid": uuid,
        "owner_uuid": user_uuid,
        "created_at": now,
        "modified_at": now,
        "modified_by_user_uuid": user_uuid,
        "user_uuid": user_uuid,
        "scopes": ["all"],
        "caller_kind": kind,
        "secret_hash": hash_secret(secret),
    }
    return NewToken(uuid, f"v2/{uuid}/{secret}"), row
