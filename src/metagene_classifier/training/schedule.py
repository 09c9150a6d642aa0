"""The learning rate over a run, and how long the run is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["make_schedule", "warmup_for"]

_LIBRARY_NAMES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def warmup_for(asked: int, total_steps: int, tell: Callable[[str], None]) -> int:
    """Warm-up steps: those asked for, and never more than a tenth of the run."""
    longest = total_steps // 10
    if asked <= longest:
        return asked
    tell(f"warm-up: {longest} steps instead of {asked}, a tenth of this run of {total_steps} steps")
    return longest


def make_schedule(optimizer: Any, *, name: str, warmup_steps: int, total_steps: int) -> Any:
    """A scheduler to be stepped once an optimizer step."""
    from transformers import get_scheduler

    return get_scheduler(_LIBRARY_NAMES[name], optimizer, num_warmup_steps=warmup_steps, num_training_steps=total_steps)
