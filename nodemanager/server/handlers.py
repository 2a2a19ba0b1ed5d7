"""The function behind each method of the API: the one place where both are brought together."""

from __future__ import annotations

from collections.abc import Mapping

from nodemanager.server import (
    authorizations,
    changes,
    containers,
    dispatchers,
    nodes,
    progress,
    queue,
    records,
    requests,
    users,
)
from nodemanager.server.annotations import annotate
from nodemanager.server.prune import prune
from nodemanager.server.transaction import Handler

HANDLERS: Mapping[str, Handler] = {
    "list": records.list_,
    "container_requests.get": records.get,
    "container_requests.create": requests.create,
    "container_requests.update": requests.update,
    "container_requests.delete": requests.delete,
    "container_requests.attempts": progress.attempts,
    "container_requests.container_status": progress.container_status,
    "container_requests.prune": prune,
    "containers.get": records.get,
    "containers.update": containers.update,
    "containers.batch_update": containers.batch_update,
    "containers.claim": queue.claim,
    "containers.changes": changes.changes,
    "containers.auth": containers.auth,
    "containers.auth_many": containers.auth_many,
    "containers.describe_many": containers.describe_many,
    "containers.current": containers.current,
    "containers.lock": containers.lock,
    "containers.unlock": containers.unlock,
    "containers.update_priority": containers.update_priority,
    "containers.secret_mounts": containers.secret_mounts,
    "containers.annotate": annotate,
    "dispatchers.get": records.get,
    "dispatchers.create": dispatchers.create,
    "dispatchers.ping": dispatchers.ping,
    "dispatchers.retire": dispatchers.retire,
    "dispatchers.lose": dispatchers.lose,
    "links.get": records.get,
    "links.create": records.create,
    "links.update": records.update,
    "links.delete": records.delete,
    "logs.get": records.get,
    "logs.create": records.create,
    "logs.update": records.update,
    "logs.delete": records.delete,
    "nodes.list": nodes.list_,
    "nodes.get": nodes.get,
    "nodes.create": nodes.create,
    "nodes.update": nodes.update,
    "nodes.delete": nodes.delete,
    "nodes.ping": nodes.ping,
    "users.get": records.get,
    "users.create": users.create,
    "users.update": users.update,
    "users.current": users.current,
    "api_client_authorizations.get": records.get,
    "api_client_authorizations.create": authorizations.create,
    "api_client_authorizations.create_system_auth": authorizations.create_system_auth,
    "api_client_authorizations.update": authorizations.update,
    "api_client_authorizations.delete": authorizations.delete,
    "api_client_authorizations.current": authorizations.current,
}
"""The function behind each `Method.handler`."""
