"""What a person sees while a command runs: messages and progress on standard error, results on standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["is_first_rank", "progress", "say"]


def is_first_rank() -> bool:
    """True in the one process that speaks when ``torchrun`` has started several."""
    return os.environ.get("RANK", "0") == "0"


def say(message: str) -> None:
    """One line on standard error, from the first rank only; goes above a progress bar that is showing."""
    if not is_first_rank():
        return
    if "tqdm" in sys.modules:
        sys.modules["tqdm"].tqdm.write(message, file=sys.stderr)
    else:
        print(message, file=sys.stderr, flush=True)


def progress(
    items: Iterable[Any] | None = None, *, total: int | None = None, unit: str, label: str, initial: int = 0
) -> tqdm[Any]:
    """A progress bar on standard error, silent when that is not a terminal or this is not the first rank."""
    from tqdm import tqdm

    return tqdm(
        items,
        total=total,
        unit=unit,
        desc=label,
        initial=initial,
        file=sys.stderr,
        disable=None if is_first_rank() else True,
        dynamic_ncols=True,
        mininterval=0.5,
    )
