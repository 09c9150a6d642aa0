"""The order of an epoch: a function of (seed, epoch) alone, cut into optimizer steps.

So a run that was stopped knows from two numbers which reads are still to come, on any number of ranks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["epoch_order", "planned_steps", "steps_of_epoch", "steps_per_epoch"]


def epoch_order(reads: int, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """A random permutation of ``range(reads)``, the same for the same seed and epoch."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch])))
    return generator.permutation(reads)


def steps_per_epoch(reads: int, reads_per_step: int) -> int:
    """Optimizer steps of an epoch; the last one may cover fewer reads."""
    return math.ceil(reads / reads_per_step)


def planned_steps(reads: int, reads_per_step: int, max_epochs: int, max_steps: int | None) -> int:
    """Optimizer steps of a whole run; ``max_steps`` may end it earlier."""
    steps = steps_per_epoch(reads, reads_per_step) * max_epochs
    return min(steps, max_steps) if max_steps is not None else steps


def steps_of_epoch(
    reads: int, reads_per_step: int, *, seed: int, epoch: int, reads_done: int = 0
) -> Iterator[npt.NDArray[np.int64]]:
    """The reads of each optimizer step over all ranks, those already done left out; ``(reads_per_step,)``."""
    order = epoch_order(reads, seed=seed, epoch=epoch)
    for first in range(reads_done, reads, reads_per_step):
        yield order[first : first + reads_per_step]
