"""Sections and options of the config file: the one place where they are declared.

Those about nodes on demand are in `nodemanager.config.nodes`.
"""

# ruff: noqa: RUF009 -- `option` makes a dataclass field

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nodemanager.config.accept import Accept
from nodemanager.config.composite import Command, ListOf, PathKind
from nodemanager.config.kinds import (
    Bool,
    Bytes,
    Choice,
    Float,
    Host,
    Integer,
    Kind,
    LogLevel,
    Pattern,
    Seconds,
    Secret,
    SecretText,
)
from nodemanager.config.option import free_options, option, optional
from nodemanager.rule import Rule

EMBEDDED = "embedded"
"""The word in `[Arvados] host` for a server that the daemon starts itself."""

OFF = -1
"""The number in `[Manage] port` that means none."""

GONE = "without effect: containers are the only kind of work"
REPLACED = "replaced by [Dispatch] scheduler"
"""Why options of the old node manager are accepted and do nothing."""

_SWITCH = Bool()
_PORT = Integer(0, 65535)
_COUNT = Integer(0)
_MAYBE_PATH = PathKind(may_be_empty=True)
_POSITIVE = Seconds(0.1)
_ADDRESS = Pattern(r"[A-Za-z0-9:]([A-Za-z0-9.:-]*[A-Za-z0-9:])?", "an IP address or host name")
_WORD = Pattern(r"[A-Za-z_][A-Za-z0-9_-]*", "a name of letters, digits, dashes and underscores")
_MODULE = Pattern(
    r"[A-Za-z_][A-Za-z0-9_-]*|[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*",
    "the name of a scheduler module, or package.module:Class",
)
_NAME = Pattern(r"[^\s\x00-\x1f\x7f]{1,200}", "a name without spaces")


@dataclass(frozen=True, kw_only=True)
class Arvados:
    """The Arvados API that containers come from."""

    host: str = option(
        Host(),
        EMBEDDED,
        "The API server, as host or host:port. `embedded` starts the server of this package as a child"
        " process on this machine.",
    )
    token: Secret = option(
        SecretText(),
        "",
        "The token to use. Not needed for an embedded server, which makes one for its daemon.",
    )
    token_file: Path | None = option(
        _MAYBE_PATH,
        "",
        "A file that holds the token and nothing else, readable by its owner only.",
    )
    cluster_id: str = option(
        Pattern("[a-z0-9]{5}", "five lower-case letters or digits"),
        "zzzzz",
        "The cluster's id: every UUID begins with it, and so do the names of our jobs. A server of one's"
        " own has its own; ask its operator.",
    )
    insecure: bool = option(
        _SWITCH, "no", "Accept any certificate of the API server. Only for tests."
    )
    certs_file: Path | None = option(
        _MAYBE_PATH,
        "",
        "A file of CA certificates to check the API server against; empty means the system's own."
        " The embedded server's certificate needs none.",
        alias=("Daemon", "certs_file"),
    )
    timeout: float = option(
        _POSITIVE,
        "15 s",
        "How long a call to the API may take, besides the time it is asked to wait for something.",
    )
    jobs_queue: bool = option(
        _SWITCH, "yes", "Take work from the queue of Crunch v1 jobs.", unused=GONE
    )
    slurm_queue: bool = option(_SWITCH, "yes", "Take work from Slurm's queue.", unused=GONE)


