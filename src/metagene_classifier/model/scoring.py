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

__all__ = ["average_windows", "probabilities_of", "score_reads", "score_segments"]


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
    pieces = [framing.segments(tokens) for tokens in reads]
    segments = [segment for piece in pieces for segment in piece]
    values = score_segments(run, segments, framing, width=width, budget=budget, layout=layout, device=device)
    if len(segments) == len(reads):
        return values
    lengths = np.fromiter((len(segment) for segment in segments), np.int64, len(segments))
    windows = np.fromiter((len(piece) for piece in pieces), np.int64, len(pieces))
    return average_windows(values, windows, lengths)


def score_segments(
    run: Callable[[TokenBatch], torch.Tensor],
    segments: Sequence[npt.NDArray[np.int64]],
    framing: Framing,
    *,
    width: int,
    budget: TokenBudget,
    layout: Layout,
    device: torch.device,
    done: Callable[[npt.NDArray[np.int64]], None] = lambda members: None,
) -> npt.NDArray[np.float32]:
    """Values of the classifier for each segment; see :func:`score_reads`.

    Args:
        run: as there.
        segments: token ids of each, special tokens included.
        framing: how they were made.
        width: values of a segment.
        budget: tokens of a micro-batch.
        layout: how segments lie in it.
        device: the encoder's.
        done: called after each micro-batch with the numbers of its segments.

    Returns:
        ``(segments, width)``, in the order of ``segments``.

    Raises:
        DeviceMemoryError: a single segment does not fit.
    """
    lengths = np.fromiter((len(segment) for segment in segments), np.int64, len(segments))
    values = np.zeros((len(segments), width), np.float32)
    todo = np.arange(len(segments))
    while len(todo):
        for members in split_into_micro_batches(
            lengths[todo], max_tokens=budget.tokens, layout=layout, padded_length=framing.max_length
        ):
            chosen = todo[members]
            batch = collate(
                [segments[index] for index in chosen],
                chosen,
                layout=layout,
                padded_length=framing.max_length,
                pad_id=framing.pad_id,
            )
            found = _values_of(run, batch, device)
            if found is None:
                release(device)
                budget.shrink(batch.tokens, batch.segments)
                break
            values[chosen] = found
            todo[members] = -1
            done(chosen)
        todo = todo[todo >= 0]
    return values


def average_windows(
    values: npt.NDArray[np.float32], windows: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Average the values of each read's windows by their tokens.

    Args:
        values: of all windows, read after read; ``(segments, width)``.
        windows: of each read; ``(reads,)``, summing to ``segments``.
        lengths: tokens of each window, ``(segments,)``.

    Returns:
        ``(reads, width)``.
    """
    owner = np.repeat(np.arange(len(windows)), windows)
    weights = lengths.astype(np.float64)
    sums = np.zeros((len(windows), values.shape[1]))
    np.add.at(sums, owner, values * weights[:, None])
    totals = np.bincount(owner, weights, minlength=len(windows))
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


def probabilities_of(scores: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Softmax over the classes; ``(reads, classes)`` to the same shape."""
    shifted = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    probabilities: npt.NDArray[np.float32] = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities
