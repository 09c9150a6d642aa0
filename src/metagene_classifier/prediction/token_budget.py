"""How many tokens go through the encoder at once in prediction: as asked, or what fits beside the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from metagene_classifier.batching.micro_batches import Layout
from metagene_classifier.errors import EncoderError
from metagene_classifier.memory.budget import Lengths, fits, largest_budget, need_of
from metagene_classifier.memory.device import DeviceMemory, device_memory
from metagene_classifier.memory.shape import encoder_shape
from metagene_classifier.memory.units import gib_text
from metagene_classifier.memory.ways import StepFacts, Way
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.devices import dtype_name
from metagene_classifier.model.out_of_memory import DeviceMemoryError, TokenBudget
from metagene_classifier.model.quantization import Quantization, quantization_of

__all__ = ["DEFAULT_MAX_TOKENS", "budget_for", "check_encoder_fits", "tokens_asked", "tokens_beside"]

# Tokens at once where nobody has said otherwise and they fit; benchmarks/predict_throughput.py compares others.
DEFAULT_MAX_TOKENS = {"cuda": 32768, "mps": 8192, "cpu": 2048}


def tokens_asked(batch_size: int | None, max_tokens: int | None, max_length: int) -> int | None:
    """Tokens at once: as given, or those of ``batch_size`` reads of full length; ``None`` where neither was."""
    if max_tokens is not None or batch_size is None:
        return max_tokens
    return batch_size * max_length


def budget_for(
    classifier: ReadClassifier,
    *,
    asked: int | None,
    longest: int,
    layout: Layout,
    device: torch.device,
    tell: Callable[[str], None],
) -> TokenBudget:
    """The token budget of a loaded model.

    Args:
        classifier: on its device.
        asked: what the user set; kept.
        longest: tokens of the longest segment.
        layout: how segments lie in a micro-batch.
        device: of the classifier.
        tell: called with a line when the budget goes down later.
    """
    tokens = asked
    if tokens is None:
        tokens = DEFAULT_MAX_TOKENS[device.type]
        if device.type == "cuda":
            tokens = min(tokens, tokens_beside(classifier, device_memory(device, None), longest=longest, layout=layout))
    return TokenBudget(tokens, tell, lambda one: "use --quantization nf4, or another device")


def check_encoder_fits(
    config: Mapping[str, Any],
    *,
    name: str,
    quantization: Quantization,
    weights: torch.dtype,
    compute: torch.dtype,
    longest: int,
    memory: DeviceMemory,
) -> None:
    """Refuse a card that cannot hold the encoder and one longest segment, before any weight is loaded.

    Args:
        config: the encoder's ``config.json``.
        name: of the encoder.
        quantization: that it is to be loaded with.
        weights: format of what is not quantized.
        compute: format of the arithmetic.
        longest: tokens of the longest segment.
        memory: of the device. What other kinds than cards lack is paged, slowly, and not refused.

    Raises:
        DeviceMemoryError: it does not fit; the line says what would.
    """
    if memory.kind != "cuda":
        return
    try:
        shape = encoder_shape(config, name=name)
    except EncoderError:
        return
    bytes_each = 4 if weights is torch.float32 else 2
    facts = StepFacts(weight_bytes=bytes_each, compute=dtype_name(compute), classes=1)
    formats: tuple[Quantization, ...] = ("none", "int8", "nf4")
    needs = {
        each: need_of(shape, Way("nothing", each), facts, memory, Lengths(longest, longest), longest)
        for each in formats
    }
    if fits(needs[quantization], memory):
        return
    fitting = [each for each in formats if fits(needs[each], memory)]
    mend = f"--quantization {fitting[0]} fits" if fitting else "nothing fits: use --device cpu or another card"
    raise DeviceMemoryError(
        f"{name} takes {gib_text(needs[quantization].peak)} GiB to be run and {gib_text(memory.bytes)} are there "
        f"({memory.name}): {mend}"
    )


def tokens_beside(classifier: ReadClassifier, free: DeviceMemory, *, longest: int, layout: Layout) -> int:
    """The most tokens at once that fit beside weights that are loaded, and at least one longest segment.

    Args:
        classifier: loaded.
        free: what is left on its device.
        longest: tokens of the longest segment.
        layout: how segments lie in a micro-batch.
    """
    transformer: Any = classifier.transformer
    quantization = quantization_of(transformer)
    compute = dtype_name(classifier.compute_dtype)
    try:
        shape = encoder_shape(transformer.config.to_dict(), name=type(transformer).__name__)
    except EncoderError:
        return DEFAULT_MAX_TOKENS[free.kind]  # nothing is known of it; a budget that is too large goes down by itself
    facts = StepFacts(
        weight_bytes=4 if compute == "float32" else 2,
        compute=compute,
        classes=classifier.head.out_features if classifier.head is not None else 1,
        attention="varlen" if layout == "packed" else "sdpa",
    )
    way, lengths = Way("nothing", quantization), Lengths(longest, longest)
    parts = need_of(shape, way, facts, free, lengths, longest).parts
    with_weights = replace(free, bytes=free.bytes + parts.weights + parts.adapters_and_head)
    return largest_budget(shape, way, facts, with_weights, lengths) or longest
