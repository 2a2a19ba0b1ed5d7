"""Every method of the API: routes, argument checks and the discovery document are made from this table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

BASE_PATH = "/arvados/v1/"
"""What the paths of methods are below."""

ParameterType = Literal["string", "integer", "number", "boolean", "object", "array"]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method.

    Those of location ``query`` may as well be keys of the request body; `required` is said only of
    those in the path, since the others may come either way (the handler insists on what it needs).
    """

    name: str
    type: ParameterType
    required: bool = False
    default: str | int | float | bool | None = None
    doc: str = ""
    location: Literal["path", "query"] = "query"


@dataclass(frozen=True)
class Method:
    """One method. `wait` says that it may be held open; `handler` names its function in the service."""

    resource: str
    name: str
    http: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handler: str
    parameters: tuple[Parameter, ...] = ()
    body: bool = False
    """The body is ``{singular: {...}}`` or the bare JSON object."""
    wait: bool = False
    doc: str = ""
    open: bool = False
    """It needs no token: its caller shows a secret of its own."""
    mints: bool = False
    """A GET that writes all the same: it makes a token."""

    @property
    def writes(self) -> bool:
        """Whether it needs a transaction that may change things."""
        return self.http != "GET" or self.mints

    @property
    def id(self) -> str:
        """``containers.claim``; unique."""
        return f"{self.resource}.{self.name}"


_UUID = Parameter("uuid", "string", required=True, location="path", doc="UUID of the record.")
_SELECT = Parameter("select", "array", doc="Attributes to return; all when it is not given.")
_DISPATCHER = Parameter("dispatcher", "string", doc="UUID of the dispatcher that calls.")
_EPOCH = Parameter(
    "epoch", "integer", doc="The dispatcher's current epoch; an older one is refused."
)
_WAIT = Parameter(
    "wait",
    "number",
    default=0.0,
    doc="Seconds the call may be held open when there is nothing yet.",
)
_REASON = Parameter("reason", "string", doc="Why; others read it.")
_LIST = (
    Parameter("filters", "array", doc="Conditions [attribute, operator, operand], joined by AND."),
    Parameter("where", "object", doc="Attributes and the values they must have."),
    Parameter("order", "array", doc="Attributes to order by, each with asc or desc."),
    _SELECT,
    Parameter("distinct", "boolean", default=False, doc="Return each selected row once."),
    Parameter("limit", "integer", default=100, doc="At most so many items."),
    Parameter("offset", "integer", default=0, doc="Skip so many items."),
    Parameter(
        "count", "string", default="exact", doc="exact or none: whether items_available is told."
    ),
    # Stock parameters that clients send; here is no trash, no old version, no other cluster.
    Parameter("include_trash", "boolean", default=False, doc="Without effect."),
    Parameter("include_old_versions", "boolean", default=False, doc="Without effect."),
    Parameter("cluster_id", "string", doc="Without effect."),
    Parameter("bypass_federation", "boolean", default=False, doc="Without effect."),
)
_NEW = (
    _SELECT,
    Parameter("ensure_unique_name", "boolean", default=False, doc="Without effect."),
    Parameter("cluster_id", "string", doc="Without effect."),
)


def _get(resource: str) -> Method:
    return Method(
        resource, "get", "GET", f"{resource}/{{uuid}}", f"{resource}.get", (_UUID, _SELECT),
        doc="One record.",
    )  # fmt: skip


def _list(resource: str) -> Method:
    return Method(resource, "list", "GET", resource, "list", _LIST, doc="Many records.")


def _create(resource: str, doc: str, *more: Parameter) -> Method:
    return Method(
        resource,
        "create",
        "POST",
        resource,
        f"{resource}.create",
        (*_NEW, *more),
        body=True,
        doc=doc,
    )


def _update(resource: str, doc: str, *more: Parameter) -> Method:
    return Method(
        resource, "update", "PUT", f"{resource}/{{uuid}}", f"{resource}.update",
        (_UUID, _SELECT, *more), body=True, doc=doc,
    )  # fmt: skip


def _delete(resource: str) -> Method:
    return Method(
        resource, "delete", "DELETE", f"{resource}/{{uuid}}", f"{resource}.delete", (_UUID,),
        doc="Remove the record; answers what it was.",
    )  # fmt: skip


PRUNE = Method(
    "container_requests", "prune", "POST", "container_requests/prune", "container_requests.prune",
    (
        Parameter("before", "string", doc="Those that have not changed since then."),
        Parameter("limit", "integer", default=1000, doc="At most so many requests, the oldest first."),
        Parameter("dry_run", "boolean", default=False, doc="Only count; all at once."),
    ),
    body=True,
    doc="Remove requests that are Final, with containers that no other request has, and what was noted of them.",
)  # fmt: skip


