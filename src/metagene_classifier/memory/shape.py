"""What memory depends on of an encoder: its sizes, read from ``config.json``. No weights, and nothing to fetch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metagene_classifier.errors import EncoderError

__all__ = ["EncoderShape", "LinearShape", "encoder_shape"]

# Architectures whose layers compute as Llama's do, with the key-value heads that their configurations mean where they
# name none (None: as many as there are heads), and whether q, k and v have biases (None: as attention_bias says).
_LLAMA_LIKE: dict[str, tuple[int | None, bool | None]] = {
    "llama": (None, None),
    "mistral": (8, False),
    "qwen2": (32, True),
}


@dataclass(frozen=True)
class LinearShape:
    """A linear layer inside each of an encoder's layers.

    Attributes:
        name: within the layer, as in ``self_attn.q_proj``.
        inputs: features that go in.
        outputs: features that come out.
        bias: whether it has one.
    """

    name: str
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def weights(self) -> int:
        """Values of its weight matrix."""
        return self.inputs * self.outputs


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of an encoder without its language-model head.

    Attributes:
        name: of the encoder, for messages.
        model_type: of its architecture, as transformers calls it.
        layers: how many there are.
        hidden: width of the hidden states.
        intermediate: width inside the MLP.
        heads: of attention.
        kv_heads: heads of keys and values; fewer than ``heads`` where they are shared.
        head_dim: width of a head.
        vocab: tokens that it knows.
        parameters: of the whole encoder.
        layer_parameters: of one layer, the mean where layers differ.
        quantizable_parameters: weights of the linear layers inside the layers.
        linears: linear layers of one layer, in the order in which they run.
        gated: whether the MLP multiplies two projections, as Llama's does.
        exact: whether what a step keeps and needs was derived for this architecture; otherwise it is a cautious guess.
        eager_attention: whether its attention knows no other form than with a number for each head and pair of tokens.
        attention_dropout: whether such numbers are dropped in training, which not every device does without them.
    """

    name: str
    model_type: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    parameters: int
    layer_parameters: int
    quantizable_parameters: int
    linears: tuple[LinearShape, ...]
    gated: bool
    exact: bool
    eager_attention: bool = False
    attention_dropout: bool = False

    def targeted(self, targets: tuple[str, ...] | str) -> tuple[LinearShape, ...]:
        """The linear layers of one layer that get an adapter.

        Args:
            targets: the last parts of their names, or ``all-linear``.
        """
        if isinstance(targets, str):
            return self.linears
        return tuple(
            linear for linear in self.linears if any(f".{linear.name}".endswith(f".{target}") for target in targets)
        )


