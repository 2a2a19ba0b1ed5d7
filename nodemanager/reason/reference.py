"""`python -m nodemanager.reason.reference`: print the page about the reasons, made from their table."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from nodemanager.reason.tokens import TABLE, Knob, Meaning, ReasonToken, Tier

_INTRODUCTION = """\
# Reasons

Made by `make docs` from `nodemanager/reason/tokens.py`: why a container does not run, in the words that are in its links of class
`dispatch`, on the page and in `status.json`, in what `arvados-node-manager why` prints, and (the token) on metrics.

Every container that is Queued or Locked has one current reason:

    {
      "token": "no-node-fits",
      "tier": "never",
      "sentence": "RAM: wants 40 GiB, the largest node has 30.4 GiB",
      "facts": {"ram_bytes": {"wanted": 42949672960, "available": 32641751449}},
      "advice": "ask for at most 30.4 GiB of RAM, or add a larger node or a [Size NAME] section with more",
      "knob": "owner",
      "since": "2026-01-31T12:00:00.000000000Z",
      "next_attempt_at": null
    }

- `tier`: how bad it is. Of what several dispatchers say of a queued container the mildest is shown: if one can run it, it fits. Once
  it is claimed, only the words of its own dispatcher count.
- `facts`: numbers, in bytes and counts: of a resource what is `wanted` and the best that is `available`.
- `advice`: what to do, and with which knob; empty where only time helps.
- `knob`: who can do it. The table says whose it is as a rule; a reason may know better.
- `since`: when it began. A reason is written when it changes, and holds until it does: how fresh it is, is the `last_turn_at` of the
  dispatcher that says it (the link's `tail_uuid`), which is told with every ping.
- `next_attempt_at`: when it is tried again by itself, where that is known.

`containers.annotate` refuses tokens that the server does not know: where the API server is a process of its own, it is
upgraded before the dispatchers.

## Who says it

- **Queued.** Each dispatcher looks at the 1,000 most urgent queued containers at every turn (`[Dispatch] poll_time`), and says of each
  why it does not claim it; one without a word is about to be claimed. A container that has more urgent ones before it than that has
  no link, or `not-seen`: it is looked at when its turn comes nearer. So 100,000 queued containers cost no more than 1,000, and nobody
  writes a reason about each of them whenever something changes. `not-seen` is also what readers say of a container that no dispatcher
  has said anything of; then it tells whether any is alive.
- **Locked.** The dispatcher that claimed it says what it waits for: a token for its runner, its job in the scheduler, a node that
  boots. While nodes are booted, what the node-size arbiter knows takes the place of what the scheduler says of a job that just
  waits in the queue. What comes and goes between two turns is not written.
- **Running**, or final: there is none, and the links are gone. Every change is kept in `logs`, with `event_type` `dispatch`.

What the schedulers' own reasons become is on their pages: [Slurm](slurm.md), [Grid Engine](sge.md), [Kubernetes](kubernetes.md). A word that
is not known here is shown as it is, as `scheduler-wait`.

## Tiers, worst first

"""

_TIERS = {
    Tier.NEVER: "It can never run as it is. `--run` gives it up.",
    Tier.HOLD: "Somebody holds it, and has to let it go.",
    Tier.LIMIT: "A limit is reached; it goes on when something ends.",
    Tier.WAITING: "It waits for something that comes by itself.",
    Tier.UNSEEN: "Nobody has looked at it yet.",
}
_KNOBS = {
    Knob.OWNER: "the owner of the container request",
    Knob.OPERATOR: "the operator of the node manager: its config file and its commands",
    Knob.SITE: "whoever runs the batch scheduler or the cloud",
    Knob.NOBODY: "nobody: time ends it",
}


def page() -> str:
    """The page, as Markdown."""
    return _INTRODUCTION + "\n".join([*_tiers(), *_knobs(), *_tokens()])


def _tiers() -> Iterator[str]:
    yield "| tier | means | tokens |\n|---|---|---|"
    for tier, means in _TIERS.items():
        tokens = ", ".join(f"[`{token}`](#{token})" for token in TABLE if token.tier is tier)
        yield f"| `{tier.name.lower()}` | {means} | {tokens} |"
    yield ""


def _knobs() -> Iterator[str]:
    yield "## Knobs\n"
    yield "| knob | whose |\n|---|---|"
    for knob, whose in _KNOBS.items():
        yield f"| `{knob}` | {whose} |"
    yield ""


def _tokens() -> Iterator[str]:
    yield "## Tokens\n"
    for token, meaning in TABLE.items():
        yield "\n".join(_token(token, meaning))


def _token(token: ReasonToken, meaning: Meaning) -> Iterator[str]:
    yield f"### {token}\n"
    yield f"{meaning.means}\n"
    yield f"- tier `{meaning.tier.name.lower()}`, knob `{meaning.knob}`"
    if meaning.advice:
        yield f"- advice: {meaning.advice}"
    if meaning.facts:
        facts = "; ".join(
            f"{', '.join(f'`{each}`' for each in name.split(', '))}: {what}"
            for name, what in meaning.facts.items()
        )
        yield f"- facts: {facts}"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(page())
