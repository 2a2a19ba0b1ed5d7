"""What the how-to guides tell people to do, done."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from nodemanager.model import format_time
from nodemanager.reason import ReasonToken
from nodemanager.testing import Harness
from tests.docs.pages import DOCS, blocks, table

WHY = DOCS / "how-to" / "answer-why-a-container-waits.md"
AT_A_TIME = DOCS / "how-to" / "run-work-at-a-time.md"
TIERS = (
    "It can never run",
    "Somebody holds it",
    "A limit is reached",
    "It waits for something that is named",
    "Nobody has looked at it yet",
)
"""The headings, in the order of `Tier`."""


@pytest.mark.parametrize("token", ReasonToken)
def test_every_reason_says_what_to_do(token: ReasonToken) -> None:
    rows = {row[0].strip("`"): row for row in table(WHY, TIERS[token.tier.value - 1])}
    assert all(rows[token.value]), token


def state_of(world: Harness, uuid: str) -> str:
    return str(world.call("containers", "get", uuid=uuid)["state"])


def functions_of(page: Path) -> dict[str, Any]:
    """What the Python of a page defines."""
    names: dict[str, Any] = {}
    for block in blocks("python", [page]):
        exec(compile(block.text, str(page), "exec"), names)
    return names


def test_reasons_are_read_by_a_program() -> None:
    reasons = functions_of(WHY)["reasons"]
    with Harness() as world:
        request = world.submit(runtime_constraints={"vcpus": 4000, "ram": 1 << 20})
        world.advance(60)
        (reason,) = reasons(world.root, world.container_of(request)["uuid"])
    assert reason["token"] == "no-node-fits"
    assert reason["facts"]["cores"]["wanted"] == 4000


def test_nights_are_asked_for_once_and_each_is_worked_on() -> None:
    ask_for_nights = functions_of(AT_A_TIME)["ask_for_nights"]
    with Harness() as world:
        # The night falls within the hour: a day of ours is long for a test.
        hour = dt.datetime.fromtimestamp(world.clock.wall() + 3600, dt.UTC).hour

        def ask() -> list[str]:
            now = dt.datetime.fromtimestamp(world.clock.wall(), dt.UTC)
            return list(ask_for_nights(world.root, now, nights=3, hour=hour))

        first = ask()
        assert len(set(first)) == 3
        assert ask() == first, "the same nights again"
        # Nobody has to be up in between.
        world.kill(world.site)
        world.advance(3600)
        world.start(world.site)
        world.advance_until(lambda: state_of(world, first[0]) == "Complete")
        # That night is done, and one more is asked for.
        second = ask()
        assert second[:2] == first[1:]
        assert second[2] not in first
        assert [state_of(world, uuid) for uuid in second] == ["Queued"] * 3


def test_an_older_result_does_where_that_is_said() -> None:
    with Harness() as world:
        done = world.submit(command=["index"], use_existing=True)
        world.advance_until(lambda: world.container_of(done)["state"] == "Complete")
        later = format_time(world.clock.wall() + 3600)
        mine = world.submit(command=["index"], run_after=later, use_existing=True)
        any_time = world.submit(
            command=["index"],
            run_after=later,
            use_existing=True,
            use_existing_before_run_after=True,
        )
        assert world.container_of(any_time)["uuid"] == world.container_of(done)["uuid"]
        assert world.container_of(mine)["uuid"] != world.container_of(done)["uuid"]
