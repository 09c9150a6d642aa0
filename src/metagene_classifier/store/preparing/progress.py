"""How far preparing has come: by bytes of the inputs as they lie on the disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from metagene_classifier.console import progress

__all__ = ["Pace"]

LINE_EVERY_S = 60.0
"""Where no progress bar can be shown, as in a batch system's log."""


class Pace:
    """A progress bar with reads a second and the time left, or a line a minute.

    Args:
        total_bytes: of all inputs; 0 when it is not known.
        done_bytes: that need not be read any more.
        tell: called with the lines.
    """

    def __init__(self, *, total_bytes: int, done_bytes: int, tell: Callable[[str], None]) -> None:
        self._total, self._first, self._at = total_bytes, done_bytes, done_bytes
        self._reads = 0
        self._tell = tell
        self._began = self._told = time.monotonic()

    def __enter__(self) -> Pace:
        self._bar = progress(total=self._total or None, unit="B", label="preparing", initial=self._first)
        self._bar.unit_scale = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def went_on(self, at_byte: int, reads: int) -> None:
        """So many more reads are done, up to this byte of all inputs."""
        self._reads += reads
        now = time.monotonic()
        rate = self._reads / max(now - self._began, 1e-9)
        self._bar.set_postfix_str(f"{self._reads:,} reads, {rate:,.0f} reads/s", refresh=False)
        self._bar.update(max(at_byte - self._at, 0))
        self._at = max(at_byte, self._at)
        if self._bar.disable and now - self._told >= LINE_EVERY_S:
            self._told = now
            self._tell(self._line(now, rate))

    def _line(self, now: float, rate: float) -> str:
        line = f"preparing: {self._at / 1e9:.1f} GB of the input, {self._reads:,} reads, {rate:,.0f} reads/s"
        if not self._total:
            return line
        left_s = (now - self._began) * (self._total - self._at) / max(self._at - self._first, 1)
        return f"{line}, {self._at / self._total:.0%}, {left_s / 60:.0f} min left"