@dataclass(frozen=True, kw_only=True)
class Api:
    """The API server of this package: embedded, or on its own as `arvados-dispatch-api`."""

    address: str = option(_ADDRESS, "127.0.0.1", "The address to listen on.")
    port: int = option(
        _PORT, "0", "The port to listen on; 0 chooses a free one at the first start and keeps it."
    )
    advertise_url: str = option(
        Pattern(
            r"(https://[^\s/]+)?", "a URL such as https://api.example.org:8443, without a path"
        ),
        "",
        "The URL under which runners on other machines reach the server; empty means the address and"
        " port it listens on.",
    )
    database: Secret = option(
        SecretText(),
        "",
        "An SQLAlchemy URL of the database; empty means SQLite in the state directory. It counts as a"
        " secret because it may hold a password.",
    )
    database_file: Path | None = option(
        _MAYBE_PATH,
        "",
        "A file that holds the database URL, readable by its owner only.",
    )
    certificate: Path | None = option(
        _MAYBE_PATH,
        "",
        "The server's certificate (PEM); empty means one made at the first start and kept in the state"
        " directory.",
    )
    key: Path | None = option(_MAYBE_PATH, "", "The private key of `certificate` (PEM).")
    root_token: Secret = option(
        SecretText(),
        "",
        "The token that may do everything; empty means one made at the first start and kept in the"
        " state directory.",
    )
    root_token_file: Path | None = option(
        _MAYBE_PATH, "", "A file that holds the root token, readable by its owner only."
    )
    management_token: Secret = option(
        SecretText(), "", "The token for health checks; empty switches them off."
    )
    management_token_file: Path | None = option(
        _MAYBE_PATH,
        "",
        "A file that holds the management token, readable by its owner only.",
    )
    max_request_size: int = option(
        Bytes(64 * 1024), "16 MiB", "The largest request body that is accepted."
    )
    request_timeout: float = option(
        Seconds(1),
        "60 s",
        "How long a client may take to send a request, to go on with an upload that pauses, or to begin"
        " to read its answer. A large request may take longer, at 16 KiB/s.",
    )
    max_concurrent_requests: int = option(
        Integer(1),
        "64",
        "How many calls are served at once; twice as many wait, and more are told to come back later"
        " (503). Calls that are held open until there is work do not count.",
    )
    ping_timeout: float = option(
        Seconds(1),
        "10 min",
        "A dispatcher that is silent for longer is lost, for good, and its containers become TempFail."
        " At least three times the ping_interval of every dispatcher.",
    )
    sweep_interval: float = option(
        _POSITIVE,
        "5 s",
        "How often the server looks for lost dispatchers and for work that has fallen due.",
    )
    pause_claims_after: float = option(
        Seconds(),
        "1 h",
        "A server that starts on a database without a server for longer pauses all claims, since it may be a backup"
        " that was just restored: see `arvados-dispatch-api claims`. So does one that runs when the database goes back"
        " in time. 0 means never; the embedded server never does.",
    )
    max_compute_nodes: int = option(
        Integer(1),
        "64",
        "The number of slots that nodes can be given (`nodes.create` and `ping` of the old node manager).",
    )
    retry_backoff_min: float = option(
        _POSITIVE,
        "10 s",
        "The wait before the attempt after a first TempFail; it doubles with each one in a row.",
    )
    retry_backoff_max: float = option(
        _POSITIVE, "1 h", "The longest wait between two attempts, however many failed."
    )
    retry_backoff_lost: float = option(
        Seconds(), "60 s", "The shortest wait after an attempt whose dispatcher was lost."
    )
    max_temp_fails: int = option(
        _COUNT,
        "0",
        "After so many TempFails in a row a request gets no further attempt; 0 means no limit.",
    )
    given_back_pause: float = option(
        Seconds(),
        "60 s",
        "How long work that a dispatcher handed back unstarted is not offered to it again.",
    )


