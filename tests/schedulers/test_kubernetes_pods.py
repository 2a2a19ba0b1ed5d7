"""What pods are to us: pods that a real kubelet (1.20) made, and what later versions add to them."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.model import ContainerState, JobState, parse_time
from nodemanager.outcome import End, EndKind, judge
from nodemanager.schedulers.kubernetes.ends import DISRUPTIONS, EVENTS, POD_REASONS, Noted
from nodemanager.schedulers.kubernetes.names import ASKED, CANCELLED, COMMAND, HOPELESS, RUNS
from nodemanager.schedulers.kubernetes.pod import remembering
from nodemanager.schedulers.kubernetes.pods import (
    Host,
    Patience,
    Pod,
    end_of,
    hopeless,
    is_finished,
    job_of,
    parse_pod,
    waiting_words,
)

SAMPLES = Path(__file__).parent / "kubernetes_samples"
MIB = 1 << 20


def sample(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_text())
    return value


def pod_of(name: str) -> Pod:
    return parse_pod(sample(name))


def annotated(name: str, **annotations: str) -> dict[str, Any]:
    value = sample(name)
    keys = {"cancelled": CANCELLED, "hopeless": HOPELESS}
    value["metadata"]["annotations"] |= {keys[key]: text for key, text in annotations.items()}
    return value


def ended(name: str, host: Host = Host.WELL) -> End:
    end = end_of(pod_of(name), host)
    assert end is not None
    return end


# How it ended.


def test_an_exit_is_an_exit() -> None:
    assert ended("exit0") == End(EndKind.EXITED, 0)
    assert ended("exit7") == End(EndKind.EXITED, 7)


def test_memory_is_told_in_numbers() -> None:
    expected = End(EndKind.OUT_OF_MEMORY, asked=32 * MIB, limit=32 * MIB)
    assert ended("oom") == expected
    assert ended("oomchild") == expected


def test_a_command_that_copes_with_the_death_of_a_child_is_complete() -> None:
    assert ended("oomsurvive") == End(EndKind.EXITED, 0)


def test_what_was_asked_may_be_less_than_the_limit() -> None:
    value = sample("oom")
    value["metadata"]["annotations"]["arvados.org/asked"] = '{"ram_bytes": 5, "run_seconds": 0}'
    end = end_of(parse_pod(value))
    assert end == End(EndKind.OUT_OF_MEMORY, asked=5, limit=32 * MIB)


def test_an_annotation_that_somebody_spoilt_says_nothing() -> None:
    value = sample("oom")
    value["metadata"]["annotations"]["arvados.org/asked"] = "[]"
    end = end_of(parse_pod(value))
    assert end == End(EndKind.OUT_OF_MEMORY, asked=32 * MIB, limit=32 * MIB)


def test_the_time_limit_is_told_in_numbers_though_the_container_is_said_to_run() -> None:
    assert pod_of("deadline").runs
    assert ended("deadline") == End(EndKind.TIME_LIMIT, asked=3, limit=3)


def test_a_time_limit_that_passed_before_the_start_is_not_the_programs_fault() -> None:
    end = ended("deadlinewait")
    assert end.kind is EndKind.SCHEDULER_ERROR
    assert "not started within its time limit" in end.detail


def test_a_command_that_ended_within_its_limit_is_judged_by_its_exit() -> None:
    """Another container ran on until the pod's limit."""
    value = sample("exit7")
    value["spec"]["activeDeadlineSeconds"] = 60
    value["status"] |= {"phase": "Failed", "reason": "DeadlineExceeded"}
    assert end_of(parse_pod(value)) == End(EndKind.EXITED, 7)
    terminated = value["status"]["containerStatuses"][0]["state"]["terminated"]
    terminated["finishedAt"] = "2026-11-25T10:00:00Z"
    end = end_of(parse_pod(value))
    assert end is not None
    assert end.kind is EndKind.TIME_LIMIT


