"""Reads through the classifier, outside training: windows, micro-batches, and one row of values for each read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from metagene_classifier.batching.batch import TokenBatch, collate
from metagene_classifier.batching.framing import Framing
from metagene_classifier.batching.micro_batches import Layout, split_into_micro_batches
from metagene_classifier.model.out_of_memory import TokenBudget, is_out_of_memory, release

__all__ = ["probabilities_of", "score_reads"]


def score_reads(
    run: Callable[[TokenBatch], torch.Tensor],
    reads: Sequence[npt.NDArray[Any]],
    framing: Framing,
    *,
    width: int,
    budget: TokenBudget,
    layout: Layout,
    device: torch.device,
) -> npt.NDArray[np.float32]:
    """Values of the classifier for each read.

    The values of a read's windows are averaged by their tokens. With mean pooling and a linear head that is the score
    of all its tokens pooled together. Where memory runs out, the budget shrinks and the same reads go on.

    Args:
        run: the classifier's ``forward`` or ``embed``: a batch to ``(segments, width)``.
        reads: token ids of each read, without special tokens.
        framing: how they become segments.
        width: values of a read.
        budget: tokens of a micro-batch.
        layout: how segments lie in it.
        device: the encoder's.

    Returns:
        ``(reads, width)``, in the order of ``reads``.

    Raises:
        DeviceMemoryError: a single segment does not fit.
    """
    segments: list[npt.NDArray[np.int64]] = []
    owners: list[int] = []
    for number, tokens in enumerate(reads):
        pieces = framing.segments(tokens)
        segments += pieces
        owners += [number] * len(pieces)
    lengths = np.fromiter((len(segment) for segment in segments), np.int64, len(segments))
    owner = np.asarray(owners, np.int64)
    values = np.zeros((len(segments), width), np.float32)
    todo = np.arange(len(segments))
    while len(todo):
        for members in split_into_micro_batches(
            lengths[todo], max_tokens=budget.tokens, layout=layout, padded_length=framing.max_length
        ):
            chosen = todo[members]
            batch = collate(
                [segments[index] for index in chosen],
                owner[chosen],
                layout=layout,
                padded_length=framing.max_length,
                pad_id=framing.pad_id,
            )
            found = _values_of(run, batch, device)
            if found is None:
                release(device)
                budget.shrink(batch.ids.numel(), batch.segments)
                break
            values[chosen] = found
            todo[members] = -1
        todo = todo[todo >= 0]
    if len(segments) == len(reads):
        return values
    weights = lengths.astype(np.float64)
    sums = np.zeros((len(reads), width))
    np.add.at(sums, owner, values * weights[:, None])
    totals = np.bincount(owner, weights, minlength=len(reads))
    averages: npt.NDArray[np.float32] = (sums / totals[:, None]).astype(np.float32)
    return averages


def _values_of(
    run: Callable[[TokenBatch], torch.Tensor], batch: TokenBatch, device: torch.device
) -> npt.NDArray[np.float32] | None:
    """Values of a micro-batch, ``(segments, width)``; ``None`` when memory ran out."""
    try:
        with torch.inference_mode():
            found: npt.NDArray[np.float32] = run(batch.to(device)).float().cpu().numpy()
            return found
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None


def probabilities_of(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Softmax over the classes; ``(reads, classes)`` to the same shape."""
    shifted = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    probabilities: npt.NDArray[np.float32] = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities
