"""What reaches torch's variable-length kernel, shown by a stand-in, since the kernel itself needs a CUDA card."""

import pytest
import torch
from varlen_kernels import with_flag, with_window

from metagene_classifier.model.attention import VARLEN, register_varlen
from metagene_classifier.model.packing import packs_exactly


@pytest.mark.parametrize("kernel", [with_window, with_flag])
@pytest.mark.parametrize("key_value_heads", [4, 2])
def test_packed_reads_through_the_kernel_are_the_same(kernel, key_value_heads, monkeypatch):
    from torch.nn.attention import varlen
    from transformers import LlamaConfig, LlamaModel

    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    register_varlen()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=key_value_heads,
        initializer_range=0.3,
    )
    assert packs_exactly(LlamaModel(config).eval(), VARLEN, torch.float32)