@dataclass(frozen=True, kw_only=True)
class Dispatch:
    """The dispatcher: how it claims containers and to which scheduler it submits them."""

    scheduler: str = option(
        _MODULE,
        "local",
        "The batch scheduler that runs the jobs: the name of an installed module, such as `local`, or a"
        " class of your own as package.module:Class.",
    )
    schedulers: tuple[str, ...] = option(
        ListOf(_WORD),
        "",
        "Several schedulers, by the names of their [Scheduler NAME] sections, in the order in which they are"
        " tried: each container goes to the first that takes it. Empty: the one of `scheduler`.",
    )
    name: str = option(
        _NAME,
        "<host_name>",
        "The dispatcher's name. A restart under the same name takes up the containers it left.",
    )
    ping_interval: float = option(
        Seconds(0.1), "15 s", "How often the dispatcher tells the API that it is alive."
    )
    max_claimed: int = option(
        _COUNT,
        "0",
        "The most containers to hold at a time; 0 means what fits into the free room and a small queue"
        " beyond it.",
    )
    claim_wait: float = option(
        Seconds(0, 60),
        "20 s",
        "How long a claim is held open at the API until there is work; 0 asks every poll_time instead.",
    )
    poll_time: float = option(
        _POSITIVE,
        "5 s",
        "How often the API is asked for work when claim_wait is 0, and after a call that failed.",
    )
    full_list_interval: float = option(
        Seconds(1),
        "10 min",
        "How often all held containers are listed anew, whatever was reported in between.",
    )


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """How the scheduler is polled and spared. Every other key is an option of its module."""

    poll_time: float = option(
        _POSITIVE, "5 s", "How often the state of all jobs is asked for, in one poll."
    )
    max_poll_time: float = option(
        _POSITIVE, "60 s", "The longest pause between polls while the scheduler does not answer."
    )
    command_timeout: float = option(
        _POSITIVE, "60 s", "How long one command of the scheduler may take."
    )
    commands_per_second: float = option(
        Float(0.01, 10000.0),
        "50",
        "The most commands of the scheduler per second, over a longer while. Jobs that are alike need one"
        " command together.",
    )
    submit_batch: int = option(
        Integer(1, 100_000), "1000", "The most jobs that are submitted in one go."
    )
    options: Mapping[str, str] = free_options(
        Kind(), "Passed to the scheduler module, which says what it knows.", ""
    )


@dataclass(frozen=True, kw_only=True)
class NamedScheduler(Scheduler):
    """One of several schedulers, `[Dispatch] schedulers`: every option of `[Scheduler]`, with the same
    defaults whatever is set there, and these."""

    module: str | None = optional(
        _MODULE,
        "The module, or a class of your own as package.module:Class. Default: the section's NAME.",
        "slurm",
    )
    accept: Rule = option(
        Accept(),
        "",
        "Which containers it takes: conditions such as `partition = long and cores <= 16 and ram <= 64 GiB"
        " and gpus = 0 and preemptible = yes and property.project = exome`, all of which have to hold. Empty"
        " takes all that its nodes could hold.",
    )


