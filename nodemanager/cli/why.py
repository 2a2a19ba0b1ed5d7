"""`why`: the whole story of a container, and what whoever reads it can do."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.text import Text

from nodemanager.api.story import Attempt, ReasonChange, SaidReason, Story, read_story
from nodemanager.cli.command import PROG, Command, Flags, each, uuids
from nodemanager.cli.out import Cell, Column, Out
from nodemanager.cli.queue import TIER_STYLES
from nodemanager.cli.site import Site, needs_work
from nodemanager.cli.verbs import get_work
from nodemanager.cli.words import age, ago, amount, resource_name
from nodemanager.clock import Clock
from nodemanager.model import ContainerState, format_time
from nodemanager.reason import Knob, Reason, ReasonToken, Tier
from nodemanager.runs.view import STATE_COLOURS

MOST_ATTEMPTS = 10
"""So many are shown, the last ones."""


_KNOBS = {
    Knob.OWNER: "whoever asked for it",
    Knob.OPERATOR: "the operator of the node manager",
    Knob.SITE: "whoever runs the scheduler or the cloud",
    Knob.NOBODY: "nobody: time ends it",
}


def why(site: Site, flags: Flags, out: Out) -> int:
    """Tell each one's story."""
    stories: list[dict[str, Any]] = []

    def tell(uuid: str) -> None:
        story = site.asked(lambda: _read(site, uuid, out.clock), "reading its story")
        if out.as_json:
            stories.append(
                {
                    **story.as_dict(),
                    "asked": uuid,
                    "what_to_do": what_to_do(story, out.now).as_dict(),
                }
            )
            return
        if stories:
            out.say()
        stories.append({})
        tell_story(story, out, asked=uuid, history=flags.history)

    status = each(flags.uuids, out, tell)
    if out.as_json:
        out.document({"at": format_time(out.now), "stories": stories})
    return status


def _read(site: Site, uuid: str, clock: Clock) -> Story:
    needs_work(uuid)
    # That it is not there is said in words of one's own.
    get_work(site, uuid)
    return read_story(site.api, uuid, clock)


def tell_story(story: Story, out: Out, *, asked: str = "", history: bool = False) -> None:
    """The story on a screen; `asked` is the UUID by which somebody asked for it."""
    _say_heading(story, out)
    for attempt in story.attempts[:-1]:
        if attempt.uuid == asked:
            out.say(f"  you asked for {asked}, which was attempt {attempt.number}")
    if story.reasons:
        _say_reason(story.reasons[0], out)
    _say_attempts(story, out)
    _say_others(story.reasons[1:], out)
    if history:
        _say_history(story.history, out)
    step = what_to_do(story, out.now)
    out.say()
    out.say(Text("What to do", style="bold"))
    out.sentence(step.words, indent="  ")
    if step.command:
        # On a line of its own, to be copied.
        out.say(f"    {PROG} {step.command}")


def _say_heading(story: Story, out: Out) -> None:
    current = story.current
    title = Text(story.name or story.request or current.uuid, style="bold")
    out.say(title)
    if story.request:
        out.say(f"  request    {story.request}, {story.request_state}, priority {story.priority}")
    out.say(f"  container  {current.uuid}, attempt {current.number}")
    state = Text("  state      ")
    state.append(current.state.value, style=STATE_COLOURS[current.state.value])
    state.append(_state_words(current, out.now))
    out.say(state)
    if current.error:
        out.sentence(f"because {current.error}", indent=" " * 13)


def _state_words(current: Attempt, now: float) -> str:
    where = f" on {current.node}" if current.node else ""
    if current.state is ContainerState.RUNNING and current.started_at is not None:
        return f"{where} for {age(now - current.started_at)}"
    if current.finished_at is not None:
        ran = ""
        if current.started_at is not None:
            ran = f", after it ran {age(current.finished_at - current.started_at)}{where}"
        return f" {ago(current.finished_at, now)}{ran}"
    return f" for {age(now - current.created_at)}"


