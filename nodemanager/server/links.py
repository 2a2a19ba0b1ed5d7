"""What a link may be, by its class. Those of class `dispatch` are the business of `annotations`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nodemanager.server.errors import forbidden, invalid
from nodemanager.server.resources import Row
from nodemanager.server.transaction import Caller

PERMISSIONS = ("can_read", "can_write", "can_manage", "can_login")
"""Names that a link of class `permission` may have."""


def check_link(caller: Caller, link: Mapping[str, Any]) -> None:
    """Refuse a link that `caller` may not make, or that means nothing (link.rb, 60-140).

    Permissions are kept for tools that write them; there are no groups here that they could open.
    """
    name, head = link.get("name") or "", link.get("head_uuid") or ""
    match link.get("link_class"):
        case "dispatch":
            raise invalid("link_class: dispatch links are made by containers.annotate")
        case "name":
            raise invalid("Name links are obsolete")
        case "permission" if caller.kind != "root":
            raise forbidden("link_class: only an administrator makes permission links")
        case "permission" if name not in PERMISSIONS:
            raise invalid(f"name: of a permission must be one of {', '.join(PERMISSIONS)}")
        case "published_port" if "-xvhdp-" not in head:
            raise invalid("head_uuid: of a published_port must be a container request")


def check_not_written_elsewhere(link: Row) -> None:
    """Refuse to change a dispatcher's reason by hand: it would contradict what is logged of it."""
    if link["link_class"] == "dispatch":
        raise invalid(f"{link['uuid']}: dispatch links are changed by containers.annotate")
