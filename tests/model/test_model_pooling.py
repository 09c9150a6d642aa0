import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.model.pooling import pool

PLAIN = {
    "mean": lambda tokens: sum(tokens) / len(tokens),
    "max": lambda tokens: torch.stack(list(tokens)).max(0).values,
    "cls": lambda tokens: tokens[0],
    "last": lambda tokens: tokens[-1],
}


@pytest.mark.parametrize("how", PLAIN)
@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=8), seed=st.integers(0, 2**16))
def test_pooling_is_that_of_a_plain_loop(how, lengths, seed):
    hidden = torch.randn(sum(lengths), 6, generator=torch.Generator().manual_seed(seed))
    expected = torch.stack([PLAIN[how](list(part)) for part in hidden.split(lengths)])
    torch.testing.assert_close(pool(hidden, torch.tensor(lengths), how), expected)


@pytest.mark.parametrize("how", PLAIN)
def test_gradient_is_that_of_a_plain_loop(how):
    lengths = [4, 1, 7]
    hidden = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    mine, plain = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    (pool(mine, torch.tensor(lengths), how) * weights).sum().backward()
    (torch.stack([PLAIN[how](list(part)) for part in plain.split(lengths)]) * weights).sum().backward()
    torch.testing.assert_close(mine.grad, plain.grad)


@pytest.mark.parametrize("how", PLAIN)
def test_neighbours_change_no_bit_of_a_reads_vector(how):
    hidden = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    alone = pool(hidden[10:29], torch.tensor([19]), how)
    assert torch.equal(pool(hidden, torch.tensor([10, 19, 11]), how)[1:2], alone)


def test_half_precision_is_pooled_in_float32():
    hidden = torch.full((4096, 1), 1.001, dtype=torch.bfloat16)
    pooled = pool(hidden, torch.tensor([4096]), "mean")
    assert pooled.dtype is torch.float32
    assert pooled.item() == hidden[0, 0].item()