@pytest.mark.parametrize(
    ("name", "code"), [("notfound", 127), ("notfoundpath", 127), ("notexec", 126)]
)
def test_a_command_that_is_none_is_the_programs_fault(name: str, code: int) -> None:
    end = ended(name)
    assert (end.kind, end.code) == (EndKind.EXITED, code)
    assert "exec" in end.detail


def test_what_else_keeps_a_container_from_starting_is_not() -> None:
    end = ended("badcwd")
    assert end.kind is EndKind.SCHEDULER_ERROR
    assert "not a directory" in end.detail


@pytest.mark.parametrize("name", ["outofcpu", "nodeaffinity"])
def test_a_refusal_by_the_kubelet_is_the_schedulers_error(name: str) -> None:
    end = ended(name)
    assert end.kind is EndKind.SCHEDULER_ERROR
    assert end.detail.startswith(("OutOfcpu: ", "NodeAffinity: "))


@pytest.mark.parametrize("name", ["emptydir", "scratch"])
def test_an_eviction_by_the_kubelet_is_a_lost_node(name: str) -> None:
    end = ended(name)
    assert end.kind is EndKind.NODE_LOST
    assert end.detail.startswith("Evicted: ")
    assert "limit" in end.detail


def test_a_failed_init_container_is_the_schedulers_error() -> None:
    assert ended("initfail") == End(
        EndKind.SCHEDULER_ERROR, detail="its init container i exited with 1"
    )


def test_a_signal_is_told_where_the_runtime_tells_it() -> None:
    value = sample("exit7")
    terminated = value["status"]["containerStatuses"][0]["state"]["terminated"]
    terminated |= {"exitCode": 139, "signal": 11}
    end = end_of(parse_pod(value))
    assert end is not None
    assert (end.kind, end.code) == (EndKind.SIGNALLED, 11)


