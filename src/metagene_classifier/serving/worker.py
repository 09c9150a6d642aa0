"""The one thread that runs the model: requests wait in a queue, and small ones share a block."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field, replace

import numpy as np

from metagene_classifier.console import say
from metagene_classifier.errors import MgcError
from metagene_classifier.prediction.call import Call
from metagene_classifier.prediction.calling import Caller
from metagene_classifier.prediction.preparing import PreparedBlock
from metagene_classifier.prediction.profile.tally import SampleTally
from metagene_classifier.prediction.scorer import Scorer
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.read import Read
from metagene_classifier.serving.blocks import joined, parted
from metagene_classifier.serving.limits import RefusedError

__all__ = ["Called", "Job", "ModelWorker"]

READS_PER_BLOCK = 512
BASES_PER_BLOCK = 2**19
"""A block is scored to its end, whoever has left; so it is small, and holds fewer reads where they are long."""
RETRY_AT_MOST_S = 120
_NO_PROBABILITIES = np.zeros(0, np.float32)


@dataclass
class Called:
    """Calls of a request's reads, in order.

    Attributes:
        calls: without the probabilities of all classes.
        tally: of them.
        noticed: while the reads were cleaned and cut into windows.
    """

    calls: list[Call]
    tally: SampleTally
    noticed: StreamReport = field(default_factory=StreamReport)


class Job:
    """Reads that wait for their calls.

    Args:
        reads: of pairs both mates beside each other.
        caller: calls them.
        deadline: by :func:`time.monotonic`; a job that waits longer is dropped.

    Attributes:
        future: of the calls; its :meth:`cancel` takes the job out of the queue.
    """

    def __init__(self, reads: list[Read], caller: Caller, deadline: float) -> None:
        self.reads = reads
        self.caller = caller
        self.deadline = deadline
        self.future: Future[Called] = Future()
        self._found = Called([], SampleTally(caller.tree))
        self._next = 0

    @property
    def left(self) -> int:
        """Reads that are not called yet."""
        return len(self.reads) - self._next

    def take(self, reads: int, bases: int, *, at_least_one: bool) -> list[Read]:
        """The next reads, as many as there is room for, pairs whole."""
        unit = 2 if self.caller.options.paired else 1
        end = self._next
        while end + unit <= len(self.reads) and end + unit - self._next <= reads:
            bases -= sum([len(read.sequence) for read in self.reads[end : end + unit]])
            if bases < 0 and not (at_least_one and end == self._next):
                break
            end += unit
        taken = self.reads[self._next : end]
        self._next = end
        return taken

    def add(self, calls: Sequence[Call], noticed: StreamReport) -> None:
        """Keep the calls of reads that were taken."""
        self._found.tally.add(calls)
        self._found.noticed.add(noticed)
        # A row of thousands of classes for each read would soon be most of the memory.
        self._found.calls += [replace(call, probabilities=_NO_PROBABILITIES) for call in calls]
        if not self.left:
            with contextlib.suppress(InvalidStateError):
                self.future.set_result(self._found)

    def fail(self, error: Exception) -> None:
        """End it with an error."""
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)


class ModelWorker:
    """Scores and calls reads, one block after another, in a thread of its own.

    Requests take turns: of each a block has as much as there is room for, and one that needs more goes to the end of
    the queue, so that a few reads never wait for the whole of a large file.

    Args:
        scorer: used by this thread alone.
        max_queued: jobs that may wait.
        clock: as :func:`time.monotonic`.
    """

    def __init__(self, scorer: Scorer, *, max_queued: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._scorer = scorer
        self._preparer = scorer.preparer()
        self._max_queued = max_queued
        self._clock = clock
        self._jobs: deque[Job] = deque()
        self._there_is_work = threading.Condition()
        self._stopping = False
        self._reads_per_s = 0.0
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self, wait_s: float = 10.0) -> bool:
        """Refuse what waits, and end after the block in hand; whether it has ended within the time."""
        with self._there_is_work:
            self._stopping = True
            jobs, self._jobs = list(self._jobs), deque()
            self._there_is_work.notify_all()
        for job in jobs:
            job.fail(RefusedError(503, "the server is stopping"))
        if self._thread.is_alive():
            self._thread.join(wait_s)
        return not self._thread.is_alive()

    @property
    def works(self) -> bool:
        """Whether the thread lives and takes jobs."""
        return self._thread.is_alive() and not self._stopping

    @property
    def waiting(self) -> int:
        """Jobs that wait, those in part done among them."""
        return sum([not job.future.done() for job in list(self._jobs)])

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            RefusedError: the queue is full, or the worker stops.
        """
        with self._there_is_work:
            if self._stopping:
                raise RefusedError(503, "the server is stopping")
            self._drop_dead()
            if len(self._jobs) >= self._max_queued:
                raise RefusedError(
                    503, f"{len(self._jobs):,} requests wait already: come again", retry_after_s=self._retry_after()
                )
            self._jobs.append(job)
            self._there_is_work.notify_all()

    def _retry_after(self) -> int:
        """Seconds until about half of what waits is done."""
        waiting = sum(job.left for job in self._jobs) / 2
        seconds = waiting / self._reads_per_s if self._reads_per_s else 5.0
        return min(RETRY_AT_MOST_S, max(1, math.ceil(seconds)))

    def _drop_dead(self) -> None:
        """Take out jobs that were given up, and refuse those that waited too long."""
        now = self._clock()
        alive: deque[Job] = deque()
        for job in self._jobs:
            if job.future.done():
                continue
            if job.deadline <= now:
                job.fail(RefusedError(504, "the model did not come to these reads in time: send fewer, or later"))
                continue
            alive.append(job)
        self._jobs = alive

    def _run(self) -> None:
        while True:
            with self._there_is_work:
                while not self._jobs and not self._stopping:
                    self._there_is_work.wait()
                if self._stopping:
                    return
                pieces = self._next_block()
            started = self._clock()
            self._call(pieces)
            taken = max(1e-6, self._clock() - started)
            rate = sum(len(reads) for _, reads in pieces) / taken
            self._reads_per_s = rate if not self._reads_per_s else 0.8 * self._reads_per_s + 0.2 * rate

    def _next_block(self) -> list[tuple[Job, list[Read]]]:
        """Reads of the jobs at the front of the queue, as many as fit; who has more goes to its end."""
        self._drop_dead()
        pieces: list[tuple[Job, list[Read]]] = []
        unfinished: list[Job] = []
        room, bases = READS_PER_BLOCK, BASES_PER_BLOCK
        while self._jobs and room > 0 and bases > 0:
            job = self._jobs.popleft()
            reads = job.take(room, bases, at_least_one=not pieces)
            if not reads:
                self._jobs.appendleft(job)
                break
            pieces.append((job, reads))
            room -= len(reads)
            bases -= sum([len(read.sequence) for read in reads])
            if job.left:
                unfinished.append(job)
        self._jobs.extend(unfinished)
        return pieces

    def _call(self, pieces: Sequence[tuple[Job, list[Read]]]) -> None:
        prepared: list[tuple[Job, PreparedBlock]] = []
        for job, reads in pieces:
            with _failing(job):
                prepared.append((job, self._preparer.prepare(reads)))
        if not prepared:
            return
        blocks = [block for _, block in prepared]
        try:
            scored = list(parted(self._scorer.score(joined(blocks)), blocks))
        except Exception as error:
            if len(prepared) == 1:
                _tell(error)
                prepared[0][0].fail(error)
                return
            for job, block in prepared:  # one request's reads must not cost the others their calls
                with _failing(job):
                    own = self._scorer.score(block)
                    job.add(job.caller.calls(own), own.noticed)
            return
        for (job, _), own in zip(prepared, scored, strict=True):
            with _failing(job):
                job.add(job.caller.calls(own), own.noticed)


@contextlib.contextmanager
def _failing(job: Job) -> Iterator[None]:
    """An error within ends the job, and the thread goes on."""
    try:
        yield
    except Exception as error:
        _tell(error)
        job.fail(error)


def _tell(error: Exception) -> None:
    if not isinstance(error, MgcError):
        say("".join(traceback.format_exception(error)).rstrip())
