"""Gradient checkpointing: activations are computed again in the backward pass instead of being kept (arXiv 1604.06174).

It changes memory and time and never a result. Between a layer's input, which is kept, and its output nothing is; the
inputs can lie in the host's memory, and layers can be left out where there is memory to spare.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from metagene_classifier.errors import ConfigError

__all__ = ["checkpoint_layers", "layers_of"]


def layers_of(transformer: Any) -> list[tuple[str, Any]]:
    """The repeated layers of an encoder, lowest first, with their names; empty where it has none that can be told.

    Args:
        transformer: a transformers model, without PEFT's wrapper.
    """
    count = getattr(transformer.config, "num_hidden_layers", None)
    for name, module in transformer.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return [(f"{name}.{number}", layer) for number, layer in enumerate(module)]
    return []


def checkpoint_layers(transformer: Any, *, every: int, offload: bool, first: int = 0) -> None:
    """Turn checkpointing on.

    Args:
        transformer: a transformers model, without PEFT's wrapper.
        every: of so many layers one is checkpointed, the lowest first; 1 is all of them.
        offload: keep the layers' inputs in the host's memory (pinned, where the encoder is on a GPU).
        first: layers below this one learn nothing, keep nothing, and so have nothing to checkpoint.

    Raises:
        ConfigError: the encoder's architecture cannot.
    """
    enable = getattr(transformer, "activation_checkpointing_enable", None)  # its later name
    enable = enable or transformer.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise ConfigError(
            f"model.gradient_checkpointing: a {type(transformer).__name__} cannot be checkpointed: set it to false"
        ) from error
    # Only the reentrant form needs inputs with a gradient; they would cost a backward pass through frozen weights.
    transformer.disable_input_require_grads()
    run: Callable[..., Any] = _keeping_inputs_on_host if offload else partial(checkpoint, use_reentrant=False)
    layers = layers_of(transformer)
    able = [layer for _, layer in layers if hasattr(layer, "gradient_checkpointing")]
    if len(able) < len(layers) or not layers:
        if every > 1 or offload or first:
            raise ConfigError(
                f"model.checkpoint_every, model.checkpoint_offload and model.freeze_layers: the layers of a "
                f"{type(transformer).__name__} are not checkpointed one by one: leave them at their defaults"
            )
        return
    for number, layer in enumerate(able):
        layer.gradient_checkpointing = number >= first and (number - first) % every == 0
        layer._gradient_checkpointing_func = run


def _keeping_inputs_on_host(function: Callable[..., Any], *inputs: Any) -> Any:
    with saved_tensors_hooks(_to_host, _back):
        return checkpoint(function, *inputs, use_reentrant=False)


def _to_host(tensor: torch.Tensor) -> tuple[torch.device, torch.Tensor]:
    # Positions and masks are shared by all layers: a copy for each would cost more than it frees.
    if not tensor.requires_grad or not tensor.is_floating_point():
        return tensor.device, tensor
    kept = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=tensor.is_cuda)
    return tensor.device, kept.copy_(tensor, non_blocking=tensor.is_cuda)


def _back(packed: tuple[torch.device, torch.Tensor]) -> torch.Tensor:
    device, kept = packed
    return kept.to(device, non_blocking=True)
