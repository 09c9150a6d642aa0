"""LoRA adapters through PEFT (arXiv 2106.09685), with dropout that follows the token."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metagene_classifier.errors import ConfigError, ModelFolderError
from metagene_classifier.model.classifier import HEAD_DROPOUT
from metagene_classifier.model.dropout import KeyedDropout, TokenKeys
from metagene_classifier.model.dropped_linear import DroppedLinear
from metagene_classifier.model.encoder import rest_unused_parts
from metagene_classifier.model.quiet import quiet_transformers

__all__ = ["AdapterSettings", "add_adapter", "load_adapter", "save_adapter"]


@dataclass(frozen=True)
class AdapterSettings:
    """Shape of the adapters: rank, scale, dropout, and the linear layers that get one.

    Attributes:
        r: rank.
        alpha: the adapters' output is scaled by ``alpha / r``.
        dropout: rate before each adapter.
        target_modules: the last parts of linear layers' names, or ``all-linear``.
        bias: which biases learn, as PEFT names it.
        without: names of modules, as in ``layers.0``, inside which no layer gets one.
    """

    r: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...] | str
    bias: str
    without: tuple[str, ...] = ()


def add_adapter(encoder: Any, settings: AdapterSettings, *, encoder_name: str, keys: TokenKeys, seed: int) -> Any:
    """Freeze an encoder and put new float32 adapters on it.

    Raises:
        ConfigError: the encoder has no layer of a name in ``target_modules``, or one of them can have no adapter.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    _check_targets(encoder, settings.target_modules)
    targets = settings.target_modules if isinstance(settings.target_modules, str) else list(settings.target_modules)
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        bias=settings.bias,
        task_type=TaskType.FEATURE_EXTRACTION,
        exclude_modules=rf"({'|'.join(map(re.escape, settings.without))})\..*" if settings.without else None,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        with quiet_transformers():
            adapted = get_peft_model(encoder, config, autocast_adapter_dtype=True)
    except ValueError as error:  # PEFT knows layers of some architectures that cannot carry an adapter
        raise ConfigError(f"model.lora.target_modules: {' '.join(str(error).split())[:300]}") from error
    finally:
        torch.random.set_rng_state(state)
    adapted.peft_config["default"].base_model_name_or_path = encoder_name
    rest_unused_parts(encoder)
    _use_keyed_dropout(adapted, keys)
    return adapted


def save_adapter(adapted: Any, folder: Path) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``, as PEFT reads them."""
    adapted.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty card; ours is written by the report


def load_adapter(encoder: Any, folder: Path, *, keys: TokenKeys, trainable: bool) -> Any:
    """Put a saved adapter back on its encoder.

    Raises:
        ModelFolderError: the files are damaged or do not fit the encoder.
    """
    from peft import PeftModel

    try:
        with quiet_transformers():
            adapted = PeftModel.from_pretrained(encoder, folder, is_trainable=trainable, autocast_adapter_dtype=True)
    except Exception as error:  # PEFT, safetensors and torch each raise their own
        first = " ".join(str(error).split())[:200]
        raise ModelFolderError(f"{folder}: the adapter cannot be put on this encoder: {first}") from error
    _use_keyed_dropout(adapted, keys)
    return adapted


def _check_targets(encoder: Any, targets: tuple[str, ...] | str) -> None:
    """A target is the last part, or parts, of a layer's name, as PEFT takes it."""
    from transformers.pytorch_utils import Conv1D

    if isinstance(targets, str):
        return
    linear = [name for name, module in encoder.named_modules() if isinstance(module, (nn.Linear, Conv1D))]
    missing = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in linear)]
    if missing:
        there_are = sorted({name.rsplit(".", 1)[-1] for name in linear})
        raise ConfigError(
            f"model.lora.target_modules: this encoder has no linear layer called {', '.join(missing)}: "
            f"it has {', '.join(there_are)} (or all-linear)"
        )


def _use_keyed_dropout(adapted: Any, keys: TokenKeys) -> None:
    number = HEAD_DROPOUT
    for module in adapted.modules():
        dropouts = getattr(module, "lora_dropout", None)
        if not isinstance(dropouts, nn.ModuleDict):
            continue
        for adapter, dropout in dropouts.items():
            number += 1
            rate = dropout.p if isinstance(dropout, nn.Dropout) else 0.0
            keyed = KeyedDropout(rate, keys, number)
            inward: Any = module.lora_A  # empty in an embedding's adapter
            if adapter in inward and type(inward[adapter]) is nn.Linear and inward[adapter].bias is None:
                inward[adapter] = DroppedLinear(inward[adapter], keyed)
                dropouts[adapter] = nn.Identity()
                # PEFT would keep a float32 copy of the input for each adapter; the layer itself knows what it needs.
                module.cast_input_dtype_enabled = False
            elif rate:
                dropouts[adapter] = keyed
