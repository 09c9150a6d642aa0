"""What a device holds besides tensors. These are stated figures, chosen to be enough, and not measured ones."""

from __future__ import annotations

from metagene_classifier.memory.parts import MemoryParts
from metagene_classifier.memory.units import GIB

__all__ = ["CONTEXT_BYTES", "CPU_SLACK", "CUDA_SLACK", "KERNELS_BYTES", "QUANTIZED_WORKSPACE_BYTES", "reserve_bytes"]

CONTEXT_BYTES = round(0.6 * GIB)
"""The driver's context, the kernels that are loaded, and the workspace of matrix products on a CUDA device."""
CUDA_SLACK = 0.03
"""Blocks that torch's allocator holds and has no use for, as a share of the bytes that come and go in a step."""
CPU_SLACK = 0.05
"""The same for the C library's allocator."""
KERNELS_BYTES = round(0.25 * GIB)
"""What of it comes only with the first steps, where the context alone is there when memory is looked at."""
QUANTIZED_WORKSPACE_BYTES = 2**26
"""Of bitsandbytes' kernels."""


def reserve_bytes(parts: MemoryParts, *, kind: str, quantized: bool, with_context: bool) -> int:
    """Bytes to leave free beside a step's tensors.

    Args:
        parts: the step's tensors.
        kind: ``cuda``, ``mps`` or ``cpu``.
        quantized: whether bitsandbytes' kernels run.
        with_context: whether the memory that the plan may use is counted with the context in it.
    """
    dynamic = parts.gradients + parts.activations + parts.temporary
    slack = round((CPU_SLACK if kind == "cpu" else CUDA_SLACK) * dynamic)
    workspace = QUANTIZED_WORKSPACE_BYTES if quantized and kind == "cuda" else 0
    kernels = (CONTEXT_BYTES if with_context else KERNELS_BYTES) if kind == "cuda" else 0
    return slack + workspace + kernels
