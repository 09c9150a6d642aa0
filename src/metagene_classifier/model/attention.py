"""Attention that never crosses a read: what the encoder is told about a batch, for each way of computing it."""

from __future__ import annotations

import importlib.util
import inspect
from typing import Any

import torch

from metagene_classifier.batching.batch import TokenBatch

__all__ = ["choose_attention", "encoder_inputs", "is_causal", "register_varlen", "takes_packing"]

VARLEN = "mgc_varlen"


def choose_attention(asked: str, *, packed: bool, device: torch.device, dtype: torch.dtype) -> str:
    """The name transformers knows the attention by.

    Packed on a CUDA card in half precision: flash-attn where it is installed, otherwise torch's own varlen kernel.
    Everything else, float32 and the CPU included, runs scaled-dot-product attention, packed under a block mask.
    """
    if asked == "varlen":
        return VARLEN
    if asked != "auto":
        return asked
    if packed and device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        if importlib.util.find_spec("flash_attn") is not None:
            return "flash_attention_2"
        if importlib.util.find_spec("torch.nn.attention.varlen") is not None:
            return VARLEN
    return "sdpa"


def takes_packing(encoder: torch.nn.Module) -> bool:
    """Whether an encoder takes position ids and an attention chosen by name; the values are checked when it runs.

    One whose tokens see a window of their neighbours does not: the block mask knows no window, and a trial with short
    reads would not show it.
    """
    parameters = inspect.signature(encoder.forward).parameters
    named = bool(getattr(encoder, "_supports_attention_backend", False))
    windowed = getattr(encoder.config, "sliding_window", None) is not None
    return "position_ids" in parameters and named and not windowed


def is_causal(encoder: torch.nn.Module) -> bool:
    """Whether a token sees only those before it."""
    if getattr(encoder.config, "is_causal", True) is False:
        return False
    flags = [module.is_causal for module in encoder.modules() if hasattr(module, "is_causal")]
    return bool(flags) and all(flags)


def encoder_inputs(batch: TokenBatch, *, attention: str, causal: bool) -> dict[str, Any]:
    """Keyword arguments for the encoder's ``forward``.

    Args:
        batch: on the encoder's device.
        attention: as :func:`choose_attention` named it.
        causal: of the encoder.
    """
    if not batch.packed:
        # Padding stands right of a read, where a causal encoder never looks from a real token: it needs no mask.
        mask = None if causal else batch.token_mask().long()
        return {"input_ids": batch.ids, "attention_mask": mask}
    inputs: dict[str, Any] = {"input_ids": batch.ids, "position_ids": batch.positions}
    if attention in ("sdpa", "eager"):
        return inputs | {"attention_mask": _block_mask(batch, attention, causal)}
    if attention == "flex_attention":
        return inputs | {"attention_mask": _flex_block_mask(batch, causal)}
    boundaries = batch.boundaries()
    longest = int(batch.lengths.max())
    return inputs | {
        "attention_mask": None,
        "cu_seq_lens_q": boundaries,
        "cu_seq_lens_k": boundaries,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def _segment_of_token(batch: TokenBatch) -> torch.Tensor:
    numbers = torch.arange(batch.segments, device=batch.ids.device)
    return torch.repeat_interleave(numbers, batch.lengths.to(batch.ids.device), output_size=batch.ids.shape[1])


def _block_mask(batch: TokenBatch, attention: str, causal: bool) -> torch.Tensor:
    """``(1, 1, tokens, tokens)``: boolean for SDPA, additive for the eager form."""
    segment = _segment_of_token(batch)
    seen = segment[:, None] == segment[None, :]
    if causal:
        seen = seen.tril()
    if attention == "eager":
        return torch.zeros_like(seen, dtype=torch.float32).masked_fill_(~seen, torch.finfo(torch.float32).min)[
            None, None
        ]
    return seen[None, None]


def _flex_block_mask(batch: TokenBatch, causal: bool) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    segment = _segment_of_token(batch)
    tokens = len(segment)

    def seen(_batch: Any, _head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        same = segment[query] == segment[key]
        return same & (query >= key) if causal else same

    return create_block_mask(seen, None, None, tokens, tokens, device=str(segment.device))


def register_varlen() -> None:
    """Make torch's variable-length attention known to transformers under a name of its own."""
    from torch.nn.attention.varlen import varlen_attn
    from transformers import AttentionInterface

    # Causality is an argument of its own up to torch 2.10, and a window since.
    has_window = "window_size" in inspect.signature(varlen_attn).parameters

    def forward(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *,
        cu_seq_lens_q: torch.Tensor,
        max_length_q: int,
        scaling: float | None = None,
        is_causal: bool | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        """``(1, heads, tokens, width)`` to ``(1, tokens, heads, width)``."""
        # Rotation makes float32 of them where weights learn, and autocast does not know this operator.
        query, key = query.to(value.dtype), key.to(value.dtype)
        causal = is_causal if is_causal is not None else bool(getattr(module, "is_causal", False))
        groups = query.shape[1] // key.shape[1]
        if groups > 1:
            key = key.repeat_interleave(groups, dim=1)
            value = value.repeat_interleave(groups, dim=1)
        form: dict[str, Any] = {"window_size": (-1, 0 if causal else -1)} if has_window else {"is_causal": causal}
        out: Any = varlen_attn(
            query[0].transpose(0, 1),
            key[0].transpose(0, 1),
            value[0].transpose(0, 1),
            cu_seq_lens_q,
            cu_seq_lens_q,
            max_length_q,
            max_length_q,
            scale=scaling,
            **form,
        )
        return out[None], None

    AttentionInterface.register(VARLEN, forward)
