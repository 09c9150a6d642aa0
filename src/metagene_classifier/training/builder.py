"""A fresh classifier for a run: encoder, adapter and head, each in the number format that it trains in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from metagene_classifier.batching.micro_batches import Layout
from metagene_classifier.config import Config
from metagene_classifier.errors import ConfigError
from metagene_classifier.hub import lasting_name
from metagene_classifier.model.adapter import AdapterSettings, add_adapter
from metagene_classifier.model.checkpointing import checkpoint_layers, layers_of
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.devices import choose_dtypes
from metagene_classifier.model.dropout import TokenKeys
from metagene_classifier.model.encoder import EncoderSource, WeightProbe, load_encoder, weight_probe
from metagene_classifier.model.packing import choose_layout
from metagene_classifier.model.quantization import Quantization, quantization_of
from metagene_classifier.model.sharding import shard_encoder

__all__ = ["BuiltClassifier", "build_classifier", "set_training"]


@dataclass(frozen=True)
class BuiltClassifier:
    """A classifier about to be trained, and what must be remembered of how it was made."""

    classifier: ReadClassifier
    layout: Layout
    weights_dtype: torch.dtype
    quantization: Quantization
    probe: WeightProbe


def build_classifier(
    config: Config, *, classes: int, device: torch.device, tell: Callable[[str], None]
) -> BuiltClassifier:
    """Load the encoder, add what is trained, freeze the rest.

    Raises:
        ConfigError: settings that do not go together.
        EncoderError: the encoder cannot be loaded.
    """
    from accelerate import PartialState

    model = config.model
    learns = model.learns == "all"
    if model.init == "random" and model.lora.enabled:
        tell("model.init: random trains every weight of the encoder: model.lora is left aside")
    if learns and model.dtype == "float16":
        raise ConfigError(
            "model.dtype: float16 cannot be trained: its smallest steps are lost: use auto (trained weights in "
            "float32) or bfloat16"
        )
    weights, compute = choose_dtypes(
        asked=model.dtype,
        precision=config.training.precision,
        device=device,
        encoder_learns=learns,
        tell=tell,
    )
    source = EncoderSource(model.encoder_path, model.revision, model.init == "random", model.trust_remote_code)
    sharded = config.training.parallel == "fsdp"
    if sharded and learns and compute is torch.float16:
        raise ConfigError(
            "training.parallel: fsdp: an encoder that learns as a whole is not shared out in float16, which this card "
            "would need: train adapters (model.lora), or use a card with bfloat16"
        )
    encoder = load_encoder(
        source,
        dtype=weights,
        # What is to be shared out need not fit the device.
        device=torch.device("cpu") if sharded else device,
        seed=config.seed,
        quantization="none" if model.quantization == "auto" else model.quantization,
        compute_dtype=compute,
        tell=tell,
    )
    quantization = quantization_of(encoder)
    if learns and quantization != "none":
        raise ConfigError(
            f"model.encoder_path: the weights of {model.encoder_path} are quantized to {quantization} and cannot "
            "learn: train adapters (model.lora.enabled: true), or name the encoder that it was made from"
        )
    if sharded and quantization == "int8":
        raise ConfigError(
            f"training.parallel: fsdp: {model.encoder_path} is in int8, which cannot be shared out: use ddp"
        )
    probe = weight_probe(encoder)
    if not sharded:
        layout = choose_layout(encoder, config.training.layout, model.attention, compute, device)
    keys = TokenKeys()
    hidden_size = int(encoder.config.hidden_size)
    transformer = encoder
    frozen = _frozen_layers(encoder, model.freeze_layers)
    if model.learns == "adapter":
        lora = model.lora
        targets = lora.target_modules if isinstance(lora.target_modules, str) else tuple(lora.target_modules)
        settings = AdapterSettings(lora.r, lora.alpha, lora.dropout, targets, lora.bias, without=frozen)
        encoder = add_adapter(
            encoder, settings, encoder_name=lasting_name(model.encoder_path), keys=keys, seed=config.seed
        )
    elif not learns:
        encoder.requires_grad_(False)
    _freeze(transformer, frozen)
    if model.gradient_checkpointing is True and model.learns != "head":
        checkpoint_layers(
            transformer,
            every=1 if model.checkpoint_every == "auto" else model.checkpoint_every,
            offload=model.checkpoint_offload is True,
            first=model.freeze_layers,
        )
    torch.manual_seed(config.seed)
    classifier = ReadClassifier(
        encoder,
        hidden_size=hidden_size,
        classes=classes,
        pooling=model.pooling,
        dropout=model.dropout,
        keys=keys,
        compute_dtype=compute,
    )
    if sharded:
        PartialState(cpu=device.type == "cpu")  # which lets the ranks find one another
        shard_encoder(classifier, device=device, encoder_learns=learns)
        layout = choose_layout(classifier.encoder, config.training.layout, model.attention, compute, device)
    else:
        classifier.to(device)
    if config.training.torch_compile:
        transformer.compile(dynamic=True)
    return BuiltClassifier(classifier, layout, weights, quantization, probe)


def _frozen_layers(encoder: Any, count: int) -> tuple[str, ...]:
    """Names of the lowest layers."""
    layers = layers_of(encoder)
    if count and count >= len(layers):
        raise ConfigError(
            f"model.freeze_layers: {count}: this encoder has {len(layers) or 'no'} layers that can be told apart: "
            + ("freeze fewer, or train the head alone with model.freeze: encoder" if layers else "set it to 0")
        )
    return tuple(name for name, _ in layers[:count])


def _freeze(encoder: Any, layers: tuple[str, ...]) -> None:
    """Let nothing learn up to the last of these layers: what goes into the next one needs no gradient then."""
    if not layers:
        return
    stack = layers[0].rsplit(".", 1)[0]
    above = {name for name, _ in layers_of(encoder)} - set(layers)
    for name, weight in encoder.named_parameters():
        of_layer = ".".join(name.split(".")[: stack.count(".") + 2])
        if of_layer in layers or (of_layer not in above and _feeds_layers(name)):
            weight.requires_grad_(False)


def _feeds_layers(weight_name: str) -> bool:
    return "embed" in weight_name or weight_name.startswith(("wte", "wpe"))


def set_training(classifier: ReadClassifier, freeze: str) -> None:
    """Training mode for what is trained; an encoder that is frozen runs as it does in prediction, without dropout."""
    classifier.train()
    if freeze == "encoder":
        classifier.encoder.eval()
