"""Worker processes that turn pieces into reads: results in order, few under way at once, quiet when interrupted."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Literal

from metagene_classifier.errors import MgcError
from metagene_classifier.store.preparing.pieces import Piece
from metagene_classifier.store.preparing.work import PieceReads, Work, read_piece

__all__ = ["ReadPieces", "piece_readers", "worker_count"]

ReadPieces = Callable[[Iterable[Piece]], Iterator[tuple[Piece, "PieceReads | None"]]]

MOST_WORKERS = 8
_AHEAD = 2  # pieces that wait beside those being worked on


def worker_count(asked: int | Literal["auto"]) -> int:
    """How many workers: as asked, or one for each core that this process may use, up to as many as one reader feeds."""
    if asked != "auto":
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS)


@contextlib.contextmanager
def piece_readers(work: Work, workers: int) -> Iterator[ReadPieces]:
    """Something that turns pieces into reads, in their order; in this process for one worker.

    Raises:
        MgcError: a worker was killed.
    """
    arguments = _pickled(work) if workers > 1 else None
    if arguments is None:
        yield lambda pieces: ((piece, read_piece(work, piece)) for piece in pieces)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(arguments,))
    try:
        yield lambda pieces: _in_order(pool, pieces, workers + _AHEAD)
    except BrokenProcessPool as error:
        raise MgcError(
            "a worker process was killed (most often because memory ran out): what is whole is kept; run the same "
            "command again to go on, with fewer workers if it happens again"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor, pieces: Iterable[Piece], under_way: int
) -> Iterator[tuple[Piece, PieceReads | None]]:
    waiting: deque[tuple[Piece, Future[PieceReads | None]]] = deque()
    for piece in pieces:
        with _no_interrupts():  # the first call starts the workers, and they inherit the mask
            waiting.append((piece, pool.submit(_read, piece)))
        if len(waiting) >= under_way:
            first, future = waiting.popleft()
            yield first, future.result()
    while waiting:
        first, future = waiting.popleft()
        yield first, future.result()


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal; workers must leave it to the one that can act on it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _pickled(work: Work) -> bytes | None:
    """``None`` for a tokenizer that cannot be handed to another process."""
    work.tokenizer.lane.table_for(2**62)  # made once here rather than in every worker
    try:
        return pickle.dumps(work)
    except Exception:  # whatever a tokenizer's own code raises
        return None


_work: Work | None = None


def _begin(pickled: bytes) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there are as many workers as wanted cores
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work = pickle.loads(pickled)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _read(piece: Piece) -> PieceReads | None:
    assert _work is not None
    return read_piece(_work, piece)
