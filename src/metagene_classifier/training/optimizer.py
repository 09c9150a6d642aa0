"""AdamW (arXiv 1711.05101), with its state in float32 or in 8 bits (arXiv 2110.02861)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, Literal

import torch

from metagene_classifier.errors import ConfigError
from metagene_classifier.model.sharding import is_shard, shard_like, whole

__all__ = ["check_optimizer", "make_optimizer", "optimizer_in_parts", "page_state", "whole_optimizer"]

OptimizerName = Literal["adamw", "adamw_8bit", "paged_adamw_8bit"]


def check_optimizer(name: OptimizerName, device: torch.device) -> None:
    """Refuse an optimizer that cannot work here, before anything is loaded.

    Raises:
        ConfigError: bitsandbytes is missing, or the state is to be paged elsewhere than on a CUDA device.
    """
    if name == "adamw":
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"optimizer.name: {name} needs bitsandbytes: pip install 'metagene-classifier[quantization]', or use adamw"
        )
    if name == "paged_adamw_8bit" and device.type != "cuda":
        raise ConfigError("optimizer.name: paged_adamw_8bit is for CUDA cards: use adamw_8bit or adamw here")


def make_optimizer(
    weights: list[torch.nn.Parameter],
    *,
    name: OptimizerName,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> torch.optim.Optimizer:
    """An optimizer over the weights that learn.

    Args:
        weights: in float32.
        name: ``adamw_8bit`` keeps two bytes a weight of state in place of eight (weights of fewer than 4,096 values
            stay in float32); ``paged_adamw_8bit`` keeps it in memory that the card and the host share.
        lr: learning rate at the peak of the schedule.
        betas: of the two running means.
        weight_decay: decoupled from the gradient.
    """
    settings: dict[str, Any] = {"lr": lr, "betas": betas, "weight_decay": weight_decay}
    if name == "adamw":
        if any(is_shard(weight) for weight in weights):
            # One weight after another: no kernel takes parts and whole weights together.
            return torch.optim.AdamW(weights, **settings, foreach=False)
        # In one kernel: the other ways make a copy as large as all gradients in passing.
        return torch.optim.AdamW(weights, **settings, fused=True)
    if name == "paged_adamw_8bit":
        from bitsandbytes.optim import PagedAdamW8bit

        paged: torch.optim.Optimizer = PagedAdamW8bit(weights, **settings)
        return paged
    from bitsandbytes.optim import AdamW8bit

    small: torch.optim.Optimizer = AdamW8bit(weights, **settings)
    return small


def page_state(optimizer: Any) -> None:
    """Put a paged optimizer's state, which was read from a file onto the card, into paged memory again."""
    optimizer = getattr(optimizer, "optimizer", optimizer)  # without accelerate's wrapper
    if not getattr(optimizer, "is_paged", False):
        return
    for weight, state in optimizer.state.items():
        for name in ("state1", "state2"):
            if name in state:
                paged = optimizer.get_state_buffer(weight, dtype=state[name].dtype)
                paged.copy_(state[name])
                state[name] = paged


def whole_optimizer(optimizer: Any, *, keep: bool) -> dict[str, Any]:
    """An optimizer's state with the parts of all ranks put together, in the host's memory.

    Args:
        optimizer: where its weights are sharded, all ranks have to call this.
        keep: whether this rank wants the state; it gives its parts either way.
    """
    saved: dict[str, Any] = optimizer.state_dict()
    state: dict[int, dict[str, Any]] = {}
    for number, one in saved["state"].items():
        for name, value in one.items():
            together = whole(value) if is_shard(value) else value
            if keep:
                state.setdefault(number, {})[name] = together
    return {**saved, "state": state}


def optimizer_in_parts(saved: dict[str, Any], weights: Sequence[torch.Tensor]) -> dict[str, Any]:
    """A whole optimizer's state as it belongs to these weights: of sharded ones this rank's part.

    Args:
        saved: as :func:`whole_optimizer` gave it, on any number of ranks.
        weights: in the optimizer's order.
    """
    state = {
        number: {
            name: shard_like(value, weights[number]) if isinstance(value, torch.Tensor) else value
            for name, value in one.items()
        }
        for number, one in saved["state"].items()
    }
    return {**saved, "state": state}
