"""Quantities as Kubernetes writes them, for the hand-made cluster."""

from __future__ import annotations

from decimal import Decimal

_FACTORS = {
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    "m": Decimal("0.001"),
    "u": Decimal("0.000001"),
    "n": Decimal("0.000000001"),
}


def number(text: str) -> Decimal:
    """Its value: "500m" is 0.5, "4Gi" is 4 * 2**30."""
    for suffix, factor in _FACTORS.items():
        if text.endswith(suffix):
            return Decimal(text.removesuffix(suffix)) * factor
    return Decimal(text)
