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
from metagene_classifier.training.strands import are_turned

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
        other_strand: embeddings of the reverse complements of the windows, where both strands are learned from: both at
            once where ``objective`` takes two, and one that each read's key draws otherwise.
    """

    classifier: ReadClassifier
    reads: Selection
    train: StoredEmbeddings
    validation: StoredEmbeddings
    objective: Objective
    budget: TokenBudget
    accelerator: Any
    other_strand: StoredEmbeddings | None = None

    def add_gradients(
        self, reads: npt.NDArray[np.int64], keys: npt.NDArray[np.int64], *, divisor: float
    ) -> tuple[torch.Tensor, int]:
        """Add the gradients of the reads' summed loss over ``divisor``; returns that loss, not divided, and tokens.

        Raises:
            MicroBatchTooLarge: memory ran out.
        """
        rows = np.searchsorted(self._numbers, reads)
        places = self.train.windows.drawn(rows, keys)
        strands = self.objective.strands
        classes = torch.from_numpy(self.reads.store.classes_of(reads).astype(np.int64).repeat(strands))
        repeated = torch.from_numpy(keys.repeat(strands))
        parts = (
            (
                PooledBatch(torch.from_numpy(self._values(places[part], keys[part])), repeated[rows_of]),
                classes[rows_of],
            )
            for part, rows_of in self._parts_on(strands, len(reads))
        )
        summed = backward_micro_batches(
            self._classify,
            parts,
            self.objective,
            divisor=divisor,
            device=self.accelerator.device,
            accelerator=self.accelerator,
        )
        return summed, strands * int(self.train.windows.tokens[rows].sum())

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

    def _values(self, places: npt.NDArray[np.int64], keys: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Embeddings of some windows, on the strands that are learned from; ``(windows x strands, hidden)``."""
        values = np.asarray(self.train.values[places])
        if self.other_strand is None:
            return values
        if self.objective.strands == 2:
            return np.stack([values, self.other_strand.values[places]], axis=1).reshape(-1, values.shape[1])
        turned = are_turned(keys)
        values[turned] = self.other_strand.values[places[turned]]
        return values

    def _classify(self, batch: PooledBatch) -> torch.Tensor:
        return self.classifier.classify(batch.pooled, batch.keys)

    def _parts(self, windows: int) -> Iterator[slice]:
        return (part for part, _ in self._parts_on(1, windows))

    def _parts_on(self, strands: int, windows: int) -> Iterator[tuple[slice, slice]]:
        """Some windows at a time, and the rows that these have with so many strands each."""
        size = max(1, min(WINDOWS_AT_ONCE, self.budget.tokens) // strands)
        for start in range(0, windows, size):
            end = min(start + size, windows)
            yield slice(start, end), slice(start * strands, end * strands)
