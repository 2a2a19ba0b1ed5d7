"""Our pods, the nodes, and what others keep of them: one picture, always at hand, kept up by three watches.

Nothing is asked when it is looked at, but for one thing: what the events of a pod say, where nothing else tells why
somebody had it deleted, or why its container is not being created.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Any

from nodemanager.clock import Clock
from nodemanager.errors import NodeManagerError
from nodemanager.model import JobState, Node
from nodemanager.outcome import EndKind
from nodemanager.schedulers.base import Job
from nodemanager.schedulers.kubernetes.client import KubeClient, KubeRefused
from nodemanager.schedulers.kubernetes.ends import Noted, mount_trouble
from nodemanager.schedulers.kubernetes.names import not_ours, ours
from nodemanager.schedulers.kubernetes.picture import Picture, PodPicture
from nodemanager.schedulers.kubernetes.pod import Pod, parse_pod
from nodemanager.schedulers.kubernetes.podnodes import (
    EMPTY,
    KubeNode,
    Load,
    NodeRules,
    Tenant,
    parse_node,
    parse_tenant,
)
from nodemanager.schedulers.kubernetes.pods import (
    FINAL_PHASES,
    Host,
    hopeless,
    job_of,
    waiting_words,
)
from nodemanager.schedulers.kubernetes.quantities import GPU_RESOURCES
from nodemanager.schedulers.kubernetes.reflector import Pace, Reflector
from nodemanager.schedulers.kubernetes.waits import CREATING, Patience

log = logging.getLogger(__name__)