def _say_reason(said: SaidReason, out: Out) -> None:
    reason = said.reason
    out.say()
    heading = Text().append("Why: ", style="bold")
    heading.append(reason.token.value, style=TIER_STYLES[reason.tier])
    out.say(heading)
    out.sentence(f"{reason.line(out.now)}.", indent="  ")
    compared, plain = fact_rows(reason.facts)
    if compared:
        columns = (Column("  "), Column("WANTED", right=True), Column("BEST AVAILABLE"))
        out.table(columns, compared)
    if plain:
        out.say(f"  {', '.join(plain)}")
    out.say(f"  it is up to {_KNOBS[reason.knob]}")
    by = said.name or said.dispatcher
    says = f", says {by}" if by else ""
    checked = "" if said.last_checked is None else f", checked {ago(said.last_checked, out.now)}"
    out.say(Text(f"  for {age(out.now - reason.since)}{checked}{says}", style="dim"))
    if reason.next_attempt_at is not None:
        moment = datetime.fromtimestamp(reason.next_attempt_at).astimezone()
        out.say(
            f"  next attempt {moment:%Y-%m-%d %H:%M:%S}, {ago(reason.next_attempt_at, out.now)}"
        )


def fact_rows(facts: Mapping[str, Any]) -> tuple[list[Sequence[Cell]], list[str]]:
    """What is wanted against the best that is available, a row for each; and the plain numbers, in words."""
    compared: list[Sequence[Cell]] = []
    plain = []
    for name, value in facts.items():
        if isinstance(value, Mapping) and value.keys() == {"wanted", "available"}:
            cells = (amount(name, value["wanted"]), amount(name, value["available"]))
            compared.append((f"  {resource_name(name)}", *cells))
        else:
            plain.append(f"{resource_name(name)}: {amount(name, value)}")
    return compared, plain


def _say_attempts(story: Story, out: Out) -> None:
    if len(story.attempts) < 2:
        return
    out.say()
    out.say(Text("Attempts", style="bold"))
    shown = story.attempts[-MOST_ATTEMPTS:]
    left = len(story.attempts) - len(shown)
    if left:
        out.say(Text(f"  {left} earlier ones are not shown", style="dim"))
    columns = (
        Column("  NO", right=True),
        Column("CONTAINER"),
        Column("STATE"),
        Column("ENDED", right=True),
        Column("RAN", right=True),
        Column("NODE"),
        Column("ERROR"),
    )
    out.table(columns, [_attempt_cells(attempt, out.now) for attempt in shown])


def _attempt_cells(attempt: Attempt, now: float) -> tuple[Cell, ...]:
    ran = ""
    if attempt.started_at is not None:
        ran = age((attempt.finished_at or now) - attempt.started_at)
    return (
        str(attempt.number),
        attempt.uuid,
        Text(attempt.state.value, style=STATE_COLOURS[attempt.state.value]),
        ago(attempt.finished_at, now),
        ran,
        attempt.node,
        attempt.error,
    )


def _say_others(said: Sequence[SaidReason], out: Out) -> None:
    if not said:
        return
    out.say()
    out.say(Text("Other dispatchers say", style="bold"))
    columns = (Column("  DISPATCHER"), Column("REASON"), Column(""))
    rows = [
        (f"  {s.name or s.dispatcher}", s.reason.token.value, s.reason.line(out.now)) for s in said
    ]
    out.table(columns, rows)


def _say_history(history: Sequence[ReasonChange], out: Out) -> None:
    out.say()
    out.say(Text("It waited for", style="bold"))
    columns = (Column("  SINCE"), Column("REASON"), Column(""))
    rows = [
        (
            f"  {ago(change.at, out.now)}",
            "-" if change.reason is None else change.reason.token.value,
            "no reason any more" if change.reason is None else change.reason.sentence,
        )
        for change in history
    ]
    out.table(columns, rows)


# What to do.


