"""Memory that runs out on a device: told from other faults, and answered with smaller micro-batches."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from metagene_classifier.console import say
from metagene_classifier.errors import MgcError

__all__ = ["DeviceMemoryError", "TokenBudget", "is_out_of_memory", "release"]

# What CUDA itself says (of pinned memory of the host, say), and cuBLAS and cuDNN of their own workspace: torch passes
# it on as a plain RuntimeError.
_OF_CUDA = (
    *("CUDA error: out of memory", "CUDA driver error: out of memory"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED"),
)


class DeviceMemoryError(MgcError):
    """The device's memory does not hold the encoder, a single read, or what learns."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device has no memory left."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    from accelerate.utils.memory import should_reduce_batch_size

    return bool(should_reduce_batch_size(error)) or any(text in str(error) for text in _OF_CUDA)


def release(device: torch.device) -> None:
    """Give back what a failed micro-batch has left; call it when no frame of it is alive any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        # Pinned memory of checkpoints on the host: blocks of one size are never used for another.
        empty_host_cache = getattr(torch._C, "_host_emptyCache", None)
        if empty_host_cache is not None:
            empty_host_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


@dataclass
class TokenBudget:
    """Tokens of a micro-batch, which go down when memory runs out and never up again.

    Attributes:
        tokens: at most, padding included; one segment alone may take more.
        tell: called with a line when they go down.
        advice: what to do when one segment alone does not fit, given its tokens.
    """

    tokens: int
    tell: Callable[[str], None] = say
    advice: Callable[[int], str] = field(default=lambda tokens: "use a shorter tokenizer.max_length")

    def shrink(self, tokens: int, segments: int) -> None:
        """Take half of what did not fit.

        Args:
            tokens: of the micro-batch that failed, padding included.
            segments: of it.

        Raises:
            DeviceMemoryError: it was one segment alone.
        """
        if segments <= 1:
            raise DeviceMemoryError(
                f"out of memory on the device: one read of {tokens} tokens does not fit: {self.advice(tokens)}"
            )
        self.tokens = max(1, min(self.tokens, tokens) // 2)
        self.tell(
            f"out of memory on the device with {tokens:,} tokens at once: going on with {self.tokens:,} from the same "
            "reads"
        )
