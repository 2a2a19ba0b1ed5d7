"""libcloud's EC2 driver, with five things changed.

- Calls are POST requests. libcloud puts everything into the URL, where a boot script is too long for many a
  proxy, and where its ping secret and our signature would be in every access log and connection error.
- The tags of a new instance are put on its volumes too, in the same call: a volume that outlives its instance
  would be nobody's.
- Listing instances does not list the account's elastic addresses each time: the instances name theirs.
- Resources and tags are numbered from one, as EC2's documentation says, when tags are set.
- An error page that is not EC2's XML (a proxy's, a load balancer's) keeps its HTTP status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from libcloud.common.types import MalformedResponseError
from libcloud.compute.drivers.ec2 import EC2Connection, EC2NodeDriver, EC2Response

_INSTANCE_TAG = re.compile(r"TagSpecification\.1\.(Tag\..+)")


class _Response(EC2Response):
    def parse_error(self) -> Any:
        try:
            return super().parse_error() or self.body  # type: ignore[no-untyped-call]
        except (MalformedResponseError, ValueError):
            return self.body


class _Connection(EC2Connection):
    responseCls = _Response  # noqa: N815 (libcloud's name)

    def request(  # type: ignore[override]
        self,
        action: str,
        params: Mapping[str, Any] | None = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        **others: Any,
    ) -> Any:
        params = _with_volume_tags(params or {})
        if method == "GET" and self.signature_version == "4":
            # The older signature is defined for GET alone.
            data, method = urlencode({**params, "Version": self.version}), "POST"
            params = None
            headers = {**(headers or {}), "Content-Type": "application/x-www-form-urlencoded"}
        return super().request(  # type: ignore[no-untyped-call]
            action, params, data, headers, method, **others
        )


class Ec2NodeDriver(EC2NodeDriver):
    """The libcloud driver that `nodemanager.clouds.ec2` uses unless told otherwise."""

    connectionCls = _Connection  # noqa: N815 (libcloud's name)

    def ex_describe_addresses(self, nodes: Sequence[Any]) -> dict[str, list[str]]:
        """No elastic addresses besides those that the instances were listed with."""
        return {node.id: [] for node in nodes}

    def ex_create_tags(self, resource: Any, tags: Mapping[str, str]) -> bool:
        """Set these tags on one resource and leave its others; True unless it raises."""
        params = {"Action": "CreateTags", "ResourceId.1": resource.id}
        for number, (key, value) in enumerate(tags.items(), start=1):
            params |= {f"Tag.{number}.Key": key, f"Tag.{number}.Value": value}
        connection: Any = self.connection
        connection.request(self.path, params=params)
        return True


def _with_volume_tags(params: Mapping[str, Any]) -> dict[str, Any]:
    """A call that creates an instance, with its tags a second time for the volumes; others unchanged."""
    added: dict[str, Any] = {}
    if params.get("Action") == "RunInstances":
        tags = {name: _INSTANCE_TAG.fullmatch(name) for name in params}
        added = {f"TagSpecification.2.{tag[1]}": params[name] for name, tag in tags.items() if tag}
        if added:
            added["TagSpecification.2.ResourceType"] = "volume"
    return {**params, **added}
