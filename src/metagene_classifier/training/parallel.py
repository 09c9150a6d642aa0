"""Ranks together: how they join, passes that all of them run alike, and ranks that are lost."""

from __future__ import annotations

import atexit
import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, ParamSpec, TypeVar

import numpy as np
import torch

from metagene_classifier.batching.batch import TokenBatch, collate
from metagene_classifier.batching.framing import Framing
from metagene_classifier.batching.micro_batches import Layout
from metagene_classifier.errors import DataError, MgcError
from metagene_classifier.model.out_of_memory import DeviceMemoryError, is_out_of_memory
from metagene_classifier.training.steps import IGNORED

__all__ = [
    "AllAlike",
    "LostRank",
    "check_same_everywhere",
    "join_ranks",
    "one_line_of_a_lost_rank",
    "ranks",
]

# What gloo, NCCL and torch say when the other end of a connection is no longer there.
_OF_CLOSED_CONNECTIONS = ("ncclRemoteError", "Connection closed by peer", "Connection reset by peer")
_OF_LOST_RANKS = ("gloo", "NCCL", *_OF_CLOSED_CONNECTIONS)

SECONDS_BEHIND = 1.0
LONGEST_WAIT = timedelta(hours=2)
SHOWN_OF_ERROR = 200  # characters

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class LostRank(MgcError):
    """Another rank has ended while this one waited for it."""


def ranks() -> int:
    """How many processes the launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join_ranks(device: torch.device) -> None:
    """Let the ranks find one another; where there is one alone, nothing happens.

    They wait for one another longer than their library's minutes: while the first writes a large model, or another
    machine still prepares its reads. A rank that has ended is noticed at once, by its closed connections and by the
    launcher.
    """
    if ranks() == 1:
        return
    from accelerate import PartialState

    PartialState(cpu=device.type == "cpu", timeout=LONGEST_WAIT)


def check_same_everywhere(reads: Mapping[str, str]) -> None:
    """Refuse ranks that read other reads than the first one, as from a node's own copy of a file.

    Args:
        reads: fingerprints by what the reads are for.

    Raises:
        DataError: on every rank whose fingerprints are not the first one's.
    """
    if ranks() == 1:
        return
    from accelerate.utils import gather_object

    told: list[dict[str, str]] = gather_object([dict(reads)])
    others = [what for what, fingerprint in reads.items() if told[0][what] != fingerprint]
    if others:
        raise DataError(
            f"the {' and '.join(others)} reads here are not those of the first rank: all nodes must see the same files"
        )


@dataclass(frozen=True)
class AllAlike:
    """Passes through a sharded encoder: every rank runs as many, and one without reads left runs a dummy.

    Attributes:
        classifier: whose encoder is sharded.
        framing: of the dummy, which is the least segment that there is.
        layout: of the dummy.
        accelerator: knows the ranks.
        strands: of the dummy: a step's loss takes both strands of a read, or one.
    """

    classifier: Callable[[TokenBatch], torch.Tensor]
    framing: Framing
    layout: Layout
    accelerator: Any
    strands: int = 1

    def evened(self, parts: Sequence[tuple[TokenBatch, torch.Tensor]]) -> list[tuple[TokenBatch, torch.Tensor]]:
        """A step's micro-batches, with as many dummies as the rank with the most has more."""
        most = torch.tensor([len(parts)], device=self.accelerator.device)
        torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX)
        dummy = self._dummy()
        ignored = torch.full((dummy.segments,), IGNORED)
        return [*parts, *([(dummy, ignored)] * (int(most) - len(parts)))]

    def forward(self, batch: TokenBatch) -> torch.Tensor:
        """Class scores without gradients, ``(segments, classes)``; the other ranks run a pass as well.

        Raises:
            DeviceMemoryError: memory ran out: the other ranks are within the pass, so it cannot be tried again.
        """
        self._busy(1)
        return self._pass(batch)

    def finish(self) -> None:
        """Run dummies until no rank has reads left. To be called when this rank has none."""
        dummy = self._dummy().to(self.accelerator.device)
        while self._busy(0):
            self._pass(dummy)

    def out_of_memory(self, tokens: int) -> NoReturn:
        """End this rank, and with it the run.

        Raises:
            DeviceMemoryError: always.
        """
        raise DeviceMemoryError(
            f"out of memory on the device with {tokens:,} tokens at once: with weights shared out over the ranks "
            "(training.parallel: fsdp) a step cannot be tried again: set training.max_tokens to "
            f"{max(1, tokens // 2):,} or less on all ranks and go on with --resume"
        )

    def _pass(self, batch: TokenBatch) -> torch.Tensor:
        tokens = batch.tokens
        try:
            # What is gathered in inference mode could not be used for training any more.
            with torch.inference_mode(False), torch.no_grad():
                return self.classifier(batch)
        except Exception as error:
            if is_out_of_memory(error):
                self.out_of_memory(tokens)
            raise

    def _busy(self, mine: int) -> bool:
        with torch.inference_mode(False):
            busy = torch.tensor([mine], device=self.accelerator.device)
            torch.distributed.all_reduce(busy)
            return bool(mine) or bool(int(busy))

    def _dummy(self) -> TokenBatch:
        segment = self.framing.frame(np.full(1, self.framing.pad_id, np.int64), 0)
        return collate(
            [segment] * self.strands,
            np.zeros(self.strands, np.int64),
            layout=self.layout,
            padded_length=self.framing.max_length,
            pad_id=self.framing.pad_id,
        )


def one_line_of_a_lost_rank(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let a function end with one line where another rank ended before it; that rank's own line says why."""

    @functools.wraps(function)
    def wrapped(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        try:
            return function(*arguments, **options)
        except RuntimeError as error:
            if ranks() == 1 or not _is_of_a_lost_rank(error):
                raise
            # The launcher names the rank that ends first, and that is to be the one that has the fault.
            atexit.register(time.sleep, SECONDS_BEHIND)
            raise LostRank(_why(error)) from error

    return wrapped


def _why(error: RuntimeError) -> str:
    go_on = "what was saved last is whole, and the same command with --resume goes on from it"
    if any(words in str(error) for words in _OF_CLOSED_CONNECTIONS):
        return (
            "another rank has ended, and so does this one: its line, or the launcher's (exit code, signal), says why; "
            + go_on
        )
    first = (str(error).strip().splitlines() or [type(error).__name__])[0][:SHOWN_OF_ERROR]
    return f"the ranks cannot reach one another ({first}): look at the network and at the other ranks' lines; {go_on}"


def _is_of_a_lost_rank(error: RuntimeError) -> bool:
    return isinstance(error, torch.distributed.DistError) or any(words in str(error) for words in _OF_LOST_RANKS)
