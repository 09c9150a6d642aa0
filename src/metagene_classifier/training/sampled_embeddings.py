"""Embeddings of a few of a run's reads, for what is measured once training is over: drawn, and made on all ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from metagene_classifier.batching.batch import TokenBatch
from metagene_classifier.batching.framing import Framing
from metagene_classifier.batching.micro_batches import Layout
from metagene_classifier.console import progress
from metagene_classifier.errors import MgcError
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.out_of_memory import DeviceMemoryError, TokenBudget
from metagene_classifier.model.scoring import average_windows, score_reads
from metagene_classifier.store.bits import CHUNK_READS
from metagene_classifier.store.scatter import GOLDEN, scatter
from metagene_classifier.store.selection import Selection
from metagene_classifier.tokenization.tokenizer import ReadTokenizer
from metagene_classifier.training.embeddings import StoredEmbeddings
from metagene_classifier.training.evaluation import score_in_blocks
from metagene_classifier.training.parallel import AllAlike
from metagene_classifier.training.strands import other_strands

__all__ = [
    "EmbedsReads",
    "FromDisk",
    "MadeAnew",
    "balanced_ranks",
    "drawn_evenly",
    "drawn_whole_groups",
    "embedding_passes",
    "groups_of",
]

# Reads looked at, at most, to draw from: enough for rare classes, and nothing of a store of any size.
LOOKED_AT = 2**18


class EmbedsReads(Protocol):
    """From reads to their embeddings."""

    @property
    def reads(self) -> Selection:
        """What reads are drawn from."""

    def embed(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Embeddings of reads, named by their numbers in the store; ``(reads, hidden)``, the same on every rank.

        Raises:
            DeviceMemoryError: a read does not fit in a device's memory; on every rank.
            MgcError: likewise, where other ranks cannot go on.
        """


