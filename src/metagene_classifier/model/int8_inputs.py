"""bitsandbytes' 8-bit layers keep their inputs for a weight that would learn; ours do not, so they need not.

They keep them outside autograd's saved tensors, where checkpointing cannot drop them either: every checkpointed layer
would hold the inputs of all its linear layers to the end of the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["forget_inputs"]


def forget_inputs(layer: nn.Module) -> None:
    """Let a ``Linear8bitLt`` with a frozen weight drop its input after every forward pass; gradients stay the same."""
    layer.register_forward_hook(_drop_input)


def _drop_input(layer: Any, inputs: Any, output: torch.Tensor) -> None:
    node: Any = output.grad_fn
    if layer.weight.requires_grad or node is None:
        return
    # On CUDA (MatMul8bitLt) and on a CPU that trains (MatMul8bitFp).
    if len(getattr(node, "tensors", ())) == 3:
        node.tensors = (None, None, None)
    if getattr(node, "A", None) is not None:
        node.A = None
