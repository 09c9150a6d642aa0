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

__all__ = ["probabilities_of", "score_reads"]


def score_reads(
    run: Callable[[TokenBatch], torch.Tensor],
    reads: Sequence[npt.NDArray[Any]],
    framing: Framing,
    *,
    width: int,
    max_tokens: int,
    layout: Layout,
    device: torch.device,
) -> npt.NDArray[np.float32]:
    """Values of the classifier for each read.

    The values of a read's windows are averaged by their tokens. With mean pooling and a linear head that is the score
    of all its tokens pooled together.

    Args:
        run: the classifier's ``forward`` or ``embed``: a batch to ``(segments, width)``.
        reads: token ids of each read, without special tokens.
        framing: how they become segments.
        width: values of a read.
        max_tokens: tokens of a micro-batch.
        layout: how segments lie in it.
        device: the encoder's.

    Returns:
        ``(reads, width)``, in the order of ``reads``.
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
    micro_batches = split_into_micro_batches(
        lengths, max_tokens=max_tokens, layout=layout, padded_length=framing.max_length
    )
    with torch.inference_mode():
        for members in micro_batches:
            batch = collate(
                [segments[index] for index in members],
                owner[members],
                layout=layout,
                padded_length=framing.max_length,
                pad_id=framing.pad_id,
            )
            values[members] = run(batch.to(device)).float().cpu().numpy()
    if len(segments) == len(reads):
        return values
    weights = lengths.astype(np.float64)
    sums = np.zeros((len(reads), width))
    np.add.at(sums, owner, values * weights[:, None])
    totals = np.bincount(owner, weights, minlength=len(reads))
    averages: npt.NDArray[np.float32] = (sums / totals[:, None]).astype(np.float32)
    return averages


def probabilities_of(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Softmax over the classes; ``(reads, classes)`` to the same shape."""
    shifted = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    probabilities: npt.NDArray[np.float32] = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities
