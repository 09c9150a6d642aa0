"""Dropout and linear layer in one: the same values and gradients as apart, and less kept in between."""

import numpy as np
import pytest
import torch
from torch import nn

from metagene_classifier.batching.batch import collate
from metagene_classifier.model.dropout import KeyedDropout, TokenKeys
from metagene_classifier.model.dropped_linear import DroppedLinear


def layers(rate=0.3, inputs=16, outputs=4):
    torch.manual_seed(0)
    keys = TokenKeys()
    segments = [np.full(length, 7) for length in (5, 9)]
    keys.set(collate(segments, np.array([11, 12]), layout="packed", padded_length=0, pad_id=0))
    dropout = KeyedDropout(rate, keys, 3).train()
    linear = nn.Linear(inputs, outputs, bias=False)
    return dropout, linear, DroppedLinear(linear, dropout).train()


def run(call, weight, values, *, autocast=False):
    weight.grad = None
    values = values.detach().clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out = call(values)
    out.float().square().sum().backward()
    return out.detach(), values.grad, weight.grad


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_dropout_and_linear_layer_apart(rate, dtype):
    """In bfloat16 apart is as PEFT has it: the input in float32 up to the linear layer, which autocast casts back."""
    dropout, linear, both = layers(rate)
    values = torch.randn(1, 14, 16).to(dtype)
    half = dtype is torch.bfloat16
    apart = run(lambda x: linear(dropout(x.float())), linear.weight, values, autocast=half)
    together = run(both, linear.weight, values, autocast=half)
    for mine, theirs in zip(together, apart, strict=True):
        assert mine.dtype is theirs.dtype
        assert torch.equal(mine, theirs)


def test_an_input_that_needs_no_gradient_gets_none_and_the_weight_its_own():
    dropout, linear, both = layers()
    values = torch.randn(1, 14, 16)
    linear(dropout(values)).sum().backward()
    expected = linear.weight.grad
    linear.weight.grad = None
    both(values).sum().backward()
    assert torch.equal(linear.weight.grad, expected)


def test_outside_training_nothing_is_dropped():
    _, linear, both = layers()
    values = torch.randn(1, 14, 16)
    assert torch.equal(both.eval()(values), linear(values))


def test_neither_mask_nor_dropped_values_are_kept():
    _, _, both = layers(inputs=64)
    values = torch.randn(1, 14, 64, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        both(values)
    shares = {t.untyped_storage().data_ptr() for t in kept if t.shape == values.shape}
    assert shares == {values.untyped_storage().data_ptr()}
    assert not [t for t in kept if t.dtype is torch.bool and t.shape == values.shape]
