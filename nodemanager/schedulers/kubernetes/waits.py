"""Why a pod has not started yet, and whether it ever will: what a kubelet says of a container that waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from nodemanager.model import format_seconds

PULL_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
BACK_OFF = "ImagePullBackOff"
"""Between two attempts; older kubelets do not repeat what was wrong with the last one."""

CREATING = "ContainerCreating"
INITIALIZING = "PodInitializing"


class Trouble(Enum):
    """What kind of trouble keeps a container from starting; the value is how it begins in words."""

    IMAGE = "its image cannot be had"
    REGISTRY = "its image cannot be fetched"
    CONFIG = "its container cannot be created"


_TROUBLES: Mapping[str, Trouble] = {
    "InvalidImageName": Trouble.IMAGE,
    "ErrImageNeverPull": Trouble.IMAGE,
    "CreateContainerConfigError": Trouble.CONFIG,
    "CreateContainerError": Trouble.CONFIG,
    "PreCreateHookError": Trouble.CONFIG,
    "PreStartHookError": Trouble.CONFIG,
    "PostStartHookError": Trouble.CONFIG,
    "RunContainerError": Trouble.CONFIG,
}
_REFUSED_PULLS = (
    "not found",
    "manifest unknown",
    "does not exist",
    "denied",
    "unauthorized",
    "authentication required",
    "no basic auth",
    "forbidden",
    "no match for platform",
    "invalid reference format",
)
"""What registries say, in any case of letters, when they answer and will never give the image."""

_WORDS: Mapping[str, str] = {
    CREATING: "its image is being pulled, or its container created",
    INITIALIZING: "its init containers have not ended yet",
}


@dataclass(frozen=True, slots=True)
class Patience:
    """For how long a pod may be in trouble before it is given up, counted from when it got its node."""

    image_seconds: float = 60.0
    """The image does not exist, or may not be had."""
    registry_seconds: float = 900.0
    """The registry does not answer."""
    config_seconds: float = 300.0
    """A secret, a config map or a volume that it needs is missing."""

    def of(self, trouble: Trouble) -> float:
        """That of one trouble."""
        return {
            Trouble.IMAGE: self.image_seconds,
            Trouble.REGISTRY: self.registry_seconds,
            Trouble.CONFIG: self.config_seconds,
        }[trouble]


def trouble_of(reason: str, message: str) -> Trouble | None:
    """`message` is that of the last pull where the reason is one of `PULL_REASONS`; None: it may start yet."""
    if reason in PULL_REASONS:
        said = message.lower()
        refused = any(phrase in said for phrase in _REFUSED_PULLS)
        return Trouble.IMAGE if refused else Trouble.REGISTRY
    if reason == CREATING:
        return Trouble.CONFIG if message else None
    return _TROUBLES.get(reason)


def words_of(reason: str, message: str) -> str:
    """For people: why it waits."""
    trouble = trouble_of(reason, message)
    if trouble is None:
        words = _WORDS.get(reason, reason)
        return f"{words} ({message})" if message else words
    return f"{trouble.value}: {message or reason}"


def gave_up(reason: str, message: str, waited_seconds: float) -> str:
    """For people: why it was not waited for any longer."""
    return f"{words_of(reason, message)}; given up after {format_seconds(waited_seconds)}"
