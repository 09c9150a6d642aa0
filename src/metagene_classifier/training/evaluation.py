"""Scoring the validation reads during training, each read exactly once whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["score_in_blocks"]

READS_PER_BLOCK = 4096


def score_in_blocks(
    reads: int, score: Callable[[range], npt.NDArray[np.float32]], accelerator: Any
) -> npt.NDArray[np.float32]:
    """Class scores of reads, block by block, the blocks shared out over the ranks.

    Args:
        reads: how many there are.
        score: scores of a block of read numbers, ``(block, classes)``.
        accelerator: knows the ranks.

    Returns:
        ``(reads, classes)``, the same on every rank.
    """
    blocks = range(0, reads, READS_PER_BLOCK)
    mine = {
        start: score(range(start, min(start + READS_PER_BLOCK, reads)))
        for start in blocks[accelerator.process_index :: accelerator.num_processes]
    }
    if accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        mine = dict(gather_object(list(mine.items())))
    return np.concatenate([mine[start] for start in blocks])
