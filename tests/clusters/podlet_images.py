"""Images do not exist here, but their troubles do: names that make them, with a kubelet's and containerd's words."""

from __future__ import annotations

from tests.clusters.podlet_status import Waiting

_UNPACK = "failed to pull and unpack image"
_REASONS = {
    "localhost/missing:": "rpc error: code = NotFound desc = {head}: {image}: not found",
    "localhost/denied:": (
        "rpc error: code = Unknown desc = {head}: pull access denied, repository does not exist or may "
        "require authorization: server message: insufficient_scope: authorization failed"
    ),
    "localhost/unreachable:": (
        'rpc error: code = Unknown desc = {head}: failed to do request: Head "https://{path}": '
        "dial tcp 127.0.0.1:443: connect: connection refused"
    ),
}
_PULLS_EVERY = 25
"""Attempts to start the pod from one pull to the next."""


def trouble(image: str, attempts: int) -> Waiting | None:
    """Why this image cannot be had, if so; a failed pull is said once and then waited after."""
    if image.startswith("INVALID:"):
        words = f'couldn\'t parse image reference "{image}": invalid reference format'
        return Waiting("InvalidImageName", f'Failed to apply default image tag "{image}": {words}')
    for start, message in _REASONS.items():
        if image.startswith(start):
            if attempts % _PULLS_EVERY:
                return Waiting("ImagePullBackOff", f'Back-off pulling image "{image}"')
            head = f'{_UNPACK} "{image}": failed to resolve reference "{image}"'
            name, _, tag = image.removeprefix("localhost/").partition(":")
            path = f"localhost/v2/{name}/manifests/{tag}"
            return Waiting("ErrImagePull", message.format(head=head, image=image, path=path))
    return None