def _container_requests() -> Iterator[Method]:
    resource = "container_requests"
    yield PRUNE
    yield _list(resource)
    yield _get(resource)
    yield _create(resource, "Ask for a container; with state Committed it is queued at once.")
    yield _update(resource, "Edit, commit, re-prioritise, or cancel (priority 0).")
    yield Method(
        resource, "attempts", "GET", "container_requests/{uuid}/attempts",
        "container_requests.attempts", (_UUID,),
        doc="Its attempts, oldest first: state, error, facts, reason to wait, times.",
    )  # fmt: skip
    yield Method(
        resource, "container_status", "GET", "container_requests/{uuid}/container_status",
        "container_requests.container_status", (_UUID,),
        doc="The state of its container, and in words why that waits.",
    )  # fmt: skip
    yield _delete(resource)


def _containers() -> Iterator[Method]:
    resource = "containers"
    # Paths without a UUID come first: a router that takes the first match must see them first.
    yield Method(
        resource, "claim", "POST", "containers/claim", "containers.claim",
        (
            _DISPATCHER,
            _EPOCH,
            Parameter("claim_id", "string", doc="The same id again returns the same containers."),
            Parameter("limit", "integer", default=1, doc="Claim at most so many."),
            _WAIT,
        ),
        body=True, wait=True,
        doc="Claim the most urgent containers that this dispatcher can run.",
    )  # fmt: skip
    yield Method(
        resource, "batch_update", "POST", "containers/batch_update", "containers.batch_update",
        (_DISPATCHER, _EPOCH), body=True,
        doc="Write to many containers: updates = [{uuid, attributes}]; answers for each.",
    )  # fmt: skip
    yield Method(
        resource, "auth_many", "POST", "containers/auth_many", "containers.auth_many",
        (_DISPATCHER, _EPOCH), body=True,
        doc="A runner's token for each of the claimed containers `uuids`.",
    )  # fmt: skip
    yield Method(
        resource, "describe_many", "POST", "containers/describe_many", "containers.describe_many",
        (_DISPATCHER, _EPOCH), body=True,
        doc="The claimed containers `uuids` with their `secret_mounts`, to run their commands.",
    )  # fmt: skip
    yield Method(
        resource, "annotate", "POST", "containers/annotate", "containers.annotate",
        (_DISPATCHER, _EPOCH), body=True,
        doc="Say why containers wait: annotations = [{uuid, reason or null}].",
    )  # fmt: skip
    yield Method(
        resource, "changes", "GET", "containers/changes", "containers.changes",
        (
            _DISPATCHER,
            _EPOCH,
            Parameter("cursor", "string", default="", doc="From the last answer; empty: from now on."),
            Parameter("limit", "integer", default=1000, doc="At most so many items."),
            _WAIT,
        ),
        wait=True,
        doc="The dispatcher's containers that others changed since `cursor`.",
    )  # fmt: skip
    yield Method(
        resource, "summary", "GET", "containers/summary", "containers.summary",
        doc="How many there are by state and by why they wait, and for how long the oldest has.",
    )  # fmt: skip
    yield Method(
        resource, "current", "GET", "containers/current", "containers.current", (_SELECT,),
        doc="The container this token belongs to.",
    )  # fmt: skip
    yield _list(resource)
    yield _get(resource)
    yield _update(resource, "Claim (dispatcher), or report on a claimed container.", _EPOCH)
    yield Method(
        resource, "auth", "GET", "containers/{uuid}/auth", "containers.auth", (_UUID, _EPOCH),
        mints=True, doc="A token for the runner of a claimed container, which dies with it.",
    )  # fmt: skip
    yield Method(
        resource, "create_auth", "POST", "containers/{uuid}/auth", "containers.auth",
        (_UUID, _EPOCH), doc="The same as `auth`.",
    )  # fmt: skip
    for name, doc in (
        ("lock", "Claim for this token's dispatcher; for tools that know only this way."),
        ("unlock", "Hand a claimed container back, which ends this attempt (TempFail)."),
        ("update_priority", "Work its priority out anew from the requests that it serves."),
    ):
        yield Method(
            resource, name, "POST", f"containers/{{uuid}}/{name}", f"containers.{name}", (_UUID,),
            doc=doc,
        )  # fmt: skip
    yield Method(
        resource, "hold", "POST", "containers/{uuid}/hold", "containers.hold", (_UUID, _REASON),
        body=True,
        doc="While it is Queued: nobody claims it before it is released; whoever waits reads why.",
    )  # fmt: skip
    for name, doc in (
        ("release", "It may be claimed again, whoever put it on hold."),
        ("retry_now", "It does not wait any longer for the time after a TempFail. Its owner may."),
    ):
        yield Method(
            resource, name, "POST", f"containers/{{uuid}}/{name}", f"containers.{name}", (_UUID,),
            doc=doc,
        )  # fmt: skip
    yield Method(
        resource, "secret_mounts", "GET", "containers/{uuid}/secret_mounts",
        "containers.secret_mounts", (_UUID,),
        doc="The mounts that only the container's own token may read.",
    )  # fmt: skip