@dataclass(frozen=True)
class FromDisk:
    """Embeddings that the encoder made before a head was trained on them.

    Attributes:
        reads: all that are embedded.
        stored: their embeddings.
    """

    reads: Selection
    stored: StoredEmbeddings

    def embed(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """See :class:`EmbedsReads`."""
        windows = self.stored.windows
        rows = np.searchsorted(self.reads.numbers(), numbers)
        counts = windows.counts[rows]
        places = np.repeat(windows.first[rows] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        values = np.array(self.stored.values[places])
        return (
            values if (counts == 1).all() else average_windows(values, counts, np.repeat(windows.tokens[rows], counts))
        )


@dataclass(frozen=True)
class MadeAnew:
    """Reads through the encoder, shared out over the ranks.

    Attributes:
        reads: what they are drawn from.
        classifier: in evaluation mode.
        framing: how tokens become segments.
        budget: tokens of a micro-batch.
        layout: how segments lie in one.
        accelerator: knows the ranks.
        both_strands: of the reads' tokenizer, where the embeddings of both strands are averaged.
        alike: where the encoder is sharded; runs the classifier's ``embed``.
    """

    reads: Selection
    classifier: ReadClassifier
    framing: Framing
    budget: TokenBudget
    layout: Layout
    accelerator: Any
    both_strands: ReadTokenizer | None = None
    alike: AllAlike | None = None

    @property
    def _width(self) -> int:
        head = self.classifier.head
        assert head is not None
        return int(head.in_features)

    def embed(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """See :class:`EmbedsReads`."""
        store, accelerator = self.reads.store, self.accelerator
        failed: DeviceMemoryError | None = None
        run = self.classifier.embed if self.alike is None else self.alike.forward
        with progress(total=len(numbers), unit="read", label="calibrating") as bar:

            def score(block: range) -> npt.NDArray[np.float32]:
                nonlocal failed
                tokens = store.tokens_of(numbers[block.start : block.stop])
                bar.update(len(block))
                if failed is None:
                    try:
                        values = self._values(run, tokens)
                        if self.both_strands is None:
                            return values
                        if self.framing.first_only:  # the same part of the read, from its other end
                            tokens = [one[: self.framing.capacity] for one in tokens]
                        others = self._values(run, other_strands(self.both_strands, tokens))
                        return (values + others) * np.float32(0.5)
                    except DeviceMemoryError as error:
                        if self.alike is not None:  # the other ranks are within the pass, and wait
                            raise MgcError(str(error)) from error
                        failed = DeviceMemoryError(str(error))
                return np.zeros((len(block), self._width), np.float32)

            values = score_in_blocks(
                self.framing.segment_tokens(store.lengths_of(numbers)),
                score,
                width=self._width,
                accelerator=accelerator,
                finish=None if self.alike is None else self.alike.finish,
            )
        ranks_failed = torch.tensor(float(failed is not None), device=accelerator.device)
        if accelerator.num_processes > 1:
            ranks_failed = accelerator.reduce(ranks_failed, "sum")
        if float(ranks_failed):
            raise failed or DeviceMemoryError("out of memory on the device of another rank")
        return values

    def _values(self, run: Any, tokens: list[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        return score_reads(
            run,
            tokens,
            self.framing,
            width=self._width,
            budget=self.budget,
            layout=self.layout,
            device=self.accelerator.device,
        )


def embedding_passes(classifier: ReadClassifier, alike: AllAlike) -> AllAlike:
    """Passes of the encoder that end at its embeddings, run alike on all ranks."""

    def embed(batch: TokenBatch) -> torch.Tensor:
        return classifier.embed(batch)

    return AllAlike(embed, alike.framing, alike.layout, alike.accelerator)


def drawn_whole_groups(reads: Selection, most: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw reads, mates together: their numbers in the store, in its order; one more than ``most`` at most."""
    numbers = reads.numbers()
    if len(numbers) <= most:
        return numbers
    groups = groups_of(reads, numbers)
    keys = scatter(groups ^ np.uint64(seed))
    last = np.partition(keys, most - 1)[most - 1]
    drawn: npt.NDArray[np.int64] = numbers[keys <= last]
    return drawn


def groups_of(reads: Selection, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """The groups of reads: equal for mates, and for no others; ``(reads,)``.

    Headers without names put all reads of a class into one group of the store: where a group has more than two reads,
    they are no mates, and each is a group of its own.
    """
    everything = reads.numbers()
    groups = _stored_groups(reads, everything)
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    crowded = counts[place] > 2
    groups[crowded] ^= scatter(everything[crowded].astype(np.uint64) * GOLDEN)
    found: npt.NDArray[np.uint64] = groups[np.searchsorted(everything, numbers)]
    return found


def _stored_groups(reads: Selection, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """As the store has them, which is read in chunks."""
    store = reads.store
    found = np.empty(len(numbers), np.uint64)
    for first in range(0, len(store), CHUNK_READS):
        here = slice(*np.searchsorted(numbers, (first, first + CHUNK_READS)).tolist())
        if here.start < here.stop:
            found[here] = store.columns(first, first + CHUNK_READS).groups[numbers[here] - first]
    return found


def drawn_evenly(reads: Selection, most: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw reads, as many of each class as there are: their numbers in the store, in its order.

    Of a large store a random part is looked at, so that a draw costs the same whatever its size.
    """
    store = reads.store
    if len(reads) <= LOOKED_AT:
        numbers = reads.numbers()
    else:
        generator = np.random.default_rng(seed)
        numbers = np.unique(generator.integers(len(store), size=LOOKED_AT))
        if reads.bits is not None:
            packed = reads.bits.packed
            numbers = numbers[(packed[numbers // 8] >> (numbers % 8).astype(np.uint8)) & 1 == 1]
    if len(numbers) <= most:
        return numbers
    ranks = balanced_ranks(store.classes_of(numbers), seed)
    return np.sort(numbers[np.argsort(ranks, kind="stable")[:most]])


def balanced_ranks(classes: npt.NDArray[Any], seed: int) -> npt.NDArray[np.int64]:
    """Of each read how many of its class were drawn before it: those of the lowest ranks are as even as can be."""
    order = np.random.default_rng(seed).permutation(len(classes))
    by_class = order[np.argsort(classes[order], kind="stable")]
    ordered = classes[by_class]
    starts = np.searchsorted(ordered, ordered, "left")
    ranks = np.empty(len(classes), np.int64)
    ranks[by_class] = np.arange(len(classes)) - starts
    return ranks
