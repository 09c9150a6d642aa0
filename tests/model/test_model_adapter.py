import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModel

from metagene_classifier.errors import ConfigError, ModelFolderError
from metagene_classifier.model.adapter import AdapterSettings, add_adapter, load_adapter, save_adapter
from metagene_classifier.model.dropout import KeyedDropout, TokenKeys
from metagene_classifier.model.quiet import quiet_transformers

IDS = torch.tensor([[3, 7, 200, 300, 9, 4]])


def settings(targets=("q_proj", "k_proj", "v_proj", "o_proj"), dropout=0.1, bias="none"):
    return AdapterSettings(r=4, alpha=8, dropout=dropout, target_modules=targets, bias=bias)


def adapted(encoder, chosen=None, seed=0):
    return add_adapter(encoder, chosen or settings(), encoder_name="my/encoder", keys=TokenKeys(), seed=seed)


def learning(model):
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def test_only_the_adapter_learns_and_in_float32_on_a_half_precision_encoder(load, llama_encoder):
    model = adapted(load(llama_encoder, torch.bfloat16))
    weights = dict(model.named_parameters())
    assert learning(model) == {name for name in weights if ".lora_" in name}
    assert len(learning(model)) == 2 * 4 * 2  # A and B, four layers of each of two blocks
    assert {weights[name].dtype for name in learning(model)} == {torch.float32}
    assert {weights[name].dtype for name in set(weights) - learning(model)} == {torch.bfloat16}


def test_a_new_adapter_changes_nothing(load, llama_encoder):
    encoder = load(llama_encoder)
    with torch.no_grad():
        before = encoder(IDS).last_hidden_state
        after = adapted(encoder).eval()(IDS).last_hidden_state
    torch.testing.assert_close(after, before)


def test_new_adapters_follow_from_the_seed(load, llama_encoder):
    first, again, other = (
        torch.cat([w.flatten() for n, w in adapted(load(llama_encoder), seed=seed).named_parameters() if "lora_A" in n])
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_layers_that_can_have_no_adapter_are_told_in_one_line():
    from transformers import MambaConfig, MambaModel

    mamba = MambaModel(MambaConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, state_size=4))
    with pytest.raises(ConfigError, match=r"^model\.lora\.target_modules: .*out_proj") as caught:
        adapted(mamba, settings(targets="all-linear"))
    assert "\n" not in str(caught.value)


def test_layers_that_the_encoder_has_not_are_refused_with_those_it_has(load, bert_encoder):
    with pytest.raises(ConfigError) as caught:
        adapted(load(bert_encoder))
    message = str(caught.value)
    assert message.startswith("model.lora.target_modules: this encoder has no linear layer called q_proj, k_proj")
    assert "it has dense, key, query, value (or all-linear)" in message


@pytest.mark.parametrize("target", ["layers.7.self_attn.q_proj", "proj", "self_attn", ""])
def test_part_of_a_name_is_no_layer(load, llama_encoder, target):
    with pytest.raises(ConfigError, match=f"no linear layer called {target}: it has down_proj"):
        adapted(load(llama_encoder), settings((target,)))


def test_a_layer_may_be_named_by_its_place(load, llama_encoder):
    model = adapted(load(llama_encoder), settings(("layers.1.self_attn.q_proj", "mlp.up_proj")))
    assert {name.rsplit(".lora_", 1)[0].removeprefix("base_model.model.") for name in learning(model)} == {
        "layers.1.self_attn.q_proj",
        "layers.0.mlp.up_proj",
        "layers.1.mlp.up_proj",
    }


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_linear_layers_of_gpt2_take_an_adapter_too():
    from transformers import GPT2Config, GPT2Model

    config = GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=4, bos_token_id=1, eos_token_id=1)
    with quiet_transformers():
        model = adapted(GPT2Model(config), settings(("c_attn",)))
    assert len(learning(model)) == 2


def test_all_linear_puts_an_adapter_on_every_linear_layer(load, llama_encoder):
    encoder = load(llama_encoder)
    linear = sum(isinstance(module, nn.Linear) for module in encoder.modules())
    assert len(learning(adapted(encoder, settings("all-linear")))) == 2 * linear


@pytest.mark.parametrize(
    "chosen",
    [settings("all-linear"), settings(("dense",)), settings(("query",), bias="all")],
    ids=["all-linear", "dense", "bias"],
)
def test_all_that_learns_in_a_bert_gets_a_gradient(load, bert_encoder, chosen):
    """What learns and gets none stops a run on several devices: such as an adapter on a pooler that is never run."""
    model = adapted(load(bert_encoder), chosen).eval()
    model(IDS).last_hidden_state.sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None] == []


def test_dropout_of_the_adapter_follows_the_token_and_each_layer_has_its_own(load, llama_encoder):
    layers = [module for module in adapted(load(llama_encoder)).modules() if isinstance(module, KeyedDropout)]
    assert len(layers) == 8
    assert len({layer.module for layer in layers}) == 8
    assert {layer.rate for layer in layers} == {0.1}


def test_loaded_dropout_has_the_numbers_that_it_was_trained_with(load, llama_encoder, tmp_path):
    """Otherwise a run that is resumed would draw other masks."""
    trained = adapted(load(llama_encoder))
    save_adapter(trained, tmp_path)
    again = load_adapter(load(llama_encoder), tmp_path, keys=TokenKeys(), trainable=True)
    numbers = [
        {name: m.module for name, m in model.named_modules() if isinstance(m, KeyedDropout)}
        for model in (trained, again)
    ]
    assert numbers[0] == numbers[1]
    assert learning(again) == learning(trained)


@pytest.mark.parametrize("chosen", [settings(), settings("all-linear"), settings(("query", "dense"), bias="all")])
def test_a_saved_adapter_is_loaded_by_us_and_by_peft_alone(load, llama_encoder, bert_encoder, tmp_path, chosen):
    folder = bert_encoder if "query" in chosen.target_modules else llama_encoder
    model = adapted(load(folder), chosen).eval()
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = 0.2 * torch.randn(weight.shape, generator=generator)
    save_adapter(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    with quiet_transformers():
        by_peft = PeftModel.from_pretrained(AutoModel.from_pretrained(folder), tmp_path).eval()
    by_us = load_adapter(load(folder), tmp_path, keys=TokenKeys(), trainable=False).eval()
    with torch.no_grad():
        expected = model(IDS).last_hidden_state
        assert torch.equal(by_peft(IDS).last_hidden_state, expected)
        assert torch.equal(by_us(IDS).last_hidden_state, expected)
        assert not torch.allclose(load(folder)(IDS).last_hidden_state, expected, atol=0.1)
    assert not any(".lora_" in name for name in learning(by_us))


def test_the_adapter_names_the_encoder_that_it_was_made_for(load, llama_encoder, tmp_path):
    save_adapter(adapted(load(llama_encoder)), tmp_path)
    assert '"base_model_name_or_path": "my/encoder"' in (tmp_path / "adapter_config.json").read_text()


def test_an_adapter_for_an_encoder_of_another_shape_is_refused(load, llama_encoder, bert_encoder, tmp_path):
    save_adapter(adapted(load(llama_encoder)), tmp_path)
    with pytest.raises(ModelFolderError, match=f"{tmp_path}: the adapter cannot be put on this encoder"):
        load_adapter(load(bert_encoder), tmp_path, keys=TokenKeys(), trainable=False)
