"""What one client may ask of the server, and the error of one that asks for more."""

from __future__ import annotations

from dataclasses import dataclass

from metagene_classifier.errors import MgcError

__all__ = ["Limits", "RefusedError"]


@dataclass(frozen=True)
class Limits:
    """Bounds of memory and time.

    Attributes:
        max_bytes: of a request, and of the text that its files decompress to.
        max_reads: of a request; a mate is a read.
        max_read_bp: bases of a read.
        timeout_s: until a request is answered, and until its body has come.
        max_queued: requests that wait for the model.
        max_results: answers that are kept for their downloads.
        keep_s: how long they are.
        max_kept_bytes: of their reads together, about.
    """

    max_bytes: int = 32 * 2**20
    max_reads: int = 20_000
    max_read_bp: int = 200_000
    timeout_s: float = 120.0
    max_queued: int = 32
    max_results: int = 32
    keep_s: float = 3600.0
    max_kept_bytes: int = 512 * 2**20


class RefusedError(MgcError):
    """A request that is not served.

    Args:
        status: of HTTP.
        message: one line.
        retry_after_s: when to come again, where that may help.
    """

    def __init__(self, status: int, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s
