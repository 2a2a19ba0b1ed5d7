"""What an operator may choose about the API's rules: the numbers of `[Api]`, in one value."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Policy:
    """Seconds, unless the name says otherwise. The defaults are those of the design page, section 5."""

    ping_timeout: float = 600.0
    """A dispatcher silent for so long is lost."""
    retry_backoff_min: float = 10.0
    """Wait before the attempt after the first TempFail; doubled with each further one in a row."""
    retry_backoff_max: float = 3600.0
    """No attempt waits longer."""
    retry_backoff_lost: float = 60.0
    """At least so long after a lost dispatcher: its jobs may take time to die."""
    max_temp_fails: int = 0
    """A request is given up after so many TempFails in a row; 0 never."""
    given_back_pause: float = 60.0
    """For so long a container is not offered again to the dispatcher that gave it back."""
    sweep_interval: float = 5.0
    """How often the servers look after the leases; a longer gap was an outage of theirs."""
    pause_claims_after: float = 3600.0
    """A server that starts and finds nobody has been there for longer pauses claims; 0: no server ever does."""
    max_compute_nodes: int = 64
    """So many slots there are for nodes."""
    root_token: str = field(default="", repr=False)
    """Secret of the administrator; empty: there is none."""
