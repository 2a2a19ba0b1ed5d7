"""What Kubernetes says of a pod that does not run yet, as a reason to act on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.reason import Knob, ReasonToken
from nodemanager.schedulers.kubernetes.pending import (
    OBSTACLES,
    UNSEEN,
    reason_deleted,
    reason_on_node,
    reason_unscheduled,
)

EXAMPLES = {
    "insufficient": ["Insufficient cpu", "Insufficient nvidia.com/gpu"],
    "too many pods": ["Too many pods"],
    "ports": ["node(s) didn't have free ports for the requested pod ports"],
    "not ready": [
        "node(s) had untolerated taint {node.kubernetes.io/not-ready: }",
        "node(s) had taint {node.kubernetes.io/disk-pressure: }, that the pod didn't tolerate",
    ],
    "cordoned": [
        "node(s) were unschedulable",
        "node(s) had untolerated taint {node.kubernetes.io/unschedulable: }",
    ],
    "tainted": [
        "node(s) had untolerated taint {dedicated: gpu}",
        "node(s) had taint {dedicated: gpu}, that the pod didn't tolerate",
        "node(s) had untolerated taint(s)",
    ],
    "not selected": [
        "node(s) didn't match Pod's node affinity/selector",
        "node(s) didn't match node selector",
        "node(s) didn't match the requested hostname",
    ],
    "volumes": [
        "node(s) had volume node affinity conflict",
        "node(s) didn't find available persistent volumes to bind",
        "node(s) exceed max volume count",
    ],
    "spread": [
        "node(s) didn't match pod anti-affinity rules",
        "node(s) didn't match pod topology spread constraints",
    ],
}


@pytest.mark.parametrize(
    ("name", "words"), [(name, words) for name, all_of in EXAMPLES.items() for words in all_of]
)
def test_each_obstacle_is_known_in_the_words_of_several_versions(name: str, words: str) -> None:
    reason = reason_unscheduled(f"0/3 nodes are available: 3 {words}.")
    obstacle = OBSTACLES[name]
    assert reason.token is obstacle.token
    assert sum(reason.facts["nodes"].values()) == reason.facts["all_nodes"] == 3
    assert reason.sentence.startswith("its job waits in the queue: of 3 nodes 3 ")
    assert obstacle.sentence.partition("{")[0].strip() in reason.sentence
    assert reason.advice or reason.knob is Knob.NOBODY


def test_every_obstacle_has_an_example() -> None:
    assert EXAMPLES.keys() == OBSTACLES.keys()


def test_nodes_are_counted_by_what_they_lack() -> None:
    message = (
        "0/8 nodes are available: 1 node(s) had untolerated taint {dedicated: gpu}, 2 Insufficient memory, "
        "5 Insufficient cpu. preemption: 0/8 nodes are available: 8 No preemption victims found for incoming pod."
    )
    reason = reason_unscheduled(message)
    assert reason.sentence == (
        "its job waits in the queue: of 8 nodes 1 have a taint that it does not bear (dedicated: gpu), "
        "2 have too little memory free, 5 have too little cpu free"
    )
    assert reason.token is ReasonToken.WAITING_FOR_RESOURCES
    assert reason.facts == {
        "word": message,
        "all_nodes": 8,
        "nodes": {"tainted": 1, "Insufficient memory": 2, "Insufficient cpu": 5},
    }


def test_without_a_node_that_lacks_only_room_it_takes_somebody_to_help() -> None:
    reason = reason_unscheduled("0/2 nodes are available: 2 node(s) were unschedulable.")
    assert (reason.token, reason.knob) == (ReasonToken.SCHEDULER_WAIT, Knob.SITE)
    assert "kubectl uncordon" in reason.advice


@pytest.mark.parametrize(
    "message",
    [
        "no nodes available to schedule pods",
        "0/3 nodes are available: 3 node(s) were struck by lightning.",
        "0/0 nodes are available",
        "Scheduling is blocked due to non-empty scheduling gates",
    ],
)
def test_what_is_not_known_is_shown_as_it_is(message: str) -> None:
    reason = reason_unscheduled(message)
    assert reason.token is ReasonToken.SCHEDULER_WAIT
    assert message.rpartition(": ")[2].removesuffix(".") in reason.sentence
    assert reason.facts["word"] == message
    assert reason.advice == ReasonToken.SCHEDULER_WAIT.advice


@given(st.text(min_size=1))
def test_any_message_is_a_reason(message: str) -> None:
    assert reason_unscheduled(message).facts["word"] == message
    assert reason_unscheduled(f"0/3 nodes are available: {message}").sentence
    assert reason_on_node("k1", message, message).sentence


def test_until_the_scheduler_has_looked_there_is_nothing_to_do() -> None:
    reason = reason_unscheduled("")
    assert UNSEEN in reason.sentence
    assert (reason.knob, reason.advice) == (Knob.NOBODY, "")


@pytest.mark.parametrize(
    ("word", "message", "token", "knob"),
    [
        ("", "", ReasonToken.STARTING, Knob.NOBODY),
        ("ContainerCreating", "", ReasonToken.STARTING, Knob.NOBODY),
        ("PodInitializing", "", ReasonToken.STARTING, Knob.NOBODY),
        ("ErrImagePull", "manifest unknown", ReasonToken.START_TROUBLE, Knob.OWNER),
        ("InvalidImageName", "", ReasonToken.START_TROUBLE, Knob.OWNER),
        ("ImagePullBackOff", "i/o timeout", ReasonToken.START_TROUBLE, Knob.SITE),
        ("CreateContainerConfigError", 'secret "x"', ReasonToken.START_TROUBLE, Knob.OPERATOR),
        ("ContainerCreating", "MountVolume failed", ReasonToken.START_TROUBLE, Knob.OPERATOR),
        ("NeverHeardOf", "", ReasonToken.STARTING, Knob.NOBODY),
    ],
)
def test_what_a_kubelet_says(word: str, message: str, token: ReasonToken, knob: Knob) -> None:
    reason = reason_on_node("k1", word, message)
    assert (reason.token, reason.knob) == (token, knob)
    assert "k1" in reason.sentence
    assert message in reason.sentence
    assert reason.advice or knob is Knob.NOBODY


def test_a_deleted_pod_is_on_its_way_out() -> None:
    assert reason_deleted().token is ReasonToken.CANCELLING
