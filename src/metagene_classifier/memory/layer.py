"""What one layer of an encoder keeps for the backward pass, and what it needs in passing.

Llama's layer is followed operator by operator; any other gets a guess on the high side. docs/memory.md explains the
terms and gives their sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from metagene_classifier.memory.shape import EncoderShape, LinearShape

__all__ = ["Arithmetic", "Attention", "LayerBytes", "Quantization", "layer_bytes"]

Attention = Literal["varlen", "sdpa", "mask"]
Quantization = Literal["none", "int8", "nf4"]

FLOAT32 = 4
# LLM.int8 quantizes its input, sums products in int32, scales the sums to float16, and casts those.
INT8_INPUT, INT8_OUTPUT = 1, 4 + 2 + 2
# Scales of blocks of 64 weights are float32 while the weights are made again.
NF4_SCALES = FLOAT32 / 64


@dataclass(frozen=True)
class Arithmetic:
    """How an encoder's layers are computed.

    Attributes:
        stream: bytes of a hidden state between layers, which are those of a weight that is not quantized.
        compute: bytes of a value inside the layers.
        quantization: of the linear layers.
        attention: as :class:`StepSetup` has it.
        learns: whether the layers' own weights do.
        targets: linear layers with an adapter.
        rank: of the adapters.
        dropout: whether there is dropout before the adapters.
    """

    stream: int
    compute: int
    quantization: Quantization
    attention: Attention
    learns: bool
    targets: tuple[LinearShape, ...]
    rank: int
    dropout: bool

    @property
    def casts(self) -> bool:
        """Whether autocast copies weights and inputs of the linear layers."""
        return self.stream != self.compute

    def weight_in_forward(self, linear: LinearShape) -> int:
        """Bytes of the copy of a weight that is made to be multiplied with an input."""
        return 0 if self.quantization == "int8" else self.weight_in_backward(linear)

    def weight_in_backward(self, linear: LinearShape) -> int:
        """Bytes of the copy of a weight that is made to be multiplied with a gradient."""
        if self.quantization == "nf4":
            return int(linear.weights * (self.compute + NF4_SCALES))
        return self.compute * linear.weights if self.quantization == "int8" or self.casts else 0

    def new_gradient(self, linear: LinearShape) -> int:
        """Bytes of a weight's gradient before it is added to what earlier micro-batches gave."""
        return self.stream * linear.weights if self.learns else 0


@dataclass(frozen=True)
class LayerBytes:
    """Bytes of one layer with one micro-batch.

    Attributes:
        kept: from the forward pass for the backward pass.
        first_less: how much less the lowest layer keeps, whose input needs no gradient.
        given: its input, all that a checkpoint keeps.
        given_again: how much of ``given`` is counted in ``kept`` too.
        forward: in passing in the forward pass, above ``kept``.
        again: in passing in the recomputation of a checkpointed layer, above ``kept``. It ends with the last operator
            that keeps something.
        backward: in passing in the backward pass, above ``kept``.
        alone: in passing where nothing is kept, as in prediction.
    """

    kept: int
    first_less: int
    given: int
    given_again: int
    forward: int
    again: int
    backward: int
    alone: int


def layer_bytes(shape: EncoderShape, how: Arithmetic, *, tokens: int, longest: int) -> LayerBytes:
    """Bytes of one layer.

    Args:
        shape: of the encoder.
        how: the layer is computed.
        tokens: of the micro-batch, padding included.
        longest: tokens of its longest segment.
    """
    return _llama_layer(shape, how, tokens) if shape.exact else _any_layer(shape, how, tokens, longest)


def _llama_layer(shape: EncoderShape, how: Arithmetic, tokens: int) -> LayerBytes:
    c, s = how.compute, how.stream
    hidden, wide = tokens * shape.hidden, tokens * shape.intermediate
    linears = {linear.name.rsplit(".", 1)[-1]: linear for linear in shape.linears}
    targeted = {linear.name.rsplit(".", 1)[-1] for linear in how.targets}
    up, down = linears["up_proj"], linears["down_proj"]
    mlp_input = _kept_input(how, hidden, {"gate_proj", "up_proj"}, targeted)
    product = c * wide if how.learns or "down_proj" in targeted else 0
    kept = _kept_by_attention(shape, how, tokens, targeted) + _kept_by_weights(shape, how)
    # RMSNorm keeps its input in float32 and a number a token, and what its weight scales where that learns.
    kept += 2 * (FLOAT32 * hidden + FLOAT32 * tokens + (s * hidden if how.learns else 0))
    kept += mlp_input + 3 * c * wide + product + tokens * c * how.rank * len(how.targets)

    # While the MLP runs, the sum that its output is added to is held, and its input.
    around = s * hidden + (0 if mlp_input and not how.casts else s * hidden)
    adapter_up, adapter_down = "up_proj" in targeted, "down_proj" in targeted
    # Copies of weights that autocast makes are counted with what is kept.
    up_copy, down_copy = (0, 0) if how.casts else (how.weight_in_forward(up), how.weight_in_forward(down))
    to_up = _made(how, hidden, wide, up_copy, adapter_up) - c * wide - product
    to_down = _made(how, wide, hidden, down_copy, adapter_down)
    dropped = (c + 1) * wide if adapter_down and how.dropout else 0
    forward = around + max(to_up, to_down + (0 if product else c * wide), c * hidden + dropped)
    again = s * hidden + around
    if adapter_down or how.learns:
        again += max(to_up, to_down, c * hidden + dropped)
    else:
        # Quantized weights are no saved tensors, so the last product's gradient is there before they are asked for.
        again += to_up + (c * wide if how.quantization != "none" else 0)

    cast = c * hidden if how.casts else 0
    through_adapter = c * hidden + (1 + 2 * c) * wide if dropped else 0
    # The adapter's share of the gradient is there by then, and what the adapter kept is gone.
    through_down = c * wide * (2 if adapter_down else 1) - product + how.weight_in_backward(down)
    if how.learns:
        # The copy that autocast made of a weight is gone before the gradient becomes as wide as the weight.
        new = how.new_gradient(down)
        through_down = c * wide + (max(c * down.weights, new - product) if how.casts else new)
    backward = s * hidden + max(3 * c * wide - product, cast + through_adapter, cast + through_down)

    # Nothing kept: the embedding, the layer's input, the sum and its norm are held while two of three wide values are.
    to_up = _made(how, hidden, wide, how.weight_in_forward(up), adapter_up)
    alone = 4 * s * hidden + max(3 * c * wide, c * wide + cast + to_up)
    # Or, while keys are rotated: queries, keys and values, rotated queries, and three terms of the rotated keys.
    queries, keys = tokens * shape.heads * shape.head_dim, tokens * shape.kv_heads * shape.head_dim
    rotation = c * (queries + 2 * keys) + s * max(3 * queries, queries + 3 * keys)
    alone = max(alone, 3 * s * hidden + rotation)
    copies = c * sum(linears[name].weights for name in ("q_proj", "k_proj", "v_proj")) if how.casts else 0
    return LayerBytes(
        kept=kept,
        first_less=0 if how.learns else FLOAT32 * hidden + copies,
        given=s * hidden,
        given_again=s * hidden if s == FLOAT32 else 0,
        forward=forward,
        again=again,
        backward=backward,
        alone=alone,
    )


