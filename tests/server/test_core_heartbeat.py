"""A database that may be a backup: claims are paused until somebody has looked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, update

from nodemanager.server.heartbeat import last_beat
from nodemanager.server.schema import dispatchers, heartbeat
from nodemanager.server.service import Policy, Service

if TYPE_CHECKING:
    from tests.server.conftest import Cluster

HOUR = 3600.0


def restarted(cluster: Cluster, after: float) -> Service:
    """A new server, when nobody has been there for so long."""
    cluster.service.sweep()
    cluster.clock.advance(after)
    cluster.service = Service(cluster.database, cluster.service.policy, "zzzzz")
    return cluster.service


def goes_back(cluster: Cluster, beats: int) -> None:
    """The database is as it was so many heartbeats ago."""
    with cluster.database.write() as conn:
        conn.execute(update(heartbeat).values(beats=heartbeat.c.beats - beats))


def swept(cluster: Cluster, times: int = 5) -> None:
    for _ in range(times):
        cluster.clock.advance(5)
        cluster.service.sweep()


def test_after_a_long_time_without_a_server_claims_are_paused(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    cluster.request()
    why = restarted(cluster, 20 * HOUR).distrust_an_old_database()
    assert why.startswith("no API server was on this database for 20 h 0 min: ")
    assert "'arvados-dispatch-api claims resume' (all dispatchers, the API server, " in why
    cluster.service.sweep()
    assert cluster.claim(me) == []
    assert cluster.service.why_paused() == why
    assert cluster.service.resume_claims() == why
    assert len(cluster.claim(me)) == 1
    swept(cluster)
    assert cluster.service.why_paused() == ""


def test_the_leases_are_longer_by_that_time_all_the_same(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    service = restarted(cluster, 20 * HOUR)
    service.distrust_an_old_database()
    report = service.sweep()
    assert round(report.outage_seconds) == 20 * HOUR
    assert cluster.ping(me)["state"] == "alive"


def test_a_restart_pauses_nothing(cluster: Cluster) -> None:
    assert restarted(cluster, HOUR - 60).distrust_an_old_database() == ""
    assert cluster.service.why_paused() == ""


def test_nor_does_the_first_start_of_all(cluster: Cluster) -> None:
    assert cluster.service.distrust_an_old_database() == ""


def test_of_two_that_start_the_second_says_what_the_first_said(cluster: Cluster) -> None:
    why = restarted(cluster, 2 * HOUR).distrust_an_old_database()
    other = Service(cluster.database, cluster.service.policy, "zzzzz")
    assert other.distrust_an_old_database() == why
    cluster.service.sweep()
    assert Service(cluster.database, other.policy, "zzzzz").distrust_an_old_database() == ""


def test_the_words_of_an_operator_stay(cluster: Cluster) -> None:
    why = cluster.service.pause_claims("moving house")
    assert restarted(cluster, 2 * HOUR).distrust_an_old_database() == why
    assert "moving house (all dispatchers, arvados-dispatch-api, " in why


@pytest.mark.parametrize("gone", [0.0, 2.0])
def test_never_means_never(make_cluster: Callable[..., Cluster], gone: float) -> None:
    cluster = make_cluster(Policy(root_token="root-token-of-the-tests", pause_claims_after=0))
    me = cluster.dispatcher()
    cluster.request()
    assert restarted(cluster, 1000 * HOUR).distrust_an_old_database() == ""
    swept(cluster)
    goes_back(cluster, int(gone))
    swept(cluster)
    assert cluster.service.why_paused() == ""
    assert len(cluster.claim(me)) == 1


def test_a_database_restored_beneath_a_server_pauses_claims(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    uuid = cluster.request()["container_uuid"]
    swept(cluster)
    goes_back(cluster, 1)
    # Before anybody has noticed.
    assert cluster.claim(me) == []
    text = cluster.refused(422, "containers.lock", token=me.token, uuid=uuid)
    assert text == "dispatcher: cannot lock while the database is older than it was"
    swept(cluster, 1)
    why = cluster.service.why_paused()
    assert why.startswith("the database went back in time: it was restored from a backup; ")
    assert cluster.ping(me)["paused"] == why
    cluster.service.resume_claims()
    assert len(cluster.claim(me)) == 1
    swept(cluster)
    assert cluster.service.why_paused() == ""


def test_one_that_begins_anew_beneath_a_server_as_well(cluster: Cluster) -> None:
    swept(cluster)
    with cluster.database.write() as conn:
        conn.execute(delete(heartbeat))
    swept(cluster, 1)
    assert cluster.service.why_paused()


def test_other_servers_and_jumps_of_the_clock_are_no_reason(cluster: Cluster) -> None:
    other = Service(cluster.database, cluster.service.policy, "zzzzz")
    for jump in (0.0, 90_000.0, -200_000.0, 0.0):
        cluster.clock.jump(jump)
        swept(cluster, 2)
        other.sweep()
    assert cluster.service.why_paused() == ""
    with cluster.database.read() as conn:
        beat = last_beat(conn)
    assert beat is not None
    assert beat.beats == 12


def test_a_dispatcher_goes_on_whose_last_epochs_the_database_has_forgotten(
    cluster: Cluster,
) -> None:
    old = cluster.dispatcher()
    _request, uuid, _token = cluster.running(old)
    me = cluster.dispatcher(token=cluster.dispatcher(token=old.token).token)
    assert me.epoch == 3
    with cluster.database.write() as conn:
        conn.execute(update(dispatchers).values(epoch=1))
    assert "is at epoch 1, not 3" in cluster.refused(
        403, "containers.claim", {**me.by}, token=me.token
    )
    record = cluster.ping(me)
    assert (record["state"], record["epoch"]) == ("alive", 3)
    assert cluster.container(uuid)["state"] == "Running"
    cluster.report(me, uuid, progress=0.5)
    cluster.refused(403, "dispatchers.ping", {"epoch": 1}, token=old.token, uuid=old.uuid)


def test_a_dispatcher_that_the_database_does_not_know_registers_anew(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    uuid = "zzzzz-bmxii-000000000000000"
    cluster.refused(404, "dispatchers.ping", {"epoch": 1}, token=me.token, uuid=uuid)
