"""Training the head alone, from embeddings that the encoder made once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.out_of_memory import TokenBudget
from metagene_classifier.model.scoring import average_windows
from metagene_classifier.store.selection import Selection
from metagene_classifier.training.embeddings import StoredEmbeddings
from metagene_classifier.training.evaluation import score_in_blocks
from metagene_classifier.training.steps import Objective, backward_micro_batches

__all__ = ["FromEmbeddings", "PooledBatch"]

# Enough for any device to be busy, and 64 MiB of METAGENE-1's embeddings.
WINDOWS_AT_ONCE = 4096


@dataclass(frozen=True)
class PooledBatch:
    """Windows that have been through the encoder already.

    Attributes:
        pooled: ``(windows, hidden)`` float32.
        keys: that their dropout is derived from, ``(windows,)`` int64.
    """

    pooled: torch.Tensor
    keys: torch.Tensor

    @property
    def segments(self) -> int:
        """How many windows there are."""
        return len(self.keys)

    @property
    def tokens(self) -> int:
        """What counts against the budget: a window is one, since its tokens are pooled."""
        return len(self.keys)

    def to(self, device: torch.device) -> PooledBatch:
        """The same batch on ``device``."""
        return PooledBatch(self.pooled.to(device), self.keys.to(device))


@dataclass(frozen=True)
class FromEmbeddings:
    """Reads from their stored embeddings: the same windows, dropout and loss as through the encoder.

    Attributes:
        classifier: its head is on the accelerator's device; its encoder is never run.
        reads: to learn from.
        train: their embeddings.
        validation: embeddings of the reads to choose the best model by.
        objective: the loss.
        budget: of a micro-batch.
        accelerator: does the backward pass.
    """

    classifier: ReadClassifier
    reads: Selection
    train: StoredEmbeddings
    validation: StoredEmbeddings
    objective: Objective
    budget: TokenBudget
    accelerator: Any

    def add_gradients(
        self, reads: npt.NDArray[np.int64], keys: npt.NDArray[np.int64], *, divisor: float
    ) -> tuple[torch.Tensor, int]:
        """Add the gradients of the reads' summed loss over ``divisor``; returns that loss, not divided, and tokens.

        Raises:
            MicroBatchTooLarge: memory ran out.
        """
        rows = np.searchsorted(self._numbers, reads)
        places = self.train.windows.drawn(rows, keys)
        classes = torch.from_numpy(self.reads.store.classes_of(reads).astype(np.int64))
        parts = (
            (
                PooledBatch(torch.from_numpy(self.train.values[places[part]]), torch.from_numpy(keys[part])),
                classes[part],
            )
            for part in self._parts(len(reads))
        )
        summed = backward_micro_batches(
            self._classify,
            parts,
            self.objective,
            divisor=divisor,
            device=self.accelerator.device,
            accelerator=self.accelerator,
        )
        return summed, int(self.train.windows.tokens[rows].sum())

    def validation_scores(self) -> npt.NDArray[np.float32]:
        """Class scores of the validation reads, ``(reads, classes)``, the same on every rank."""
        head = self.classifier.head
        assert head is not None
        return score_in_blocks(
            self.validation.windows.counts, self._score, width=head.out_features, accelerator=self.accelerator
        )

    @cached_property
    def _numbers(self) -> npt.NDArray[np.int64]:
        """Of the reads in the store, in the order of their embeddings."""
        return self.reads.numbers()

    def _score(self, reads: range) -> npt.NDArray[np.float32]:
        windows, device = self.validation.windows, self.accelerator.device
        first, end = windows.first[reads.start], windows.first[reads.stop]
        scores = []
        for part in self._parts(int(end - first)):
            pooled = torch.from_numpy(np.array(self.validation.values[first + part.start : first + part.stop]))
            with torch.inference_mode():
                scores.append(self._classify(PooledBatch(pooled, torch.arange(len(pooled))).to(device)).cpu().numpy())
        counts = windows.counts[reads.start : reads.stop]
        lengths = np.repeat(windows.tokens[reads.start : reads.stop], counts)
        return average_windows(np.concatenate(scores), counts, lengths)

    def _classify(self, batch: PooledBatch) -> torch.Tensor:
        return self.classifier.classify(batch.pooled, batch.keys)

    def _parts(self, windows: int) -> Iterator[slice]:
        size = max(1, min(WINDOWS_AT_ONCE, self.budget.tokens))
        return (slice(start, min(start + size, windows)) for start in range(0, windows, size))
