"""The story of a container as a person reads it: what comes of a story is pure."""

from __future__ import annotations

import io

import pytest

from nodemanager.api.story import Attempt, ReasonChange, SaidReason, Story
from nodemanager.cli.out import Out
from nodemanager.cli.why import tell_story, what_to_do
from nodemanager.clock import ManualClock
from nodemanager.model import ContainerState
from nodemanager.reason import Reason, ReasonToken

REQUEST = "zzzzz-xvhdp-000000000000001"
FIRST, SECOND = "zzzzz-dz642-000000000000001", "zzzzz-dz642-000000000000002"
NOW = ManualClock().wall()

NEVER = Reason(
    ReasonToken.NO_NODE_FITS,
    "RAM: wants 40 GiB, the largest node has 32 GiB",
    facts={"ram_bytes": {"wanted": 40 * 2**30, "available": 32 * 2**30}},
    advice="ask for at most 32 GiB of RAM, or add a larger node",
    since=NOW - 600,
)
BACKOFF = Reason(
    ReasonToken.BACKOFF,
    "the node was lost; the next try waits",
    facts={"temp_fails": 2},
    since=NOW - 5,
    next_attempt_at=NOW + 25,
)


def story(
    state: ContainerState = ContainerState.QUEUED,
    *reasons: SaidReason,
    history: tuple[ReasonChange, ...] = (),
    output: str = "",
    started_at: float | None = None,
    finished_at: float | None = None,
) -> Story:
    attempts = (
        Attempt(FIRST, 1, ContainerState.TEMPFAIL, NOW - 900, NOW - 800, NOW - 700,
                node="n7", error="the node was lost"),
        Attempt(SECOND, 2, state, NOW - 650, started_at, finished_at, node="n1" if started_at else "",
                output=output),
    )  # fmt: skip
    return Story(REQUEST, "exome", "Committed", 500, attempts, reasons, history)


def told(
    told_story: Story, *, asked: str = "", history: bool = False, width: int | None = None
) -> str:
    file = io.StringIO()
    out = Out(file=file, clock=ManualClock(), width=width)
    tell_story(told_story, out, asked=asked, history=history)
    return file.getvalue()


def said(reason: Reason, name: str = "slurm-1") -> SaidReason:
    return SaidReason("zzzzz-bmxii-000000000000001", name, reason, NOW - 3)


def test_a_container_that_can_never_run() -> None:
    assert (
        told(story(ContainerState.QUEUED, said(NEVER)))
        == f"""\
exome
  request    {REQUEST}, Committed, priority 500
  container  {SECOND}, attempt 2
  state      Queued for 10 min

Why: no-node-fits
  RAM: wants 40 GiB, the largest node has 32 GiB.
       WANTED  BEST AVAILABLE
  RAM  40 GiB  32 GiB
  it is up to whoever asked for it
  for 10 min, checked 3 s ago, says slurm-1

Attempts
  NO  CONTAINER                    STATE          ENDED    RAN  NODE  ERROR
   1  {FIRST}  TempFail  11 min ago  1 min  n7    the node was lost
   2  {SECOND}  Queued

What to do
  It will not run as things are. Ask for at most 32 GiB of RAM, or add a larger node. To give it up:
    arvados-node-manager cancel {REQUEST}
"""
    )


def test_a_backoff_says_when_it_ends_and_how_to_skip_it() -> None:
    text = told(story(ContainerState.QUEUED, said(BACKOFF)))
    assert "the next try waits (in 25 s)." in text
    assert "  temp fails: 2\n" in text
    assert ", in 25 s\n" in text
    assert text.endswith(f"To skip the wait:\n    arvados-node-manager retry-now {REQUEST}\n")


def test_what_others_say_comes_after_what_counts() -> None:
    text = told(story(ContainerState.QUEUED, said(BACKOFF), said(NEVER, "sge")))
    assert text.index("Why: backoff") < text.index("Other dispatchers say")
    assert "  sge" in text[text.index("Other dispatchers say") :]


def test_history_is_told_when_it_is_asked_for() -> None:
    changes = (
        ReasonChange(NOW - 60, SECOND, "zzzzz-bmxii-000000000000001", NEVER),
        ReasonChange(NOW - 30, SECOND, "zzzzz-bmxii-000000000000001", None),
    )
    assert "It waited for" not in told(story(history=changes))
    text = told(story(history=changes), history=True)
    assert "60 s ago  no-node-fits  RAM: wants 40 GiB" in text
    assert "30 s ago  -             no reason any more" in text


def test_whoever_asks_for_an_earlier_attempt_is_told_so() -> None:
    assert f"you asked for {FIRST}, which was attempt 1" in told(story(), asked=FIRST)
    assert "you asked" not in told(story(), asked=SECOND)


def test_one_that_runs() -> None:
    text = told(story(ContainerState.RUNNING, started_at=NOW - 300))
    assert "Running on n1 for 5 min" in text
    assert f"arvados-node-manager logs -f {REQUEST}" in text


def test_one_that_ended() -> None:
    ended = story(
        ContainerState.COMPLETE, started_at=NOW - 300, finished_at=NOW - 240, output="/store/x"
    )
    text = told(ended)
    assert "Complete 4 min ago, after it ran 60 s on n1" in text
    assert "Nothing. Its output is in /store/x" in text


@pytest.mark.parametrize("width", [20, 80, 200])
def test_a_command_is_on_one_line_whatever_the_width(width: int) -> None:
    lines = told(story(ContainerState.QUEUED, said(NEVER)), width=width).splitlines()
    assert lines[-1] == f"    arvados-node-manager cancel {REQUEST}"


def test_a_container_of_no_request_is_named_by_itself() -> None:
    attempt = Attempt(FIRST, 1, ContainerState.PERMFAIL, NOW - 9, error="exited with 3")
    text = told(Story("", "", "", 0, (attempt,)))
    assert text.startswith(f"{FIRST}\n  container  {FIRST}, attempt 1\n")
    assert "because exited with 3" in text
    assert f"arvados-node-manager logs {FIRST}" in text


@pytest.mark.parametrize("state", list(ContainerState))
def test_there_is_always_a_word_on_what_to_do(state: ContainerState) -> None:
    assert what_to_do(story(state), NOW).words.endswith((".", ":"))


@pytest.mark.parametrize("token", list(ReasonToken))
@pytest.mark.parametrize("advice", ["", "wait for the operator"])
def test_whatever_it_waits_for_there_is_a_word_on_what_to_do(
    token: ReasonToken, advice: str
) -> None:
    step = what_to_do(story(ContainerState.QUEUED, said(Reason(token, "x", advice=advice))), NOW)
    assert step.words.endswith((".", ":"))
    assert "  " not in step.words
