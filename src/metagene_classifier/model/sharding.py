"""An encoder's weights shared out over ranks by torch's ``fully_shard`` (FSDP2): each keeps a part and gathers layers.

Weights that learn in an encoder whose other weights are frozen (adapters, biases) stay whole on every rank, and so does
the head: they are small, and what is done with them is then the same as without sharding. An encoder that learns as a
whole is shared out with all its weights, gradients and optimizer state.

Every forward and backward pass gathers weights from all ranks, so all ranks have to run as many of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metagene_classifier.model.checkpointing import layers_of
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.quantization import is_quantized

__all__ = ["is_shard", "is_sharded", "restore_encoder", "save_encoder", "shard_encoder", "shard_like", "whole"]

# torch's sharding takes a second to import, and predicting needs none of it: what is sharded is known by its class.

# Of one file of a saved encoder. One file is in the first rank's memory at a time.
FILE_BYTES = 2 * 10**9


def is_shard(weight: torch.Tensor) -> bool:
    """Whether a weight is this rank's part of one that all ranks share."""
    return type(weight).__name__ == "DTensor"


def is_sharded(classifier: ReadClassifier) -> bool:
    """Whether a classifier's encoder is shared out over the ranks."""
    return type(classifier.encoder).__name__.startswith("FSDP")


def shard_encoder(classifier: ReadClassifier, *, device: torch.device, encoder_learns: bool) -> None:
    """Share the encoder's weights out over all ranks, layer by layer, in place.

    Args:
        classifier: with the same values on every rank. Its encoder may lie in the host's memory: each layer
            is whole on the device for a moment only.
        device: where the parts go, and what is not shared out.
        encoder_learns: whether the encoder's own weights are trained. They are then gathered in the format that is
            computed in, and their gradients are summed over the ranks in float32.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    encoder, transformer = classifier.encoder, classifier.transformer
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    left = set() if encoder_learns else {weight for weight in encoder.parameters() if weight.requires_grad}
    for weight in left:
        weight.data = weight.data.to(device)
    if classifier.head is not None:
        classifier.head.to(device)
    _forget_class_of_4bit_weights(encoder, device)
    mixed = encoder_learns and classifier.compute_dtype is not torch.float32
    policy = MixedPrecisionPolicy(
        param_dtype=classifier.compute_dtype if mixed else None,
        reduce_dtype=torch.float32 if mixed else None,
        cast_forward_inputs=False,
    )
    # PEFT calls the transformers model past its hooks, so the outermost module is the one that gathers what is left.
    for module in (*(layer for _, layer in layers_of(transformer)), encoder):
        fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=policy, ignored_params=left)
        # The loss is divided by the whole step's weight already: gradients are summed and not averaged.
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)


def _forget_class_of_4bit_weights(encoder: nn.Module, device: torch.device) -> None:
    """Leave plain bytes, which can be cut anywhere; the layers themselves keep what the bytes mean, on the device."""
    for module in encoder.modules():
        layer: Any = module
        weight = layer._parameters.get("weight")  # and not that of a layer inside, as adapters show it
        if weight is not None and is_quantized(weight):
            layer.quant_state = weight.quant_state
            layer.quant_state.to(device)
            layer.weight = nn.Parameter(weight.data.as_subclass(torch.Tensor), requires_grad=False)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor with the parts of all ranks, in the host's memory. Where it is a part, all ranks have to call this."""
    if is_shard(tensor):
        part: Any = tensor
        tensor = part.full_tensor()
    return tensor.detach().cpu()


def shard_like(tensor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """This rank's part of a whole tensor that every rank has, cut as ``weight`` is; itself where that is whole."""
    if not is_shard(weight) or tensor.shape != weight.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    like: Any = weight
    part: torch.Tensor = distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)
    return part


def save_encoder(transformer: Any, folder: Path | None) -> None:
    """Write a sharded transformers model as its ``save_pretrained`` would, file by file.

    Args:
        transformer: the model; all ranks have to call this.
        folder: where, on the rank that writes; ``None`` on the others.
    """
    if folder is None:
        for weight in _stored(transformer).values():
            whole(weight)
        return
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    transformer.config.architectures = [type(transformer).__name__.removeprefix("FSDP")]
    transformer.config.save_pretrained(folder)
    stored = _stored(transformer)
    files = list(_files(stored))
    places: dict[str, str] = {}
    for number, names in enumerate(files, 1):
        file = f"model-{number:05d}-of-{len(files):05d}.safetensors" if len(files) > 1 else "model.safetensors"
        save_file({name: whole(stored[name]).contiguous() for name in names}, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(names, file)
    if len(files) > 1:
        index = {"metadata": {"total_size": sum(_bytes(weight) for weight in stored.values())}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def restore_encoder(transformer: nn.Module, files: Iterable[Path]) -> None:
    """Put the weights of safetensors files into a sharded model, one at a time.

    Raises:
        RuntimeError: the files do not hold the model's weights.
    """
    from safetensors import safe_open

    missing = _stored(transformer)
    for file in files:
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                if name not in missing:
                    raise RuntimeError(f"{name} is no weight of this model")
                with torch.no_grad():
                    mine = missing.pop(name)
                    mine.copy_(shard_like(weights.get_tensor(name), mine))
    if missing:
        raise RuntimeError(f"{len(missing)} weights are not in the files, {next(iter(missing))} first")


def _stored(transformer: nn.Module) -> dict[str, torch.Tensor]:
    """What a model's files hold: weights by name, those that are shared among layers once, and lasting buffers."""
    weights: dict[str, torch.Tensor] = dict(transformer.named_parameters())
    buffers = dict(transformer.named_buffers())
    return weights | {name: buffers[name] for name in transformer.state_dict() if name in buffers}


def _files(stored: dict[str, torch.Tensor]) -> Iterator[list[str]]:
    names: list[str] = []
    held = 0
    for name, weight in stored.items():
        if names and held + _bytes(weight) > FILE_BYTES:
            yield names
            names, held = [], 0
        names.append(name)
        held += _bytes(weight)
    yield names


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