def _kept_by_attention(shape: EncoderShape, how: Arithmetic, tokens: int, targeted: set[str]) -> int:
    """Its input where a linear layer needs it; queries, keys, values, output; a logarithm for each token and head."""
    queries, keys = tokens * shape.heads * shape.head_dim, tokens * shape.kv_heads * shape.head_dim
    if how.attention == "varlen":
        keys = queries  # the kernel is given shared keys and values once for each head
    kept = _kept_input(how, tokens * shape.hidden, {"q_proj", "k_proj", "v_proj"}, targeted)
    kept += how.compute * (2 * queries + 2 * keys) + FLOAT32 * tokens * shape.heads
    # The mask, made into numbers for each layer anew.
    return kept + (how.compute * tokens**2 if how.attention == "mask" else 0)


def _kept_by_weights(shape: EncoderShape, how: Arithmetic) -> int:
    """Autocast's copies of a layer's weights, and of those of its adapters that are multiplied last."""
    kept = how.compute * sum(linear.weights for linear in shape.linears) if how.casts else 0
    if how.compute < FLOAT32:
        kept += how.compute * how.rank * sum(linear.outputs for linear in how.targets)
    return kept


def _kept_input(how: Arithmetic, hidden: int, readers: set[str], targeted: set[str]) -> int:
    """What is kept of a norm's output for the linear layers that read it."""
    if how.learns:
        return how.compute * hidden * (len(readers) if how.casts else 1)
    return how.stream * hidden if readers & targeted else 0


def _made(how: Arithmetic, inputs: int, outputs: int, weight: int, adapter: bool) -> int:
    """What a linear layer holds while it makes its output: that, a copy of its weight, and what sums are made of."""
    int8 = how.quantization == "int8"
    base = weight + (INT8_INPUT * inputs + INT8_OUTPUT * outputs if int8 else how.compute * outputs)
    # Then its output, the adapter's, scaled, and their sum.
    return max(base, 3 * how.compute * outputs) if adapter else base


def _any_layer(shape: EncoderShape, how: Arithmetic, tokens: int, longest: int) -> LayerBytes:
    """A layer that keeps what goes into each linear layer and what comes out, whatever the layer is."""
    c, s = how.compute, how.stream
    hidden, wide = tokens * shape.hidden, tokens * shape.intermediate
    through = tokens * sum(linear.inputs + linear.outputs for linear in shape.linears)
    widest = tokens * max((max(linear.inputs, linear.outputs) for linear in shape.linears), default=shape.hidden)
    largest = max(shape.linears, key=lambda linear: linear.weights, default=LinearShape("", 1, 1))
    # Besides: two norms in float32, an activation in several operators, dropout's masks, and casts.
    kept = c * through + 4 * FLOAT32 * hidden + 4 * c * wide + 2 * (s + c + 1) * hidden
    kept += tokens * c * how.rank * len(how.targets)
    if how.casts:
        kept += c * shape.layer_parameters
    pairs = tokens * (tokens if how.attention == "mask" else longest)
    kept += c * pairs
    weight = how.weight_in_backward(largest) + how.new_gradient(largest)
    alone = 4 * c * widest + 6 * s * hidden + weight
    if how.quantization == "int8":
        alone += INT8_OUTPUT * widest
    by_pair = shape.heads * pairs
    if shape.eager_attention:
        alone += 3 * FLOAT32 * by_pair
    passing = alone
    if shape.eager_attention or shape.attention_dropout:
        # Softmax in float32, cast, dropped, and which were.
        kept += (FLOAT32 + 2 * c + 1) * by_pair
        passing += 3 * FLOAT32 * by_pair
    return LayerBytes(
        kept=kept,
        first_less=0,
        given=s * hidden,
        given_again=0,
        forward=passing,
        again=passing,
        backward=passing,
        alone=alone,
    )
