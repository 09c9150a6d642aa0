"""Loading an encoder: any Hugging Face model with hidden states, in the number format asked for and no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from metagene_classifier.errors import EncoderError
from metagene_classifier.hub import resolve_encoder_folder
from metagene_classifier.model.quiet import quiet_transformers

__all__ = ["EncoderSource", "WeightProbe", "load_encoder", "probe_matches", "rest_unused_parts", "weight_probe"]

WeightProbe = dict[str, list[float]]

UNUSED_PARTS = ("pooler", "contact_head")


@dataclass(frozen=True)
class EncoderSource:
    """Which encoder, and from where.

    Attributes:
        name: hub name, folder, or ``builtin:NAME``.
        revision: branch, tag or commit on the hub.
        new: build the architecture with random weights instead of loading any.
        trust_remote_code: run the Python files of the encoder's own repository.
    """

    name: str
    revision: str | None = None
    new: bool = False
    trust_remote_code: bool = False


def load_encoder(
    source: EncoderSource,
    *,
    dtype: torch.dtype,
    device: torch.device,
    seed: int,
    device_map: str | None = None,
) -> Any:
    """Load an encoder without its language-model head.

    Args:
        source: which one.
        dtype: of all weights.
        device: where they go.
        seed: of new weights.
        device_map: ``auto`` spreads the weights over all devices, for prediction.

    Returns:
        A transformers model in evaluation mode; parts of it that are never run do not learn.

    Raises:
        EncoderError: it cannot be found, is of no known architecture, or lacks weights.
    """
    from transformers import AutoConfig, AutoModel

    folder = resolve_encoder_folder(
        source.name, source.revision, weights=not source.new, trust_remote_code=source.trust_remote_code
    )
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=source.trust_remote_code)
            if getattr(config, "is_encoder_decoder", False):
                raise EncoderError(f"{source.name} is an encoder and a decoder: only encoders alone can be used")
            config.use_cache = False
            if source.new:
                encoder = _new_encoder(config, dtype, seed, source.trust_remote_code).to(device)
            else:
                encoder, report = AutoModel.from_pretrained(
                    folder,
                    config=config,
                    dtype=dtype,
                    device_map=device_map or {"": device},
                    use_safetensors=True,
                    trust_remote_code=source.trust_remote_code,
                    output_loading_info=True,
                )
                _check_missing(source.name, encoder, report)
        except (EncoderError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # transformers, safetensors and the hub's checks of config.json each raise their own
            raise EncoderError(_what_went_wrong(source, error)) from error
    rest_unused_parts(encoder)
    return encoder.eval()


def weight_probe(encoder: Any) -> WeightProbe:
    """A few values of four weights: enough to tell one encoder from another, whatever their number format."""
    weights = {
        name: weight
        for name, weight in _plain_names(encoder)
        # What is never run may be missing from the encoder's files, and is then new at every load.
        if weight.dim() == 2 and weight.is_floating_point() and not weight.is_meta and not _is_unused(name)
    }
    names = sorted(weights)
    chosen = dict.fromkeys(names[round(place * (len(names) - 1) / 3)] for place in range(4)) if names else {}
    return {name: weights[name].detach().flatten()[:8].float().cpu().tolist() for name in chosen}


def probe_matches(encoder: Any, probe: WeightProbe) -> bool:
    """Whether an encoder's weights are those that :func:`weight_probe` saw, up to the rounding of half precision."""
    weights = dict(_plain_names(encoder))
    for name, values in probe.items():
        if name not in weights:
            return False
        if weights[name].is_meta or not weights[name].is_floating_point():
            continue  # quantized or not on a device: nothing to compare with
        found = weights[name].detach().flatten()[: len(values)].float().cpu()
        if len(found) != len(values) or not torch.allclose(found, torch.tensor(values), rtol=2e-2, atol=1e-4):
            return False
    return True


def _plain_names(encoder: Any) -> list[tuple[str, torch.Tensor]]:
    """Parameters under the names they have without an adapter."""
    return [
        (name.replace(".base_layer", ""), weight) for name, weight in encoder.named_parameters() if ".lora_" not in name
    ]


def _new_encoder(config: Any, dtype: torch.dtype, seed: int, trust_remote_code: bool) -> Any:
    from transformers import AutoModel

    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        return AutoModel.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)
    finally:
        torch.random.set_rng_state(state)


def _check_missing(name: str, encoder: Any, report: dict[str, Any]) -> None:
    missing = sorted(key for key in report["missing_keys"] if not _is_unused(key))
    if missing:
        raise EncoderError(
            f"{name}: its files lack {len(missing)} of the weights that a {type(encoder).__name__} needs, "
            f"{missing[0]} first: copy or download the whole encoder"
        )


def rest_unused_parts(encoder: Any) -> None:
    """Keep the gradients off what BERT- and ESM-like models bring and hidden states do not need.

    A weight that is to learn and never gets a gradient stops training on several devices.
    """
    for name in UNUSED_PARTS:
        part = getattr(encoder, name, None)
        if part is not None:
            part.requires_grad_(False)


def _is_unused(weight_name: str) -> bool:
    return not set(UNUSED_PARTS).isdisjoint(weight_name.split("."))


def _what_went_wrong(source: EncoderSource, error: Exception) -> str:
    text = " ".join(str(error).split())
    if "trust_remote_code" in text:
        return (
            f"{source.name} runs Python code from its own repository: read that code, and set "
            "model.trust_remote_code: true if you trust it"
        )
    if "ignore_mismatched_sizes" in text:
        return f"{source.name}: its weights have other shapes than its config.json says: copy or download it whole"
    if isinstance(error, ImportError):
        return f"{source.name} needs a library that is not installed: {text[:200]}"
    return f"{source.name}: cannot be loaded as an encoder: {text[:300]}"
