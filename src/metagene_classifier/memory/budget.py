"""What a way takes for a micro-batch on a device, and the largest micro-batch that the device holds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from metagene_classifier.memory.device import DeviceMemory
from metagene_classifier.memory.parts import MemoryParts, memory_parts
from metagene_classifier.memory.reserve import reserve_bytes
from metagene_classifier.memory.shape import EncoderShape
from metagene_classifier.memory.ways import StepFacts, Way, setup_of

__all__ = ["MOST_TOKENS", "Lengths", "Need", "fits", "largest_budget", "need_of"]

MOST_TOKENS = {"cuda": 65_536, "mps": 4_096, "cpu": 4_096}
"""No micro-batch is made larger: the device has enough to do with these."""

ROUND_TOKENS = 64


@dataclass(frozen=True)
class Lengths:
    """How long segments are.

    Attributes:
        longest: tokens of the longest, special tokens included.
        mean: tokens of one on average.
        strands: segments of a read that one micro-batch takes: both strands, or one.
    """

    longest: int
    mean: float
    strands: int = 1

    @property
    def least(self) -> int:
        """Tokens of the longest read on its strands: no micro-batch can be smaller."""
        return self.strands * self.longest

    def segments_in(self, tokens: int) -> int:
        """How many segments a micro-batch of so many tokens has, at least one."""
        return max(1, math.ceil(tokens / self.mean))

    def reads_in(self, tokens: int) -> int:
        """How many whole reads of the mean length fit into so many tokens, at least one."""
        return max(1, int(tokens // (self.strands * self.mean)))


@dataclass(frozen=True)
class Need:
    """What a micro-batch takes.

    Attributes:
        parts: tensors at the moment when they take most, in bytes.
        reserve: bytes besides tensors, see ``reserve.py``.
        host_bytes: checkpoints in the host's memory.
    """

    parts: MemoryParts
    reserve: int
    host_bytes: int

    @property
    def peak(self) -> int:
        """Bytes of the device."""
        return self.parts.tensor_peak + self.reserve


def need_of(
    shape: EncoderShape, way: Way, facts: StepFacts, memory: DeviceMemory, lengths: Lengths, tokens: int
) -> Need:
    """What a step with micro-batches of so many tokens takes on a device.

    Args:
        shape: of the encoder.
        way: how it runs.
        facts: what the way does not decide.
        memory: of the device.
        lengths: of the segments.
        tokens: of a micro-batch.
    """
    parts = memory_parts(
        shape,
        setup_of(way, facts),
        tokens=tokens,
        segments=lengths.segments_in(tokens),
        longest=min(lengths.longest, tokens),
    )
    reserve = reserve_bytes(
        parts, kind=memory.kind, quantized=way.quantization != "none", with_context=memory.with_context
    )
    return Need(parts, reserve, _host_bytes(shape, way, facts, tokens))


def fits(need: Need, memory: DeviceMemory) -> bool:
    """Whether device and host hold it."""
    return need.peak <= memory.bytes and (memory.host_bytes is None or need.host_bytes <= memory.host_bytes)


def largest_budget(
    shape: EncoderShape,
    way: Way,
    facts: StepFacts,
    memory: DeviceMemory,
    lengths: Lengths,
    *,
    reads_per_step: int | None = None,
) -> int | None:
    """The most tokens at once that fit; ``None`` where not even the longest read does.

    Never more than makes a difference: :data:`MOST_TOKENS`, or all the reads of an optimizer step.

    Args:
        shape: of the encoder.
        way: how it runs.
        facts: what the way does not decide.
        memory: of the device.
        lengths: of the segments.
        reads_per_step: on one device.
    """

    def there(tokens: int) -> bool:
        return fits(need_of(shape, way, facts, memory, lengths, tokens), memory)

    low = lengths.least
    if not there(low):
        return None
    high = MOST_TOKENS[memory.kind]
    if reads_per_step is not None:
        high = min(high, reads_per_step * lengths.least)
    if high <= low or there(high):
        return max(low, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if there(middle) else (low, middle)
    return max(lengths.least, low // ROUND_TOKENS * ROUND_TOKENS)


def _host_bytes(shape: EncoderShape, way: Way, facts: StepFacts, tokens: int) -> int:
    """Torch gives pinned memory in blocks of a power of two, one for each checkpoint.

    A block of one size is never used for another, so micro-batches of unlike sizes may hold twice that.
    """
    if not way.offload or way.checkpoint_every == 0:
        return 0
    layers = math.ceil(max(shape.layers - facts.freeze_layers, 0) / way.checkpoint_every)
    block = tokens * shape.hidden * facts.compute_bytes
    return 2 * layers * (1 << max(block - 1, 0).bit_length())
