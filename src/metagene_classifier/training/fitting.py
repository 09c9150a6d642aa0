"""``training.fit``: what a run leaves open of quantization, checkpointing and micro-batch, chosen for its device."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Literal

import numpy as np
import torch

from metagene_classifier.batching.framing import Framing
from metagene_classifier.config import Config
from metagene_classifier.errors import ConfigError, EncoderError
from metagene_classifier.hub import encoder_config_for
from metagene_classifier.memory.budget import MOST_TOKENS, Lengths, fits, need_of
from metagene_classifier.memory.device import DeviceMemory, device_memory
from metagene_classifier.memory.fit import CannotFit, FitChoice, FitRequest, candidate_ways, choose_fit
from metagene_classifier.memory.from_config import check_layers, fit_request, step_facts
from metagene_classifier.memory.reserve import CONTEXT_BYTES
from metagene_classifier.memory.shape import EncoderShape, encoder_shape
from metagene_classifier.memory.units import parse_memory
from metagene_classifier.model.quantization import quantization_in_files
from metagene_classifier.store.bits import CHUNK_READS
from metagene_classifier.store.selection import Selection
from metagene_classifier.training.data import TrainingData
from metagene_classifier.training.parallel import ranks

__all__ = ["UNPLANNED_TOKENS", "Fitted", "fit_to_device"]

# Tokens of a micro-batch where no plan was made. METAGENE-1 with adapters keeps about 8 MiB a token without
# checkpointing, so on CUDA this is what a 24 GB card holds beside the weights.
UNPLANNED_TOKENS = {"cuda": 1024, "mps": MOST_TOKENS["mps"], "cpu": MOST_TOKENS["cpu"]}


@dataclass(frozen=True)
class Fitted:
    """A configuration in which nothing that decides memory is open any more.

    Attributes:
        config: of the run.
        max_tokens: tokens of a micro-batch.
        line: what was chosen and why; empty where no plan was made.
        advice: what would hold one read of so many tokens, for a run whose plan was wrong.
    """

    config: Config
    max_tokens: int
    line: str
    advice: Callable[[int], str]


def fit_to_device(
    config: Config,
    data: TrainingData,
    device: torch.device,
    tell: Callable[[str], None],
    *,
    before: int | None = None,
    begun: bool = False,
) -> Fitted:
    """Choose what is ``auto`` from the plan of what fits, before any weight is loaded.

    Only quantization, checkpointing and the micro-batch are chosen, so a step covers the same reads on any device. On
    several ranks all choose by the device with the least memory.

    Args:
        config: of the run; what it sets is kept.
        data: the reads, whose lengths count.
        device: of this rank.
        tell: called with the choice and its reason.
        before: tokens of a micro-batch in the run that is resumed; kept where they fit, for the same last digits.
        begun: whether the quantization is not the user's setting but the one that the resumed run began with.

    Raises:
        ConfigError: what is set cannot fit, or nothing does; the line says what would.
    """
    _limit(device, config.training.memory_limit)
    if config.training.fit == "off":
        return _unplanned(config, device, before)
    model = config.model
    facts = encoder_config_for(model.encoder_path, model.revision, trust_remote_code=model.trust_remote_code)
    try:
        shape = encoder_shape(facts, name=model.encoder_path)
        in_files = quantization_in_files(SimpleNamespace(**facts), model.encoder_path)
    except EncoderError as error:
        tell(f"no plan of memory was made: {error}")
        return _unplanned(config, device, before)
    check_layers(model, shape)
    memory = _least_memory(device, config.training.memory_limit)
    request, lengths = fit_request(config, ranks=ranks()), lengths_of(data, padded=config.training.layout == "padded")
    if in_files != "none" and request.quantization in ("auto", "none"):
        request = replace(request, quantization=in_files)
    step = step_facts(config, kind=memory.kind, bfloat16=memory.bfloat16, classes=len(data.labels))

    def chosen(max_tokens: int | Literal["auto"]) -> FitChoice:
        asked = replace(request, max_tokens=max_tokens)
        return choose_fit(shape, request=asked, facts=step, memory=memory, lengths=lengths)

    choice = None
    if before is not None and request.max_tokens == "auto":
        with contextlib.suppress(ConfigError):
            choice = chosen(before)
    try:
        choice = choice or chosen(request.max_tokens)
    except CannotFit as error:
        if begun:
            raise ConfigError(
                f"{error.takes}: the run began with model.quantization: {request.quantization}, which --resume keeps: "
                "give it more memory, or start again with --overwrite"
            ) from error
        sure = "" if shape.exact else " (an estimate for this architecture)"
        raise ConfigError(f"{error}{sure}; training.fit: off tries it all the same") from error
    line = choice.line()
    tell(line)
    return Fitted(
        config=_with(
            config,
            quantization="none" if in_files != "none" else choice.quantization,
            gradient_checkpointing=choice.gradient_checkpointing,
            checkpoint_every=choice.checkpoint_every,
            checkpoint_offload=choice.checkpoint_offload,
            parallel="fsdp" if choice.way.ranks > 1 else "ddp",
        ),
        max_tokens=choice.max_tokens,
        line=line.removeprefix("plan: "),
        advice=lambda tokens: _lesser_way(shape, choice, request, tokens),
    )


def lengths_of(data: TrainingData, *, padded: bool) -> Lengths:
    """How long the segments of a run's reads are, special tokens, and with ``padded`` padding, included."""
    if padded:
        return Lengths(longest=data.framing.max_length, mean=data.framing.max_length)
    longest, total, reads = 1, 0, 0
    for selection in (data.train, data.validation):
        if len(selection):
            longest = max(longest, int(data.framing.segment_tokens(np.array(selection.longest))))
            total += _segment_tokens(selection, data.framing)
            reads += len(selection)
    return Lengths(longest=longest, mean=max(1.0, total / max(reads, 1)))