def test_a_container_that_its_kubelet_lost_track_of_is_a_lost_node() -> None:
    value = sample("exit7")
    terminated = value["status"]["containerStatuses"][0]["state"]["terminated"]
    message = "The container could not be located when the pod was terminated"
    terminated |= {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": message}
    assert end_of(parse_pod(value)) == End(EndKind.NODE_LOST, detail=message)


def test_what_runs_beside_the_command_does_not_keep_the_job_alive() -> None:
    assert pod_of("sidecar").others_run
    assert ended("sidecar") == End(EndKind.EXITED, 4)


def test_why_a_container_was_killed_is_awaited_where_others_run_beside_it() -> None:
    value = sample("sidecar")
    value["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] = 137
    assert end_of(parse_pod(value)) is None
    value["status"] |= {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}
    assert end_of(parse_pod(value)) == End(EndKind.NODE_LOST, detail="Evicted: low on memory")


def test_a_container_that_was_killed_long_ago_has_ended_though_others_run_on() -> None:
    value = sample("sidecar")
    value["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] = 137
    finished = parse_pod(value).ended
    assert finished is not None
    assert finished.finished_at is not None
    late = finished.finished_at + 600
    assert end_of(parse_pod(value), now=late) == End(EndKind.SIGNALLED, 9)


def test_a_time_limit_that_an_image_has_used_up_is_not_the_commands_fault() -> None:
    value = sample("deadline")
    value["metadata"]["annotations"][ASKED] = '{"ram_bytes": 1, "run_seconds": 3600}'
    value["spec"]["activeDeadlineSeconds"] = 3600
    value["status"]["startTime"] = "2026-11-25T08:00:00Z"
    value["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = (
        "2026-11-25T08:20:00Z"
    )
    end = end_of(parse_pod(value))
    assert end is not None
    assert end.kind is EndKind.SCHEDULER_ERROR
    assert end.detail == "was stopped after 40 min 0 s, as its start took 20 min 0 s"


# How it ended when somebody had it deleted.


@pytest.mark.parametrize("name", ["delrun", "delterm", "delforce", "toobig", "nomount"])
def test_what_we_cancelled_is_cancelled(name: str) -> None:
    end = end_of(parse_pod(annotated(name, cancelled="us")), Host.WELL)
    assert end == End(EndKind.CANCELLED, detail="us")


def test_a_command_that_ends_well_when_it_is_told_to_was_cancelled() -> None:
    assert end_of(parse_pod(annotated("delterm0", cancelled="us"))) == End(
        EndKind.CANCELLED, detail="us"
    )


def test_a_command_that_had_ended_before_it_was_cancelled_keeps_its_exit() -> None:
    value = annotated("delterm", cancelled="us")
    terminated = value["status"]["containerStatuses"][0]["state"]["terminated"]
    terminated["finishedAt"] = "2026-11-25T09:04:00Z"
    assert end_of(parse_pod(value)) == End(EndKind.EXITED, 5)


@pytest.mark.parametrize("name", ["delrun", "delterm", "delforce", "toobig", "evictapi"])
def test_what_somebody_else_deleted_is_on_hold(name: str) -> None:
    assert ended(name).kind is EndKind.OPERATOR_DELETED
    when = "before it started" if name == "toobig" else "while it ran"
    assert ended(name).detail == when


@pytest.mark.parametrize("host", [Host.CORDONED, Host.DOWN, Host.GONE])
def test_what_was_deleted_on_a_node_that_takes_no_work_was_not_an_operators(host: Host) -> None:
    end = ended("evictapi", host)
    assert end == End(EndKind.NODE_LOST, detail=f"node k1 is {host.value}")


def test_events_tell_preemption_from_an_operators_deletion() -> None:
    pod = pod_of("preempted")
    events = [Noted("Killing", "Stopping"), Noted("Preempted", "Preempted by default/other")]
    end = end_of(pod, Host.WELL, events)
    assert end is not None
    assert end.kind is EndKind.NODE_LOST
    assert end.detail == "it was preempted: Preempted by default/other"
    assert ended("preempted").kind is EndKind.OPERATOR_DELETED


@pytest.mark.parametrize("reason", [*DISRUPTIONS, "SomethingNew"])
def test_a_later_server_says_who_disrupted_it(reason: str) -> None:
    value = sample("evictapi")
    value["status"]["conditions"].append(
        {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": reason,
            "message": "so it is",
            "lastTransitionTime": "2026-11-25T09:04:02Z",
        }
    )
    end = end_of(parse_pod(value), Host.WELL)
    assert end is not None
    assert end.kind is EndKind.NODE_LOST
    assert end.detail.endswith(": so it is")
    # Its node may have been left with the object, its phase final.
    del value["metadata"]["deletionTimestamp"]
    assert end_of(parse_pod(value), Host.WELL) == end
    # It ended before anybody wanted it to.
    terminated = value["status"]["containerStatuses"][0]["state"]["terminated"]
    terminated |= {"exitCode": 9, "finishedAt": "2026-11-25T09:03:40Z"}
    assert end_of(parse_pod(value), Host.WELL) == End(EndKind.EXITED, 9)


@pytest.mark.parametrize("name", ["gone", "gonedeleted", "lostgone"])
def test_a_pod_whose_node_is_gone_has_ended_when_it_is_deleted_for_that(name: str) -> None:
    pod = pod_of(name)
    assert pod.runs
    assert pod.deleted_at is not None
    assert ended(name, Host.GONE) == End(EndKind.NODE_LOST, detail="node k1 is gone")
    assert end_of(pod, Host.WELL) is None
    assert end_of(pod, Host.UNKNOWN) is None


def test_a_pod_on_a_node_that_is_silent_has_not_ended() -> None:
    pod = pod_of("lost")
    assert pod.deleted_at is None
    assert end_of(pod, Host.DOWN) is None
    assert end_of(pod, Host.GONE) is None


def test_a_deletion_is_dated_from_when_it_was_asked_for() -> None:
    """Whether its grace is still running or over."""
    value = sample("delrun")
    assert parse_pod(value).deleted_at == parse_time("2026-11-25T09:04:01Z")
    value["metadata"] |= {
        "deletionTimestamp": "2026-11-25T09:04:03Z",
        "deletionGracePeriodSeconds": 2,
    }
    assert parse_pod(value).deleted_at == parse_time("2026-11-25T09:04:01Z")


def test_what_is_being_deleted_runs_until_its_kubelet_is_done() -> None:
    value = sample("delrun")
    value["metadata"]["deletionGracePeriodSeconds"] = 2
    value["status"]["phase"] = "Running"
    value["status"]["containerStatuses"][0]["state"] = {
        "running": {"startedAt": "2026-11-25T09:03:34Z"}
    }
    assert job_of(parse_pod(value), Host.WELL).state is JobState.RUNNING


def test_a_kubelet_that_was_told_of_a_deletion_may_still_be_starting_it() -> None:
    value = sample("nomount")
    assert is_finished(parse_pod(value), Host.WELL)
    value["metadata"]["deletionGracePeriodSeconds"] = 30
    job = job_of(parse_pod(value), Host.WELL)
    assert (job.state, job.reason) == (JobState.WAITING, "it is being deleted")


def test_an_operator_who_is_sure_can_end_a_pod_on_a_node_that_is_silent() -> None:
    pod = pod_of("lostgone")
    assert end_of(pod, Host.DOWN) == End(EndKind.NODE_LOST, detail="node k1 is not ready")
    assert end_of(pod, Host.CORDONED) is None


@pytest.mark.parametrize(
    ("name", "is_it"), [("exit7", True), ("notfound", True), ("gone", True), ("toobig", False)]
)
def test_a_pod_that_is_the_command_runs_it_under_its_own_id(name: str, is_it: bool) -> None:
    value = sample(name)
    assert job_of(parse_pod(value)).runner_id == ""
    value["metadata"]["annotations"][RUNS] = "runner"
    assert job_of(parse_pod(value)).runner_id == ""
    value["metadata"]["annotations"][RUNS] = COMMAND
    assert job_of(parse_pod(value)).runner_id == (value["metadata"]["uid"] if is_it else "")


# Why it waits, and for how long.


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deadlineunsched", "0/1 nodes are available: 1 node(s) didn't match"),
        ("badimage", "its image cannot be had: Failed to apply default image tag"),
    ],
)
def test_it_says_why_it_waits(name: str, words: str) -> None:
    job = job_of(pod_of(name), Host.WELL)
    assert job.state is JobState.WAITING
    assert job.reason.startswith(words)


def undeleted(name: str) -> Pod:
    value = sample(name)
    del value["metadata"]["deletionTimestamp"]
    return parse_pod(value)


def test_it_says_what_is_wrong_with_its_image() -> None:
    pod = undeleted("pullrefused")
    assert waiting_words(pod) == (
        'its image cannot be fetched: Back-off pulling image "127.0.0.1:9/nope:1"'
    )


def test_it_says_what_is_missing() -> None:
    assert waiting_words(undeleted("nosecret")) == (
        'its container cannot be created: secret "nope" not found'
    )
    pod = undeleted("nomount")
    assert waiting_words(pod) == "its image is being pulled, or its container created"
    trouble = 'MountVolume.SetUp failed for volume "v" : secret "nope" not found'
    assert waiting_words(pod, trouble) == f"its container cannot be created: {trouble}"


def test_nobody_has_looked_at_a_pod_without_conditions() -> None:
    value = sample("toobig")
    del value["metadata"]["deletionTimestamp"]
    value["status"] = {"phase": "Pending"}
    assert waiting_words(parse_pod(value)) == "the scheduler has not looked at it yet"
    value["spec"]["nodeName"] = "k1"
    assert waiting_words(parse_pod(value)) == "waiting for the kubelet of k1"


def pulling(message: str, reason: str = "ErrImagePull") -> Pod:
    value = sample("pullrefused")
    del value["metadata"]["deletionTimestamp"]
    state = {"waiting": {"reason": reason, "message": message}}
    value["status"]["containerStatuses"][0]["state"] = state
    return parse_pod(value)


NO_ANSWER = 'failed to do request: Head "http://r/v2/": dial tcp 127.0.0.1:9: connection refused'


@pytest.mark.parametrize(
    ("pod", "seconds"),
    [
        (undeleted("nevimage"), 60),
        (pod_of("badimage"), 60),
        (pulling("rpc error: code = NotFound desc = docker.io/library/nope:1: not found"), 60),
        (pulling("pull access denied, repository does not exist"), 60),
        (pulling("unexpected status: 403 Forbidden"), 60),
        (pulling(NO_ANSWER), 900),
        (undeleted("pullrefused"), 900),
        (undeleted("nosecret"), 300),
    ],
)
def test_what_will_never_start_is_given_up_after_a_while(pod: Pod, seconds: int) -> None:
    assert pod.scheduled_at is not None
    assert hopeless(pod, pod.scheduled_at + seconds - 1) is None
    end = hopeless(pod, pod.scheduled_at + seconds)
    assert end is not None
    assert end.kind is EndKind.SCHEDULER_ERROR
    assert "given up after" in end.detail
    assert waiting_words(pod) in end.detail


def test_volumes_that_cannot_be_mounted_are_known_from_events_alone() -> None:
    pod = undeleted("nomount")
    assert pod.scheduled_at is not None
    late = pod.scheduled_at + 1e6
    assert hopeless(pod, late) is None
    assert hopeless(pod, late, trouble="no such secret") is not None


def test_patience_is_the_operators_choice() -> None:
    pod = pulling(NO_ANSWER)
    assert pod.scheduled_at is not None
    assert hopeless(pod, pod.scheduled_at + 10, Patience(registry_seconds=10)) is not None


@pytest.mark.parametrize("name", ["delrun", "exit7", "toobig", "gone", "deadlineunsched"])
def test_what_has_started_or_waits_for_a_node_is_not_hopeless(name: str) -> None:
    assert hopeless(pod_of(name), 1e12) is None


def test_the_last_pulls_error_is_remembered_while_the_kubelet_waits() -> None:
    tried = pulling("docker.io/library/nope:1: not found")
    waits = pulling('Back-off pulling image "nope:1"', "ImagePullBackOff")
    assert remembering(waits, tried).waiting_message == tried.waiting_message
    assert remembering(waits, remembering(waits, tried)).waiting_message == tried.waiting_message
    assert remembering(waits, None) == waits
    other = parse_pod(sample("exit0"))
    assert remembering(waits, other) == waits
    told = pulling('Back-off pulling image "nope:1": ErrImagePull: x', "ImagePullBackOff")
    assert remembering(told, tried) == told


def test_what_was_given_up_tells_why_though_it_was_cancelled() -> None:
    end = end_of(parse_pod(annotated("nevimage", cancelled="us", hopeless="no image")))
    assert end == End(EndKind.SCHEDULER_ERROR, detail="no image")
    # Without the note, if it had been in trouble for long enough when its deletion was asked for.
    value = annotated("nevimage", cancelled="us")
    assert end_of(parse_pod(value)) == End(EndKind.CANCELLED, detail="us")
    value["metadata"]["deletionTimestamp"] = "2026-11-25T09:30:00Z"
    end = end_of(parse_pod(value))
    assert end is not None
    assert end.kind is EndKind.SCHEDULER_ERROR
    assert "is not present with pull policy of Never" in end.detail


def test_an_init_containers_image_is_waited_for_like_the_containers() -> None:
    value = sample("initfail")
    value["status"]["phase"] = "Pending"
    state = {"waiting": {"reason": "ErrImagePull", "message": "x: not found"}}
    value["status"]["initContainerStatuses"][0]["state"] = state
    pod = parse_pod(value)
    assert waiting_words(pod) == "its image cannot be had: x: not found"
    assert hopeless(pod, 1e12) is not None


# All of them.

STATES = st.one_of(
    st.just({}),
    st.just({"waiting": {"reason": "ContainerCreating"}}),
    st.just({"waiting": {"reason": "ErrImagePull", "message": "not found"}}),
    st.just({"running": {"startedAt": "2026-11-25T09:03:00Z"}}),
    st.builds(
        lambda code, reason, finished: {
            "terminated": {
                "exitCode": code,
                "reason": reason,
                "startedAt": "2026-11-25T09:03:00Z",
                "finishedAt": finished,
            }
        },
        st.sampled_from([0, 1, 75, 128, 137, 143]),
        st.sampled_from(
            ["Completed", "Error", "OOMKilled", "StartError", "ContainerStatusUnknown"]
        ),
        st.sampled_from(
            ["2026-11-25T09:04:00Z", "2026-11-25T09:05:00Z", None, "1970-01-01T00:00:00Z"]
        ),
    ),
)


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    value = copy.deepcopy(sample("delrun"))
    metadata, status = value["metadata"], value["status"]
    if draw(st.booleans()):
        metadata["deletionGracePeriodSeconds"] = draw(st.sampled_from([0, 0, 2]))
    else:
        del metadata["deletionTimestamp"], metadata["deletionGracePeriodSeconds"]
    if draw(st.booleans()):
        metadata["annotations"][CANCELLED] = "us"
    if draw(st.booleans()):
        del value["spec"]["nodeName"]
    status["phase"] = draw(st.sampled_from(["Pending", "Running", "Succeeded", "Failed"]))
    status["reason"] = draw(st.sampled_from([None, *POD_REASONS, "DeadlineExceeded", "OutOfpods"]))
    status["containerStatuses"][0]["state"] = draw(STATES)
    if draw(st.booleans()):
        status["conditions"].append({"type": "DisruptionTarget", "status": "True"})
    return value


@given(pods(), st.sampled_from(Host), st.sampled_from([None, *EVENTS]))
def test_every_pod_is_one_thing(value: Mapping[str, Any], host: Host, reason: str | None) -> None:
    pod = parse_pod(value)
    events = [Noted(reason, "")] if reason else []
    job, end = job_of(pod, host, events), end_of(pod, host, events)
    assert (end is not None) == is_finished(pod, host) == (job.state is JobState.ENDED)
    assert job.end == end
    assert bool(job.reason) == (job.state is JobState.WAITING)
    if pod.phase in ("Succeeded", "Failed"):
        assert end is not None
    if pod.deleted_at is None and pod.runs and pod.phase in ("Pending", "Running"):
        assert job.state is JobState.RUNNING
    if end is None:
        return
    judge(end)
    if end.kind is EndKind.CANCELLED:
        assert pod.cancelled
        assert pod.deleted_at is not None
    if end.kind is EndKind.OPERATOR_DELETED:
        assert pod.deleted_at is not None
        assert not pod.cancelled
        assert not events
        assert host in (Host.WELL, Host.UNKNOWN)
    if judge(end).state is ContainerState.COMPLETE:
        assert pod.ended is not None
        assert pod.ended.exit_code == 0


@given(pods())
def test_the_longer_one_waits_the_more_is_hopeless(value: Mapping[str, Any]) -> None:
    pod = parse_pod(value)
    moments = [pod.created_at + seconds for seconds in (0, 100, 1000, 1e6)]
    told = [hopeless(pod, moment) is not None for moment in moments]
    assert told == sorted(told)
