"""The classifier: encoder, pooling, dropout and a linear head in float32, for packed and padded batches alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from metagene_classifier.batching.batch import TokenBatch
from metagene_classifier.model.attention import encoder_inputs, is_causal
from metagene_classifier.model.dropout import KeyedDropout, TokenKeys
from metagene_classifier.model.pooling import Pooling, pool

__all__ = ["ReadClassifier"]

# Numbers of the dropout modules inside the encoder begin above this one.
HEAD_DROPOUT = 1


class ReadClassifier(nn.Module):
    """Class scores for every segment of a batch.

    Args:
        encoder: a transformers model, or PEFT's wrapper around one, with hidden states of ``hidden_size``.
        hidden_size: width of the encoder's output.
        classes: outputs of the head; 0 for embeddings alone.
        pooling: see :func:`pool`.
        dropout: rate before the head.
        keys: shared with the dropout modules inside the encoder.
        compute_dtype: of the encoder's arithmetic; its weights are never cast to anything else.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        hidden_size: int,
        classes: int,
        pooling: Pooling,
        dropout: float,
        keys: TokenKeys,
        compute_dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.compute_dtype = compute_dtype
        self.dropout = KeyedDropout(dropout, keys, HEAD_DROPOUT)
        self.head = nn.Linear(hidden_size, classes, dtype=torch.float32) if classes else None
        self._keys = keys
        self._causal = is_causal(self.transformer)

    @property
    def transformer(self) -> Any:
        """The transformers model itself, without PEFT's wrapper."""
        inner = getattr(self.encoder, "get_base_model", None)
        return inner() if inner is not None else self.encoder

    def embed(self, batch: TokenBatch) -> torch.Tensor:
        """Pooled hidden states, ``(segments, hidden)`` float32."""
        self._keys.set(batch)
        inputs = encoder_inputs(batch, attention=self.transformer.config._attn_implementation, causal=self._causal)
        device = batch.ids.device.type
        mixed = self.compute_dtype is not torch.float32
        # Autocast's own cache would hold a copy of every weight that learns to the end of the pass, where the backward
        # pass (recomputing, or not there at all) wants none; only layers that share weights gain by it.
        cached = torch.is_grad_enabled() and not _is_checkpointed(self.transformer)
        dtype = self.compute_dtype if mixed else None
        with torch.autocast(device, dtype=dtype, enabled=mixed, cache_enabled=cached):
            hidden = self.encoder(**inputs).last_hidden_state
        real = hidden.flatten(0, 1)
        places = batch.real_places()
        return pool(real if places is None else real.index_select(0, places), batch.lengths, self.pooling)

    def forward(self, batch: TokenBatch) -> torch.Tensor:
        """Class scores (logits), ``(segments, classes)`` float32."""
        if self.head is None:
            raise RuntimeError("an encoder without a head has no class scores")
        return self._scores(self.embed(batch))

    def classify(self, pooled: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Class scores of what :meth:`embed` gave, with the dropout that the same segments get through the encoder.

        Args:
            pooled: ``(segments, hidden)`` float32.
            keys: those of :class:`TokenBatch`, ``(segments,)`` int64.

        Returns:
            ``(segments, classes)`` float32.
        """
        self._keys.set_segments(keys)
        return self._scores(pooled)

    def _scores(self, pooled: torch.Tensor) -> torch.Tensor:
        assert self.head is not None
        with torch.autocast(pooled.device.type, enabled=False):
            scores: torch.Tensor = self.head(self.dropout(pooled))
        return scores


def _is_checkpointed(transformer: Any) -> bool:
    return any(getattr(module, "gradient_checkpointing", False) for module in transformer.modules())
