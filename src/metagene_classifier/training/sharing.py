"""What does not go together with weights that ranks share out; `mgc plan` asks here too, without torch."""

from __future__ import annotations

from metagene_classifier.config import Config
from metagene_classifier.errors import ConfigError

__all__ = ["check_parallel"]


def check_parallel(config: Config, ranks: int) -> None:
    """Refuse what does not go together with sharding, before anything is loaded.

    Args:
        config: the configuration.
        ranks: how many there are, or will be.

    Raises:
        ConfigError: ``training.parallel: fsdp`` on several ranks with a setting that it cannot have.
    """
    model, training = config.model, config.training
    if training.parallel != "fsdp" or ranks == 1:
        return
    what = "training.parallel: fsdp"
    if model.freeze == "encoder":
        raise ConfigError(
            f"{what} with model.freeze: encoder: a head alone learns from embeddings that each rank makes with the "
            "whole encoder: use ddp"
        )
    if model.quantization == "int8":
        raise ConfigError(f"{what} with model.quantization: int8: int8 weights cannot be shared out: use nf4, or ddp")
    if model.learns == "all" and config.optimizer.name != "adamw":
        raise ConfigError(
            f"{what} with optimizer.name: {config.optimizer.name}: where the whole encoder learns the "
            "optimizer's state is shared out already, and 8-bit state cannot be: use adamw"
        )
    if training.torch_compile:
        raise ConfigError(
            f"{what} with training.torch_compile: true: shared-out weights are not compiled: set it to false"
        )
