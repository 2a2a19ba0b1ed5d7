"""Everything one API server process has to be told, in one value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from nodemanager.config import Config
from nodemanager.errors import ConfigError
from nodemanager.server.policy import Policy

WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 (compared with, not listened on)


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Sizes in bytes, times in seconds. The defaults are those of the config file."""

    state_dir: Path
    """The server keeps its own things in ``api`` below it."""
    cluster_id: str = "zzzzz"
    address: str = "127.0.0.1"
    port: int = 0
    """0: chosen at the first start, then kept."""
    advertise_url: str = ""
    """Under which runners elsewhere reach the server; its host is among the certificate's names."""
    database: str = field(default="", repr=False)
    """SQLAlchemy URL; empty: SQLite in the state directory."""
    certificate: Path | None = None
    key: Path | None = None
    """Both None: made here."""
    management_token: str = field(default="", repr=False)
    """Empty: no health checks."""
    max_request_size: int = 16 * 2**20
    request_timeout: float = 60.0
    """For a request's head, its body, and each pause in an upload or while an answer is read."""
    max_concurrent_requests: int = 64
    max_file_size: int = 0
    """Of one file that a runner uploads; 0: no limit."""
    policy: Policy = field(default_factory=Policy)

    @property
    def advertised_host(self) -> str:
        """The host in `advertise_url`; empty when there is none."""
        return urlsplit(self.advertise_url).hostname or ""

    def aside(self) -> ServerSettings:
        """The same for a copy of the database, which nobody else is to find."""
        own = ServerSettings(state_dir=self.state_dir)
        return replace(
            self,
            address=own.address,
            port=own.port,
            advertise_url="",
            database="",
            certificate=None,
            key=None,
        )

    def with_root_token(self, token: str) -> ServerSettings:
        """The same with another root token."""
        return replace(self, policy=replace(self.policy, root_token=token))

    def that_trusts_its_database(self) -> ServerSettings:
        """The same without pauses by the server itself."""
        return replace(self, policy=replace(self.policy, pause_claims_after=0.0))


def settings_from(config: Config) -> ServerSettings:
    """The settings that the config file asks for; raises `ConfigError` for half a certificate."""
    api = config.api
    if (api.certificate is None) != (api.key is None):
        raise ConfigError("[Api] certificate and key: give both, or neither to have them made")
    return ServerSettings(
        state_dir=config.daemon.state_dir,
        cluster_id=config.arvados.cluster_id,
        address=api.address,
        port=api.port,
        advertise_url=api.advertise_url,
        database=str(api.database),
        certificate=api.certificate,
        key=api.key,
        management_token=str(api.management_token),
        max_request_size=api.max_request_size,
        request_timeout=api.request_timeout,
        max_concurrent_requests=api.max_concurrent_requests,
        policy=Policy(
            ping_timeout=api.ping_timeout,
            retry_backoff_min=api.retry_backoff_min,
            retry_backoff_max=api.retry_backoff_max,
            retry_backoff_lost=api.retry_backoff_lost,
            max_temp_fails=api.max_temp_fails,
            given_back_pause=api.given_back_pause,
            sweep_interval=api.sweep_interval,
            pause_claims_after=api.pause_claims_after,
            max_compute_nodes=api.max_compute_nodes,
            root_token=str(api.root_token),
        ),
    )
