"""One optimizer step: its reads, split into micro-batches under the token budget, summed into one gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from metagene_classifier.batching.batch import TokenBatch, collate
from metagene_classifier.batching.framing import Framing
from metagene_classifier.batching.micro_batches import Layout, split_into_micro_batches
from metagene_classifier.model.out_of_memory import is_out_of_memory
from metagene_classifier.store.scatter import GOLDEN, scatter
from metagene_classifier.store.tokens import TokenStore
from metagene_classifier.training.strands import BothStrands, are_turned

__all__ = [
    "IGNORED",
    "MicroBatch",
    "MicroBatchTooLarge",
    "Objective",
    "StepReads",
    "backward_micro_batches",
    "balanced_weights",
    "disagreement",
    "micro_batches_of",
    "read_keys",
    "step_segments",
]


# Classes of no read: cross entropy passes over them, so what they stand beside adds nothing to loss and gradients.
IGNORED = -100


class MicroBatchTooLarge(Exception):
    """Memory ran out on a micro-batch.

    Attributes:
        tokens: of it, padding included.
        segments: of it that could be parted: two strands of a read are one.
    """

    def __init__(self, tokens: int, segments: int) -> None:
        super().__init__(f"out of memory with {tokens} tokens")
        self.tokens = tokens
        self.segments = segments


class MicroBatch(Protocol):
    """What goes through the classifier at once: segments' tokens, or their pooled hidden states."""

    @property
    def segments(self) -> int:
        """How many segments there are."""

    @property
    def tokens(self) -> int:
        """What counts against the token budget."""

    def to(self, device: torch.device) -> Self:
        """The same on ``device``."""


Batch = TypeVar("Batch", bound=MicroBatch)


@dataclass(frozen=True)
class Objective:
    """Cross entropy, as a sum over reads: the mean is taken over the whole step, not over a micro-batch.

    Attributes:
        class_weights: ``(classes,)`` float32, on the CPU; ``None`` weighs all alike.
        label_smoothing: share of the target spread over all classes.
        consistency_weight: with it, rows of scores are the two strands of a read in turn: the loss of a read is the
            mean of theirs, and so many times the strands' disagreement, :func:`disagreement` (after arXiv 2509.18529).
    """

    class_weights: torch.Tensor | None
    label_smoothing: float
    consistency_weight: float | None = None

    @property
    def strands(self) -> int:
        """Rows of scores that a read has."""
        return 1 if self.consistency_weight is None else 2

    def summed(self, scores: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Sum over reads of the loss, a scalar.

        Args:
            scores: ``(segments, classes)``: of a read each, or with ``consistency_weight`` of two strands each.
            classes: of each row, ``(segments,)``; :data:`IGNORED` adds nothing.
        """
        weights = self.class_weights.to(scores.device) if self.class_weights is not None else None
        crossed = functional.cross_entropy(
            scores, classes, weight=weights, label_smoothing=self.label_smoothing, reduction="sum"
        )
        if self.consistency_weight is None:
            return crossed
        of_read = classes[::2]
        counted = (of_read != IGNORED).float()
        if weights is not None:
            counted = counted * weights[of_read.clamp(min=0)]
        apart = (disagreement(scores[::2], scores[1::2]) * counted).sum()
        return crossed / 2 + self.consistency_weight * apart

    def weight_of(self, classes: npt.NDArray[np.int32]) -> float:
        """What the summed loss of these reads is divided by to give its mean."""
        if self.class_weights is None:
            return float(len(classes))
        return float(self.class_weights[torch.from_numpy(classes.astype(np.int64))].double().sum())


def disagreement(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Symmetric Kullback-Leibler divergence between class distributions: the mean of both directions, in nats.

    Both learn from it: neither is taken for the truth.

    Args:
        one: scores (logits), ``(reads, classes)``.
        other: of the same reads.

    Returns:
        ``(reads,)``; 0 where the distributions are the same.
    """
    logs, others = functional.log_softmax(one, dim=1), functional.log_softmax(other, dim=1)
    return 0.5 * ((logs.exp() - others.exp()) * (logs - others)).sum(dim=1)


@dataclass(frozen=True)
class StepReads:
    """The segments of one step on one rank: for each read itself, or one window of it, on one strand or on both.

    Attributes:
        segments: token ids, special tokens included; of two strands, a read's own stand side by side.
        keys: of each segment's read in this step; dropout, windows and strands derive from them. ``(segments,)`` int64.
        classes: of each segment, ``(segments,)`` int32.
        strands: segments of a read, which one micro-batch takes.
    """

    segments: list[npt.NDArray[np.int64]]
    keys: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int32]
    strands: int = 1


