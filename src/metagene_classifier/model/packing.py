"""How reads lie in a micro-batch: packed where the encoder gives the same values that way, tried and not assumed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from metagene_classifier.batching.batch import collate
from metagene_classifier.batching.micro_batches import Layout
from metagene_classifier.errors import ConfigError
from metagene_classifier.model.attention import VARLEN, choose_attention, register_varlen, takes_packing
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.dropout import TokenKeys
from metagene_classifier.model.out_of_memory import DeviceMemoryError, is_out_of_memory

__all__ = ["choose_layout", "packs_exactly"]

# Attentions whose packed form is a mask over all pairs of tokens.
BLOCK_MASKED = ("sdpa", "eager")


def packs_exactly(encoder: Any, attention: str, compute_dtype: torch.dtype) -> bool:
    """Run three short reads packed together, and each alone as it would be without packing, and compare.

    Layers that mix neighbours outside attention (convolutions, state spaces) or that count positions in their own way
    give other values, or fail; such encoders take buckets.

    Args:
        encoder: a transformers model; it is left with ``attention`` where that exists for it.
        attention: the one that packed batches would run with.
        compute_dtype: of the arithmetic.
    """
    device = next(encoder.parameters()).device
    generator = np.random.default_rng(0)
    segments = [generator.integers(0, int(encoder.config.vocab_size), length) for length in (9, 4, 7)]
    keys = np.zeros(len(segments), np.int64)
    model = ReadClassifier(
        encoder,
        hidden_size=int(encoder.config.hidden_size),
        classes=0,
        pooling="mean",
        dropout=0.0,
        keys=TokenKeys(),
        compute_dtype=compute_dtype,
    )

    def pooled(chosen: list[npt.NDArray[np.int64]], layout: Layout) -> torch.Tensor:
        batch = collate(chosen, keys[: len(chosen)], layout=layout, padded_length=0, pad_id=0)
        with torch.no_grad():
            return model.embed(batch.to(device))

    training = encoder.training
    model.eval()
    try:
        alone = torch.cat([pooled([segment], "buckets") for segment in segments])
        encoder.set_attn_implementation(attention)
        together = pooled(segments, "packed")
    except Exception as error:  # an encoder that cannot take packed reads fails in a way of its own
        if is_out_of_memory(error):
            raise DeviceMemoryError(
                f"the encoder alone fills the memory of {device}, three short reads do not fit beside it: 'mgc plan' "
                "shows what fits; hold it in fewer bits (model.quantization, --quantization nf4)"
            ) from error
        return False
    finally:
        encoder.train(training)
    tolerance = 1e-4 if compute_dtype is torch.float32 else 3e-2
    return bool((together - alone).abs().max() <= tolerance * alone.abs().max().clamp(min=1e-6))


def choose_layout(encoder: Any, asked: str, attention: str, compute: torch.dtype, device: torch.device) -> Layout:
    """How reads lie in a micro-batch, with the encoder's attention set to match.

    On a GPU reads are packed where a kernel for variable lengths is at hand and the encoder gives the same values that
    way (tried on three reads); elsewhere they lie in buckets of equal length, since a block mask over all tokens of a
    micro-batch costs more than 5% of padding.

    Raises:
        ConfigError: packing was asked for and the encoder cannot, or it has no attention of the name asked for.
    """
    own = encoder.config._attn_implementation
    name = choose_attention(attention, packed=True, device=device, dtype=compute)
    packed = asked == "packed" or (asked == "auto" and device.type == "cuda" and name not in BLOCK_MASKED)
    if packed and takes_packing(encoder):
        if name == VARLEN:
            register_varlen()
        if attention != "auto":  # what is not there is told apart from what does not fit the encoder
            _set_attention(encoder, name)
            _set_attention(encoder, own)
        if packs_exactly(encoder, name, compute):
            return "packed"
    if asked == "packed":
        raise ConfigError(
            f"training.layout: packed: a {type(encoder).__name__} does not give the same values for packed reads "
            f"(model.attention: {attention}): use buckets"
        )
    name = choose_attention(attention, packed=False, device=device, dtype=compute)
    if name in (VARLEN, "flex_attention"):
        name = "sdpa"
    # Left to itself an encoder has the best attention that it knows; not every one knows sdpa, or has any.
    _set_attention(encoder, own if attention == "auto" else name)
    return "padded" if asked == "padded" else "buckets"


def _set_attention(encoder: Any, name: str) -> None:
    if encoder.config._attn_implementation == name:
        return
    try:
        encoder.set_attn_implementation(name)
    except (ImportError, ValueError) as error:
        first = " ".join(str(error).split())[:200]
        raise ConfigError(f"model.attention: {name} cannot be had here (auto takes what is there): {first}") from error
