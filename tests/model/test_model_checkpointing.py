"""Recomputed activations, inputs on the host and frozen layers: less memory, the same gradients."""

import numpy as np
import pytest
import torch

from metagene_classifier.batching.batch import collate
from metagene_classifier.config_file import load_config
from metagene_classifier.errors import ConfigError
from metagene_classifier.model import checkpointing
from metagene_classifier.model.checkpointing import checkpoint_layers, layers_of
from metagene_classifier.training.builder import build_classifier, set_training

CPU = torch.device("cpu")
READS = [np.random.default_rng(length).integers(6, 1024, length) for length in (20, 7, 33)]
LAYERS = 5


@pytest.fixture(scope="module")
def deep_encoder(tmp_path_factory):
    """A Llama of five narrow layers."""
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=1024, hidden_size=16, intermediate_size=24, num_hidden_layers=LAYERS, num_attention_heads=2
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("encoders") / "deep"
    LlamaModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def build(deep_encoder):
    def built(**changes):
        values = {
            "model.encoder_path": str(deep_encoder),
            "training.precision": "32",
            "model.lora.dropout": 0.3,
            "model.dropout": 0.3,
        }
        config = load_config(None, values | {key.replace("__", "."): value for key, value in changes.items()})
        made = build_classifier(config, classes=3, device=CPU, tell=lambda line: None)
        set_training(made.classifier, config.model.freeze)
        for name, weight in made.classifier.named_parameters():
            if "lora_B" in name:
                weight.data.fill_(0.1)
        return made

    return built


def gradients(made):
    batch = collate(READS, np.arange(3), layout=made.layout, padded_length=64, pad_id=0)
    made.classifier.zero_grad()
    (made.classifier(batch) * torch.tensor([1.0, -2.0, 3.0])).sum().backward()
    return {name: weight.grad for name, weight in made.classifier.named_parameters() if weight.requires_grad}


def runs_of(made):
    """How often each layer's attention runs in a step: twice where it is recomputed."""
    counts = [0] * LAYERS

    def count(number):
        def hook(*_):
            counts[number] += 1

        return hook

    for number, layer in enumerate(made.classifier.transformer.layers):
        layer.self_attn.register_forward_hook(count(number))
    found = gradients(made)
    return counts, found


FULL = {"model__lora__enabled": False}


@pytest.mark.parametrize("how", [{}, FULL], ids=["lora", "full"])
@pytest.mark.parametrize(
    ("settings", "expected_runs"),
    [
        ({}, [2, 2, 2, 2, 2]),
        ({"model__checkpoint_every": 2}, [2, 1, 2, 1, 2]),
        ({"model__checkpoint_every": 3, "model__checkpoint_offload": True}, [2, 1, 1, 2, 1]),
        ({"model__checkpoint_offload": True}, [2, 2, 2, 2, 2]),
        ({"model__freeze_layers": 2, "model__checkpoint_every": 2}, [1, 1, 2, 1, 2]),
    ],
)
def test_gradients_are_the_same_whatever_is_recomputed_and_wherever_its_input_lies(build, how, settings, expected_runs):
    frozen = {name: value for name, value in settings.items() if name == "model__freeze_layers"}
    expected = gradients(build(**how, **frozen))
    counts, found = runs_of(build(**how, model__gradient_checkpointing=True, **settings))
    assert counts == expected_runs
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert expected[name].abs().max() > 0, name
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-7)


def test_layers_inputs_go_to_the_host_once_each_and_nothing_else_does(build, monkeypatch):
    sent = []
    to_host = checkpointing._to_host

    def counted(tensor):
        kept = to_host(tensor)
        if kept[1] is not tensor:
            sent.append(tuple(tensor.shape))
        return kept

    monkeypatch.setattr(checkpointing, "_to_host", counted)
    gradients(build(model__gradient_checkpointing=True, model__checkpoint_offload=True))
    # The first layer's input comes from the frozen embeddings and needs no gradient.
    assert sent == [(3, 33, 16)] * (LAYERS - 1)


def test_frozen_layers_learn_nothing_get_no_adapter_and_keep_no_activations(build):
    made = build(model__freeze_layers=2)
    adapted = {name.split("layers.")[1][0] for name, _ in made.classifier.named_parameters() if "lora_" in name}
    assert adapted == {"2", "3", "4"}
    outputs = []
    for layer in made.classifier.transformer.layers:
        layer.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.requires_grad))
    assert gradients(made)
    assert outputs == [False, False, True, True, True]


def test_full_fine_tuning_freezes_the_embeddings_with_the_layers_below(build):
    made = build(model__freeze_layers=3, **FULL)
    learning = {name for name, weight in made.classifier.named_parameters() if weight.requires_grad}
    assert {name.split("layers.")[1][0] for name in learning if "layers." in name} == {"3", "4"}
    assert not any("embed" in name for name in learning)
    assert {"encoder.norm.weight", "head.weight", "head.bias"} <= learning
    assert all(gradient is not None for gradient in gradients(made).values())


@pytest.mark.parametrize("count", [5, 40])
def test_freezing_all_layers_is_refused_with_what_to_do(build, count):
    with pytest.raises(ConfigError, match=rf"freeze_layers: {count}: this encoder has 5 layers.*freeze: encoder"):
        build(model__freeze_layers=count)


def test_an_encoder_that_cannot_be_checkpointed_is_told():
    class Plain(torch.nn.Module):
        def gradient_checkpointing_enable(self, _):
            raise ValueError("Plain does not support activation checkpointing.")

    with pytest.raises(ConfigError, match=r"a Plain cannot be checkpointed: set it to false"):
        checkpoint_layers(Plain(), every=1, offload=False)


def test_the_layers_of_other_architectures_are_found(load, bert_encoder):
    assert [name for name, _ in layers_of(load(bert_encoder))] == ["encoder.layer.0", "encoder.layer.1"]
