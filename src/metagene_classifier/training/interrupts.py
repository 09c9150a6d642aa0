"""Ctrl-C and a batch system's SIGTERM end a run after the step under way, with everything saved."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch

__all__ = ["StopRequest"]


class StopRequest:
    """Remembers that a signal asked the run to stop; a second one is not waited for."""

    def __init__(self) -> None:
        self._asked = False

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Listen for SIGINT and SIGTERM inside the block; elsewhere than in the main thread nothing is heard."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def asked_here(self) -> bool:
        """Whether this process was asked to stop, whatever the other ranks were."""
        return self._asked

    def asked(self, accelerator: Any) -> bool:
        """Whether any rank was asked to stop; all ranks get the same answer."""
        if accelerator.num_processes == 1:
            return self._asked
        flag = torch.tensor(float(self._asked), device=accelerator.device)
        return bool(accelerator.reduce(flag, "sum") > 0)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
