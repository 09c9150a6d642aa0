"""How much memory a step takes, part by part, by arithmetic alone. The formulas are explained in docs/memory.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from metagene_classifier.memory.layer import FLOAT32, Arithmetic, Attention, LayerBytes, Quantization, layer_bytes
from metagene_classifier.memory.shape import EncoderShape

__all__ = ["MemoryParts", "StepSetup", "memory_parts"]

Learns = Literal["adapter", "all", "head", "nothing"]
Optimizer = Literal["adamw", "adamw_8bit", "paged_adamw_8bit"]

# bitsandbytes' codes: 16 and 256 float32 values, and the offset.
NF4_TABLES = FLOAT32 * (16 + 256 + 1)
# Masks of dropout are rows of a bank for each width (model/dropout.py).
BANK_ROWS = 1024


@dataclass(frozen=True)
class StepSetup:
    """How a step is computed.

    Attributes:
        learns: ``adapter`` (and head), ``all`` weights, the ``head`` alone from stored embeddings (the encoder's own
            pass over the reads is then the peak), or ``nothing``: prediction.
        weights_bytes: of a weight that is not quantized.
        compute_bytes: of a value in the encoder's arithmetic; autocast is on where it is not 4.
        quantization: of the linear layers' weights.
        checkpoint_every: of so many layers one is checkpointed; 0 is none, 1 all of them.
        checkpoint_offload: whether checkpoints lie in the host's memory.
        lora_r: rank of the adapters.
        lora_targets: the last parts of linear layers' names, or ``all-linear``.
        lora_dropout: whether there is dropout before the adapters.
        optimizer: as the configuration names it.
        classes: outputs of the head.
        attention: ``varlen`` (packed, by a kernel that knows segments), ``sdpa`` (a row a segment, no mask) or
            ``mask`` (packed under a mask over all pairs of tokens).
        freeze_layers: the lowest layers that learn nothing.
        ranks: over which the encoder's weights are shared out.
    """

    learns: Learns = "adapter"
    weights_bytes: int = 2
    compute_bytes: int = 2
    quantization: Quantization = "none"
    checkpoint_every: int = 0
    checkpoint_offload: bool = False
    lora_r: int = 8
    lora_targets: tuple[str, ...] | str = ("q_proj", "k_proj", "v_proj", "o_proj")
    lora_dropout: bool = True
    optimizer: Optimizer = "adamw"
    classes: int = 2
    attention: Attention = "sdpa"
    freeze_layers: int = 0
    ranks: int = 1


@dataclass(frozen=True)
class MemoryParts:
    """Bytes of tensors at the moment of a step when they are most.

    Attributes:
        weights: of the encoder.
        adapters_and_head: what is added to it, and the masks of dropout.
        gradients: of what learns.
        optimizer: its state.
        activations: what is kept for the backward pass.
        temporary: what is in passing.
    """

    weights: int
    adapters_and_head: int
    gradients: int
    optimizer: int
    activations: int
    temporary: int

    @property
    def tensor_peak(self) -> int:
        """All parts together."""
        return (
            self.weights + self.adapters_and_head + self.gradients + self.optimizer + self.activations + self.temporary
        )


# While one layer is computed the next one is gathered; of what is gathered there is a second copy, in the order in
# which it came, while it is put in place.
GATHERED_LAYERS = 3


def memory_parts(shape: EncoderShape, setup: StepSetup, *, tokens: int, segments: int, longest: int) -> MemoryParts:
    """Bytes of a step, or of prediction, at its peak.

    A step is taken to have several micro-batches, so gradients of earlier ones are there while one runs.

    Args:
        shape: of the encoder.
        setup: how the step is computed.
        tokens: of the micro-batch, padding included.
        segments: reads, or windows of long ones, in it.
        longest: tokens of the longest segment.
    """
    weights = _weights(shape, setup)
    added, gradients, states = _learning(shape, setup)
    if setup.ranks > 1:
        weights, gradients, states = _shared_out(shape, setup, weights, gradients, states)
    batch = _batch(shape, setup, tokens, segments, longest)
    layer = layer_bytes(shape, _arithmetic(shape, setup), tokens=tokens, longest=longest)
    if setup.learns in ("head", "nothing"):
        passing = max(layer.alone, _last_norm_alone(shape, setup, tokens)) + batch
        return MemoryParts(weights, added, gradients, states, 0, passing)
    kept, passing = _most(layer, setup, shape, tokens)
    return MemoryParts(weights, added, gradients, states, kept + batch, passing)


def _weights(shape: EncoderShape, setup: StepSetup) -> int:
    plain = (shape.parameters - shape.quantizable_parameters) * setup.weights_bytes
    if setup.quantization == "none":
        return plain + shape.quantizable_parameters * setup.weights_bytes
    if setup.quantization == "int8":
        rows = shape.layers * sum(linear.outputs for linear in shape.linears)
        return plain + shape.quantizable_parameters + FLOAT32 * rows
    # Half a byte; a byte for each block of 64; a float32 for each 256 of those; and two tables for each layer.
    of_layer = sum(
        -(-linear.weights // 2) + -(-linear.weights // 64) + FLOAT32 * -(-linear.weights // (64 * 256)) + NF4_TABLES
        for linear in shape.linears
    )
    return plain + shape.layers * of_layer


def _shared_out(
    shape: EncoderShape, setup: StepSetup, weights: int, gradients: int, states: int
) -> tuple[int, int, int]:
    """A rank's part of what ranks share, and the layers that are gathered; adapters and head stay whole."""
    outside = shape.parameters - shape.layers * shape.layer_parameters
    quantized = setup.quantization != "none"
    # What 4-bit weights mean (a byte for each block, tables) is not shared out.
    meaning = weights - _bytes_held(shape, setup) if quantized else 0
    held = weights - meaning
    layer = (held - outside * setup.weights_bytes) // shape.layers
    gathered = GATHERED_LAYERS * layer + outside * setup.weights_bytes
    if setup.learns != "all":
        return -(-held // setup.ranks) + meaning + gathered, gradients, states
    # Gathered in the format of the arithmetic; gradients of two layers are whole before they are shared out.
    gathered = (GATHERED_LAYERS * shape.layer_parameters + outside) * setup.compute_bytes
    on_the_way = shape.layer_parameters * (setup.compute_bytes + 2 * FLOAT32)
    return (
        -(-held // setup.ranks) + gathered,
        -(-gradients // setup.ranks) + on_the_way,
        -(-states // setup.ranks),
    )


def _bytes_held(shape: EncoderShape, setup: StepSetup) -> int:
    """Of 4-bit weights themselves, and of all that is not quantized."""
    packed = shape.layers * sum(-(-linear.weights // 2) for linear in shape.linears)
    return packed + (shape.parameters - shape.quantizable_parameters) * setup.weights_bytes


def _learning(shape: EncoderShape, setup: StepSetup) -> tuple[int, int, int]:
    """Bytes of adapters and head, of gradients, and of the optimizer's state."""
    head = (shape.hidden + 1) * setup.classes
    adapters = 0
    if setup.learns == "adapter" or (setup.learns == "nothing" and setup.lora_r):
        layers = shape.layers - setup.freeze_layers
        targets = shape.targeted(setup.lora_targets)
        adapters = layers * setup.lora_r * sum(linear.inputs + linear.outputs for linear in targets)
    added = FLOAT32 * (adapters + head)
    if setup.learns in ("adapter", "all"):
        dropped = {shape.hidden}
        if setup.learns == "adapter" and setup.lora_dropout:
            dropped |= {linear.inputs for linear in shape.targeted(setup.lora_targets)}
        added += BANK_ROWS * sum(dropped)
    if setup.learns == "nothing":
        return added, 0, 0
    gradients = FLOAT32 * (head + (adapters if setup.learns == "adapter" else 0))
    values = head + (adapters if setup.learns == "adapter" else 0)
    if setup.learns == "all":
        frozen = setup.freeze_layers * shape.layer_parameters
        if setup.freeze_layers:
            frozen += shape.vocab * shape.hidden
        gradients += (shape.parameters - frozen) * setup.weights_bytes
        values += shape.parameters - frozen
    states = {"adamw": 2 * gradients, "adamw_8bit": values * 2 + values // 32, "paged_adamw_8bit": 0}
    return added, gradients, states[setup.optimizer]


def _arithmetic(shape: EncoderShape, setup: StepSetup) -> Arithmetic:
    adapters = setup.learns == "adapter" or (setup.learns == "nothing" and setup.lora_r > 0)
    return Arithmetic(
        stream=setup.weights_bytes,
        compute=setup.compute_bytes,
        quantization=setup.quantization,
        attention=setup.attention,
        learns=setup.learns == "all",
        targets=shape.targeted(setup.lora_targets) if adapters else (),
        rank=setup.lora_r,
        dropout=setup.lora_dropout,
    )


def _batch(shape: EncoderShape, setup: StepSetup, tokens: int, segments: int, longest: int) -> int:
    """Token ids, positions and keys of dropout; sines and cosines; the mask; pooled values and scores."""
    rows = tokens if setup.attention != "sdpa" else longest
    mask = tokens**2 if setup.attention == "mask" else 0
    pooled = segments * FLOAT32 * (2 * shape.hidden + 3 * setup.classes)
    return 3 * 8 * tokens + 2 * rows * shape.head_dim * setup.weights_bytes + mask + pooled


def _last_norm_alone(shape: EncoderShape, setup: StepSetup, tokens: int) -> int:
    """Embedding and last hidden state, and three float32 copies of that: the norm's, and pooling's."""
    return tokens * shape.hidden * (2 * setup.weights_bytes + 3 * FLOAT32)


def _last_norm_backward(shape: EncoderShape, setup: StepSetup, tokens: int) -> int:
    """What the norm above the layers keeps, and five float32 values of its backward pass."""
    scaled = setup.weights_bytes if setup.learns == "all" else 0
    return tokens * shape.hidden * (6 * FLOAT32 + scaled)


def _most(layer: LayerBytes, setup: StepSetup, shape: EncoderShape, tokens: int) -> tuple[int, int]:
    """Kept and passing bytes of activations at the moment when their sum is the most."""
    held = 0
    moments = []
    for number in range(setup.freeze_layers, shape.layers):
        first = number == setup.freeze_layers
        own = layer.kept - (layer.first_less if first else 0)
        above = number - setup.freeze_layers
        if setup.checkpoint_every and above % setup.checkpoint_every == 0:
            # The forward pass, and then the recomputation with the gradient of the layer's output at hand.
            moments.append((held, layer.alone))
            # What needs no gradient is not taken to the host. What is, comes back for the recomputation alone.
            offloaded = setup.checkpoint_offload and not first
            counted = 0 if first and layer.first_less else layer.given_again
            again = own if offloaded else layer.given + own - counted
            back = layer.given - layer.given_again if offloaded else 0
            moments.append((held + again, max(layer.backward, layer.again + back)))
            held += 0 if offloaded else layer.given
        else:
            held += own
            moments.append((held, max(layer.backward, layer.forward + 2 * layer.given)))
    moments.append((held, _last_norm_backward(shape, setup, tokens)))
    return max(moments, key=sum)
