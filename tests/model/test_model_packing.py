"""Which encoders take packed reads: those that are seen to give the same values that way."""

import pytest
import torch
from torch import nn
from torch.nn.attention import varlen
from transformers import (
    BertConfig,
    BertModel,
    EsmConfig,
    EsmModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    MambaConfig,
    MambaModel,
    ModernBertConfig,
    ModernBertModel,
)
from varlen_kernels import with_window

from metagene_classifier.errors import ConfigError
from metagene_classifier.model.attention import choose_attention, is_causal
from metagene_classifier.model.packing import choose_layout, packs_exactly

CPU = torch.device("cpu")
SIZE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}


class LeakyLlama(LlamaModel):
    """A Llama with a convolution over neighbouring tokens, as some genomic encoders have."""

    def __init__(self, config):
        super().__init__(config)
        self.mix = nn.Conv1d(config.hidden_size, config.hidden_size, 3, padding=2)

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, **others):
        out = super().forward(input_ids, attention_mask, position_ids, **others)
        mixed = self.mix(out.last_hidden_state.transpose(1, 2))[..., :-2].transpose(1, 2)
        out.last_hidden_state = mixed
        return out


def llama(kind=LlamaModel):
    torch.manual_seed(0)
    return kind(LlamaConfig(**SIZE)).eval()


def bert():
    torch.manual_seed(0)
    return BertModel(BertConfig(**SIZE)).eval()


def gpt2():
    torch.manual_seed(0)
    return GPT2Model(
        GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=128, bos_token_id=1, eos_token_id=1)
    ).eval()


def esm():
    """As Nucleotide Transformers are: its embeddings take no block mask."""
    return EsmModel(EsmConfig(**SIZE, mask_token_id=5, position_embedding_type="rotary", token_dropout=True)).eval()


def modern_bert():
    """Most of its layers see a window of neighbours alone."""
    return ModernBertModel(
        ModernBertConfig(**SIZE, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)
    ).eval()


def mamba():
    """A state space model: it has no attention to choose."""
    return MambaModel(
        MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1, bos_token_id=1, eos_token_id=1)
    ).eval()


def layout_of(encoder, asked="auto", attention="auto"):
    return choose_layout(encoder, asked, attention, torch.float32, CPU)


def test_causal_encoders_are_told_from_those_that_see_both_ways():
    assert is_causal(llama())
    assert is_causal(gpt2())
    assert not is_causal(bert())
    assert not is_causal(esm())


def test_a_llama_made_to_see_both_ways_is_not_causal():
    encoder = llama()
    encoder.config.is_causal = False
    assert not is_causal(encoder)


@pytest.mark.parametrize("make", [llama, bert, gpt2])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_encoders_that_mix_tokens_in_attention_alone_pack_exactly(make, attention):
    encoder = make()
    assert packs_exactly(encoder, attention, torch.float32)
    assert encoder.config._attn_implementation == attention
    assert not encoder.training


def test_a_convolution_over_tokens_does_not_pack_exactly():
    assert not packs_exactly(llama(LeakyLlama), "sdpa", torch.float32)


def test_half_precision_does_not_hide_a_leak():
    assert packs_exactly(llama().bfloat16(), "sdpa", torch.bfloat16)
    assert not packs_exactly(llama(LeakyLlama).bfloat16(), "sdpa", torch.bfloat16)


def test_trial_leaves_an_encoder_in_training_as_it_was():
    encoder = llama().train()
    packs_exactly(encoder, "sdpa", torch.float32)
    assert encoder.training


def test_a_cpu_takes_buckets_where_nothing_is_asked():
    assert layout_of(llama()) == "buckets"


def test_packed_is_had_for_the_asking():
    encoder = llama()
    assert layout_of(encoder, "packed") == "packed"
    assert layout_of(encoder, "packed", "eager") == "packed"
    assert encoder.config._attn_implementation == "eager"


@pytest.mark.parametrize("make", [lambda: llama(LeakyLlama), esm, modern_bert, mamba])
def test_packed_is_refused_where_reads_would_leak(make):
    encoder = make()
    with pytest.raises(ConfigError, match=rf"training\.layout: packed: a {type(encoder).__name__} .*use buckets"):
        layout_of(encoder, "packed")


@pytest.mark.parametrize("make", [lambda: llama(LeakyLlama), modern_bert, mamba])
def test_encoders_that_cannot_pack_fall_to_buckets_on_a_card(make, monkeypatch):
    """Packing is tried on CUDA; the trial itself runs here on the CPU, where the weights are."""
    monkeypatch.setattr(varlen, "varlen_attn", with_window)
    encoder = make()
    own = encoder.config._attn_implementation
    assert choose_layout(encoder, "auto", "auto", torch.bfloat16, torch.device("cuda")) == "buckets"
    assert encoder.config._attn_implementation == own


def test_llama_is_packed_on_a_card_where_there_is_a_kernel_for_it(monkeypatch):
    monkeypatch.setattr(varlen, "varlen_attn", with_window)
    cuda = torch.device("cuda")
    assert choose_layout(llama(), "auto", "auto", torch.bfloat16, cuda) == "packed"
    assert choose_layout(llama(), "auto", "auto", torch.float32, cuda) == "buckets"
    assert choose_layout(llama(), "auto", "sdpa", torch.bfloat16, cuda) == "buckets"


@pytest.mark.parametrize("asked", ["buckets", "padded"])
def test_other_layouts_are_taken_as_asked(asked):
    assert layout_of(llama(), asked) == asked


@pytest.mark.parametrize(("asked", "used"), [("eager", "eager"), ("sdpa", "sdpa"), ("varlen", "sdpa")])
def test_attention_is_the_one_asked_for_where_rows_are_padded(asked, used):
    encoder = llama()
    assert layout_of(encoder, "buckets", asked) == "buckets"
    assert encoder.config._attn_implementation == used


@pytest.mark.parametrize("layout", ["auto", "packed", "buckets"])
def test_attention_that_is_not_installed_is_one_clear_line(layout, monkeypatch):
    monkeypatch.setattr("transformers.utils.import_utils.is_flash_attn_2_available", lambda: False)
    with pytest.raises(ConfigError, match=r"^model\.attention: flash_attention_2 cannot be had here .*[Ii]nstalled"):
        layout_of(llama(), layout, "flash_attention_2")


@pytest.mark.parametrize(
    ("packed", "device", "dtype", "flash_attn", "expected"),
    [
        (True, "cuda", torch.bfloat16, True, "flash_attention_2"),
        (True, "cuda", torch.bfloat16, False, "mgc_varlen"),
        (True, "cuda", torch.float16, False, "mgc_varlen"),
        (True, "cuda", torch.float32, True, "sdpa"),
        (False, "cuda", torch.bfloat16, True, "sdpa"),
        (True, "cpu", torch.bfloat16, True, "sdpa"),
    ],
)
def test_attention_is_the_fastest_that_is_installed(monkeypatch, packed, device, dtype, flash_attn, expected):
    found = {"flash_attn": flash_attn, "torch.nn.attention.varlen": True}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if found[name] else None)
    assert choose_attention("auto", packed=packed, device=torch.device(device), dtype=dtype) == expected
