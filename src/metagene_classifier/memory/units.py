"""Amounts of memory as people write them."""

from __future__ import annotations

import re

from metagene_classifier.errors import ConfigError

__all__ = ["GIB", "gib_text", "parse_memory"]

GIB = 2**30
_UNITS = {"gib": 2**30, "mib": 2**20, "gb": 10**9, "mb": 10**6}


def parse_memory(text: str, where: str = "memory") -> int:
    """Bytes of ``24GiB``, ``24 GiB``, ``24GB`` (a billion bytes each) or ``12000MiB``.

    Args:
        text: what was written.
        where: the option or key that it was written for.

    Raises:
        ConfigError: it is no amount of memory, or none at all.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([GM]i?B)\s*", text, re.IGNORECASE)
    amount = round(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if amount == 0:
        raise ConfigError(f"{where}: {text!r} is no amount of memory: write it as in 24GiB, 24GB or 12000MiB")
    return amount


def gib_text(amount: float) -> str:
    """Bytes in GiB, without the unit: to one decimal, and of less than a tenth to two digits that count."""
    gib = amount / GIB
    return f"{gib:.1f}" if gib == 0 or gib >= 0.095 else f"{gib:.2g}" if gib >= 0.0001 else "0.0001"