def read_keys(places: npt.NDArray[np.int64], *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """A number for each place in an epoch's order that is its own, whatever batch or rank it falls to; never negative.

    A read that sampling repeats stands at several places, and gets other dropout and another window at each.
    """
    base = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    values = scatter(places.astype(np.uint64) * GOLDEN + base)
    keys: npt.NDArray[np.int64] = (values >> np.uint64(1)).astype(np.int64)
    return keys


def step_segments(
    store: TokenStore,
    reads: npt.NDArray[np.int64],
    keys: npt.NDArray[np.int64],
    framing: Framing,
    strands: BothStrands | None = None,
) -> StepReads:
    """Take the reads of a step from the store. Of a long read its key draws one window, another in each epoch.

    Args:
        store: of the reads.
        reads: their numbers, ``(reads,)``.
        keys: of each in this step, ``(reads,)``.
        framing: how tokens become segments.
        strands: the key draws the strand as well, or both are taken; of a window, its own reverse complement, cut to
            what fits. Both strands of a read have one key, and so the same dropout.
    """
    if strands is not None:
        return _on_strands(store, reads, keys, framing, strands)
    segments = []
    for tokens, key in zip(store.tokens_of(reads), keys.tolist(), strict=True):
        windows = framing.windows(len(tokens))
        start = int(framing.starts(len(tokens))[key % windows]) if windows > 1 else 0
        segments.append(framing.frame(tokens, start))
    return StepReads(segments, keys, store.classes_of(reads))


def _on_strands(
    store: TokenStore,
    reads: npt.NDArray[np.int64],
    keys: npt.NDArray[np.int64],
    framing: Framing,
    strands: BothStrands,
) -> StepReads:
    pieces = []
    for tokens, key in zip(store.tokens_of(reads), keys.tolist(), strict=True):
        starts = framing.starts(len(tokens))
        start = int(starts[key % len(starts)])
        pieces.append(tokens[start : start + framing.capacity])
    classes = store.classes_of(reads)
    if strands.how == "augment":
        turned = np.flatnonzero(are_turned(keys)).tolist()
        for place, other in zip(turned, strands.of([pieces[place] for place in turned]), strict=True):
            pieces[place] = other
        return StepReads([framing.frame(piece) for piece in pieces], keys, classes)
    pairs = zip(pieces, strands.of(pieces), strict=True)
    return StepReads(
        [framing.frame(piece) for pair in pairs for piece in pair], keys.repeat(2), classes.repeat(2), strands=2
    )


def micro_batches_of(
    step: StepReads, framing: Framing, *, max_tokens: int, layout: Layout
) -> list[tuple[TokenBatch, torch.Tensor]]:
    """The step's micro-batches and the classes of their segments, ``(segments,)`` int64."""
    lengths = np.fromiter((len(segment) for segment in step.segments), np.int64, len(step.segments))
    parts: list[tuple[TokenBatch, torch.Tensor]] = []
    for members in split_into_micro_batches(
        lengths, max_tokens=max_tokens, layout=layout, padded_length=framing.max_length, together=step.strands
    ):
        batch = collate(
            [step.segments[index] for index in members],
            step.keys[members],
            layout=layout,
            padded_length=framing.max_length,
            pad_id=framing.pad_id,
        )
        parts.append((batch, torch.from_numpy(step.classes[members].astype(np.int64))))
    return parts


def balanced_weights(reads_per_class: npt.NDArray[np.int64]) -> torch.Tensor:
    """A weight for each class, inverse to its reads and 1 on average over reads; ``(classes,)``."""
    classes = np.count_nonzero(reads_per_class)
    weights = reads_per_class.sum() / (classes * np.maximum(reads_per_class, 1))
    return torch.from_numpy(weights.astype(np.float32))


def backward_micro_batches(
    classifier: Callable[[Batch], torch.Tensor],
    parts: Iterable[tuple[Batch, torch.Tensor]],
    objective: Objective,
    *,
    divisor: float,
    device: torch.device,
    accelerator: Any,
) -> torch.Tensor:
    """Forward and backward of every micro-batch of a step; gradients add up to those of the whole step.

    Args:
        classifier: gives class scores for a batch.
        parts: micro-batches (as from :func:`micro_batches_of`) and the classes of their segments.
        objective: the loss.
        divisor: weight of the step's reads over all ranks, whose gradients are summed.
        device: of the classifier.
        accelerator: does the backward pass, with loss scaling where the number format needs it.

    Returns:
        This rank's share of the step's loss, not divided; a scalar on ``device``.

    Raises:
        MicroBatchTooLarge: memory ran out; gradients so far are of no use.
    """
    total = torch.zeros((), device=device)
    for batch, classes in parts:
        loss = _backward(classifier, batch, classes, objective, divisor=divisor, device=device, accelerator=accelerator)
        if loss is None:
            raise MicroBatchTooLarge(batch.tokens, batch.segments // objective.strands)
        total += loss
    return total


def _backward(
    classifier: Callable[[Batch], torch.Tensor],
    batch: Batch,
    classes: torch.Tensor,
    objective: Objective,
    *,
    divisor: float,
    device: torch.device,
    accelerator: Any,
) -> torch.Tensor | None:
    """The summed loss of a micro-batch, its gradients added; ``None`` when memory ran out.

    An error holds every tensor of the frames that it went through, so it ends here.
    """
    try:
        loss = objective.summed(classifier(batch.to(device)), classes.to(device))
        accelerator.backward(loss / divisor)
        return loss.detach()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None