def _segment_tokens(selection: Selection, framing: Framing) -> int:
    """Tokens of a segment of each read, summed; the store is scanned only where reads are longer than one."""
    if selection.longest <= framing.capacity:
        return selection.total_tokens + len(selection) * (framing.max_length - framing.capacity)
    total, store = 0, selection.store
    for first in range(0, len(store), CHUNK_READS):
        end = min(first + CHUNK_READS, len(store))
        total += int(framing.segment_tokens(store.columns(first, end).lengths[selection.mask(first, end)]).sum())
    return total


def _unplanned(config: Config, device: torch.device, before: int | None) -> Fitted:
    """What is open gets the value that changes least."""
    model, asked = config.model, config.training.max_tokens
    return Fitted(
        config=_with(
            config,
            quantization="none" if model.quantization == "auto" else model.quantization,
            gradient_checkpointing=model.gradient_checkpointing is True,
            checkpoint_every=1 if model.checkpoint_every == "auto" else model.checkpoint_every,
            checkpoint_offload=model.checkpoint_offload is True,
            parallel="fsdp" if config.training.parallel == "fsdp" and ranks() > 1 else "ddp",
        ),
        max_tokens=(before or UNPLANNED_TOKENS[device.type]) if asked == "auto" else asked,
        line="",
        advice=lambda tokens: "'mgc plan' shows what would hold it, and training.fit: auto chooses it",
    )


def _with(config: Config, *, parallel: str = "ddp", **model: object) -> Config:
    training = config.training.model_copy(update={"parallel": parallel})
    return config.model_copy(update={"model": config.model.model_copy(update=model), "training": training})


def _least_memory(device: torch.device, limit: str | None) -> DeviceMemory:
    """Of all ranks, so that they make the same choice."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device_memory(device, limit)
    from accelerate import PartialState
    from accelerate.utils import gather_object

    PartialState(cpu=device.type == "cpu")
    gather_object([0])  # what the exchange between ranks takes of a card is taken before its memory is looked at
    gathered: list[DeviceMemory] = gather_object([device_memory(device, limit)])
    return min(gathered, key=lambda one: one.bytes)


def _limit(device: torch.device, limit: str | None) -> None:
    """Hold the allocator to the limit; on CUDA the context has its part of it."""
    if limit is None or device.type not in ("cuda", "mps"):
        return
    most = parse_memory(limit, "training.memory_limit")
    if device.type == "mps":
        torch.mps.set_per_process_memory_fraction(min(1.0, most / torch.mps.recommended_max_memory()))
        return
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, max((most - CONTEXT_BYTES) / total, 0.0)), device)


def _lesser_way(shape: EncoderShape, choice: FitChoice, request: FitRequest, tokens: int) -> str:
    """The next way that takes less than the one that failed."""
    of_strand = -(-tokens // request.strands)
    lengths = Lengths(longest=of_strand, mean=of_strand, strands=request.strands)
    failed = need_of(shape, choice.way, choice.facts, choice.memory, lengths, tokens)
    free = FitRequest(
        request.learns,
        reads_per_step=request.reads_per_step,
        ranks=request.ranks,
        parallel=request.parallel,
        strands=request.strands,
    )
    layers = shape.layers - choice.facts.freeze_layers
    for way in candidate_ways(free, layers, choice.memory, one_by_one=shape.exact):
        need = need_of(shape, way, choice.facts, choice.memory, lengths, tokens)
        if need.peak < 0.9 * failed.peak and fits(need, choice.memory):
            settings = [f"model.quantization: {way.quantization}"] if way.quantization != choice.quantization else []
            if way.checkpoint_every:
                settings += ["model.gradient_checkpointing: true", f"model.checkpoint_every: {way.checkpoint_every}"]
            settings += ["model.checkpoint_offload: true"] if way.offload else []
            settings += ["training.parallel: fsdp"] if way.ranks > choice.way.ranks else []
            return f"{way.words(choice.facts.compute)} takes less: set {', '.join(settings)} ('mgc plan' shows all)"
    return "nothing takes much less: use a shorter tokenizer.max_length or another card ('mgc plan' shows all)"
