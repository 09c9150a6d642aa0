"""Dropout and the linear layer behind it in one: the backward pass needs neither the mask nor the dropped values.

LoRA's query, key and value adapters each drop the same input in their own way, so autograd keeps three masks and three
dropped copies of it. Masks of :mod:`metagene_classifier.model.dropout` are a function of the token, and so both are
made again from the one input, which all of them share with whatever else keeps it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from metagene_classifier.model.dropout import KeyedDropout, kept_values

__all__ = ["DroppedLinear"]


class DroppedLinear(nn.Linear):
    """``linear(dropout(values))``, the values and gradients of the two apart.

    Args:
        linear: without a bias; its weight is taken over and not copied.
        dropout: of what goes into it.
    """

    def __init__(self, linear: nn.Linear, dropout: KeyedDropout) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight = linear.weight
        self.dropout = dropout
        self.train(linear.training)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """``(rows, tokens, inputs)`` to ``(rows, tokens, outputs)``, in autocast's format or else the weight's."""
        device = values.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.weight.dtype
        if not self.training or self.dropout.rate == 0.0:
            return functional.linear(values.to(dtype), self.weight)
        keys, bank = self.dropout.source(values)
        apply: Any = _DroppedLinear.apply
        dropped: torch.Tensor = apply(values, self.weight, keys, bank, self.dropout, dtype)
        return dropped


class _DroppedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor,
        weight: torch.Tensor,
        keys: torch.Tensor,
        bank: torch.Tensor,
        dropout: KeyedDropout,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        ctx.save_for_backward(values, weight, keys, bank)
        ctx.dropout, ctx.dtype = dropout, dtype
        kept = kept_values(keys, bank, dropout.module)
        return functional.linear(dropout.dropped(values, kept).to(dtype), weight.to(dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        values, weight, keys, bank = ctx.saved_tensors
        dropout, dtype = ctx.dropout, ctx.dtype
        kept = kept_values(keys, bank, dropout.module)
        of_weight = of_values = None
        if ctx.needs_input_grad[1]:
            dropped = dropout.dropped(values, kept).to(dtype).flatten(0, -2)
            of_weight = (gradient.flatten(0, -2).t() @ dropped).to(weight.dtype)
            del dropped
        if ctx.needs_input_grad[0]:
            of_values = dropout.dropped((gradient @ weight.to(dtype)).to(values.dtype), kept)
        return of_values, of_weight, None, None, None, None
