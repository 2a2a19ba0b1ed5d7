"""Why a container does not run: the fixed list of tokens with what each means, and a reason as a value."""

from nodemanager.reason.tokens import Knob, Meaning, ReasonToken, Tier
from nodemanager.reason.value import Reason

__all__ = ["Knob", "Meaning", "Reason", "ReasonToken", "Tier"]
