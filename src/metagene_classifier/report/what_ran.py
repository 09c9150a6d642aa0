"""What a report says of the run that it reports on: the command, and the versions of what it ran on."""

from __future__ import annotations

import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version

__all__ = ["command_line", "package_versions", "seconds_in_words"]

PACKAGES = ("metagene-classifier", "torch", "transformers", "peft", "accelerate", "tokenizers", "bitsandbytes")


def command_line() -> str:
    """The command of this process as a user would type it."""
    return "mgc " + shlex.join(sys.argv[1:])


def package_versions() -> dict[str, str]:
    """Of this package, Python, and of what the figures may depend on, where it is installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"Python": platform.python_version()}


def seconds_in_words(seconds: float) -> str:
    """A time as people say it: ``7.5 s``, ``2 min 5 s``, ``3 h 20 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
