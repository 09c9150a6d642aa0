"""The ways to run an encoder, from the one that changes nothing to the one that takes least."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from metagene_classifier.memory.parts import StepSetup

__all__ = ["Compute", "Learns", "Quantization", "StepFacts", "Way", "plan_ways", "setup_of"]

Compute = Literal["bfloat16", "float16", "float32"]
Learns = Literal["adapter", "all", "head", "nothing"]
Quantization = Literal["none", "int8", "nf4"]

_SHORT = {"bfloat16": "bf16", "float16": "fp16", "float32": "float32"}
_QUANTIZED = {"int8": "int8", "nf4": "NF4"}


@dataclass(frozen=True)
class Way:
    """One way to run an encoder; none of its settings but ``quantization`` changes a result.

    Attributes:
        learns: the adapter, all weights, the head alone, or nothing (prediction).
        quantization: of the encoder's linear layers.
        checkpoint_every: of so many layers one is checkpointed; 0 is none.
        offload: keep the checkpoints in the host's memory.
        ranks: over which the encoder's weights are shared out; 1 where every rank holds all of them.
    """

    learns: Learns
    quantization: Quantization = "none"
    checkpoint_every: int = 0
    offload: bool = False
    ranks: int = 1

    @property
    def name(self) -> str:
        """As in the plan: ``lora``, ``nf4+checkpointing``, ``head-only+int8``."""
        first = {"adapter": "lora", "all": "full", "head": "head-only", "nothing": "predict"}[self.learns]
        if self.quantization != "none":
            first = self.quantization if self.learns == "adapter" else f"{first}+{self.quantization}"
        every = {0: "", 1: "+checkpointing"}.get(self.checkpoint_every, f"+checkpointing/{self.checkpoint_every}")
        return first + ("+fsdp" if self.ranks > 1 else "") + every + ("+host" if self.offload else "")

    def words(self, compute: Compute) -> str:
        """The same for a line of text."""
        of = _QUANTIZED.get(self.quantization, _SHORT[compute])
        if self.learns == "head":
            return f"the head alone, encoder in {of}"
        if self.learns == "nothing":
            return f"prediction in {of}"
        what = f"{of} LoRA" if self.learns == "adapter" else f"full training in {of}"
        what += f" shared out over {self.ranks} ranks" if self.ranks > 1 else ""
        if self.checkpoint_every == 0:
            return f"{what} without checkpointing"
        layers = "" if self.checkpoint_every == 1 else f" of every {_ordinal(self.checkpoint_every)} layer"
        return f"{what} with checkpoint{'s' if self.offload else 'ing'}{layers}{' in host memory' * self.offload}"


@dataclass(frozen=True)
class StepFacts:
    """What of a step its way does not decide.

    Attributes:
        weight_bytes: of one weight that does not learn and is not quantized.
        learning_weight_bytes: of one weight of the encoder where it learns.
        compute: format of the arithmetic.
        lora_r: rank of the adapters.
        lora_targets: names of the layers that get one, or ``all-linear``.
        lora_dropout: whether there is dropout before them.
        optimizer: its name in the configuration.
        classes: outputs of the head.
        attention: ``varlen``, ``sdpa`` or ``mask`` (packed reads under a mask over all pairs of tokens).
        freeze_layers: the lowest layers that learn nothing.
    """

    weight_bytes: int = 2
    learning_weight_bytes: int = 4
    compute: Compute = "bfloat16"
    lora_r: int = 8
    lora_targets: tuple[str, ...] | Literal["all-linear"] = ("q_proj", "k_proj", "v_proj", "o_proj")
    lora_dropout: bool = True
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    classes: int = 100
    attention: Literal["varlen", "sdpa", "mask"] = "varlen"
    freeze_layers: int = 0

    @property
    def compute_bytes(self) -> int:
        """Of one value in the encoder's arithmetic."""
        return 4 if self.compute == "float32" else 2


def setup_of(way: Way, facts: StepFacts) -> StepSetup:
    """What the formulas of a step take."""
    return StepSetup(
        learns=way.learns,
        weights_bytes=facts.learning_weight_bytes if way.learns == "all" else facts.weight_bytes,
        compute_bytes=facts.compute_bytes,
        quantization=way.quantization,
        checkpoint_every=way.checkpoint_every,
        checkpoint_offload=way.offload,
        lora_r=facts.lora_r,
        lora_targets=facts.lora_targets,
        lora_dropout=facts.lora_dropout,
        optimizer=facts.optimizer,
        classes=facts.classes,
        attention=facts.attention,
        freeze_layers=facts.freeze_layers,
        ranks=way.ranks,
    )


def plan_ways(ranks: int = 1) -> Iterator[Way]:
    """The ways that a plan shows, in its order; on several ranks also those that share the weights out."""
    learning: tuple[tuple[Learns, Quantization], ...] = (
        ("all", "none"),
        ("adapter", "none"),
        ("adapter", "int8"),
        ("adapter", "nf4"),
    )
    for learns, quantization in learning:
        yield Way(learns, quantization)
        yield Way(learns, quantization, 1)
        yield Way(learns, quantization, 1, offload=True)
        if ranks > 1 and quantization != "int8":
            yield Way(learns, quantization, ranks=ranks)
            yield Way(learns, quantization, 1, ranks=ranks)
            yield Way(learns, quantization, 1, offload=True, ranks=ranks)
    others: tuple[Learns, ...] = ("head", "nothing")
    formats: tuple[Quantization, ...] = ("none", "int8", "nf4")
    for learns in others:
        for quantization in formats:
            yield Way(learns, quantization)


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
