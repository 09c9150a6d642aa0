"""bitsandbytes' layers over tensors without values, as they run on CUDA: operators of its kernels one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from metagene_classifier.model.checkpointing import layers_of
from metagene_classifier.model.int8_inputs import forget_inputs
from metagene_classifier.model.quantization import quiet_bitsandbytes


def quantize(encoder: Any, quantization: str) -> None:
    """Put a quantized layer in the place of every linear one inside the encoder's layers."""
    quiet_bitsandbytes()
    setattr(encoder, "is_loaded_in_4bit" if quantization == "nf4" else "is_loaded_in_8bit", True)
    for _, layer in layers_of(encoder):
        for path, module in list(layer.named_modules()):
            if isinstance(module, nn.Linear):
                parent, _, name = path.rpartition(".")
                made = _four_bits(module) if quantization == "nf4" else _eight_bits(module)
                setattr(layer.get_submodule(parent), name, made)


def buffers_of(encoder: nn.Module) -> Iterator[torch.Tensor]:
    """What quantized weights have besides themselves, which no module lists."""
    for weight in encoder.parameters():
        state = getattr(weight, "quant_state", None)
        if state is not None:
            yield from (state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code)
        if getattr(weight, "SCB", None) is not None:
            yield weight.SCB


def _four_bits(linear: nn.Linear) -> nn.Module:
    from bitsandbytes.functional import QuantState
    from bitsandbytes.nn import Linear4bit

    count, dtype = linear.weight.numel(), linear.weight.dtype
    blocks = math.ceil(count / 64)
    nested = QuantState(absmax=torch.empty(math.ceil(blocks / 256)), code=torch.empty(256), blocksize=256)
    nested.dtype = torch.float32
    state = QuantState(
        absmax=torch.empty(blocks, dtype=torch.uint8),
        shape=linear.weight.shape,
        code=torch.empty(16),
        blocksize=64,
        quant_type="nf4",
        dtype=dtype,
        offset=torch.empty(()),
        state2=nested,
    )
    with patch("bitsandbytes.nn.modules.Params4bit", _plain):
        made = Linear4bit(
            linear.in_features, linear.out_features, linear.bias is not None, compute_dtype=dtype, quant_type="nf4"
        )
    made.weight = _plain(torch.empty(math.ceil(count / 2), 1, dtype=torch.uint8))
    made.weight.quant_state = state
    made.support_avx512bf16_for_cpu = False
    made.weight.compress_statistics, made.weight.quant_type = True, "nf4"
    return made


def _eight_bits(linear: nn.Linear) -> nn.Module:
    from bitsandbytes.nn import Linear8bitLt

    with patch("bitsandbytes.nn.modules.Int8Params", _plain):
        made = Linear8bitLt(linear.in_features, linear.out_features, linear.bias is not None, has_fp16_weights=False)
    values = torch.empty(linear.weight.shape, dtype=torch.int8)
    made.weight = _plain(values)
    made.weight.CB, made.weight.SCB = values, torch.empty(linear.out_features)
    # Which columns hold outliers depends on values.
    made.state.threshold = 0.0
    forget_inputs(made)
    return made


def _plain(values: torch.Tensor, *_: Any, **__: Any) -> nn.Parameter:
    """Tensors without values can be of no other class, so the library's own parameters are not to be had."""
    return nn.Parameter(values, requires_grad=False)


@contextmanager
def kernels_as_on_cuda() -> Iterator[None]:
    """The operators that bitsandbytes' kernels for CUDA are made of, in place of single ones and of those for CPUs."""
    from bitsandbytes.autograd import _functions
    from bitsandbytes.backends.default.ops import _gemm_4bit_default_impl

    operators = torch.ops.bitsandbytes

    def int8_scaled_mm(a: Any, b: Any, rows: Any, columns: Any, bias: Any = None, dtype: Any = None) -> Any:
        sums = operators.int8_linear_matmul(a, b)
        return operators.int8_mm_dequant(sums, rows, columns, dtype=torch.float16, bias=bias).to(dtype)

    with (
        patch.object(operators.gemm_4bit, "default", _gemm_4bit_default_impl),
        patch.object(operators.int8_scaled_mm, "default", int8_scaled_mm),
        patch.object(_functions, "MatMul8bitFp", _functions.MatMul8bitLt),
    ):
        yield
