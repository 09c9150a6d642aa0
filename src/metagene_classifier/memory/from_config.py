"""The edge of this stage: from a configuration to the values that the plan and the fit take."""

from __future__ import annotations

from typing import Literal

from metagene_classifier.config import Config, ModelConfig
from metagene_classifier.errors import ConfigError
from metagene_classifier.memory.device import Kind
from metagene_classifier.memory.fit import FitRequest
from metagene_classifier.memory.shape import EncoderShape
from metagene_classifier.memory.ways import Compute, StepFacts

__all__ = ["check_layers", "fit_request", "step_facts"]

_OF_PRECISION: dict[str, Compute] = {"bf16-mixed": "bfloat16", "fp16-mixed": "float16", "32": "float32"}


def check_layers(model: ModelConfig, shape: EncoderShape) -> None:
    """Refuse layers that the encoder does not have.

    Raises:
        ConfigError: more layers are frozen than there are, or no layer has a name that is to get an adapter.
    """
    if model.freeze_layers >= shape.layers:
        raise ConfigError(
            f"model.freeze_layers: {model.freeze_layers}: {shape.name} has {shape.layers} layers: freeze fewer, or "
            "train the head alone with model.freeze: encoder"
        )
    targets = model.lora.target_modules
    if model.learns != "adapter" or isinstance(targets, str) or shape.targeted(tuple(targets)):
        return
    there_are = sorted({linear.name.rsplit(".", 1)[-1] for linear in shape.linears})
    raise ConfigError(
        f"model.lora.target_modules: {shape.name} has no linear layer called {', '.join(targets)}: it has "
        f"{', '.join(there_are)} (or all-linear)"
    )


def fit_request(config: Config, *, ranks: int = 1) -> FitRequest:
    """What was set of quantization, checkpointing, sharding and micro-batch, and what is left to choose.

    Args:
        config: of the run.
        ranks: that it has.
    """
    model, training = config.model, config.training
    return FitRequest(
        learns=model.learns,
        quantization=model.quantization,
        checkpointing=model.gradient_checkpointing,
        checkpoint_every=model.checkpoint_every,
        checkpoint_offload=model.checkpoint_offload,
        max_tokens=training.max_tokens,
        reads_per_step=training.batch_size * training.grad_accum_steps,
        parallel=_parallel(config),
        ranks=ranks,
        # A head alone learns from embeddings, which are made a window at a time.
        strands=2 if training.reverse_complement == "consistency" and model.learns != "head" else 1,
    )


def _parallel(config: Config) -> Literal["auto", "ddp", "fsdp"]:
    """What is left of ``auto`` where sharding cannot be had (``training/parallel.py`` refuses it where it is set)."""
    model, training = config.model, config.training
    cannot = training.torch_compile or (model.learns == "all" and config.optimizer.name != "adamw")
    return "ddp" if training.parallel == "auto" and cannot else training.parallel


def step_facts(config: Config, *, kind: Kind, bfloat16: bool, classes: int) -> StepFacts:
    """Number formats, adapters, optimizer and attention of a run, as they will be on such a device.

    Follows ``model/devices.py`` and ``model/packing.py``.

    Args:
        config: of the run.
        kind: of device.
        bfloat16: whether it computes in bfloat16.
        classes: outputs of the head.
    """
    model, training = config.model, config.training
    compute = _OF_PRECISION[training.precision]
    if kind == "cpu":
        compute = "float32"
    elif kind == "cuda" and compute == "bfloat16" and not bfloat16:
        compute = "float16"
    asked: Literal["auto"] | Compute = model.dtype
    if asked == "auto":
        weight_bytes, learning_bytes = (4 if compute == "float32" else 2), 4
    else:
        compute = compute if asked == "float32" else asked
        weight_bytes = learning_bytes = 4 if asked == "float32" else 2
    lora = model.lora
    return StepFacts(
        weight_bytes=weight_bytes,
        learning_weight_bytes=learning_bytes,
        compute=compute,
        lora_r=lora.r,
        lora_targets=lora.target_modules if isinstance(lora.target_modules, str) else tuple(lora.target_modules),
        lora_dropout=lora.dropout > 0,
        optimizer=config.optimizer.name,
        classes=classes,
        attention=_attention(training.layout, model.attention, kind, compute),
        freeze_layers=model.freeze_layers,
    )


def _attention(layout: str, attention: str, kind: Kind, compute: Compute) -> Literal["varlen", "sdpa", "mask"]:
    kernel = kind == "cuda" and compute != "float32" and attention not in ("sdpa", "eager")
    if layout == "packed":
        return "varlen" if kernel else "mask"
    return "varlen" if layout == "auto" and kernel else "sdpa"
