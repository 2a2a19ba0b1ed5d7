"""`python -m nodemanager.status.metrics_reference`: print the page about metrics, made from their declarations."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from nodemanager.metrics import DECLARED, Declared
from nodemanager.status.metrics import FAMILIES

_INTRODUCTION = """\
# Metrics

Made by `make docs` from `nodemanager/metrics.py` and `nodemanager/status/metrics.py`.

With `[Manage] port` set, the daemon answers `GET /metrics` at its [management server](management.md) in Prometheus' text format:

    curl -H "Authorization: Bearer TOKEN" http://127.0.0.1:8989/metrics

`TOKEN` is `[Manage] ManagementToken`; where none is set, none is needed. What Prometheus needs is in
[etc/prometheus/prometheus.yml](../../etc/prometheus/prometheus.yml), alerts are in
[etc/prometheus/alerts.yml](../../etc/prometheus/alerts.yml) ([what to do when one fires](#alerts)), with tests of their own for those who
change them (`promtool test rules alerts_test.yml`), and
[etc/grafana/arvados-node-manager.json](../../etc/grafana/arvados-node-manager.json) is a dashboard: in Grafana, Dashboards, New, Import.

A scrape asks the dispatcher, the arbiter and the cloud actor how they are, at most once a second, and waits 5 s at most. When they do not
answer, all that can be told without them is told, and `look_success` is 0. A counter begins with 0 at each start of the daemon. Labels
have few values: names of the config file, tokens, operations, classes of actors; never a UUID or a host name. A family whose values nobody
knows, such as those of nodes where none are booted, has no samples.

All names begin with `arvados_node_manager_`, but for those about the process (`process_cpu_seconds_total`,
`process_resident_memory_bytes`, `process_open_fds`, `process_start_time_seconds` and so on). Names and labels on this page are kept; new ones may come.

Of a moment (`..._timestamp_seconds`) the age is `time() - ...`. Of a histogram there are `..._bucket`, `..._sum` and `..._count`.
"""

_TOPICS = (
    (
        "Is it alive?",
        ("build_", "look_", "dispatcher_", "lease_", "last_", "claims_"),
    ),
    (
        "Is work flowing, and why is it waiting?",
        ("container", "jobs_", "queue_", "oldest_", "scheduler_nodes", "scheduler_cores"),
    ),
    (
        "Nodes, and what they cost",
        ("nodes", "wishlist_", "bootable_", "idle_", "cost_", "size_", "boot_", "packing_"),
    ),
    ("Scheduler, cloud and API", ("scheduler_", "cloud_", "api_")),
    ("The daemon inside", ("actor", "unfinished_", "mailbox_", "pool_")),
)
"""A metric belongs to the first of these that has a beginning of its name."""

_RUNBOOKS = """\
## Alerts

Each is about one thing that somebody has to look at. Where there are several daemons, `instance` says which.

### NodeManagerNotScraped

Prometheus gets no answer from a daemon. `systemctl status arvados-node-manager`, then its log. When it runs, ask by hand from the host of
Prometheus (`curl`, above): 401 or 403 is a wrong token, no connection is `[Manage] address` or a firewall. Jobs run on while the daemon does
not, and the next start adopts them; after the API's `ping_timeout` (10 minutes) their containers are tried again.

### NodeManagerNoDispatcherAlive

No daemon that is scraped holds a lease, so nothing moves. Daemons that run and have none cannot register: look for `api_silent` and
`api_refused` in their logs, and whether the scheduler has ever answered, since a dispatcher registers with what it can run.
The API server's `arvados_dispatch_api_dispatcher_silence_seconds` says which dispatchers it takes for alive.

### NodeManagerLeaseNotRenewed

The daemon runs, and its pings come to nothing. Look at the API server (its `/_health/ping`, its database), and at the network between. The
daemon stops acting when its lease is over, by itself, and goes on by itself when the API answers in time; later it registers anew, and what it
held is tried again.

### NodeManagerContainersWait

`reason` says what for:

- `claim-limit`: the dispatcher has enough to do. More nodes, or a larger `[Dispatch] max_claimed`;
- `node-limit`, `cloud-quota`, `no-capacity`: a limit of `[Daemon]`, of the account, or of the cloud at the moment;
- `scheduler-limit`, `waiting-for-resources`, `scheduler-wait`: ask the scheduler; its own words are in the reason;
- `submitting`, `scheduler-down`, `starting`, `nodes-unknown`: should take seconds: look at the scheduler, at the daemon's log, and whether jobs reach the API;
- `none`: about to be claimed, for this long: look whether the daemon holds a lease.

[Reasons](reasons.md) has every token, and `arvados-node-manager why UUID` tells more about one container. An hour may be nothing at your
site: change the threshold.

### NodeManagerBootBrake

`limits.brake` of [status.json](management.md#statusjson) says what became of the last node. "never pinged the API": it did not boot, its image lacks the
boot script's means, or it has no way to the API. "pinged the API and never joined": the join command failed; its console and
`/var/log/cloud-init-output.log` tell. Every `[Cloud] brake_time` one node is tried; when it proves itself the brake is off. At once:

    curl -X POST -H "Authorization: Bearer TOKEN" http://127.0.0.1:8989/arvados/v1/dispatch/brake/release

### NodeManagerSchedulerSilent

A command of the scheduler fails, or takes longer than `[Scheduler] command_timeout`. The log's `scheduler_silent` has its words; run the command by hand as
the daemon's user. `arvados_node_manager_scheduler_command_duration_seconds` shows whether it has become slower day by day.

### NodeManagerCloudSilent

The cloud's list of machines fails: wrong or expired credentials, an endpoint that is away, or too many calls (`cloud_throttles_total`): then lower
`[Cloud] operations_per_second`, and look who else uses the account.

### NodeManagerActorRestarts

Something unforeseen happened, and the actor was started again from the records of the API, the scheduler and the cloud. Keep the traceback (`actor_failed` in the
log) and report it. More than 10 in 10 minutes end the process, and the service manager starts it afresh.

### NodeManagerActorStuck

`actor` says who: `SchedulerActor` waits for a command of the scheduler, `CloudHand` for the cloud, `ReaderActor`, `WriterActor` and `LeaseActor` for the API,
`CollectorActor` for a log. Others never wait: that is a fault to report. `ClaimActor` and `ChangeActor` hold a call open at the API and are not counted.

### NodeManagerDoesNotAnswer

The process answers, and its dispatcher or arbiter do not. `mailbox_messages` that grow for one class say that it has more to do than it can;
`unfinished_work_seconds` that grow, that it is stuck.

### NodeManagerCostLimit

Containers wait for a node that `[Daemon] max_total_price` forbids. `cost_per_hour` beside `cost_limit_per_hour`, and `nodes` by size, show what the money is spent
for; idle nodes may be kept by `[Cloud] idle_time` or `[Daemon] min_nodes`, or held by an operator.

### NodeManagerClaimsPaused

Somebody said that nothing is to be claimed, and it has been so for two hours. `arvados-node-manager dispatchers list` says who and why;
`arvados-node-manager dispatchers resume` ends it.
"""

_API_SERVER = """\
## The API server's own

`arvados-dispatch-api` has metrics of its own, embedded in a daemon or not: what it does, and what its database says of the whole cluster. They are at
`https://HOST:PORT/metrics` of the server, with `[Api] management_token`; without one they are switched off. How to scrape them is in
[etc/prometheus/prometheus.yml](../../etc/prometheus/prometheus.yml), what they tell in
[Run the API server](../how-to/run-the-api-server.md#look-after-it). An embedded server's certificate is `api/certificate.pem` in the daemon's state directory,
its port `[Api] port`, or, if that is 0, the one in `api/port` there.
"""


def declared() -> tuple[Declared, ...]:
    """Every metric of the daemon but those about the process."""
    return (*(family.declared for family in FAMILIES), *DECLARED)


def page() -> str:
    """The page, as Markdown."""
    return "\n".join([_INTRODUCTION, *_tables(), _RUNBOOKS, _API_SERVER]).rstrip() + "\n"


def topic_of(metric: Declared) -> str:
    """Under which heading it stands; raises `LookupError` for one that has none."""
    for topic, beginnings in _TOPICS:
        if metric.name.startswith(beginnings):
            return topic
    raise LookupError(f"{metric.name} belongs to no topic of the reference: add it to one")


def _tables() -> Iterator[str]:
    for topic, _ in _TOPICS:
        yield f"## {topic}\n\n| metric | | tells |\n|---|---|---|"
        yield from (_row(metric) for metric in declared() if topic_of(metric) == topic)
        yield ""


def _row(metric: Declared) -> str:
    labels = f"{{{','.join(metric.labels)}}}" if metric.labels else ""
    return f"| `{metric.name}{labels}` | {metric.kind} | {metric.doc} |"


if __name__ == "__main__":
    sys.stdout.write(page())