@dataclass(frozen=True, slots=True)
class Step:
    """What whoever reads the story can do."""

    words: str
    command: str = ""
    """What follows ``arvados-node-manager``; empty when there is nothing to type."""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return {"words": self.words, "command": self.command}


def what_to_do(story: Story, now: float) -> Step:
    """Pure, at Unix time `now`."""
    subject = story.request or story.current.uuid
    output = story.current.output
    match story.current.state:
        case ContainerState.COMPLETE:
            return Step(
                f"Nothing. Its output is in {output}" if output else "Nothing. It left no output."
            )
        case ContainerState.PERMFAIL:
            return Step(
                "The program failed, and running it again would not help. Its log tells more; put it right and "
                "submit it anew.",
                f"logs {subject}",
            )
        case ContainerState.TEMPFAIL:
            return Step(
                "The infrastructure failed, and there will be no other attempt. Its log tells more; submit it anew.",
                f"logs {subject}",
            )
        case ContainerState.CANCELLED:
            return Step("Nothing: nobody wants it any more. If somebody does, submit it anew.")
        case ContainerState.RUNNING:
            return Step("Nothing: it runs. To follow what it writes:", f"logs -f {subject}")
    if not story.reasons:
        return Step("Nothing: it is about to go on.")
    return _while_waiting(story.reasons[0].reason, subject, now)


_COMMANDS: Mapping[ReasonToken, Step] = {
    ReasonToken.BACKOFF: Step(
        "Nothing: it is tried again by itself. To skip the wait:", "retry-now UUID"
    ),
    ReasonToken.ON_HOLD: Step("An administrator lets it go:", "release UUID"),
    ReasonToken.CLAIMS_PAUSED: Step(
        "An administrator ends the pause. Which dispatchers are paused, and why:", "dispatchers"
    ),
    ReasonToken.BOOT_BRAKE: Step(
        "An operator looks at the nodes that failed, and then lets nodes be booted again:",
        "nodes release-brake",
    ),
    ReasonToken.NOT_SEEN: Step(
        "Wait a moment. If this lasts, see whether a dispatcher is alive, and how long the queue is:",
        "status",
    ),
}
"""Where a command helps. UUID stands for that of the request."""


def _while_waiting(reason: Reason, subject: str, now: float) -> Step:
    known = _COMMANDS.get(reason.token)
    if known is not None:
        return Step(known.words, known.command.replace("UUID", subject))
    advice = f"{reason.advice[0].upper()}{reason.advice[1:]}." if reason.advice else ""
    if reason.tier is Tier.NEVER:
        words = ("It will not run as things are.", advice, "To give it up:")
        return Step(" ".join(filter(None, words)), f"cancel {subject}")
    if advice:
        return Step(advice)
    if reason.next_attempt_at is not None and reason.next_attempt_at > now:
        return Step(f"Nothing: it goes on by itself in {age(reason.next_attempt_at - now)}.")
    return Step("Nothing: it goes on by itself.")


def _arguments(parser: argparse.ArgumentParser) -> None:
    uuids(parser)
    parser.add_argument(
        "--history", action="store_true", help="also all reasons it ever waited for, oldest first"
    )


WHY = Command(
    "why",
    "the whole story of a container: why it waits, its attempts, what to do",
    why,
    description="By the UUID of a request or of a container. What is wanted stands beside the best that is "
    "available; the last line says what whoever reads it can do.",
    arguments=_arguments,
    examples=("why zzzzz-xvhdp-0123456789abcde", "why zzzzz-dz642-0123456789abcde --history"),
    keys={
        "at": "when it was asked",
        "stories": "an object for each: `asked` (the UUID), `request`, `name`, `request_state`, `priority`, `attempts` "
        "(oldest first), `reasons` (of the current attempt, the one that counts first), `history` (oldest first), "
        "`what_to_do` (`words`, and a `command` to type)",
    },
    statuses={0: "told", 1: "one of them is not there"},
)
