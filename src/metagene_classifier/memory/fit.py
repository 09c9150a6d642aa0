"""What ``training.fit: auto`` does: of the ways that fit the device, the one with the most faithful weights.

Only quantization, checkpointing and the micro-batch are ever chosen, never what is learned, and nothing that was set.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from metagene_classifier.errors import ConfigError
from metagene_classifier.memory.budget import Lengths, Need, fits, largest_budget, need_of
from metagene_classifier.memory.device import DeviceMemory
from metagene_classifier.memory.shape import EncoderShape
from metagene_classifier.memory.units import GIB, gib_text
from metagene_classifier.memory.ways import Learns, Quantization, StepFacts, Way

__all__ = ["CannotFit", "FitChoice", "FitRequest", "candidate_ways", "choose_fit"]


@dataclass(frozen=True)
class FitRequest:
    """What the configuration says, ``auto`` where it leaves the choice.

    Attributes:
        learns: ``adapter``, ``all`` or ``head``; never chosen.
        quantization: ``model.quantization``.
        checkpointing: ``model.gradient_checkpointing``.
        checkpoint_every: ``model.checkpoint_every``; with checkpointing asked for, ``auto`` is every layer.
        checkpoint_offload: ``model.checkpoint_offload``.
        max_tokens: ``training.max_tokens``.
        reads_per_step: of an optimizer step, on one device: no micro-batch can have more. A head alone learns from
            embeddings, which are made for all reads at once.
        parallel: ``training.parallel``: whether ranks share the encoder's weights out.
        ranks: that there are.
        strands: of a read that one micro-batch takes.
    """

    learns: Learns
    quantization: Quantization | Literal["auto"] = "auto"
    checkpointing: bool | Literal["auto"] = "auto"
    checkpoint_every: int | Literal["auto"] = "auto"
    checkpoint_offload: bool | Literal["auto"] = "auto"
    max_tokens: int | Literal["auto"] = "auto"
    reads_per_step: int = 128
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    ranks: int = 1
    strands: int = 1

    @property
    def freest(self) -> FitRequest:
        """The same with everything left to choose."""
        return FitRequest(self.learns, reads_per_step=self.reads_per_step, ranks=self.ranks, strands=self.strands)

    @property
    def most_reads(self) -> int | None:
        """Of a micro-batch; ``None`` for any number."""
        return None if self.learns == "head" else self.reads_per_step

    def settings(self) -> list[str]:
        """The keys that were set, as a user would write them."""
        asked = {
            "model.quantization": self.quantization,
            "model.gradient_checkpointing": self.checkpointing,
            "model.checkpoint_every": self.checkpoint_every,
            "model.checkpoint_offload": self.checkpoint_offload,
            "training.max_tokens": self.max_tokens,
            "training.parallel": self.parallel if self.ranks > 1 else "auto",
        }
        return [f"{key}: {str(value).lower()}" for key, value in asked.items() if value != "auto"]


class CannotFit(ConfigError):
    """What was asked for takes more than the device has.

    Attributes:
        takes: what it takes and what is there, without what would fit.
    """

    def __init__(self, takes: str, mend: str) -> None:
        super().__init__(f"{takes}: {mend}")
        self.takes = takes


@dataclass(frozen=True)
class FitChoice:
    """How a run will use the device.

    Attributes:
        way: quantization and checkpointing.
        max_tokens: of a micro-batch; never more than an optimizer step has.
        need: what such a micro-batch takes.
        memory: of the device.
        lengths: of the segments.
        facts: what the way does not decide.
        instead: the way before it, and what that takes for the least micro-batch; ``None`` when it is the first.
        instead_tokens: of that micro-batch.
        most_reads: of a micro-batch; ``None`` for any number.
    """

    way: Way
    max_tokens: int
    need: Need
    memory: DeviceMemory
    lengths: Lengths
    facts: StepFacts
    instead: tuple[Way, Need] | None = None
    instead_tokens: int = 0
    most_reads: int | None = None

    @property
    def quantization(self) -> Quantization:
        """For ``model.quantization``."""
        return self.way.quantization

    @property
    def gradient_checkpointing(self) -> bool:
        """For ``model.gradient_checkpointing``."""
        return self.way.checkpoint_every > 0

    @property
    def checkpoint_every(self) -> int:
        """For ``model.checkpoint_every``."""
        return max(1, self.way.checkpoint_every)

    @property
    def checkpoint_offload(self) -> bool:
        """For ``model.checkpoint_offload``."""
        return self.way.offload

    def line(self) -> str:
        """What was chosen and why."""
        reads = self.lengths.reads_in(self.max_tokens)
        reads = reads if self.most_reads is None else min(reads, self.most_reads)
        both = " on both strands" if self.lengths.strands > 1 else ""
        batch = f"{reads:,} read{'s' * (reads > 1)} of {self.lengths.mean:.0f}{both}"
        host = f" and {gib_text(self.need.host_bytes)} of the host's" if self.need.host_bytes else ""
        why = ""
        if self.instead is not None:
            way, need = self.instead
            what = "more than the host has" if need.peak <= self.memory.bytes else f"{gib_text(need.peak)} GiB"
            why = f"; {way.words(self.facts.compute)} takes {what} for {_batch(self.lengths, self.instead_tokens)}"
        return (
            f"plan: {self.way.words(self.facts.compute)}, {self.max_tokens:,} tokens at once ({batch}): "
            f"{gib_text(self.need.peak)} of {gib_text(self.memory.bytes)} GiB{host}{why}"
        )


def choose_fit(
    shape: EncoderShape, *, request: FitRequest, facts: StepFacts, memory: DeviceMemory, lengths: Lengths
) -> FitChoice:
    """The first way that fits, and the largest token budget that fits with it.

    A way fits when a micro-batch of one longest read does, or of ``max_tokens`` where that was set. The order:
    weights as they are, then int8, then NF4; for each whole on every rank, then shared out over the ranks; for each
    without checkpointing, with as few layers checkpointed as will
    do, with all, and with the checkpoints in the host's memory.

    Args:
        shape: of the encoder.
        request: what was set, and what is to be chosen.
        facts: of the run; what the way does not decide.
        memory: of the device.
        lengths: of the run's segments.

    Raises:
        CannotFit: what was set cannot fit, or nothing does; the line says what would.
        ConfigError: weights that all learn are to be quantized.
    """
    lengths = replace(lengths, strands=request.strands)
    ways = list(candidate_ways(request, shape.layers - facts.freeze_layers, memory, one_by_one=shape.exact))
    if not ways and request.learns != "all":
        raise ConfigError(
            f"training.parallel: fsdp with model.quantization: {request.quantization}: int8 weights cannot be shared "
            "out: use nf4, or ddp"
        )
    if not ways:
        raise ConfigError(
            f"model.quantization: {request.quantization}: weights that are all trained cannot be quantized: "
            "leave it out, or train adapters (model.lora)"
        )
    least = _least_tokens(request, lengths)
    refused: tuple[Way, Need] | None = None
    for way in ways:
        need = need_of(shape, way, facts, memory, lengths, least)
        if not fits(need, memory):
            if way.checkpoint_every <= 1:  # of those in between, none says more than its neighbours
                refused = (way, need)
            continue
        if request.max_tokens != "auto":
            tokens = _at_most(request, lengths, request.max_tokens)
            return FitChoice(way, tokens, need, memory, lengths, facts, refused, least, request.most_reads)
        budget = largest_budget(shape, way, facts, memory, lengths, reads_per_step=request.most_reads) or least
        need = need_of(shape, way, facts, memory, lengths, budget)
        return FitChoice(way, budget, need, memory, lengths, facts, refused, least, request.most_reads)
    raise CannotFit(*_nothing_fits(shape, request, facts, memory, lengths, ways, least))


def candidate_ways(request: FitRequest, layers: int, memory: DeviceMemory, *, one_by_one: bool = True) -> Iterator[Way]:
    """The ways that a request leaves open, the most faithful first, and of those the one that computes least first.

    Args:
        request: what was set.
        layers: that learn.
        memory: of the device; checkpoints go to the host only from a card.
        one_by_one: whether layers are sure to be checkpointed each by itself; otherwise, all or none are.
    """
    quantizations: tuple[Quantization, ...] = ("none", "int8", "nf4")
    if request.quantization != "auto":
        quantizations = (request.quantization,)
    elif memory.kind == "mps":
        quantizations = ("none",)
    if request.learns == "all":
        quantizations = tuple(one for one in quantizations if one == "none")
    for quantization, ranks in ((one, ranks) for one in quantizations for ranks in _shared_over(request, one)):
        plain = Way(request.learns, quantization, ranks=ranks)
        if request.learns == "head" or request.checkpointing is False:
            yield plain
            continue
        if request.checkpointing == "auto":
            yield plain
        offloads = [False, True] if memory.kind == "cuda" and one_by_one else [False]
        if request.checkpoint_offload != "auto":
            offloads = [request.checkpoint_offload]
        for offload in offloads:
            for every in _steps(request, layers if one_by_one else 1, offload):
                yield replace(plain, checkpoint_every=every, offload=offload)


def _shared_over(request: FitRequest, quantization: Quantization) -> list[int]:
    """Over how many ranks the weights may be shared out, the fewest first; see ``training/parallel.py``."""
    if request.ranks == 1 or request.parallel == "ddp" or request.learns == "head":
        return [1]
    if request.parallel == "fsdp":
        return [request.ranks] if quantization != "int8" else []
    return [1, request.ranks] if quantization != "int8" else [1]


def _steps(request: FitRequest, layers: int, offload: bool) -> list[int]:
    """Every how many layers to checkpoint, the fewest checkpoints first."""
    if request.checkpoint_every != "auto":
        return [request.checkpoint_every]
    if request.checkpointing is True or (offload and request.checkpoint_offload == "auto"):
        return [1]
    return list(range(max(layers, 1), 0, -1))


def _least_tokens(request: FitRequest, lengths: Lengths) -> int:
    """Of the smallest micro-batch that the run can do with."""
    if request.max_tokens == "auto":
        return lengths.least
    return max(lengths.least, _at_most(request, lengths, request.max_tokens))


def _at_most(request: FitRequest, lengths: Lengths, tokens: int) -> int:
    return tokens if request.most_reads is None else min(tokens, request.most_reads * lengths.least)


def _batch(lengths: Lengths, tokens: int) -> str:
    return f"{lengths.strands} x {lengths.longest:,} tokens" if tokens == lengths.least else f"{tokens:,} tokens"


def _nothing_fits(
    shape: EncoderShape,
    request: FitRequest,
    facts: StepFacts,
    memory: DeviceMemory,
    lengths: Lengths,
    ways: list[Way],
    least: int,
) -> tuple[str, str]:
    """Of a request that cannot be met: what it takes and what is there; and what would fit."""
    needs = [(way, need_of(shape, way, facts, memory, lengths, least)) for way in ways]
    way, need = min(needs, key=lambda one: one[1].peak)
    asked = request.settings()
    what = way.words(facts.compute) + (f" ({', '.join(asked)})" if asked else "")
    if need.peak <= memory.bytes:
        takes, there = f"{_up(need.host_bytes)} GiB of the host's memory", _down(memory.host_bytes or 0)
    else:
        takes, there = f"{_up(need.peak)} GiB", _down(memory.bytes)
    line = f"{what} takes {takes} for {_batch(lengths, least)}, and {there} are there ({memory.name})"
    for looser in (replace(request, max_tokens="auto"), request.freest):
        if looser == request:
            continue
        try:
            choice = choose_fit(shape, request=looser, facts=facts, memory=memory, lengths=lengths)
        except ConfigError:
            continue
        others = [setting for setting in asked if not setting.startswith("training.max_tokens")]
        mend = "leave those settings out" if others and not looser.settings() else "lower training.max_tokens"
        return line, f"{choice.way.words(facts.compute)} fits with up to {choice.max_tokens:,} tokens at once: {mend}"
    every_way = candidate_ways(request.freest, shape.layers - facts.freeze_layers, memory, one_by_one=shape.exact)
    floor = min((need_of(shape, one, facts, memory, lengths, lengths.least) for one in every_way), key=_peak)
    weights = gib_text(floor.parts.weights)
    alone = f" (its weights alone take {weights})" if floor.parts.weights > memory.bytes else ""
    least_of_all = f", the least takes {_up(floor.peak)} GiB" if floor.peak < need.peak else ""
    return line, f"no way fits{least_of_all}{alone}{_what_takes_less(shape, request, facts, memory, lengths)}"


def _what_takes_less(
    shape: EncoderShape, request: FitRequest, facts: StepFacts, memory: DeviceMemory, lengths: Lengths
) -> str:
    if request.strands > 1:
        one = replace(request.freest, strands=1)
        with suppress(ConfigError):
            choose_fit(shape, request=one, facts=facts, memory=memory, lengths=lengths)
            return "; one strand at a time (training.reverse_complement: augment) fits"
    less: dict[Learns, tuple[Learns, str]] = {
        "all": ("adapter", "; adapters (model.lora, with model.init: pretrained) fit"),
        "adapter": ("head", "; the head alone (model.freeze: encoder) fits"),
    }
    if request.learns not in less:
        return ""
    learns, words = less[request.learns]
    ways = candidate_ways(replace(request.freest, learns=learns), shape.layers, memory, one_by_one=shape.exact)
    return (
        words if any(fits(need_of(shape, way, facts, memory, lengths, lengths.least), memory) for way in ways) else ""
    )


def _peak(need: Need) -> int:
    return need.peak


def _up(amount: int) -> str:
    return gib_text(amount) if amount < GIB else f"{math.ceil(amount / GIB * 10 - 1e-6) / 10:.1f}"


def _down(amount: int) -> str:
    return gib_text(amount) if amount < GIB else f"{math.floor(amount / GIB * 10 + 1e-6) / 10:.1f}"
