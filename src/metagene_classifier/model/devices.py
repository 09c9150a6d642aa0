"""Where an encoder runs, and in which number format."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal

import torch

from metagene_classifier.errors import ConfigError

__all__ = ["choose_device", "choose_dtypes", "dtype_name", "own_device"]

DtypeName = Literal["bfloat16", "float16", "float32"]
DTYPES: dict[DtypeName, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_OF_PRECISION = {"bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16, "32": torch.float32}


def choose_device(asked: str, tell: Callable[[str], None]) -> torch.device:
    """The device asked for, or the best one there is; a line is told when it is another.

    Raises:
        ConfigError: the name is not a device's, or its number is beyond the last one.
    """
    found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if asked == "auto":
        return torch.device(found)
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise ConfigError(f"device: {asked!r} is no device: use auto, cuda, cuda:N, mps or cpu") from error
    if device.type == "cuda" and torch.cuda.is_available():
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise ConfigError(
                f"device: {asked} does not exist, this machine has {torch.cuda.device_count()} (cuda:0 on)"
            )
        return device
    if device.type == "mps" and torch.backends.mps.is_available():
        return device
    if device.type == "cpu":
        return device
    if device.type not in ("cuda", "mps"):
        raise ConfigError(f"device: {asked!r} is not supported: use auto, cuda, cuda:N, mps or cpu")
    tell(f"device {asked} is not here: using {found}")
    return torch.device(found)


def own_device(device: torch.device) -> torch.device:
    """The card of this rank where a launcher started one for each; it becomes the current one."""
    if device.type != "cuda":
        return device
    if ":" not in str(device):  # without a number
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def choose_dtypes(
    *,
    asked: Literal["auto"] | DtypeName,
    precision: str,
    device: torch.device,
    encoder_learns: bool,
    tell: Callable[[str], None],
) -> tuple[torch.dtype, torch.dtype]:
    """Number formats of the encoder's weights and of its arithmetic.

    Frozen weights are held in the format that they are computed in, so autocast never copies them; weights that learn
    are held in float32. A CPU computes in float32: without matrix units for bfloat16 that is the faster of the two.

    Args:
        asked: ``model.dtype``; anything but ``auto`` decides the weights' format.
        precision: ``training.precision``.
        device: where the encoder will run.
        encoder_learns: whether the encoder's own weights are trained.
        tell: called with a line when the precision asked for is not to be had.

    Returns:
        (weights, arithmetic).
    """
    compute = _OF_PRECISION[precision]
    if device.type == "cpu" and compute is not torch.float32:
        tell(f"precision {precision} is for accelerators: this CPU computes in float32")
        compute = torch.float32
    if (
        device.type == "cuda"
        and compute is torch.bfloat16
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        tell("this card has no bfloat16: using float16 with loss scaling")
        compute = torch.float16
    if asked == "auto":
        return (torch.float32 if encoder_learns else compute), compute
    weights = DTYPES[asked]
    return weights, (compute if weights is torch.float32 else weights)


def dtype_name(dtype: torch.dtype) -> DtypeName:
    """The name that configurations and descriptions use."""
    return next(name for name, known in DTYPES.items() if known is dtype)
