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

__all__ = ["choose_layout", "packs_exactly"]


def packs_exactly(encoder: Any, attention: str, compute_dtype: torch.dtype) -> bool:
    """Run three short reads packed together, and each alone as it would be without packing, and compare.

    Layers that mix neighbours outside attention (convolutions, state spaces) or that count positions in their own way
    give other values; such encoders take buckets.

    Args:
        encoder: a transformers model; it is left with ``attention``.
        attention: the one that packed batches would run with.
        compute_dtype: of the arithmetic.
    """
    device = next(encoder.parameters()).device
    generator = np.random.default_rng(0)
    segments = [generator.integers(0, int(encoder.config.vocab_size), length) for length in (9, 4, 7)]
    keys = np.zeros(len(segments), np.int64)

    def pooled(chosen: list[npt.NDArray[np.int64]], layout: Layout, by: str) -> torch.Tensor:
        encoder.set_attn_implementation(by)
        model = ReadClassifier(
            encoder,
            hidden_size=int(encoder.config.hidden_size),
            classes=0,
            pooling="mean",
            dropout=0.0,
            keys=TokenKeys(),
            compute_dtype=compute_dtype,
        ).eval()
        batch = collate(chosen, keys[: len(chosen)], layout=layout, padded_length=0, pad_id=0)
        with torch.no_grad():
            return model.embed(batch.to(device))

    training = encoder.training
    alone = torch.cat([pooled([segment], "buckets", "sdpa") for segment in segments])
    together = pooled(segments, "packed", attention)
    encoder.train(training)
    tolerance = 1e-4 if compute_dtype is torch.float32 else 3e-2
    return bool((together - alone).abs().max() <= tolerance * alone.abs().max().clamp(min=1e-6))


def choose_layout(encoder: Any, asked: str, attention: str, compute: torch.dtype, device: torch.device) -> Layout:
    """How reads lie in a micro-batch, with the encoder's attention set to match.

    On a GPU reads are packed where the encoder gives the same values that way (tried on two reads); elsewhere, and on
    a CPU, where a block mask costs more than 5% of padding, they lie in buckets of equal length.

    Raises:
        ConfigError: packing was asked for and the encoder cannot.
    """
    packed = asked == "packed" or (asked == "auto" and device.type == "cuda")
    if packed and takes_packing(encoder):
        name = choose_attention(attention, packed=True, device=device, dtype=compute)
        if name == VARLEN:
            register_varlen()
        if packs_exactly(encoder, name, compute):
            return "packed"
    if asked == "packed":
        raise ConfigError(
            f"training.layout: packed: a {type(encoder).__name__} gives other values for packed reads: use buckets"
        )
    name = choose_attention(attention, packed=False, device=device, dtype=compute)
    if name in (VARLEN, "flex_attention"):
        name = "sdpa"
    encoder.set_attn_implementation(name)
    return "padded" if asked == "padded" else "buckets"
