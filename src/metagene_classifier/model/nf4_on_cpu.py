"""What bitsandbytes gets wrong with 4-bit weights on a CPU, set right (seen in 0.50).

It repacks the weights for CPUs with bfloat16 units as soon as they are scored: it then computes in bfloat16 whatever
was asked for, loses digits, and fails on layers that are not a multiple of 32 by 64. And where a layer's input is not a
multiple of the block of 64, as ESM's 480, it reads each row's scales from the wrong place: the values are wrong by half
of their size, and nothing says so.
"""

from __future__ import annotations

import copy
import functools
import importlib
from typing import Any

import torch
from torch.nn import functional

__all__ = ["mend_nf4_on_cpu"]


def mend_nf4_on_cpu(module: Any) -> None:
    """Change a 4-bit linear layer in place, so that on a CPU it gives what it gives elsewhere."""
    module.support_avx512bf16_for_cpu = False
    state = module.weight.quant_state
    if module.weight.device.type == "cpu" and state.shape[-1] % state.blocksize:
        module.__class__ = _any_width()


@functools.cache
def _any_width() -> type[Any]:
    library = importlib.import_module("bitsandbytes")

    class Linear4bit(library.nn.Linear4bit):  # type: ignore[misc, name-defined]
        """One whose weights are read as a single row, which all blocks but the last one fill."""

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            """As the layer of bitsandbytes, in the compute type that the layer was made with."""
            state = getattr(self.weight, "quant_state", None) or self.quant_state  # sharding leaves plain bytes
            row = copy.copy(state)
            row.shape = torch.Size((1, state.shape.numel()))
            compute = self.compute_dtype or inputs.dtype
            weight = library.functional.dequantize_4bit(self.weight.data, row).reshape(state.shape).to(compute)
            bias = None if self.bias is None else self.bias.to(compute)
            return functional.linear(inputs.to(compute), weight, bias).to(inputs.dtype)

    return Linear4bit
