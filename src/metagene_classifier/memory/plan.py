"""The plan: for every way to train, and for prediction, what it takes of a device and the largest micro-batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from metagene_classifier.memory.budget import Lengths, Need, fits, largest_budget, need_of
from metagene_classifier.memory.device import DeviceMemory
from metagene_classifier.memory.shape import EncoderShape
from metagene_classifier.memory.throughput import Throughput, tokens_per_second
from metagene_classifier.memory.ways import StepFacts, Way, plan_ways

__all__ = ["PART_NAMES", "MemoryPlan", "WayPlan", "make_plan"]

PART_NAMES = ("weights", "adapters_and_head", "gradients", "optimizer", "activations", "temporary", "reserve")
"""In the order in which they are shown; ``reserve`` is the context and what the allocator holds beside tensors."""


@dataclass(frozen=True)
class WayPlan:
    """What one way takes.

    Attributes:
        way: it.
        need: of the micro-batch that was asked for, or of the longest read alone.
        fits: whether the device holds that.
        max_tokens: the most tokens at once that fit; ``None`` where the longest read does not.
        max_reads: how many reads of the mean length those are.
        tokens_per_s: as measured on this card; ``None`` where it was not.
        seconds_per_million_reads: by that.
    """

    way: Way
    need: Need
    fits: bool
    max_tokens: int | None
    max_reads: int | None
    tokens_per_s: float | None
    seconds_per_million_reads: float | None

    def parts(self) -> dict[str, int]:
        """Bytes by the names of :data:`PART_NAMES`; their sum is the peak."""
        return {name: getattr(self.need.parts, name) for name in PART_NAMES[:-1]} | {"reserve": self.need.reserve}


@dataclass(frozen=True)
class MemoryPlan:
    """Every way on one device.

    Attributes:
        shape: of the encoder.
        memory: of the device.
        lengths: of the segments.
        tokens: of the micro-batch whose peak is shown.
        ways: in the order of :func:`~metagene_classifier.memory.ways.plan_ways`.
    """

    shape: EncoderShape
    memory: DeviceMemory
    lengths: Lengths
    tokens: int
    ways: tuple[WayPlan, ...]


def make_plan(
    shape: EncoderShape,
    *,
    facts: StepFacts,
    memory: DeviceMemory,
    lengths: Lengths,
    max_tokens: int | None = None,
    measured: Sequence[Throughput] = (),
    ranks: int = 1,
    strands: int = 1,
) -> MemoryPlan:
    """Work out every way.

    Args:
        shape: of the encoder.
        facts: what the ways have in common.
        memory: of the device.
        lengths: of the segments.
        max_tokens: of the micro-batch whose peak is wanted; by default it is one longest read.
        measured: throughput that is known.
        ranks: devices of that memory, among which weights can be shared out.
        strands: of a read that one micro-batch of training takes.
    """
    learning = replace(lengths, strands=strands)
    tokens = max(learning.least, max_tokens or 0)
    device = memory.card.name if memory.card is not None else memory.name
    rows = []
    for way in plan_ways(ranks):
        if way.offload and (memory.kind != "cuda" or not shape.exact):
            continue  # checkpoints are in the host's memory as it is, or layers may not be checkpointed one by one
        of_way = learning if way.learns in ("adapter", "all") else lengths
        need = need_of(shape, way, facts, memory, of_way, tokens)
        most = largest_budget(shape, way, facts, memory, of_way)
        speed = tokens_per_second(
            measured, device=device, way=way.name, parameters=shape.parameters, tokens_per_read=lengths.mean
        )
        rows.append(
            WayPlan(
                way=way,
                need=need,
                fits=fits(need, memory),
                max_tokens=most,
                max_reads=of_way.reads_in(most) if most is not None else None,
                tokens_per_s=speed,
                seconds_per_million_reads=1e6 * of_way.strands * lengths.mean / speed if speed is not None else None,
            )
        )
    return MemoryPlan(shape, memory, lengths, tokens, tuple(rows))
