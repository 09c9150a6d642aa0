"""Loading an encoder: any Hugging Face model with hidden states, in the number format asked for and no other."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from metagene_classifier.console import say
from metagene_classifier.errors import EncoderError, MgcError
from metagene_classifier.hub import resolve_encoder_folder
from metagene_classifier.model.host_memory import freed_at_once
from metagene_classifier.model.out_of_memory import DeviceMemoryError, is_out_of_memory
from metagene_classifier.model.quantization import (
    NEVER_QUANTIZED,
    Quantization,
    finish_quantized,
    is_quantized,
    quantization_in_files,
    quantization_settings,
    quiet_bitsandbytes,
    require_bitsandbytes,
    settings_in_files,
    try_quantized,
)
from metagene_classifier.model.quantized_cache import QuantizedWeights, cached_or_made, files_identity
from metagene_classifier.model.quiet import quiet_transformers

__all__ = ["EncoderSource", "WeightProbe", "load_encoder", "probe_matches", "rest_unused_parts", "weight_probe"]

WeightProbe = dict[str, list[float]]

UNUSED_PARTS = NEVER_QUANTIZED
PROBE_VALUES = 8


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
    quantization: Quantization = "none",
    compute_dtype: torch.dtype | None = None,
    tell: Callable[[str], None] = say,
) -> Any:
    """Load an encoder without its language-model head.

    Weights go from their files to the device one by one, in the format that they are held in.

    Args:
        source: which one.
        dtype: of all weights that are not quantized.
        device: where they go.
        seed: of new weights.
        device_map: ``auto`` spreads the weights over all devices, for prediction.
        quantization: of every linear layer (:mod:`metagene_classifier.model.quantization`). Quantized weights are kept
            in the cache on disk, but for those spread by ``device_map`` and those of encoders that bring code. An
            encoder whose files are quantized is taken as it is, if that is what is asked for or nothing is.
        compute_dtype: of products with quantized weights; ``dtype`` by default.
        tell: called with lines for the user.

    Returns:
        A transformers model in evaluation mode; parts of it that are never run do not learn.

    Raises:
        EncoderError: it cannot be found, is of no known architecture, lacks weights, or cannot be quantized.
        DeviceMemoryError: it does not fit in the device's memory.
    """
    from transformers import AutoConfig

    if source.new and quantization != "none":
        raise EncoderError(
            f"{source.name}: random weights are all trained, and {quantization} weights cannot be: set "
            "model.quantization: none (or model.init: pretrained)"
        )
    quiet_bitsandbytes()
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
                asked = _Asked(source, dtype, device, device_map, quantization, compute_dtype or dtype, tell)
                with freed_at_once():
                    encoder = _from_files(folder, config, asked)
        except MgcError:
            raise
        except Exception as error:  # transformers, safetensors and the hub's checks of config.json each raise their own
            if is_out_of_memory(error):
                raise DeviceMemoryError(
                    f"{source.name} does not fit in the memory of {device}: 'mgc plan' shows what does; hold it in "
                    "fewer bits (model.quantization, --quantization nf4), or use another device"
                ) from error
            raise EncoderError(_what_went_wrong(source, error)) from error
    rest_unused_parts(encoder)
    return encoder.eval()


@dataclass(frozen=True)
class _Asked:
    """The arguments of :func:`load_encoder` that decide how weights are read."""

    source: EncoderSource
    dtype: torch.dtype
    device: torch.device
    device_map: str | None
    quantization: Quantization
    compute_dtype: torch.dtype
    tell: Callable[[str], None]


def _from_files(folder: Path, config: Any, asked: _Asked) -> Any:
    name = asked.source.name
    in_files = quantization_in_files(config, name)
    if in_files != "none":
        if asked.quantization not in ("none", in_files):
            raise EncoderError(
                f"{name}: its weights are in {in_files} already: set model.quantization: {in_files}, or name the "
                "encoder that it was made from"
            )
        if asked.quantization == "none":
            asked.tell(f"{name}: its weights are in {in_files} and stay so")
        require_bitsandbytes(in_files)
        config.quantization_config = settings_in_files(config, asked.compute_dtype)
        encoder = _read(folder, config, asked, None)
        finish_quantized(name, encoder, in_files, asked.dtype, some_left=True)
        return encoder
    if asked.quantization == "none":
        return _read(folder, config, asked, None)
    require_bitsandbytes(asked.quantization)
    settings = quantization_settings(asked.quantization, asked.compute_dtype)

    def made() -> Any:
        encoder = _read(folder, config, asked, settings)
        finish_quantized(name, encoder, asked.quantization, asked.dtype)
        return encoder

    def read(entry: Path) -> Any:
        stored = copy.deepcopy(config)
        stored.quantization_config = settings.to_dict()
        encoder = _read(entry, stored, asked, None)
        finish_quantized(name, encoder, asked.quantization, asked.dtype)
        encoder.name_or_path = encoder.config.name_or_path = str(folder)
        return encoder

    if asked.device_map is not None or asked.source.trust_remote_code:
        encoder = made()
        try_quantized(name, encoder, asked.quantization)
        return encoder
    weights = QuantizedWeights(
        name, files_identity(folder), asked.quantization, str(asked.dtype).removeprefix("torch."), asked.device.type
    )
    return cached_or_made(
        weights,
        read=read,
        make=made,
        check=lambda encoder: try_quantized(name, encoder, asked.quantization),
        tell=asked.tell,
    )


def _read(folder: Path, config: Any, asked: _Asked, settings: Any) -> Any:
    from transformers import AutoModel

    encoder, report = AutoModel.from_pretrained(
        folder,
        config=config,
        dtype=asked.dtype,
        device_map=asked.device_map or {"": asked.device},
        quantization_config=settings,
        use_safetensors=True,
        trust_remote_code=asked.source.trust_remote_code,
        output_loading_info=True,
    )
    _check_missing(asked.source.name, encoder, report)
    return encoder


def weight_probe(encoder: Any) -> WeightProbe:
    """A few values of four weights: enough to tell one encoder from another, whatever their number format.

    Quantized weights are passed over. The input embedding, which never is one, is always there.

    Returns:
        ``name[row]``: the first values of that row. It is the middle one: the first of an embedding is the padding's,
        zeros in many encoders.
    """
    weights = {
        name: weight
        for name, weight in _plain_names(encoder)
        # What is never run may be missing from the encoder's files, and is then new at every load.
        if weight.dim() == 2 and _is_readable(weight) and not _is_unused(name)
    }
    names = sorted(weights)
    embedding = _input_embedding(encoder)
    first = [name for name in names if weights[name] is embedding]
    places = [names[round(place * (len(names) - 1) / 3)] for place in range(4)] if names else []
    chosen = list(dict.fromkeys(first + places[::-1]))[:4]
    rows = {name: len(weights[name]) // 2 for name in sorted(chosen)}
    return {
        f"{name}[{row}]": weights[name].detach()[row, :PROBE_VALUES].float().cpu().tolist()
        for name, row in rows.items()
    }


def probe_matches(encoder: Any, probe: WeightProbe) -> bool:
    """Whether an encoder's weights are those that :func:`weight_probe` saw, up to the rounding of half precision.

    Models of the first schema have names without a row: their values are those that a weight begins with.
    """
    weights = dict(_plain_names(encoder))
    for place, values in probe.items():
        name, _, row = place.rstrip("]").partition("[")
        if name not in weights:
            return False
        if not _is_readable(weights[name]):
            continue  # quantized or not on a device: nothing to compare with
        weight = weights[name].detach()
        if row and int(row) >= len(weight):
            return False
        found = (weight[int(row)] if row else weight.flatten())[: len(values)].float().cpu()
        if len(found) != len(values) or not torch.allclose(found, torch.tensor(values), rtol=2e-2, atol=1e-4):
            return False
    return True


def _input_embedding(encoder: Any) -> torch.Tensor | None:
    try:
        weight: torch.Tensor | None = getattr(encoder.get_input_embeddings(), "weight", None)
    except NotImplementedError:  # transformers' answer where an encoder has none
        return None
    return weight


def _is_readable(weight: torch.Tensor) -> bool:
    return weight.is_floating_point() and not weight.is_meta and not is_quantized(weight)


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

    On several devices a weight that learns is given a gradient of zeros where it has none, and would decay.
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