def _dispatchers() -> Iterator[Method]:
    resource = "dispatchers"
    for name, parameters, doc in (
        (
            "pause_all",
            (_REASON,),
            "No dispatcher claims anything, now and later, until `resume_all`.",
        ),
        ("resume_all", (), "The end of a pause of all; who is paused alone remains so."),
    ):
        yield Method(
            resource, name, "POST", f"dispatchers/{name}", f"dispatchers.{name}", parameters,
            body=bool(parameters), doc=doc,
        )  # fmt: skip
    yield _list(resource)
    yield _get(resource)
    yield _create(resource, "Register; the same token and name take up the alive record.")
    yield Method(
        resource, "ping", "POST", "dispatchers/{uuid}/ping", "dispatchers.ping",
        (
            _UUID,
            _EPOCH,
            Parameter("turn", "boolean", default=False, doc="It has gone through its work since."),
        ),
        body=True,
        doc="Renew the lease; new `capabilities` are stored. Answers lease_seconds, and paused.",
    )  # fmt: skip
    yield Method(
        resource, "pause", "POST", "dispatchers/{uuid}/pause", "dispatchers.pause",
        (_UUID, _REASON), body=True,
        doc="It goes on with what it has and claims nothing more; whoever waits reads why.",
    )  # fmt: skip
    yield Method(
        resource, "resume", "POST", "dispatchers/{uuid}/resume", "dispatchers.resume", (_UUID,),
        doc="It claims again, unless all are paused: answers paused.",
    )  # fmt: skip
    yield Method(
        resource, "retire", "POST", "dispatchers/{uuid}/retire", "dispatchers.retire",
        (
            _UUID,
            Parameter("release", "boolean", default=False, doc="TempFail what it still holds."),
        ),
        body=True,
        doc="Take it out of service for good.",
    )  # fmt: skip
    yield Method(
        resource, "lose", "POST", "dispatchers/{uuid}/lose", "dispatchers.lose", (_UUID,),
        doc="Declare it dead without waiting; its containers become TempFail.",
    )  # fmt: skip


def _nodes() -> Iterator[Method]:
    resource = "nodes"
    assign = Parameter(
        "assign_slot",
        "boolean",
        default=False,
        doc="Give it a slot and a host name if it has none.",
    )
    yield replace(_list(resource), handler="nodes.list")
    yield _get(resource)
    yield _create(resource, "A record for a machine that is going to boot.", assign)
    yield _update(resource, "Edit, or make ready for another machine.", assign)
    yield _delete(resource)
    yield Method(
        resource, "ping", "POST", "nodes/{uuid}/ping", "nodes.ping",
        (
            _UUID,
            Parameter("ping_secret", "string", doc="What the machine was given; no token is needed."),
            Parameter("instance_id", "string", doc="What its cloud calls it."),
            Parameter("local_ipv4", "string", doc="Its address, if not the one the call comes from."),
            Parameter("total_cpu_cores", "integer", doc="How many cores it has."),
            Parameter("total_ram_mb", "integer", doc="How much RAM it has."),
            Parameter("total_scratch_mb", "integer", doc="How much scratch space it has."),
        ),
        body=True, open=True,
        doc="The machine is there: no token, `ping_secret` is enough. Answers its slot and host name.",
    )  # fmt: skip


def _authorizations() -> Iterator[Method]:
    resource = "api_client_authorizations"
    yield Method(
        resource, "current", "GET", f"{resource}/current", f"{resource}.current", (_SELECT,),
        doc="This token, without its secret.",
    )  # fmt: skip
    yield Method(
        resource, "create_system_auth", "POST", f"{resource}/create_system_auth",
        f"{resource}.create_system_auth",
        (
            Parameter("api_client_id", "integer", doc="Without effect."),
            Parameter("scopes", "array", doc='What it may be used for; ["all"] by default.'),
        ),
        doc="A token of the system user; `api_token` in the answer is its secret, told this once.",
    )  # fmt: skip
    yield _list(resource)
    yield _get(resource)
    yield _create(resource, "A token; `api_token` in the answer is its secret, told this once.")
    yield _update(resource, "Change `scopes` or `expires_at`.")
    yield _delete(resource)


def _others() -> Iterator[Method]:
    for resource in ("links", "logs"):
        yield _list(resource)
        yield _get(resource)
        yield _create(resource, "Add a record.")
        yield _update(resource, "Change the record.")
        yield _delete(resource)
    yield Method(
        "users", "current", "GET", "users/current", "users.current", (_SELECT,),
        doc="Who this token acts for.",
    )  # fmt: skip
    yield _list("users")
    yield _get("users")
    yield _create("users", "For administrators.")
    yield _update("users", "For administrators; a user who is not active cannot act.")


METHODS: tuple[Method, ...] = (
    *_container_requests(),
    *_containers(),
    *_dispatchers(),
    *_nodes(),
    *_authorizations(),
    *_others(),
)
