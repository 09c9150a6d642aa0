"""Scoring the validation reads during training, each read exactly once whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from metagene_classifier.model.scoring import probabilities_of
from metagene_classifier.training.shares import fair_shares

__all__ = ["score_in_blocks", "to_probabilities"]

READS_PER_BLOCK = 4096
PIECE = 2**24  # values that travel between ranks, or change their format, at once


def score_in_blocks(
    tokens: npt.NDArray[np.int64],
    score: Callable[[range], npt.NDArray[np.float32]],
    *,
    width: int,
    accelerator: Any,
    finish: Callable[[], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Class scores of reads, block by block, the blocks shared out over the ranks by their tokens.

    Args:
        tokens: of each read; ``(reads,)``.
        score: scores of a block of reads, named by their places in ``tokens``; ``(block, width)``.
        width: classes.
        accelerator: knows the ranks.
        finish: called when this rank has scored its blocks, and other ranks may not have.

    Returns:
        ``(reads, width)``, the same on every rank.
    """
    reads, ranks = len(tokens), accelerator.num_processes
    size = READS_PER_BLOCK if ranks == 1 else max(1, min(READS_PER_BLOCK, -(-reads // (4 * ranks))))
    starts = range(0, reads, size)
    work = np.add.reduceat(tokens, starts) if reads else np.zeros(0, np.int64)
    scores = np.zeros((reads, width), np.float32)
    for block in fair_shares(work, ranks)[accelerator.process_index].tolist():
        chosen = range(starts[block], min(starts[block] + size, reads))
        scores[chosen.start : chosen.stop] = score(chosen)
    if finish is not None:
        finish()
    if ranks > 1:
        _sum_over_ranks(scores, accelerator.device)
    return scores


def to_probabilities(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Softmax over the classes, in the place of ``scores``: ``(reads, classes)``, of which no second copy is made."""
    rows = max(1, PIECE // max(scores.shape[1], 1))
    for first in range(0, len(scores), rows):
        scores[first : first + rows] = probabilities_of(scores[first : first + rows])
    return scores


def _sum_over_ranks(scores: npt.NDArray[np.float32], device: torch.device) -> None:
    """Every row is zero on all ranks but one, so that the sum is exact; in place."""
    flat = torch.from_numpy(scores).view(-1)
    for first in range(0, len(flat), PIECE):
        piece = flat[first : first + PIECE]
        travelling = piece.to(device)
        torch.distributed.all_reduce(travelling)
        piece.copy_(travelling)
