"""In which subnet, and so in which zone, to create the next node."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

MOST_DOUBTS = 1000
"""Names kept of creations nobody knows the end of; the oldest goes."""


class Subnets:
    """The subnets of a cloud, and what was learnt about them since the daemon started."""

    def __init__(self, subnets: Sequence[str]) -> None:
        """`subnets` are ids, in the order of the config file; none means one without a name."""
        self._subnets = tuple(subnets) or ("",)
        self._worked: dict[str, str] = {}
        self._doubts: OrderedDict[str, str] = OrderedDict()

    def to_try(self, name: str, kind: str) -> tuple[str, ...]:
        """All subnets, in the order in which a node `name` of this kind should be tried in them.

        First where its creation may have happened already, else where the last of its kind went well.
        """
        first = self._doubts.get(name) or self._worked.get(kind) or self._subnets[0]
        index = self._subnets.index(first)
        return self._subnets[index:] + self._subnets[:index]

    def worked(self, name: str, kind: str, subnet: str) -> None:
        """A node was created there."""
        self._worked[kind] = subnet
        self._doubts.pop(name, None)

    def refused(self, name: str, subnet: str) -> None:
        """It was certainly not created there, now or before."""
        if self._doubts.get(name) == subnet:
            del self._doubts[name]

    def doubted(self, name: str, subnet: str) -> None:
        """It may have been created there."""
        self._doubts.pop(name, None)
        self._doubts[name] = subnet
        if len(self._doubts) > MOST_DOUBTS:
            self._doubts.popitem(last=False)