@dataclass(frozen=True, kw_only=True)
class Runner:
    """What a job executes on its node: the program that runs one container and reports to the API."""

    command: tuple[str, ...] = option(
        Command(),
        "<python> -m nodemanager.runner",
        "The runner and its first arguments, as found on the nodes; quoted as for a shell.",
    )
    container_engine: str = option(
        Choice(("none", "docker", "podman", "singularity", "bwrap")),
        "none",
        "What runs a container's command; `none` runs it as a plain process on the node.",
    )
    store: Path | None = option(
        PathKind(alias="api"),
        "<state_dir>/store",
        "The directory for logs and outputs, shared by all nodes; `api` uploads them to the API"
        " instead.",
    )
    scratch: Path = option(
        PathKind(),
        "<state_dir>/scratch",
        "The directory on each node below which containers work.",
    )
    keep_scratch: bool = option(
        _SWITCH, "no", "Leave what a container wrote in its scratch directory, to look at it."
    )
    input_dirs: tuple[Path, ...] = option(
        ListOf(PathKind()),
        "",
        "Directories below which mounts of kind `file` may lie; empty allows none.",
    )
    tempfail_exits: tuple[int, ...] = option(
        ListOf(Integer(1, 255)),
        "75, 111",
        "Exit codes by which a command says that its failure is temporary.",
    )
    heartbeat: float = option(
        Seconds(1), "15 s", "How often a runner asks whether its container is still its own."
    )
    fenced_after: float = option(
        Seconds(1),
        "60 s",
        "For how long the API must have refused a runner before it stops its command.",
    )
    kill_grace: float = option(
        Seconds(0, 3600), "10 s", "The time between TERM and KILL when a command has to stop."
    )
    max_log_bytes: int = option(
        Bytes(), "0", "A log grows no larger than this; what follows is dropped. 0 means no limit."
    )


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """The daemon's own process; and, from the old node manager, limits of the nodes it boots."""

    state_dir: Path = option(
        PathKind(),
        "<config_dir>/state",
        "The directory for everything that outlives the daemon: lock, database, certificate, jobs.",
    )
    watchdog: float = option(
        Seconds(1),
        "10 min",
        "An actor that does not answer for so long ends the daemon, which is then started again.",
    )
    min_nodes: int = option(_COUNT, "0", "Nodes to keep up when there is no work.")
    max_nodes: int = option(_COUNT, "1", "The most nodes to have up.")
    max_total_price: float = option(
        Float(0.0), "0", "The most to pay per hour for all nodes; 0 means no limit."
    )
    poll_time: float = option(_POSITIVE, "60 s", "How often cloud, nodes and work are looked at.")
    max_poll_time: float = option(_POSITIVE, "5 min", "The longest pause between polls that fail.")
    cloudlist_poll_time: float = option(
        Seconds(), "0 s", "The same for the list of cloud nodes; 0 means poll_time."
    )
    nodelist_poll_time: float = option(
        Seconds(), "0 s", "The same for the list of nodes; 0 means poll_time."
    )
    wishlist_poll_time: float = option(
        Seconds(), "0 s", "The same for the waiting work; 0 means poll_time."
    )
    poll_stale_after: float = option(
        _POSITIVE,
        "10 min",
        "With older data than this no node is booted or shut down.",
    )
    boot_fail_after: float = option(
        _POSITIVE,
        "30 min",
        "A node that has not joined the scheduler by then is shut down.",
    )
    node_stale_after: float = option(
        _POSITIVE, "2 h", "A node's record that was silent for longer is stale."
    )
    node_mem_scaling: float = option(
        Float(0.1, 1.0),
        "0.95",
        "The share of a cloud size's RAM that containers can have.",
    )
    consecutive_idle_count: int = option(
        Integer(1, 1000),
        "2",
        "A node must be seen idle so often before it is shut down.",
    )
    dispatcher: str = option(Kind(), "", "The old word for the scheduler in use.", unused=REPLACED)


@dataclass(frozen=True, kw_only=True)
class Logging:
    """What the daemon logs, and where."""

    file: Path | None = option(
        PathKind(may_be_empty=True, alias="/dev/stderr"),
        "/dev/stderr",
        "The file to append to; /dev/stderr is standard error.",
    )
    level: str = option(LogLevel(), "INFO", "Lines below this level are dropped.")
    format: str = option(
        Choice(("text", "json")), "text", "Lines for people, or one JSON object a line."
    )
    levels: Mapping[str, str] = free_options(
        LogLevel(), "The level of the logger of that name, such as pykka.", "pykka = ERROR"
    )


@dataclass(frozen=True, kw_only=True)
class Manage:
    """The management server: a page and `status.json` that tell what the daemon is doing, health checks, operators'
    verbs."""

    address: str = option(
        _ADDRESS,
        "127.0.0.1",
        "The address to listen on. Without a ManagementToken whoever reaches it can read what is told there.",
    )
    port: int = option(
        Integer(OFF, 65535),
        "-1",
        "The port to listen on; 0 chooses a free one, -1 switches the server off.",
    )
    management_token: Secret = option(
        SecretText(),
        "",
        "The token for the page, status.json, health checks and operators' verbs. Empty: everybody may read, and"
        " health checks and verbs are switched off.",
        name="ManagementToken",
    )
    management_token_file: Path | None = option(
        _MAYBE_PATH,
        "",
        "A file that holds the token and nothing else, readable by its owner only.",
        name="ManagementToken_file",
    )
