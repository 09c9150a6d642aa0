"""Training through the encoder: the reads' tokens, in micro-batches under the token budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from metagene_classifier.batching.framing import Framing
from metagene_classifier.batching.micro_batches import Layout
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.out_of_memory import TokenBudget
from metagene_classifier.model.scoring import score_reads
from metagene_classifier.store.selection import Selection
from metagene_classifier.training.evaluation import score_in_blocks
from metagene_classifier.training.parallel import AllAlike
from metagene_classifier.training.steps import (
    MicroBatchTooLarge,
    Objective,
    backward_micro_batches,
    micro_batches_of,
    step_segments,
)
from metagene_classifier.training.strands import BothStrands

__all__ = ["ThroughEncoder"]


@dataclass(frozen=True)
class ThroughEncoder:
    """Reads through the encoder: forward and backward to learn, forward to be scored.

    Attributes:
        classifier: encoder and head, on the accelerator's device.
        train: the reads to learn from.
        validation: the reads to choose the best model by.
        framing: how their tokens become segments.
        objective: the loss.
        budget: tokens of a micro-batch.
        layout: how segments lie in one.
        accelerator: does the backward pass.
        alike: where the encoder is sharded: lets every rank run as many passes as the others.
        strands: how both strands of the reads are learned from; ``None`` takes reads as they are.
    """

    classifier: ReadClassifier
    train: Selection
    validation: Selection
    framing: Framing
    objective: Objective
    budget: TokenBudget
    layout: Layout
    accelerator: Any
    alike: AllAlike | None = None
    strands: BothStrands | None = None

    def add_gradients(
        self, reads: npt.NDArray[np.int64], keys: npt.NDArray[np.int64], *, divisor: float
    ) -> tuple[torch.Tensor, int]:
        """Add the gradients of the reads' summed loss over ``divisor``; returns that loss, not divided, and tokens.

        Raises:
            MicroBatchTooLarge: memory ran out.
        """
        step = step_segments(self.train.store, reads, keys, self.framing, self.strands)
        parts = micro_batches_of(step, self.framing, max_tokens=self.budget.tokens, layout=self.layout)
        if self.alike is not None:
            parts = self.alike.evened(parts)
        try:
            summed = backward_micro_batches(
                self.classifier,
                parts,
                self.objective,
                divisor=divisor,
                device=self.accelerator.device,
                accelerator=self.accelerator,
            )
        except MicroBatchTooLarge as error:
            if self.alike is not None:
                self.alike.out_of_memory(error.tokens)
            raise
        return summed, sum(len(segment) for segment in step.segments)

    def validation_scores(self) -> npt.NDArray[np.float32]:
        """Class scores of the validation reads, ``(reads, classes)``, the same on every rank.

        Raises:
            DeviceMemoryError: a single read does not fit in the device's memory.
        """
        head = self.classifier.head
        assert head is not None
        store, reads = self.validation.store, self.validation.numbers()

        def score(block: range) -> npt.NDArray[np.float32]:
            return score_reads(
                self.classifier if self.alike is None else self.alike.forward,
                store.tokens_of(reads[block.start : block.stop]),
                self.framing,
                width=head.out_features,
                budget=self.budget,
                layout=self.layout,
                device=self.accelerator.device,
            )

        return score_in_blocks(
            self.framing.segment_tokens(store.lengths_of(reads)),
            score,
            width=head.out_features,
            accelerator=self.accelerator,
            finish=None if self.alike is None else self.alike.finish,
        )