def encoder_shape(config: Mapping[str, Any], *, name: str) -> EncoderShape:
    """The sizes of an encoder.

    Llama, Mistral and Qwen2 are counted from the numbers in their configuration. Any other architecture that
    transformers knows is built without weights (on torch's ``meta`` device) and counted.

    Args:
        config: its ``config.json``.
        name: of the encoder, for messages.

    Raises:
        EncoderError: the configuration lacks a number that is needed, or transformers cannot build the architecture.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise EncoderError(f"{name}: its config.json names no model_type: fetch or copy the encoder again")
    if model_type in _LLAMA_LIKE and config.get("hidden_act", "silu") in ("silu", "swish"):
        return _llama_shape(config, model_type, name)
    return _built_shape(config, model_type, name)


def _llama_shape(config: Mapping[str, Any], model_type: str, name: str) -> EncoderShape:
    default_kv_heads, default_bias = _LLAMA_LIKE[model_type]
    layers = _number(config, name, "num_hidden_layers")
    hidden = _number(config, name, "hidden_size")
    intermediate = _number(config, name, "intermediate_size")
    heads = _number(config, name, "num_attention_heads")
    vocab = _number(config, name, "vocab_size")
    has_kv_heads = config.get("num_key_value_heads") is not None
    kv_heads = _number(config, name, "num_key_value_heads") if has_kv_heads else default_kv_heads or heads
    head_dim = _number(config, name, "head_dim") if config.get("head_dim") is not None else hidden // heads
    in_bias = bool(config.get("attention_bias", False)) if default_bias is None else default_bias
    out_bias = bool(config.get("attention_bias", False)) if default_bias is None else False
    mlp_bias = model_type == "llama" and bool(config.get("mlp_bias", False))
    linears = (
        LinearShape("self_attn.q_proj", hidden, heads * head_dim, in_bias),
        LinearShape("self_attn.k_proj", hidden, kv_heads * head_dim, in_bias),
        LinearShape("self_attn.v_proj", hidden, kv_heads * head_dim, in_bias),
        LinearShape("self_attn.o_proj", heads * head_dim, hidden, out_bias),
        LinearShape("mlp.gate_proj", hidden, intermediate, mlp_bias),
        LinearShape("mlp.up_proj", hidden, intermediate, mlp_bias),
        LinearShape("mlp.down_proj", intermediate, hidden, mlp_bias),
    )
    in_linears = sum(linear.weights for linear in linears)
    of_layer = in_linears + sum(linear.outputs for linear in linears if linear.bias) + 2 * hidden
    return EncoderShape(
        name=name,
        model_type=model_type,
        layers=layers,
        hidden=hidden,
        intermediate=intermediate,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=vocab,
        parameters=vocab * hidden + layers * of_layer + hidden,
        layer_parameters=of_layer,
        quantizable_parameters=layers * in_linears,
        linears=linears,
        gated=True,
        exact=True,
    )


def _number(config: Mapping[str, Any], name: str, key: str) -> int:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        found = "lacks" if value is None else f"has {value!r} for"
        raise EncoderError(f"{name}: its config.json {found} {key}, a whole number above 0: fetch or copy it again")
    return value


def _built_shape(config: Mapping[str, Any], model_type: str, name: str) -> EncoderShape:
    import torch
    from transformers import AutoConfig, AutoModel
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from metagene_classifier.model.checkpointing import layers_of
    from metagene_classifier.model.quiet import quiet_transformers

    if model_type not in CONFIG_MAPPING:
        raise EncoderError(
            f"{name}: transformers knows no architecture {model_type!r}, so its memory cannot be told beforehand"
        )
    values = {key: value for key, value in config.items() if key not in ("model_type", "quantization_config")}
    try:
        with quiet_transformers(), torch.device("meta"):
            built = AutoConfig.for_model(model_type, **values)
            encoder = AutoModel.from_config(built)
    except Exception as error:  # each architecture checks its numbers in its own way
        first = " ".join(str(error).split())[:200]
        raise EncoderError(f"{name}: no {model_type} can be built from its config.json: {first}") from error
    layers = [layer for _, layer in layers_of(encoder)]
    linears = _linears_of(layers[0]) if layers else _linears_of(encoder)
    text = built.get_text_config()
    if not isinstance(getattr(text, "hidden_size", None), int):
        raise EncoderError(f"{name}: a {model_type} has no hidden states of one width, so it is no encoder of reads")
    hidden = text.hidden_size
    heads = int(getattr(text, "num_attention_heads", None) or 1)
    in_layers = sum(parameter.numel() for layer in layers for parameter in layer.parameters())
    widest = max((max(linear.inputs, linear.outputs) for linear in linears), default=hidden)
    return EncoderShape(
        name=name,
        model_type=model_type,
        layers=max(len(layers), 1),
        hidden=hidden,
        intermediate=int(getattr(text, "intermediate_size", None) or widest),
        heads=heads,
        kv_heads=int(getattr(text, "num_key_value_heads", None) or heads),
        head_dim=int(getattr(text, "head_dim", None) or max(hidden // heads, 1)),
        vocab=int(getattr(text, "vocab_size", None) or 1),
        parameters=sum(parameter.numel() for parameter in encoder.parameters()),
        layer_parameters=in_layers // len(layers) if layers else sum(p.numel() for p in encoder.parameters()),
        quantizable_parameters=sum(linear.weights for layer in layers or [encoder] for linear in _linears_of(layer)),
        linears=linears,
        gated=any("gate" in linear.name for linear in linears),
        exact=False,
        eager_attention=not getattr(encoder, "_supports_sdpa", False),
        attention_dropout=_drops_attention(text),
    )


def _drops_attention(config: Any) -> bool:
    """Whether single pairs of tokens are dropped in training, for which not every device has a kernel."""
    names = ("attention_probs_dropout_prob", "attn_pdrop", "attention_dropout")
    return any(getattr(config, name, None) for name in names)


def _linears_of(layer: Any) -> tuple[LinearShape, ...]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    found = []
    for path, module in layer.named_modules():
        if isinstance(module, nn.Linear):
            found.append(LinearShape(path, module.in_features, module.out_features, module.bias is not None))
        elif isinstance(module, Conv1D):  # its weight lies the other way round
            found.append(LinearShape(path, module.weight.shape[0], module.weight.shape[1], True))
    return tuple(found)
